"""One sentence for each errno of each ioctl: what it means here and what to do."""
from __future__ import annotations

from errno import (
    EACCES,
    EAGAIN,
    EBUSY,
    EEXIST,
    EFAULT,
    EINVAL,
    EMFILE,
    ENFILE,
    ENOENT,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    ENOTTY,
    EPERM,
    ESRCH,
)

CHANGING = ("The address space is changing under an event that nobody has read yet: read the "
            "events (fork, remap, remove, unmap), then call again.")
GONE = ("The process whose memory this descriptor manages has exited (an inherited descriptor "
        "acts on the process that made it): close the descriptor.")
NO_MEMORY = "The kernel found no memory for it: free some, or wait and call again."
MAPPED = ("A page is mapped there already: skip the page, or drop it first "
          "(madvise MADV_DONTNEED) and call again.")
UNREGISTERED = ("The destination is not registered with this descriptor, or crosses the end of "
                "its mapping: register it; keep each call inside one mapping.")
ALIGNMENT = ("Addresses and length must be multiples of the page size, length not zero, the "
             "mode one of the documented flags")

SHORT = ("Done in part only: call again with every address advanced by `done`; the next answer "
         "tells what is in the way.")

TABLE: dict[tuple[str, int], str] = {
    ("open", EPERM): "Pass user_mode_only=True, allow access to "
                     "/dev/userfaultfd, or set vm.unprivileged_userfaultfd=1; in a container "
                     "its seccomp profile is the likely cause.",
    ("open", EACCES): "No access to the device file: give this user read and write access to it.",
    ("open", ENOENT): "There is no such device file; Linux 6.1 brought /dev/userfaultfd.",
    ("open", ENOTTY): "That file is no userfaultfd device.",
    ("open", ENOSYS): "This kernel was built without CONFIG_USERFAULTFD, or a container's "
                      "seccomp profile hides the system call.",
    ("open", EINVAL): "This kernel does not know the flag: user_mode_only needs Linux 5.11.",
    ("open", EMFILE): "Too many open files in this process: raise ulimit -n.",
    ("open", ENFILE): "Too many open files in the system: raise fs.file-max.",

    ("API", EPERM): "EVENT_FORK needs CAP_SYS_PTRACE: leave it out, or run with it.",
    ("API", EINVAL): "The handshake was made already, or a feature is unknown here.",

    ("REGISTER", EINVAL): ALIGNMENT + "; the whole range must be mapped writable memory of a "
                          "kind this mode supports (MINOR: shared memory and hugetlbfs; missing: "
                          "anonymous, shared memory, hugetlbfs).",
    ("REGISTER", EBUSY): "A part of the range is registered with another descriptor: unregister "
                         "it there first.",
    ("REGISTER", EPERM): "The memory is not writable by this process (a file opened read-only): "
                         "map it writable.",
    ("REGISTER", ENOMEM): "Registering would split a mapping and the limit on mappings is "
                          "reached: raise vm.max_map_count, or register whole mappings. Or "
                          "the process whose memory this descriptor manages has exited.",
    ("UNREGISTER", EINVAL): ALIGNMENT + "; something must be mapped there, and it must not "
                            "be registered with another descriptor.",
    ("UNREGISTER", ENOMEM): "Unregistering would split a mapping and the limit on mappings is "
                            "reached: raise vm.max_map_count, or unregister whole mappings. "
                            "Or the process whose memory this descriptor manages has exited.",
    ("WAKE", EINVAL): ALIGNMENT + ".",

    ("COPY", EINVAL): ALIGNMENT + "; CopyMode.WP needs a range registered with mode WP.",
    ("COPY", ENOENT): UNREGISTERED,
    ("COPY", EFAULT): "The source cannot be read: pass readable memory that is not itself "
                      "waiting for this handler.",
    ("COPY", ENOSPC): "The file system behind the shared memory is full.",

    ("ZEROPAGE", EINVAL): ALIGNMENT + "; hugetlbfs has no zero page (use copy).",
    ("ZEROPAGE", ENOENT): UNREGISTERED,

    ("MOVE", EINVAL): ALIGNMENT + "; source and destination must be private anonymous, writable "
                      "memory of this process with equal protection and mlock state, each inside "
                      "one mapping, and the destination registered with this descriptor; "
                      "otherwise use copy.",
    ("MOVE", ENOENT): "The source has a hole (a page that was never written, or was moved "
                      "away): pass MoveMode.ALLOW_SRC_HOLES to keep it a hole, or use zeropage. Or "
                      "nothing at all is mapped at the source or the destination.",
    ("MOVE", EBUSY): "The source page is not exclusively this process's: shared with a forked "
                     "child (until it is written again), merged by KSM, or pinned for I/O. Use "
                     "MADV_DONTFORK before fork, switch KSM off for it, or use copy (move_all "
                     "does).",

    ("WRITEPROTECT", EINVAL): ALIGNMENT + "; WP and DONTWAKE exclude each other.",
    ("WRITEPROTECT", ENOENT): "The range, or a part of it, is not registered with mode WP: "
                              "register it with RegisterMode.WP.",
    ("WRITEPROTECT", EFAULT): "The kernel could not change a huge page of the range: call again.",

    ("CONTINUE", EINVAL): ALIGNMENT + "; the range must be shared memory or hugetlbfs, "
                          "ContinueMode.WP needs mode WP.",
    ("CONTINUE", ENOENT): UNREGISTERED,
    ("CONTINUE", EFAULT): "There is no page in the page cache to map: write it through another "
                          "mapping or the file first, or use copy.",

    ("POISON", EINVAL): ALIGNMENT + ".",
    ("POISON", ENOENT): UNREGISTERED,

    ("read", EINVAL): "The handshake was not made on this descriptor.",
}

_FILLING = ("COPY", "ZEROPAGE", "MOVE", "CONTINUE", "POISON")
TABLE |= {(ioctl, EAGAIN): CHANGING for ioctl in (*_FILLING, "WRITEPROTECT")}
TABLE |= {(ioctl, ESRCH): GONE for ioctl in (*_FILLING, "WRITEPROTECT")}
TABLE |= {(ioctl, ENOMEM): NO_MEMORY for ioctl in (*_FILLING, "WRITEPROTECT", "open")}
TABLE |= {(ioctl, EEXIST): MAPPED for ioctl in _FILLING}


def explanation(ioctl: str, errno: int, short: bool = False) -> str:
    """The sentence; "" when there is nothing to say beyond strerror."""
    if short:
        return SHORT
    if errno == ENOTTY and ioctl != "open":
        return "This kernel does not know the ioctl, or the descriptor is no userfaultfd."
    return TABLE.get((ioctl, errno), "")
