"""Failpoints themselves: the table, the n-th time, ranges, exploration, forks and the end."""
from __future__ import annotations

import errno
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_tree import needs_tree
from support import (
    ROOT,
    MutatorThread,
    check_interleaved,
    interleaved,
    node_shape,
    wait_until,
)

import gcheap
from gcheap import failpoint_table, failpoints
from gcheap.core import _testing
from gcheap.failpoint_table import POINTS

PAGE = ROOT / "docs/reference/failpoints.md"
SOURCES = [path.read_text() for path in (ROOT / "gcheap").rglob("*.p[yx][xd]")
           if "failpoint.p" not in path.name]
# Reached by what is added to another point: core/place.pyx.
BY_SITE = {"mutator.move", "large.move", "mutator.copy", "large.copy"}


# ---- the table -----------------------------------------------------------------------------

def test_the_table_has_every_failpoint_once_and_in_order():
    assert tuple(point.name for point in POINTS) == failpoints.NAMES
    assert len(set(failpoints.NAMES)) == len(POINTS)


def test_the_page_of_the_documentation_has_the_table():
    assert failpoint_table.markdown() in PAGE.read_text(), (
        "put it there again: python -m gcheap.failpoint_table")


@needs_tree
def test_each_failpoint_stands_in_the_core():
    text = "\n".join(SOURCES)
    for name in {point.name for point in POINTS} - BY_SITE:
        assert re.search(rf"\bFP_{name.replace('.', '_').upper()}\b", text), name


SYSTEM_CALL = re.compile(
    r"(?<![\w.])(?:mmap|munmap|mprotect|madvise|mremap|ioctl|sigaction|pthread_create|uffd_\w+)\(")
_CALLER = "whoever calls it has the failpoint"
_KEPT = "gives memory back; where it cannot it keeps it"
_MAPPINGS = "tests/hostile/test_mappings.py has it refused by the kernel"
# Functions that call the kernel and have no failpoint.
WITHOUT = {
    "addresses.set_clear": _KEPT, "mark.give_back_stack": _KEPT, "words.words_forget": _KEPT,
    "mark_team.gather_marks": "locked memory is zeroed instead: tests/hostile/test_limits.py",
    "mapping.unmap_memory": _MAPPINGS, "space.open_half": _MAPPINGS, "space.advise": _MAPPINGS,
    "space.reserve_space": "advice that may be refused", "space.new_bounce": "as there",
    "fault.install": "cannot fail with these arguments", "fault.pass_on": "the process ends",
    "threads.start_thread": _CALLER, "verify_half.protect_half": _CALLER,
    "place.try_one": _CALLER,
    "probe.try_placing": "tries the kernel before there is a heap: tests/test_doctor.py",
    "residency.first_pages": "looks only",
}


def functions_of_the_core():
    """(module.function, its text without comments and docstrings)"""
    for path in sorted((ROOT / "gcheap" / "core").glob("*.pyx")):
        if path.stem.startswith("_testing") or path.stem == "uffd":     # the calls themselves
            continue
        for part in re.split(r"(?m)^(?=cdef|def)", path.read_text()):
            code = re.sub(r"#.*", "", re.sub(r'(?s)""".*?"""', "", part))
            if head := re.match(r"(?:cdef|def)\s[^\n]*?(\w+)\(", code):
                yield f"{path.stem}.{head.group(1)}", code[head.end():]


@needs_tree
def test_each_call_of_the_kernel_has_a_failpoint_or_a_reason():
    bare = {name for name, code in functions_of_the_core()
            if SYSTEM_CALL.search(code) and "failpoint(" not in code}
    assert bare == set(WITHOUT)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_each_failpoint_takes_what_the_table_says(point):
    for action, make in (("pause", failpoints.pause),
                         ("delay", lambda name: failpoints.delay(name, 1)),
                         ("errno", lambda name: failpoints.fail(name, errno.EINTR)),
                         ("short", lambda name: failpoints.short(name, 1))):
        if action in point.actions:
            make(point.name)
        else:
            with pytest.raises(ValueError, match=f"takes pause, delay.*, not {action}"):
                make(point.name)
    assert ("short" in point.actions) == (point.name.split(".")[1] in ("move", "copy"))


