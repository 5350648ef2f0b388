"""Every refusal of the userfaultfd table at every call site, while workloads check themselves.

What a heap can survive loses nothing and is counted; what it cannot is one line that says which
invariant broke, and an abort.  The lists of errnos are held against the explanations of
gcheap.userfaultfd.
"""
from __future__ import annotations

import errno
import re
from collections import Counter
from typing import NamedTuple

import pytest
from support import (
    check_interleaved,
    interleaved,
    kernel_offers,
    node_shape,
    stress_until,
    touch_holes,
)

import gcheap
from gcheap import failpoints
from gcheap.userfaultfd.explanations import TABLE
from gcheap.workloads._churn import Churn
from gcheap.workloads._record import RunControl
from gcheap.workloads.runner import Run
from gcheap.workloads.session import Session

# What the kernel may say of each ioctl that places pages.  The first five of MOVE's "fatal" are
# answers that the kernel gives for other memory than the heap's, or other processes'.
MANY = ("ENOENT", "ESRCH", "EFAULT", "EPERM", "ENOSPC")
SURVIVED = {"MOVE": ("EAGAIN", "short", "EBUSY", "EINVAL", "ENOMEM", "EEXIST"),
            "COPY": ("EAGAIN", "short", "ENOMEM", "EEXIST"),
            "ZEROPAGE": ("EAGAIN", "ENOMEM", "EEXIST")}
FATAL = {"MOVE": MANY, "COPY": (*MANY, "EBUSY", "EINVAL"),
         "ZEROPAGE": ("ENOENT", "EINVAL", "ESRCH", "EFAULT", "EPERM", "ENOSPC")}
# And of the calls around them: OPENED, CALLS and REST below.  The heap makes no others.
AROUND = ("open", "API", "REGISTER", "UNREGISTER", "WAKE", "read")
NOT_MADE = {"WRITEPROTECT", "CONTINUE", "POISON"}
# Of the device file, which is tried after the system call.
OPENING = ("EPERM", "EACCES", "ENOENT", "ENOTTY", "ENOSYS", "EINVAL", "EMFILE", "ENFILE", "ENOMEM")


class Site(NamedTuple):
    """A call site of an ioctl, and what takes a thread there."""

    point: str
    kind: str
    workload: str
    backend: str
    faults: str = "sigbus"

    def __str__(self) -> str:
        return self.point if self.faults == "sigbus" else f"{self.point}-{self.faults}"


SITES = [Site(f"{who}.{kind}", kind.upper(), "array-holes" if who == "large" else "churn",
              kind, faults)
         for kind in ("move", "copy") for who, modes in (
             ("compactor", ("sigbus",)), ("mutator", ("sigbus", "handler")),
             ("large", ("sigbus", "handler")))
         for faults in modes]

# How often a refusal is repeated: a stray page that comes back is a broken invariant.
OFTEN = {"EAGAIN": 100, "short": 100, "EBUSY": None, "EINVAL": None, "ENOMEM": 40, "EEXIST": 1}
ATTEMPTS = 30                   # short runs, until a thread has come by


def errnos_of(kind: str) -> set[str]:
    """What gcheap.userfaultfd says that this call may answer."""
    return {errno.errorcode[number] for call, number in TABLE if call == kind}


@pytest.mark.parametrize("kind", FATAL)
def test_every_errno_of_the_table_is_tried(kind):
    assert errnos_of(kind) <= {*SURVIVED[kind], *FATAL[kind]}
    assert not set(SURVIVED[kind]) & set(FATAL[kind])


@pytest.mark.parametrize("kind", AROUND)
def test_every_errno_of_the_calls_around_them_is_tried(kind):
    point = "uffd." + kind.lower()
    tried = {what for name, what, *_ in CALLS if name == point}
    tried |= {what for text, _, what, *_ in REST if text.startswith(f"{point}=")}
    tried |= {"open": set(OPENING), "API": {"EPERM", "EINVAL"}}.get(kind, set())
    assert errnos_of(kind) <= tried


