"""Each capability of the kernel, tried: what it is, whether it works, and what would give it.

`try_all` has each tried in a child process (`gcheap.tools._attempt`), one after the other; a
child that does not end is killed after TRY_SECONDS.  `try_heap` makes a heap with backend
`auto` in another, relocates in it and checks it.  `assess` turns both into
`{name: {ok, why, fix}}` and is a pure function.
"""
import errno
import faulthandler
import json
import os
import resource
import signal
import sys
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

TRY_SECONDS = 5.0               # a try takes milliseconds; longer, and it hangs
HEAP_SECONDS = 20.0             # a cycle of a small heap, perhaps on a busy machine
END_SECONDS = 2.0               # until a killed child is given up
POLL_SECONDS = 0.001


@dataclass(frozen=True)
class Capability:
    """One row.  `since` is the first kernel that has it, `config` what it must be built with."""

    text: str
    since: str
    config: str = "CONFIG_USERFAULTFD"


# What a heap uses; then what else `gcheap.userfaultfd` offers.
FOR_HEAP = {
    "userfaultfd": Capability("a descriptor", "4.3"),
    "sigbus": Capability("SIGBUS, served by the faulting thread", "4.14"),
    "move": Capability("MOVE of a page", "6.8"),
    "copy": Capability("COPY of a page", "4.14"),
    "zeropage": Capability("ZEROPAGE", "4.14"),
    "move_huge": Capability("MOVE of a whole huge page", "6.8", "CONFIG_TRANSPARENT_HUGEPAGE"),
    "reader": Capability("faults read by a thread, for fault mode handler", "4.3"),
}
FOR_OTHERS = {
    "wake": Capability("DONTWAKE, then WAKE", "4.3"),
    "kernel_faults": Capability("faults of system calls", "4.3"),
    "device": Capability("descriptors by /dev/userfaultfd", "6.1"),
    "write_protect": Capability("write-protection", "5.7", "CONFIG_HAVE_ARCH_USERFAULTFD_WP"),
    "write_protect_shmem": Capability("write-protection of a memfd", "5.19",
                                      "CONFIG_PTE_MARKER_UFFD_WP"),
    "write_protect_unpopulated": Capability("write-protection of missing pages", "6.4",
                                            "CONFIG_PTE_MARKER_UFFD_WP"),
    "write_protect_async": Capability("write-protection lifted by the kernel", "6.7",
                                      "CONFIG_PTE_MARKER_UFFD_WP"),
    "missing_shmem": Capability("missing faults on a memfd", "4.11", "CONFIG_SHMEM"),
    "minor_shmem": Capability("minor faults on a memfd", "5.14",
                              "CONFIG_HAVE_ARCH_USERFAULTFD_MINOR"),
    "missing_hugetlbfs": Capability("missing faults on hugetlbfs", "4.11", "CONFIG_HUGETLBFS"),
    "minor_hugetlbfs": Capability("minor faults on hugetlbfs", "5.13",
                                  "CONFIG_HAVE_ARCH_USERFAULTFD_MINOR"),
    "poison": Capability("poisoned pages", "6.6"),
    "events": Capability("events of remap, remove and unmap", "4.11"),
    "event_fork": Capability("events of fork", "4.11"),
    "thread_id": Capability("thread ids in events", "4.14"),
    "exact_address": Capability("exact addresses in events", "5.18"),
}
TRIED = FOR_HEAP | FOR_OTHERS


@dataclass(frozen=True)
class Outcome:
    """How a try ended.  `error` is the errno of the call `what`; without one, `what` is a fact
    that does not hold."""

    works: bool
    what: str | None = None
    error: int = 0
    signal: int = 0             # that ended the child, 0
    hung: bool = False          # it was killed


def try_all(huge_page_bytes=0, hugetlb_page_bytes=0, names=tuple(TRIED)):
    """{name: Outcome}.  Without a descriptor nothing else is tried."""
    outcomes = {}
    for name in names:
        outcomes[name] = try_one(name, huge_page_bytes, hugetlb_page_bytes)
        if name == "userfaultfd" and not outcomes[name].works:
            break
    return outcomes


