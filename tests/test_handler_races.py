"""Fault mode `handler`: a fault meets everything else, in every order of events.

The failpoint "handler.poll" stops the thread that serves them before it reads, "handler.read" with
messages in its hands.  A thread that sleeps in a fault shows as `userfaultfd` in its /proc entry.
"""
from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from handler_support import (
    ARRAY,
    COUNT,
    KEY,
    holes,
    requires_wchan,
    sleeping_in_faults,
    word_at,
    words_of,
)
from support import (
    PATIENCE,
    MutatorThread,
    check_interleaved,
    interleaved,
    new_halves,
    node_shape,
    wait_until,
    writable_mappings,
)

import gcheap
from gcheap import failpoints
from gcheap.core import _testing


@requires_wchan
@pytest.mark.parametrize("stopped_at", ["handler.poll", "handler.read"])
@pytest.mark.parametrize("end", ["relocate.done", "unregister.done"])
def test_the_compactor_places_a_page_before_its_message_is_served(served, stopped_at, end):
    """Queued or in hand, the message comes too late: the page is there, or the range is gone."""
    with served.attach() as m, MutatorThread(served) as reader:
        nodes = interleaved(m, node_shape(served), COUNT)
        ref = nodes[COUNT // 2]
        with (failpoints.pause("flip.after", times=1) as flip,
              failpoints.pause(end, times=1) as ended):
            served.collect(wait=False)
            flip.wait()
            with failpoints.pause(stopped_at, times=1) as late:
                read = reader.start(words_of, ref)
                late.wait()
                wait_until(lambda: sleeping_in_faults() == 1, "the reader in its fault")
                assert not read.done()
                flip.release()
                assert read.result(PATIENCE)[KEY] == COUNT // 2     # the compactor woke it
                if end == "relocate.done" or stopped_at == "handler.poll":
                    ended.wait()
                late.release()
            ended.wait()
            ended.release()
        served.collect()
        assert check_interleaved(nodes) == COUNT
        stats = served.stats()
        if stopped_at == "handler.read":
            assert stats.faults >= 1 and stats.fault_pages == 0     # served, and nothing to do
        assert stats.hole_faults == 0 and stats.stray_pages == 0


@pytest.mark.parametrize("point", ["compactor.claimed", "compactor.assembled"])
def test_the_handler_waits_for_the_unit_that_the_compactor_owns(served, point):
    with served.attach() as m, MutatorThread(served) as reader:
        nodes = interleaved(m, node_shape(served), COUNT)
        with failpoints.pause(point, times=1) as owned, \
                failpoints.pause("mutator.wait", times=1) as waiting:
            served.collect(wait=False)
            owned.wait()
            read = reader.start(words_of, nodes)            # in the first unit
            waiting.wait()
            assert not read.done()
            waiting.release()
            owned.release()
            assert read.result(PATIENCE)[1] == COUNT        # the array's length
        served.collect()
        assert served.stats().fault_waits == 1
        assert check_interleaved(nodes) == COUNT


@pytest.mark.parametrize("point", ["mutator.claimed", "mutator.assembled"])
def test_the_compactor_waits_for_the_unit_that_the_handler_owns(served, point):
    with served.attach() as m, MutatorThread(served) as reader:
        nodes = interleaved(m, node_shape(served), COUNT)
        ref = nodes[COUNT // 2]
        with failpoints.pause("flip.after", times=1) as flip, \
                failpoints.pause(point, times=1) as owned, \
                failpoints.pause("relocate.done", times=1) as done:
            served.collect(wait=False)
            flip.wait()
            read = reader.start(words_of, ref)
            owned.wait()
            flip.release()
            with pytest.raises(TimeoutError):
                done.wait(0.3)                              # it may not finish without this unit
            assert not read.done()
            owned.release()
            assert read.result(PATIENCE)[KEY] == COUNT // 2
            done.wait()
            done.release()
        served.collect()
        assert check_interleaved(nodes) == COUNT


@requires_wchan
def test_many_threads_fault_on_one_unit(served):
    """One message each; one of them builds the unit, once."""
    threads = 12
    with served.attach() as m, ExitStack() as stack:
        m.new(node_shape(served))
        ref = m.new(node_shape(served), key=123)
        readers = [stack.enter_context(MutatorThread(served)) for _ in range(threads)]
        with failpoints.pause("flip.after", times=1) as flip:
            served.collect(wait=False)
            flip.wait()
            before = served.stats()
            with failpoints.pause("handler.poll") as poll:
                reads = [reader.start(words_of, ref) for reader in readers]
                poll.wait()
                wait_until(lambda: sleeping_in_faults() == threads, "all readers in their faults")
            assert [read.result(PATIENCE)[KEY] for read in reads] == [123] * threads
            # The first answer wakes all: the others are still to be given.
            wait_until(lambda: served.stats().ioctls["zeropage"].refused.get("EEXIST", 0)
                       == threads - 1, "an answer to each message")
            flip.release()
        served.collect()
        after = served.stats()
        assert after.faults - before.faults == threads
        assert after.fault_pages - before.fault_pages == served.unit_pages
        assert after.hole_faults == 0 and after.fault_waits == before.fault_waits
        assert ref.key == 123


def test_a_thread_that_is_no_mutator_is_served(served):
    """Under sigbus it could only wait for the compactor, which is held here."""
    before = writable_mappings()
    heap = gcheap.Heap("16MiB", backend=served.backend, faults="handler")
    halves = new_halves(heap, before)
    with heap, heap.attach() as m, ThreadPoolExecutor(len(halves)) as threads:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause("flip.after", times=1) as flip:
            heap.collect(wait=False)
            flip.wait()
            reads = [threads.submit(word_at, half) for half in halves]
            assert sum(read.result(PATIENCE) & 1 for read in reads) >= 1    # an object's header
            stats = heap.stats()
            assert (stats.faults, stats.fault_pages) == (1, heap.unit_pages)
            assert stats.foreign_faults == 0
            flip.release()
        heap.collect()
        assert check_interleaved(nodes) == COUNT


def test_a_system_call_on_a_page_that_has_not_arrived_fails(served):
    """The descriptor is for user mode only: nobody can serve a fault of the kernel's."""
    before = writable_mappings()
    heap = gcheap.Heap("16MiB", backend=served.backend, faults="handler")
    halves = new_halves(heap, before)
    libc = ctypes.CDLL(None, use_errno=True)
    read, write = os.pipe()

    def written(half):
        n = libc.write(write, ctypes.c_void_p(half), 8)
        return errno.errorcode[ctypes.get_errno()] if n < 0 else n

    with heap, heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause("flip.after", times=1) as flip:
            heap.collect(wait=False)
            flip.wait()
            answers = [written(half) for half in halves]
            assert answers.count("EFAULT") == 1 and answers.count(8) == len(halves) - 1
            assert check_interleaved(nodes) == COUNT
            assert [written(half) for half in halves] == [8] * len(halves)      # now it is there
            flip.release()
        heap.collect()
        assert check_interleaved(nodes) == COUNT
    os.close(read)
    os.close(write)


def test_a_stray_access_before_the_flip_waits_for_it(served):
    """From-space is still written then: nothing may be built from it."""
    before = writable_mappings()
    heap = gcheap.Heap("16MiB", backend=served.backend, faults="handler")
    halves = new_halves(heap, before)
    with heap, heap.attach() as m, ThreadPoolExecutor(len(halves)) as threads:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause("register.done", times=1) as registered, \
                failpoints.pause("handler.read", times=1) as read:
            heap.collect(wait=False)
            registered.wait()
            reads = [threads.submit(word_at, half) for half in halves]
            read.wait()
            read.release()
            wait_until(lambda: sum(r.done() for r in reads) == len(halves) - 1, "the other reads")
            nodes[7].filler = (70, 71)                      # still in from-space
            assert heap.stats().fault_pages == 0
            registered.release()
            assert all(r.result(PATIENCE) is not None for r in reads)
        heap.collect()
        assert list(nodes[7].filler) == [70, 71]
        assert check_interleaved(nodes) == COUNT


@pytest.mark.parametrize("released_at", ["relocate.done", "unregister.done"])
def test_a_stray_access_while_register_is_refused(served, released_at):
    """A thread that has no business there touches to-space while a part of it is registered; then
    REGISTER is refused for the rest, and the cycle relocates inside its pause, without protection.
    Served as if it were registered, that access ended the process."""
    before = writable_mappings()
    heap = gcheap.Heap("16MiB", backend=served.backend, faults="handler")
    halves = new_halves(heap, before)
    with heap, heap.attach() as m, ThreadPoolExecutor(len(halves)) as threads:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.fail("register.more", errno.ENOMEM), \
                failpoints.pause("register.refused", times=1) as refused, \
                failpoints.pause("relocate.done", times=1) as relocated, \
                failpoints.pause("unregister.done", times=1) as unregistered, \
                failpoints.pause("handler.read", times=1) as read:
            heap.collect(wait=False)
            refused.wait()
            reads = [threads.submit(word_at, half) for half in halves]
            read.wait()                                     # the message is in the handler's hands
            refused.release()
            relocated.wait()                                # every unit is PLACED
            if released_at == "relocate.done":
                read.release()
                assert all(r.result(PATIENCE) is not None for r in reads)
            relocated.release()
            if released_at == "unregister.done":
                with pytest.raises(TimeoutError):
                    unregistered.wait(0.2)                  # nor does the cycle end meanwhile
                read.release()
            unregistered.wait()
            unregistered.release()
            assert all(r.result(PATIENCE) is not None for r in reads)
        heap.collect()
        stats = heap.stats()
        assert stats.register_refusals == 1 and stats.hole_faults == stats.fault_pages == 0
        assert check_interleaved(nodes) == COUNT


@requires_wchan
@pytest.mark.parametrize("stopped_at", ["handler.poll", "handler.read"])
@holes
def test_the_range_is_unregistered_with_a_message_outstanding(by_handler, stopped_at):
    """A hole of a whole-moved unit: nobody but the handler would ever place that page."""
    with gcheap.Heap("16MiB", **by_handler) as heap, heap.attach() as m, \
            MutatorThread(heap) as reader:
        nodes = interleaved(m, node_shape(heap), 3000)
        with failpoints.pause("plan.done", times=1) as planned, \
                failpoints.pause("relocate.done", times=1) as relocated, \
                failpoints.pause("unregister.done", times=1) as unregistered:
            heap.collect(wait=False)
            planned.wait()
            untouched = m.new_array("u1", ARRAY)            # black: it moves as it is
            planned.release()
            relocated.wait()
            with failpoints.pause(stopped_at, times=1) as late:
                found = reader.start(lambda m: _testing.read_words(m.native(), untouched,
                                                                   ARRAY // 8))
                late.wait()
                wait_until(lambda: sleeping_in_faults() == 1, "the reader on a hole")
                assert not found.done()
                relocated.release()
                assert sum(found.result(PATIENCE)[2:]) == 0     # UNREGISTER woke it
                if stopped_at == "handler.read":
                    # Nor does the cycle end while the message is in hand.
                    with pytest.raises(TimeoutError):
                        unregistered.wait(0.2)
                late.release()
            unregistered.wait()
            unregistered.release()
        heap.collect()
        assert untouched.copy_out().sum() == 0
        assert check_interleaved(nodes) == 3000


@holes
def test_holes_are_zeroed_one_by_one(by_handler):
    with gcheap.Heap("16MiB", **by_handler) as heap, heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 3000)
        with failpoints.pause("plan.done", times=1) as planned, \
                failpoints.pause("relocate.done", times=1) as relocated:
            heap.collect(wait=False)
            planned.wait()
            untouched = m.new_array("u1", ARRAY)
            untouched[ARRAY // 2] = 9
            planned.release()
            relocated.wait()
            before = heap.stats()
            content = untouched.copy_out()
            assert content[ARRAY // 2] == 9 and content.sum() == 9
            relocated.release()
        heap.collect()                                      # then all messages are served
        after = heap.stats()
        holes = after.hole_faults - before.hole_faults
        assert holes >= ARRAY // heap.page_size - 3         # the header's page and that of the 9
        assert after.zeroed_bytes - before.zeroed_bytes == holes * heap.page_size
        assert untouched.copy_out().sum() == 9
        assert check_interleaved(nodes) == 3000


@requires_wchan
def test_closing_with_a_message_queued(by_handler):
    """A native thread sleeps in a fault, and the handler has not read of it, when close() comes."""
    before = writable_mappings()
    heap = gcheap.Heap("16MiB", **by_handler)
    halves = new_halves(heap, before)
    with heap.attach() as m:
        interleaved(m, node_shape(heap), COUNT)
    with ThreadPoolExecutor(len(halves)) as threads, \
            failpoints.pause("flip.after", times=1) as flip:
        heap.collect(wait=False)
        flip.wait()
        with failpoints.pause("handler.poll", times=1) as poll:
            reads = [threads.submit(word_at, half) for half in halves]
            poll.wait()
            wait_until(lambda: sleeping_in_faults() == 1, "the one in to-space")
            closer = threading.Thread(target=heap.close)
            # Held until all reads are done: close() unmaps what they read.
            with failpoints.pause("cycle.end", times=1) as ended:
                closer.start()
                wait_until(lambda: heap.closed, "the start of close()")
                flip.release()
                ended.wait()
                assert all(read.result(PATIENCE) is not None for read in reads)
                ended.release()
            poll.release()
        closer.join(PATIENCE)
        assert not closer.is_alive()
    with pytest.raises(gcheap.HeapClosed):
        heap.collect()


@pytest.mark.uninstrumented("ThreadSanitizer holds signals back", only="thread")
@requires_wchan
def test_a_signal_during_a_fault(by_handler):
    """A signal lets a thread out of its fault for as long as its handler runs; then it faults
    again, and two messages tell of it."""
    hits = []
    previous = signal.signal(signal.SIGUSR1, lambda *a: hits.append(1))
    try:
        with gcheap.Heap("16MiB", **by_handler) as heap, heap.attach() as m, \
                MutatorThread(heap) as reader:
            nodes = interleaved(m, node_shape(heap), COUNT)
            thread = reader.call(lambda m: threading.get_ident())
            with failpoints.pause("flip.after", times=1) as flip:
                heap.collect(wait=False)
                flip.wait()
                with failpoints.pause("handler.read", times=1) as late:
                    read = reader.start(words_of, nodes)
                    late.wait()
                    for n in range(3):
                        wait_until(lambda: sleeping_in_faults() == 1, "the reader in its fault")
                        signal.pthread_kill(thread, signal.SIGUSR1)
                        wait_until(lambda n=n: len(hits) > n, "the signal's handler")
                    assert not read.done()
                    late.release()
                assert read.result(PATIENCE)[1] == COUNT
                flip.release()
            heap.collect()
            assert check_interleaved(nodes) == COUNT
    finally:
        signal.signal(signal.SIGUSR1, previous)
