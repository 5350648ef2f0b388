"""Heap.finalize: weakref.finalize for heap objects."""
from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest
from support import PATIENCE, Child, run_cleanly, wait_until

import gcheap
from gcheap.face import finalize


@pytest.fixture
def heap(make_heap):
    return make_heap(verify=3)


def test_a_callback_runs_once_after_its_object_died(heap, mutator, node):
    ran = []
    ref = mutator.new(node, key=1)
    finalizer = heap.finalize(ref, lambda *a, **k: ran.append((a, k, threading.current_thread())),
                              1, 2, word="x")
    heap.collect()
    assert finalizer.alive and finalizer.atexit and ran == []
    assert finalizer.peek()[0] == ref and finalizer.peek()[2:] == ((1, 2), {"word": "x"})
    del ref
    heap.collect()
    wait_until(lambda: ran, "the callback")
    assert ran[0][:2] == ((1, 2), {"word": "x"})
    assert ran[0][2].daemon and ran[0][2] is not threading.current_thread()
    assert not finalizer.alive and finalizer.peek() is None and finalizer() is None
    assert finalizer.detach() is None and not finalizer.atexit
    heap.collect()
    assert len(ran) == 1 and heap.stats().finalized == 1


def test_calling_and_detaching(heap, mutator, node):
    ran = []
    ref = mutator.new(node)
    called, detached = heap.finalize(ref, lambda: 42), heap.finalize(ref, ran.append, 1)
    assert called() == 42 and called() is None and not called.alive
    found = detached.detach()
    assert found == (ref, ran.append, (1,), {}) and not detached.alive
    assert "dead" in repr(detached)
    del found, ref
    last = heap.finalize(mutator.new(node), ran.append, 2)
    heap.collect()
    wait_until(lambda: not last.alive, "the last callback")
    assert ran == [2]


def test_it_lives_without_being_kept_and_only_starts_a_thread_when_needed(make_heap, node):
    heap = make_heap(verify=3)

    def servers():
        return sum(t.name == "gcheap-finalize" for t in threading.enumerate())

    wait_until(lambda: servers() == 0, "the end of other heaps' threads")
    ran = []
    with heap.attach() as m:
        assert servers() == 0
        for i in range(500):
            heap.finalize(m.new(heap.shape("N", raw="u8")), ran.append, i)
        assert servers() == 1
    gc.collect()
    heap.collect()
    wait_until(lambda: len(ran) == 500, "all callbacks")
    assert sorted(ran) == list(range(500))
    heap.close()
    wait_until(lambda: servers() == 0, "the end of the heap's thread")


def test_errors_go_to_the_unraisable_hook(heap, mutator, node, monkeypatch):
    reports, ran = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: reports.append(
        (info.exc_type, str(info.exc_value), info.object)))

    def broken():
        raise SystemExit("no")

    heap.finalize(mutator.new(node), broken)
    heap.collect()
    wait_until(lambda: reports, "the report")
    assert reports == [(SystemExit, "no", broken)]
    heap.finalize(mutator.new(node), ran.append, 1)
    heap.collect()
    wait_until(lambda: ran, "the next callback")


def test_a_callback_may_use_the_heap(heap, mutator, node):
    ran = []

    def callback():
        with heap.attach() as m:
            ref = m.new(node, key=3)
            heap.finalize(ref, ran.append, "inner")
            ran.append(ref.key)

    heap.finalize(mutator.new(node), callback)
    heap.collect()
    wait_until(lambda: ran, "the callback")
    # Again and again: the callback's thread may not have let go of its object yet.
    wait_until(lambda: heap.collect() or len(ran) == 2, "the callback that it made")
    assert ran == [3, "inner"]


def test_close_is_the_death_of_every_object(heap, mutator, node):
    ran = []
    refs = [mutator.new(node) for _ in range(3)]
    finalizers = [heap.finalize(ref, ran.append, i) for i, ref in enumerate(refs)]
    finalizers[1].atexit = False
    finalizers.append(heap.finalize(refs[0], heap.close))
    mutator.detach()
    heap.close()
    assert ran == [2, 1, 0] and not any(f.alive for f in finalizers)
    with pytest.raises(gcheap.HeapClosed):
        heap.finalize(refs[0], ran.append)