def try_one(name, huge_page_bytes=0, hugetlb_page_bytes=0, seconds=TRY_SECONDS):
    """Try one capability; returns its Outcome within `seconds` and a moment."""
    from gcheap.tools._attempt import Attempt
    try:
        attempt = Attempt(name, huge_page_bytes or 0, hugetlb_page_bytes or 0)
    except OSError as error:
        return Outcome(False, error.strerror, 0)
    if not ended(attempt, seconds):
        attempt.kill()
        ended(attempt, END_SECONDS)
        return Outcome(False, hung=True)
    return Outcome(attempt.works, attempt.what, attempt.error, attempt.signal)


def ended(attempt, seconds):
    deadline = time.monotonic() + seconds
    while not attempt.ended():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


# ---- the heap --------------------------------------------------------------------------------

@dataclass(frozen=True)
class Trial:
    """What `auto` came to.  `probe` is a dict of `gcheap.core.probe.Probe`, None without one;
    `failure` says why there was no heap, or None."""

    probe: dict | None
    backend: str | None
    fault_mode: str | None
    why: str | None
    failure: str | None


def try_heap(seconds=HEAP_SECONDS):
    """Make a heap in a child process, within `seconds` and a moment; returns a Trial."""
    try:
        output, complaints, status = in_child(heap_report, seconds)
    except OSError as error:
        return failed(f"no process to try it in: {error.strerror}")
    if status is None:
        return failed(f"making a heap did not end within {seconds:g} s")
    if os.WIFSIGNALED(status):
        return failed(f"the process that made a heap was killed by "
                      f"{signal_name(os.WTERMSIG(status))}")
    try:
        return Trial(**json.loads(output))
    except (ValueError, TypeError):
        lines = complaints.decode(errors="replace").strip().splitlines()
        return failed(lines[-1] if lines else "the process that made a heap said nothing")


def in_child(body, seconds):
    """(what `body()` returned, what it wrote to standard error, wait status or None).

    `body` returns bytes, no more than a pipe holds; it runs in a fork of this process.  None:
    it did not end within `seconds` and was killed.
    """
    with open_pipe() as (output, output_end), open_pipe() as (complaints, complaints_end):
        with warnings.catch_warnings():
            # The threads of numeric libraries: they hold nothing that the child needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            live_as_child(body, output_end, complaints_end)
        try:
            status = wait(child, seconds)
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        if status is None:
            wait(child, END_SECONDS)
        return read_now(output), read_now(complaints), status


def live_as_child(body, output, complaints):
    """Never returns."""
    try:
        # Back to their defaults: what a crash means is for the parent to say.
        faulthandler.disable()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(complaints, 2)
        os.write(output, body())
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


def wait(child, seconds):
    """The wait status of `child`, None when it did not end in time."""
    deadline = time.monotonic() + seconds
    while True:
        ended_child, status = os.waitpid(child, os.WNOHANG)
        if ended_child:
            return status
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_SECONDS)


@contextmanager
def open_pipe():
    ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def read_now(end):
    try:
        return os.read(end, 1 << 16)
    except BlockingIOError:
        return b""


def heap_report():
    """A Trial as JSON: the work of the child of `try_heap`."""
    from gcheap.core.probe import probe
    return json.dumps(asdict(make_heap(asdict(probe())))).encode()


def make_heap(found):
    """A Trial of a small heap whose nodes are moved and read again."""
    import gcheap
    from gcheap.errors import GcheapError
    count = 2000
    try:
        with gcheap.Heap("4MiB", backend="auto") as heap, heap.attach() as mutator:
            node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
            last = None
            for key in range(count):
                mutator.new(node, key=0)                # garbage, so that there is a slide
                last = mutator.new(node, key=key, next=last)
            heap.collect()
            for key in reversed(range(count)):
                if last.key != key:
                    return failed(f"node {key} of {count} changed when it was moved", found)
                last = last.next
            return Trial(found, heap.backend, heap.fault_mode, heap.why, None)
    except (GcheapError, OSError) as error:
        return failed(" ".join(str(error).split()) or type(error).__name__, found)


def failed(why, found=None):
    return Trial(found, None, None, None, why)


# ---- what it means ---------------------------------------------------------------------------

def assess(outcomes, trial, settings, kernel):
    """`{name: {ok, why, fix}}`; `why` and `fix` are None where there is nothing to say."""
    rows = {}
    for name in TRIED:
        if name in outcomes:
            rows[name] = row(name, outcomes[name], settings, kernel)
        else:
            rows[name] = {"ok": False, "why": "there is no userfaultfd", "fix": None}
    rows["heap"] = {"ok": not trial.failure, "why": trial.failure,
                    "fix": heap_fix(trial.failure)}
    return rows


