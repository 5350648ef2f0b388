"""Resource limits: what cannot be had is one clear error, or a fallback that says so."""
from __future__ import annotations

import pytest
from hostile_support import in_child
from support import kernel_offers
from system import needs_root

LIMITED = """
from system import status_kb

def limit(which, more_kb=None):
    "Allows `more_kb` beyond what is in use now; None: everything."
    used = status_kb({"AS": "VmSize", "DATA": "VmData"}[which])
    soft = resource.RLIM_INFINITY if more_kb is None else (used + more_kb) << 10
    resource.setrlimit(getattr(resource, "RLIMIT_" + which), (soft, resource.RLIM_INFINITY))
"""


@pytest.mark.uninstrumented("it reserves terabytes of address space for itself")
@pytest.mark.sigbus_only("nothing is served")
def test_memory_that_may_not_be_mapped_is_one_clear_error(combination, seed):
    """Any size of the limit: the heap is refused, naming the limit, or works."""
    out = in_child(LIMITED + """
def make():
    heap = gcheap.Heap("16MiB", **options)
    try:
        m = heap.attach()
        collected(heap, m, count=1000)
        m.detach()
    finally:
        heap.close()
    return heap

make()                          # what the interpreter and the C library want is there
for which in ("AS", "DATA"):
    outcomes = []
    for more_mb in (0, 1, 2, 4, 8, 12, 16, 32, 64, 128, 256, 320, 400, 512, 768):
        limit(which, more_mb << 10)
        problem = refused(make, "RLIMIT_" + which)
        outcomes.append("works" if problem is None else "refused")
    limit(which)
    assert outcomes == sorted(outcomes), outcomes
    print(outcomes[0], outcomes[-1])
make()
""", combination, seed)
    assert out == "refused works\n" * 2


@pytest.mark.uninstrumented("it needs more memory itself")
def test_a_heap_at_work_needs_no_more_memory(combination, seed):
    """The limits come down to next to nothing above what is in use, while a workload runs."""
    in_child(LIMITED + """
lowered = []
def progress(p):
    if p.phase == "run" and not lowered:
        lowered.append(1)
        limit("AS", 512)
        limit("DATA", 512)
document = workload(progress=progress, seconds=0.5, verify=2)
limit("AS")
limit("DATA")
assert lowered and document["cycles"] > 1
""", combination, seed)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_without_descriptors_auto_compacts_inside_pauses_and_says_so(left, seed):
    """A heap needs one, for its userfaultfd; the trial of the kernel another before it."""
    best = next(b for b in ("move", "copy", "stw") if kernel_offers(b) is None)
    out = in_child(f"left = {left}\n" + """
free = os.open("/dev/null", os.O_RDONLY)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + left, 4096))
heap = gcheap.Heap("8MiB")
print(heap.backend, "Too many open files" in heap.why, heap.fault_mode)
with heap, heap.attach() as m:
    collected(heap, m)
    if left == 0:
        refused(lambda: gcheap.Heap("8MiB", backend="copy"), "Too many open files") or exit(1)
""", seed=seed)
    if left == 0 or best == "stw":
        assert out.startswith("stw") and out.endswith("none\n") and (best == "stw" or "True" in out)
    else:
        assert out == f"{best} False sigbus\n"


def skip_unless_locked(out: str) -> None:
    if out == "refused\n":
        pytest.skip("mlockall is refused: RLIMIT_MEMLOCK is 0 and there is no CAP_IPC_LOCK")
    assert out == "locked\n"


@needs_root
def test_a_heap_in_a_process_that_locks_all_memory_to_come(combination, seed):
    """mlockall(MCL_FUTURE) populates what is mapped: a heap is not, and has its own backend."""
    out = in_child("""
from system import status_kb
if libc.mlockall(2):                                        # MCL_FUTURE
    print("refused")
    sys.exit()
before = status_kb("VmHWM")
with gcheap.Heap("64MiB", verify=3, **options) as heap, heap.attach() as m:
    assert status_kb("VmHWM") - before < 40 << 10
    assert heap.backend == options["backend"]
    collected(heap, m)
    assert heap.stats().ioctls["copy"].calls == 0 or heap.backend == "copy"
workload(verify=2)
print("locked")
""", combination, seed)
    skip_unless_locked(out)


@pytest.mark.uninstrumented("it maps memory that would be locked")
@needs_root
def test_a_user_whose_process_may_lock_little_memory_is_told(seed):
    """With MCL_FUTURE every mapping counts against RLIMIT_MEMLOCK: no heap fits."""
    out = in_child("""
limit = min(8 << 20, resource.getrlimit(resource.RLIMIT_MEMLOCK)[1])
resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
from gcheap.face import limits                              # before the tree cannot be read
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
if libc.mlockall(2 | 4):                                    # MCL_FUTURE, on fault
    print("refused")
    sys.exit()
problem = refused(lambda: gcheap.Heap("64MiB"), "RLIMIT_MEMLOCK")
assert "mlockall" in str(problem), problem
assert libc.munlockall() == 0
with gcheap.Heap("8MiB") as heap, heap.attach() as m:
    collected(heap, m)
print("locked")
""", seed=seed)
    skip_unless_locked(out)