def test_a_heap_in_cyclic_garbage_goes_with_its_finalizers(combination):
    class Owner:
        pass

    ran = []
    owner = Owner()
    owner.heap = gcheap.Heap("4MiB", **combination)
    with owner.heap.attach() as m:
        ref = m.new(owner.heap.shape("N", raw="u8"))
        owner.heap.finalize(ref, ran.append, 1)
        owner.refs = [ref, m.weak(ref), owner.heap.weak_key_table(), owner.heap.guardian(), owner]
    gone = weakref.ref(owner.heap)
    del owner, m, ref
    wait_until(lambda: gc.collect() >= 0 and ran, "the callback")
    assert gone() is None and ran == [1]


def test_misuse_says_what_was_wrong(heap, mutator, node):
    with pytest.raises(TypeError, match="expected a Ref"):
        heap.finalize(3, print)
    with pytest.raises(TypeError, match="expected a callable"):
        heap.finalize(mutator.new(node), 3)
    with gcheap.Heap("4MiB") as other, other.attach(), pytest.raises(gcheap.ForeignRef):
        other.finalize(mutator.new(node), print)


def test_at_exit_those_run_that_want_to_newest_first():
    assert run_cleanly("""
        import gcheap
        heap = gcheap.Heap("4MiB")
        m = heap.attach()
        ref = m.new(heap.shape("N", raw="u8"))
        for i in range(4):
            heap.finalize(ref, print, i).atexit = i != 2
        print("end")
        """) == "end\n3\n1\n0\n"


def test_the_interpreter_ends_while_callbacks_are_due():
    for _ in range(3):
        out = run_cleanly("""
            import os, gcheap
            heap = gcheap.Heap("4MiB")
            m = heap.attach()
            shape = heap.shape("N", raw="u8")
            for i in range(300):
                heap.finalize(m.new(shape), os.write, 1, b"%d " % i)
            heap.collect(wait=False)
            """)
        assert sorted(map(int, out.split())) == list(range(300))


def test_a_child_that_goes_on_has_finalizers_of_its_own():
    assert run_cleanly("""
        import os, threading, gcheap
        heap = gcheap.Heap("4MiB")
        m = heap.attach()
        shape = heap.shape("N", raw="u8")
        ref = m.new(shape)
        written = threading.Event()
        def callback():
            os.write(1, b"dead\\n")
            written.set()
        kept = heap.finalize(ref, callback)
        pid = os.fork()
        assert kept.alive
        del ref
        heap.collect()
        assert written.wait(30) and not kept.alive
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        m.detach()
        heap.close()
        """) == "dead\ndead\n"


class Held:
    """Notices of which those that are taken are held back while `go` is not set."""

    def __init__(self, notices):
        self.notices, self.taken, self.go = notices, threading.Event(), threading.Event()
        self.go.set()

    def __getattr__(self, name):
        return getattr(self.notices, name)

    def take(self):
        cells = self.notices.take()
        if cells:
            self.taken.set()
            self.go.wait()
        return cells


def test_a_child_calls_what_the_parents_thread_was_told_of_and_had_not_begun(heap, mutator, node):
    """That thread does not exist in the child, and where it stood among the cells is not kept."""
    called = []
    services = set(finalize._services)

    def finalized(n):
        ref = mutator.new(node, key=n)
        heap.finalize(ref, called.append, n)
        return ref
    refs = [finalized(n) for n in range(11)]
    service, = set(finalize._services) - services
    held = service.notices = Held(service.notices)
    refs.pop()
    heap.collect()
    wait_until(lambda: called == [10], "the first: the thread will ask what it is given there now")
    held.taken.clear()
    held.go.clear()
    for n in range(11, 75):                                 # take() gives 64 at a time
        finalized(n)
    heap.collect()
    assert held.taken.wait(PATIENCE)
    refs.clear()
    heap.collect()                                          # their cells are before those taken

    def all_of_them():
        held.go.set()
        wait_until(lambda: len(called) == 75, "all callbacks")
        assert sorted(called) == list(range(75))
    try:
        assert called == [10]
        Child(all_of_them).join()
    finally:
        held.go.set()
    all_of_them()


def test_fork_leaves_finalizers_to_the_parent():
    assert run_cleanly("""
        import os, sys, gcheap
        heap = gcheap.Heap("4MiB", fork="none")
        m = heap.attach()
        shape = heap.shape("N", raw="u8")
        ref = m.new(shape)
        kept = heap.finalize(ref, print, "parent")
        pid = os.fork()
        if pid == 0:
            assert not kept.alive and kept() is None
            sys.exit(0)                         # runs the exit handlers of the child
        assert os.waitpid(pid, 0)[1] == 0
        del ref
        heap.collect()
        while kept.alive:
            pass
        m.detach()
        heap.close()
        """) == "parent\n"