@pytest.mark.parametrize("make", [
    lambda: failpoints.pause("flip.aftr"), lambda: failpoints.pause("flip.after", times=0),
    lambda: failpoints.pause("flip.after", times=2**32), lambda: failpoints.pause("explore"),
    lambda: failpoints.pause("flip.after", after=0), lambda: failpoints.delay("flip.after", -1),
    lambda: failpoints.delay("flip.after", 10, most_ns=9),
    lambda: failpoints.delay("flip.after", 1.5), lambda: failpoints.delay("flip.after", 10**15),
    lambda: failpoints.delay("flip.after", 1, seed=-1), lambda: failpoints.fail("place.move", 0),
    lambda: failpoints.fail("place.move", 4000), lambda: failpoints.fail("place.move", "EBUSY"),
    lambda: failpoints.short("place.move", 0), lambda: failpoints.explore("7"),
    lambda: failpoints.explore(2**64), lambda: failpoints.explore(share=0),
    lambda: failpoints.explore(share=1.5), lambda: failpoints.explore(ns=0)])
def test_what_cannot_be_is_refused_before_anything_is_armed(make):
    with pytest.raises((ValueError, TypeError)):
        make()


def test_a_failpoint_is_armed_once():
    with failpoints.pause("cycle.stay"):
        with pytest.raises(ValueError, match="armed already"), failpoints.delay("cycle.stay", 1):
            pass
        with failpoints.explore(1), pytest.raises(ValueError, match="being explored already"), \
                failpoints.explore(2):
            pass
    with failpoints.pause("cycle.stay"):                    # and is free again
        pass


# ---- when it acts --------------------------------------------------------------------------

@given(after=st.integers(1, 9), times=st.none() | st.integers(1, 9), passes=st.integers(0, 25))
def test_an_action_applies_from_the_nth_arrival_on_so_often(any_mutator, after, times, passes):
    """cycle.requested is passed once by each request."""
    with failpoints.delay("mutator.running", 0, times, after=after) as point:
        for _ in range(passes):
            _testing.stay_running(any_mutator.native())
        due = max(0, passes - after + 1)
        assert point.arrivals == passes
        assert point.hits == (due if times is None else min(due, times))


def test_the_nth_thread_is_stopped_and_others_pass(any_heap):
    with failpoints.pause("mutator.running", 1, after=3) as third, \
            MutatorThread(any_heap) as first, MutatorThread(any_heap) as second:
        for _ in range(2):
            first.call(lambda m: _testing.stay_running(m.native()))
        stopped = second.start(lambda m: _testing.stay_running(m.native()))
        third.wait()
        first.call(lambda m: _testing.stay_running(m.native()))
        assert not stopped.done() and (third.arrivals, third.hits) == (4, 1)
        third.release()
        stopped.result(30)


def test_nothing_is_counted_while_nothing_is_armed(any_mutator):
    point = failpoints.delay("mutator.running", 0)
    with point:
        pass
    _testing.stay_running(any_mutator.native())
    assert point.arrivals == 0


# ---- chance --------------------------------------------------------------------------------

@given(seed=st.integers(0, 2**64 - 1), ns=st.integers(1, 10**9),
       share=st.floats(0.05, 1), name=st.sampled_from(failpoints.NAMES))
def test_a_seed_decides_the_same_again_and_in_bounds(seed, ns, share, name):
    schedule = failpoints.explore(seed, ns=ns, share=share)
    first = [schedule.decision(name, n) for n in range(300)]
    assert first == [failpoints.explore(seed, ns=ns, share=share).decision(name, n)
                     for n in range(300)]
    delayed = [delay for delay in first if delay is not None]
    assert all(0 <= delay <= ns for delay in delayed)
    # Six standard deviations of a binomial distribution.
    assert abs(len(delayed) - 300 * share) <= 6 * (300 * share * (1 - share)) ** 0.5 + 1