def row(name, outcome, settings, kernel):
    if outcome.works:
        return {"ok": True, "why": None, "fix": None}
    return {"ok": False, "why": reason(outcome), "fix": fix(name, outcome, settings, kernel)}


def reason(outcome):
    if outcome.hung:
        return "the try did not end and was killed"
    if outcome.error:
        name = errno.errorcode.get(outcome.error, str(outcome.error))
        return f"{outcome.what}: {name} ({os.strerror(outcome.error)})"
    if outcome.signal:
        return f"the try was killed by {signal_name(outcome.signal)}"
    return outcome.what or "the try ended without a word"


def fix(name, outcome, settings, kernel):
    """The one command or setting that would give it, None when none is known."""
    if outcome.hung:
        return None
    if outcome.what == "userfaultfd" or outcome.signal == signal.SIGSYS:
        return descriptor_fix(name, outcome, settings, kernel)
    if name == "device":
        return device_fix(outcome, settings, kernel)
    if outcome.error in (errno.EMFILE, errno.ENFILE):
        return "raise the limit on open files: ulimit -n 4096"
    if name == "event_fork" and outcome.error == errno.EPERM:
        return f"allow CAP_SYS_PTRACE: sudo setcap cap_sys_ptrace+ep {sys.executable}"
    if name.endswith("hugetlbfs") and outcome.error == errno.ENOMEM:
        return "sudo sysctl -w vm.nr_hugepages=2"
    if name == "move_huge" and not outcome.error:
        return huge_fix(settings)
    if older(kernel, TRIED[name].since):
        return f"run Linux {TRIED[name].since} or newer"
    if outcome.what == "UFFDIO_API" or outcome.error == errno.ENOSYS:
        return f"run a kernel built with {TRIED[name].config}"
    return None


def descriptor_fix(name, outcome, settings, kernel):
    if outcome.error in (errno.EMFILE, errno.ENFILE):
        return "raise the limit on open files: ulimit -n 4096"
    if settings["container"] or settings["seccomp_filter"] or outcome.signal == signal.SIGSYS:
        where = "in a container" if settings["container"] else "under a seccomp filter"
        if name == "kernel_faults" and not settings["seccomp_filter"]:
            return "sudo sysctl -w vm.unprivileged_userfaultfd=1, on the host"
        return (f"{where} its seccomp profile is the likely cause: allow userfaultfd in it "
                f"(docker run --security-opt seccomp=PROFILE.json), or pass the device "
                f"(docker run --device /dev/userfaultfd)")
    if outcome.error == errno.EPERM:
        if name == "kernel_faults" or older(kernel, "5.11"):
            return "sudo sysctl -w vm.unprivileged_userfaultfd=1"
        return "a security module forbids it: allow userfaultfd in its policy"
    if outcome.error == errno.ENOSYS:
        return "run a kernel built with CONFIG_USERFAULTFD (a seccomp profile may hide it, too)"
    return None


def device_fix(outcome, settings, kernel):
    if outcome.error in (errno.EACCES, errno.EPERM):
        return "sudo setfacl -m u:$USER:rw /dev/userfaultfd"
    if settings["container"]:
        return "docker run --device /dev/userfaultfd"
    if older(kernel, TRIED["device"].since):
        return f"run Linux {TRIED['device'].since} or newer"
    return None


def huge_fix(settings):
    if settings["huge_pages"] is None:
        return "run a kernel built with CONFIG_TRANSPARENT_HUGEPAGE"
    if settings["huge_pages"] == "never":
        return "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"
    if not settings["huge_pages_of_this_process"]:
        return "start it without PR_SET_THP_DISABLE"
    return "free memory in whole huge pages: echo 1 | sudo tee /proc/sys/vm/compact_memory"


def heap_fix(failure):
    if not failure:
        return None
    if "SIGSYS" in failure:
        return ("a seccomp filter kills who calls userfaultfd: let it answer EPERM, or allow "
                "the call")
    if "memory" in failure or "address space" in failure:
        return "raise the limit on address space: ulimit -v unlimited"
    return None


def older(kernel, since):
    """Whether release `kernel` ("6.18.44-x") is older than `since` ("6.8")."""
    return version(kernel) < version(since)


def version(release):
    numbers = []
    for part in release.split("-")[0].split(".")[:2]:
        digits = "".join(char for char in part if char.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def signal_name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