def test_there_is_no_other_call():
    assert {kind for kind, _ in TABLE} == {*FATAL, *AROUND, *NOT_MADE}


def skip_unless_offered(backend: str) -> None:
    reason = kernel_offers(backend)
    if reason is not None:
        pytest.skip(f"no backend {backend} here: {reason}")


def refusals(documents: list[dict]) -> Counter[str]:
    """Of all ioctls, by errno."""
    return sum((Counter(counts["refused"]) for document in documents
                for counts in document["ioctls"].values()), Counter())


def run_until(point: failpoints.Failpoint, seed: int, hits: int, workload: str,
              counted: str | None = None, **options) -> None:
    """Runs a workload until the action has applied so often, and `counted` was counted: a run's
    counts begin after its population, in which a cycle may have been."""
    stress_until(
        lambda runs: point.hits >= hits and (counted is None or refusals(runs)[counted]),
        ATTEMPTS, seed, workload=workload, seconds=0.05, live="1MiB", mutators=2, warm_up=0,
        **({"unit_pages": 4} | options))


def injected(point: str, what: str, times: int | None, after: int) -> failpoints.Failpoint:
    if what == "short":
        return failpoints.short(point, 1, times, after=after)
    return failpoints.fail(point, getattr(errno, what), times, after=after)


@pytest.mark.parametrize("how", ["once", "often"])
@pytest.mark.parametrize(("site", "what"), [
    pytest.param(site, what, id=f"{site}-{what}")
    for site in SITES for what in SURVIVED[site.kind]])
def test_what_can_be_survived_loses_nothing(site, what, how, seed):
    skip_unless_offered(site.backend)
    times, after = (1, 4) if how == "once" else (OFTEN[what], 1)
    with injected(site.point, what, times, after) as point:
        run_until(point, seed, times or 10, site.workload, what if times is None else None,
                  verify=1, backend=site.backend, faults=site.faults)
        assert times is None or point.hits == times


@pytest.mark.parametrize("how", ["once", "often"])
@pytest.mark.parametrize("what", SURVIVED["ZEROPAGE"])
def test_a_zero_page_that_is_refused_comes_later(concurrent, what, how):
    times, after = (1, 4) if how == "once" else (40, 1)
    with gcheap.Heap("16MiB", verify=1, **concurrent) as heap, heap.attach() as m, \
            injected("place.zeropage", what, times, after) as point:
        touch_holes(heap, m)
        assert point.hits == times
        stats = heap.stats()
        assert stats.ioctls["zeropage"].refused[what] >= times
        assert stats.hole_faults > 40


@pytest.mark.parametrize("what", SURVIVED["ZEROPAGE"])
def test_a_zero_page_that_is_refused_while_churn_runs(concurrent, what, seed):
    """Beside the reader of holes another mutator faults, allocates and asks for cycles."""
    control = RunControl()
    with gcheap.Heap("32MiB", verify=1, unit_pages=4, **concurrent) as heap:
        session = Session(Churn, heap, mutators=1, live=1 << 20, seed=seed)
        run = Run(heap, session, "churn", 1, control)
        run.start()
        run.wait_populated(lambda: None)
        with heap.attach() as m, injected("place.zeropage", what, 40, 1) as point:
            for _ in range(2):
                touch_holes(heap, m)
            assert point.hits == 40
        run.finish()
        assert run.error is None and run.audited
        assert [recording.first_failure() for recording in run.recordings] == [None]


