"""What the kernel and a container say about memory, read from /proc and /sys; nothing is tried.

Everything is read below a root, so that tests can lay out a machine of their own.  What cannot
be read is None: an older kernel, or one built without it.
"""
from gcheap.kernel_files import HUGE_PAGES, fields, kilobytes, selected, text

HUGE_PAGE_SIZE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
HUGETLB_PAGES = "/proc/sys/vm/nr_hugepages"
MEMORY = "/proc/meminfo"
KSM = "/sys/kernel/mm/ksm/run"
UNPRIVILEGED = "/proc/sys/vm/unprivileged_userfaultfd"
MAPPINGS = "/proc/sys/vm/max_map_count"
STATUS = "/proc/self/status"
# File -> the kind of container in which it is.
MARKS = {"/run/.containerenv": "podman", "/.dockerenv": "docker"}
MANAGER = "/run/systemd/container"      # systemd's: names the container manager
INIT_GROUPS = "/proc/1/cgroup"
GROUP_WORDS = ("kubepods", "docker", "containerd", "lxc", "libpod")

KSM_STATES = {0: "stopped", 1: "running", 2: "stopped, pages unmerged"}


def read(root):
    """The settings, as the doctor's document has them."""
    status = fields(text(root, STATUS))
    return {
        "huge_pages": selected(text(root, HUGE_PAGES)),
        "huge_page_bytes": number(text(root, HUGE_PAGE_SIZE)),
        "huge_pages_of_this_process": status.get("THP_enabled") != "0",
        "hugetlb_pages": number(text(root, HUGETLB_PAGES)),
        "hugetlb_page_bytes": kilobytes(fields(text(root, MEMORY)).get("Hugepagesize")),
        "ksm": KSM_STATES.get(number(text(root, KSM))),
        "unprivileged_userfaultfd": number(text(root, UNPRIVILEGED)),
        "max_map_count": number(text(root, MAPPINGS)),
        "container": container(root),
        "seccomp_filter": status.get("Seccomp") == "2",
    }


def container(root):
    """The kind of container that this process is in, None when no sign of one is found."""
    for path, kind in MARKS.items():
        if (root / path.lstrip("/")).exists():
            return kind
    named = text(root, MANAGER)
    if named:
        return named
    groups = text(root, INIT_GROUPS) or ""
    return next((word for word in GROUP_WORDS if word in groups), None)


def number(value):
    """A whole number, None for what is none."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
