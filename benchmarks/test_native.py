"""The mutator's hot path in nogil loops: nanoseconds per operation."""
import pytest

micro = pytest.importorskip("gcheap.workloads._micro")


@pytest.mark.parametrize("size", [16, 32])
def test_allocate(heap, mutator, native_rounds, size):
    """Allocation of a small object that dies at once, no cycle running.  ns per object."""
    shape = heap.shape(f"Small{size}", raw=[("filler", f"V{size - 8}")])
    native_rounds(micro.alloc_loop, mutator.native(), shape.id, count=1_000_000)


def test_store_slot(heap, mutator, native_rounds):
    """A reference stored in a slot through the write barrier.  ns per store."""
    pair = heap.shape("Pair", refs=("first", "second"))
    native_rounds(micro.store_loop, mutator.native(), pair.id, count=10_000_000)


def test_load_slot(heap, mutator, native_rounds):
    """A reference read from a slot and followed: no read barrier, so a plain dependent load
    from the first-level cache.  ns per load."""
    pair = heap.shape("Pair", refs=("first", "second"))
    native_rounds(micro.load_loop, mutator.native(), pair.id, count=10_000_000)


def test_poll(mutator, native_rounds):
    """A safepoint poll while no pause is on.  ns per poll."""
    native_rounds(micro.poll_loop, mutator.native(), count=10_000_000)


def test_enter_and_leave(mutator, native_rounds):
    """Entering the heap and leaving it again, no pause being on.  ns per pair."""
    native_rounds(micro.enter_loop, mutator.native(), count=1_000_000)


def test_take_and_drop_a_handle(heap, mutator, native_rounds):
    """A handle taken and dropped again, natively.  ns per pair."""
    pair = heap.shape("Pair", refs=("first", "second"))
    native_rounds(micro.handle_loop, mutator.native(), pair.id, count=1_000_000)