def test_seeds_and_points_decide_differently():
    def decisions(seed, name):
        schedule = failpoints.explore(seed, share=0.5)
        return tuple(schedule.decision(name, n) for n in range(64))

    assert len({decisions(seed, name) for seed in range(20) for name in failpoints.NAMES}) == (
        20 * len(failpoints.NAMES))


def test_what_threads_were_delayed_is_what_the_seed_says(any_heap):
    """Each point's delays add up to its decisions, whichever threads came by in which order."""
    with any_heap.attach() as m, failpoints.explore(5, ns=30_000, share=0.5) as schedule:
        interleaved(m, node_shape(any_heap), 300)
        for _ in range(3):
            any_heap.collect()
    visited = schedule.visited()
    assert len(visited) > 30
    for name, (arrivals, delayed_ns) in visited.items():
        # A thread that came by at the end may not have slept yet.
        said = [schedule.decision(name, n) or 0 for n in range(arrivals)]
        assert delayed_ns == sum(said), name


def test_a_schedule_that_fails_says_its_seed():
    with pytest.raises(RuntimeError) as caught, failpoints.explore(77):
        raise RuntimeError("lost")
    assert caught.value.__notes__ == ["the schedule: failpoints.explore(77, ns=200000, share=0.1)"]
    assert failpoints.explore().seed != failpoints.explore().seed


def test_a_range_of_delays_needs_no_more_than_its_bounds(any_mutator):
    with failpoints.delay("mutator.running", 1000, most_ns=2000, seed=3) as point:
        for _ in range(20):
            _testing.stay_running(any_mutator.native())
        assert point.hits == 20


# ---- the ends ------------------------------------------------------------------------------

def test_a_thread_that_is_stopped_is_let_go_at_the_end_of_the_block(any_heap):
    with any_heap.attach() as m:
        nodes = interleaved(m, node_shape(any_heap), 500)
        with failpoints.pause("flip.after") as point:
            any_heap.collect(wait=False)
            point.wait()
        any_heap.collect()
        assert check_interleaved(nodes) == 500


def test_exploring_ends_with_its_block(any_heap):
    with failpoints.explore(1):
        any_heap.collect()
    count = failpoints.explore(1).visited()
    any_heap.collect()
    assert failpoints.explore(1).visited() == count


def test_a_stopped_program_without_a_finally_ends(zygote):
    """GCHEAP_FAILPOINTS cannot be disarmed by a block: the interpreter's exit does it."""
    assert zygote.run("""
        from gcheap import failpoint_settings
        environment = {"GCHEAP_FAILPOINTS": "flip.after=pause;cycle.begin=delay(1ms)"}
        failpoint_settings.arm_environment(environment)
        heap = gcheap.Heap("1MiB", backend="stw")
        heap.collect(wait=False)
        while not gcheap.core.failpoint.waiting(gcheap.failpoints.NAMES.index("flip.after")):
            time.sleep(0.001)
    """) == (0, "", "")


def test_waiting_threads_do_not_exist_in_a_forked_child(zygote):
    assert zygote.run("""
        heap = gcheap.Heap("1MiB")
        held = gcheap.failpoints.pause("mutator.attach", times=1)
        held.__enter__()
        threading.Thread(target=heap.attach, daemon=True).start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            waiting = gcheap.core.failpoint.waiting(held._index)
            heap.collect()
            os._exit(5 + waiting)
        print(gcheap.core.failpoint.waiting(held._index),
              os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """) == (0, "1 5\n", "")


def test_threads_of_several_heaps_meet_at_one_point(any_heap):
    """Failpoints belong to the process."""
    with gcheap.Heap("1MiB") as other, failpoints.pause("cycle.begin", times=2) as point:
        any_heap.collect(wait=False)
        other.collect(wait=False)
        wait_until(lambda: point.hits == 2, "two collectors at one point")
        assert threading.active_count() >= 1
        point.release()
        any_heap.collect()
        other.collect()