# Other calls of the kernel, and waits that end for nothing.
CALLS = [
    *(("uffd.register", what, "churn", {}) for what in ("EINVAL", "EBUSY", "EPERM", "ENOMEM")),
    ("uffd.unregister", "ENOMEM", "churn", {}),
    ("uffd.poll", "EINTR", "churn", {"faults": "handler"}),
    ("uffd.read", "EINTR", "churn", {"faults": "handler"}),
    ("uffd.read", "EAGAIN", "churn", {"faults": "handler"}),
    ("unit.sleep", "EINTR", "churn", {"delay_placements_us": 100}),
    ("mutator.sleep", "EINTR", "churn", {"verify": 2}),
    ("safepoint.sleep", "EINTR", "churn", {}),
    ("collector.sleep", "EINTR", "churn", {}),
    ("stall.sleep", "EINTR", "array-holes", {}),
    ("memory.empty", "EINVAL", "churn", {}),
    ("memory.release", "EINVAL", "churn", {"backend": "copy"}),
    ("memory.populate", "ENOMEM", "churn", {}),
    ("verify.close", "ENOMEM", "churn", {"verify": 3}),
]


@pytest.mark.parametrize(("name", "what", "workload", "options"), [
    pytest.param(name, what, workload, {"backend": backend, "verify": 1} | options,
                 id=f"{name}-{what}-{backend}")
    for name, what, workload, options in CALLS
    for backend in ("move", "copy") if options.get("backend", backend) == backend])
def test_other_calls_that_fail_lose_nothing(name, what, workload, options, seed):
    skip_unless_offered(options["backend"])
    with failpoints.fail(name, getattr(errno, what), times=20, after=2) as point:
        run_until(point, seed, 3, workload, **options)


# ---- what cannot be survived -------------------------------------------------------------

SCRIPT = f"""
import sys
from gcheap import failpoint_settings
from gcheap.stress import StressConfig, run_stress

text, workload, backend, faults, verify, seed = sys.argv[1:]
with failpoint_settings.armed(text):
    for attempt in range({ATTEMPTS}):
        run_stress(StressConfig(
            workload=workload, seconds=0.05, live="1MiB", mutators=2, seed=int(seed) + attempt,
            warm_up=0, noise_seconds=0, unit_pages=4, backend=backend, faults=faults,
            verify=int(verify)))
print("survived")
"""
HOLES = """
import sys
import gcheap
from gcheap import failpoint_settings
from support import touch_holes

text, faults = sys.argv[1:]
with gcheap.Heap("16MiB", faults=faults) as heap, heap.attach() as m:
    with failpoint_settings.armed(text):
        touch_holes(heap, m)
print("survived")
"""
PLACE = "the kernel refused to place a unit (address, errno)"
STRAY = "a page of an unplaced unit keeps appearing (address, done)"
ZERO = {"ENOENT": "a registered page cannot be zeroed (address, errno)",
        "EINVAL": "a registered page cannot be zeroed (address, errno)"}


def check_abort(zygote, text: str, said: str, number: int | None, seed: int, workload="churn",
                backend="move", faults="sigbus", verify=0) -> None:
    skip_unless_offered(backend)
    check_said(zygote.run(SCRIPT, text, workload, backend, faults, str(verify), str(seed)), said,
               number)


def check_said(ended, said: str, number: int | None) -> None:
    """One line, with `number` in it, and an abort."""
    assert (ended.status, ended.out) == (-6, ""), ended
    line = re.fullmatch(rf"gcheap: fatal: {re.escape(said)} \((0x[0-9a-f]+), (0x[0-9a-f]+)\)\n",
                        ended.err)
    assert line, ended.err
    assert number is None or number in (int(line[1], 16), int(line[2], 16))


@pytest.mark.parametrize(("site", "what"), [
    pytest.param(site, what, id=f"{site}-{what}")
    for site in SITES for what in FATAL[site.kind]])
def test_what_cannot_be_survived_is_said_in_one_line(zygote, site, what, seed):
    check_abort(zygote, f"{site.point}=errno({what})*1@after=3", PLACE, getattr(errno, what), seed,
                site.workload, site.backend, site.faults)


@pytest.mark.parametrize("faults", ["sigbus", "handler"])
@pytest.mark.parametrize("what", FATAL["ZEROPAGE"])
def test_a_zero_page_that_cannot_come_is_said_in_one_line(zygote, what, faults):
    skip_unless_offered("move")
    said = ZERO.get(what, "the kernel refused a zero page (address, errno)")
    check_said(zygote.run(HOLES, f"place.zeropage=errno({what})*1@after=3", faults), said,
               getattr(errno, what))


REST = [
    # Twice at one page is enough; of three, one of two mutators has two, and the other has not.
    *((f"{site.point}=errno(EEXIST)*3@after=3", STRAY, None, site.backend, site.workload, "sigbus")
      for site in SITES if site.faults == "sigbus"),
    *((f"uffd.unregister=errno({what})*1@after=2",
       "the kernel refused to unregister to-space (address, errno)", what, "move", "churn",
       "sigbus") for what in ("EINVAL", "EBUSY", "EPERM")),
    ("uffd.wake=errno(EINVAL)*1@after=2", "the kernel refused to wake faulting threads "
     "(address, errno)", "EINVAL", "move", "churn", "handler"),
    ("uffd.poll=errno(ENOMEM)*1@after=2", "poll of the userfaultfd failed (errno)", "ENOMEM",
     "move", "churn", "handler"),
    ("uffd.read=errno(EINVAL)*1@after=2", "the userfaultfd cannot be read (errno)", "EINVAL",
     "move", "churn", "handler"),
    ("place.move=errno(EEXIST)*1;memory.stray=errno(EINVAL)", "a stray page in to-space cannot be "
     "dropped (address, errno)", "EINVAL", "move", "churn", "sigbus"),
    ("verify.open=errno(ENOMEM)*1@after=2", "verify: the old half cannot be opened again "
     "(half, errno)", "ENOMEM", "move", "churn", "sigbus"),
]


@pytest.mark.parametrize(("text", "said", "what", "backend", "workload", "faults"), [
    pytest.param(*case, id=case[0]) for case in REST])
def test_other_broken_invariants_are_said(zygote, text, said, what, backend, workload, faults,
                                          seed):
    check_abort(zygote, text, said, what and getattr(errno, what), seed, workload, backend, faults,
                verify=3 if text.startswith("verify") else 0)


# ---- memory ------------------------------------------------------------------------------

def test_no_memory_for_a_placement_fails_the_allocation_and_never_the_heap(concurrent):
    """The compactor waits for memory; an allocation that would wait for it is told."""
    point = f"compactor.{concurrent['backend']}"
    # It waits with one unit, the first: a batch may have that of the last live objects, and who
    # allocates behind those waits for it as any access does.
    with gcheap.Heap("4MiB", batch_units=1, **concurrent) as heap, heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 10_000)
        with failpoints.fail(point, errno.ENOMEM, times=None) as refused:
            heap.collect(wait=False)
            kept = []
            with pytest.raises(gcheap.HeapExhausted, match="kernel has no memory") as caught:
                while True:
                    kept.append(m.new_bytes(bytes(30_000)))
            assert (caught.value.asked, caught.value.capacity) == (30_016, heap.capacity)
            assert refused.hits > 100
            kept.clear()
            before = heap.stats().cycles
        heap.collect()
        assert heap.stats().cycles > before
        assert check_interleaved(nodes) == 10_000
        assert bytes(m.new_bytes(b"x" * 30_000)) == b"x" * 30_000


def test_a_pinned_array_is_told_as_well(concurrent):
    with gcheap.Heap("4MiB", **concurrent) as heap, heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 5_000)
        with failpoints.fail("uffd.unregister", errno.ENOMEM, times=None) as refused:
            heap.collect(wait=False)
            kept = []
            with pytest.raises(gcheap.HeapExhausted, match="kernel has no memory"):
                while True:
                    kept.append(m.new_array("u1", 30_000, pinned=True))
            assert refused.hits > 100
        heap.collect()
        assert check_interleaved(nodes) == 5_000


@pytest.mark.parametrize("after", range(1, 20))
def test_a_heap_that_cannot_be_mapped_leaves_nothing_behind(after):
    """Each mmap of a new heap and its first mutator in turn."""
    with failpoints.fail("memory.map", errno.ENOMEM, after=after) as point:
        try:
            with gcheap.Heap("1MiB") as heap, heap.attach() as m:
                m.new_bytes(b"x")
        except gcheap.OptionError as error:
            assert "mmap answers Cannot allocate memory" in str(error)
        except (MemoryError, gcheap.GcheapError) as error:
            assert str(error)
        else:
            # The trial of the kernel has two: without them it knows less, and goes on.
            assert point.hits == 0 or after <= 2
    with gcheap.Heap("1MiB") as heap, heap.attach() as m:
        assert bytes(m.new_bytes(b"x")) == b"x"


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_introspection_without_memory_is_a_memory_error(any_heap, after):
    with any_heap.attach() as m:
        nodes = interleaved(m, node_shape(any_heap), 100)
        with failpoints.fail("memory.inspect", errno.ENOMEM, after=after) as point:
            for look in (any_heap.census, any_heap.freeze, lambda: any_heap.why_alive(nodes)):
                try:
                    look()
                except MemoryError as error:
                    assert point.hits == 1, error
                    break
            else:
                assert point.hits == 0
        assert len(any_heap.census()) > 0
        any_heap.collect()
        assert check_interleaved(nodes) == 100


@pytest.mark.parametrize("name", ["memory.pinned", "memory.tables", "memory.empty"])
@pytest.mark.parametrize("times", [1, None])
def test_memory_that_cannot_be_dropped_is_zero_when_it_is_handed_out(any_heap, name, times):
    with any_heap.attach() as m:
        nodes = interleaved(m, node_shape(any_heap), 1000)
        with failpoints.fail(name, errno.EINVAL, times=times) as point:
            for _ in range(3):
                kept = [m.new_array("u8", 3000, pinned=True) for _ in range(5)]
                for array in kept:
                    assert not any(array[i] for i in range(0, 3000, 64))
                    array[0:3000] = [7] * 3000
                del kept, array
                assert not any(m.new_bytes(bytes(20_000)))
                any_heap.collect()
            assert point.hits >= 1
        assert check_interleaved(nodes) == 1000


# ---- the descriptor and the threads ------------------------------------------------------

@pytest.mark.parametrize(("name", "what"), [
    *(("uffd.open", what) for what in OPENING), ("uffd.api", "EPERM"), ("uffd.api", "EINVAL")])
def test_without_a_descriptor_auto_is_stw(name, what):
    with failpoints.fail(name, getattr(errno, what), times=1), gcheap.Heap("1MiB") as heap:
        assert (heap.backend, heap.fault_mode) == ("stw", "none")
        with heap.attach() as m:
            kept = m.new_bytes(b"x")
            heap.collect()
            assert bytes(kept) == b"x"


OPENED = [("uffd.open", 2, "userfaultfd answers Operation not permitted"),
          ("uffd.api", 2, "handshake failed"),
          ("thread.collector", 1, "collector thread cannot be started"),
          ("thread.server", 1, "thread that serves faults cannot be started"),
          ("thread.bell", 1, "thread that serves faults cannot be started")]


@pytest.mark.parametrize(("name", "after", "said"), OPENED, ids=[case[0] for case in OPENED])
def test_a_heap_that_cannot_be_opened_says_why(name, after, said):
    skip_unless_offered("move")
    with failpoints.fail(name, errno.EPERM, after=after) as point:
        with pytest.raises(gcheap.GcheapError, match=said):
            gcheap.Heap("1MiB", backend="move", faults="handler")
        assert point.hits == 1
    with gcheap.Heap("1MiB", backend="move", faults="handler") as heap:
        heap.collect()


def test_a_heap_that_cannot_be_kept_from_children_says_why():
    for after in (1, 2):
        with failpoints.fail("memory.fork", errno.ENOMEM, after=after), \
                pytest.raises(gcheap.OptionError):
            gcheap.Heap("1MiB", fork="none")
