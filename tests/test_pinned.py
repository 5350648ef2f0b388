"""Pinned arrays: one address for life, views of it, sweeping, and where they have no place."""
from __future__ import annotations

import array
import ctypes
import gc
import os

import numpy as np
import pytest
from support import PAGE, MutatorThread, run_cleanly, status_of_child

import gcheap
from gcheap import failpoints
from gcheap.face import ref as ref_module

MIB = 1 << 20


def address(view) -> int:
    return np.asarray(view).__array_interface__["data"][0]


# ---- address and views ---------------------------------------------------------------------

@pytest.mark.parametrize("unit_pages", [1, 16])
def test_a_pinned_array_keeps_address_and_contents(make_heap, rng, unit_pages):
    heap = make_heap(unit_pages=unit_pages, verify=3)
    with heap.attach() as m:
        pins = []
        for length in (0, 1, 7, PAGE - 16, PAGE - 15, 3 * PAGE, 200_000, MIB):
            for _ in range(20):
                m.new_array("u1", 5000)
            content = rng.randbytes(length)
            pin = m.new_array("u1", length, pinned=True)
            pin[:] = content
            pins.append((pin, address(pin), content))
        for _ in range(3):
            heap.collect()
            for pin, at, content in pins:
                assert pin.pinned and address(pin) == at and bytes(pin) == content
                assert bytes(memoryview(pin)) == content
        expected = sum(-(-(16 + (n + 7) // 8 * 8) // PAGE) * PAGE
                       for n in (len(c) for _, _, c in pins))
        assert heap.stats().pinned_bytes == expected


def test_views_and_the_array_are_one_memory(heap, mutator):
    pin = mutator.new_array("f8", 1000, pinned=True)
    view = np.asarray(pin)
    assert view.dtype == np.float64 and view.shape == (1000,) and view.flags.writeable
    view[:] = np.arange(1000)
    assert pin[999] == 999.0 and np.array_equal(pin.copy_out(), view)
    pin[3] = -1.5
    heap.collect()
    assert view[3] == -1.5 and memoryview(pin)[3] == -1.5
    pin.copy_in(np.ones(10), 5)
    assert view[5:15].sum() == 10


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8", "c16", "?", ">u4", "S5",
                                   [("a", "u1"), ("b", "f8")]])
def test_views_have_the_dtype(any_mutator, dtype):
    pin = any_mutator.new_array(dtype, 5, pinned=True)
    view = memoryview(pin)
    assert view.itemsize == np.dtype(dtype).itemsize and view.shape == (5,)
    assert np.asarray(pin).dtype == np.dtype(dtype) and len(np.asarray(pin)) == 5


def test_a_dtype_without_a_buffer_format_says_so(any_mutator):
    pin = any_mutator.new_array("M8[s]", 5, pinned=True)
    with pytest.raises(BufferError, match="bytes"):
        memoryview(pin)


def test_system_calls_fill_it(any_heap, any_mutator):
    pin = any_mutator.new_array("u1", 100_000, pinned=True)
    view = memoryview(pin)
    with open("/dev/urandom", "rb", buffering=0) as file:
        assert file.readinto(view) == 100_000
    before = bytes(pin)
    any_heap.collect()
    assert bytes(view) == before and len(set(before)) == 256
    assert b"".join([pin]) == before
    assert array.array("B", b"ab").tobytes() + bytes(view[:0]) == b"ab"


def test_what_moves_has_no_view(mutator):
    for thing in (mutator.new_bytes(b"x"), mutator.new_array("u1", 9 * MIB)):
        assert not thing.pinned
        with pytest.raises(BufferError, match="pinned=True"):
            memoryview(thing)


def test_numpy_makes_no_silent_copy_of_what_moves(any_heap, any_mutator):
    moves = any_mutator.new_array("u1", 3)
    moves.copy_in([1, 2, 3])
    for convert in (np.asarray, np.array, np.sum, lambda it: np.ones(3) + it,
                    lambda it: np.array([it, it]), lambda it: np.asarray(it, dtype="i8")):
        with pytest.raises(TypeError, match=r"pinned=True.*copy_out\(\)"):
            convert(moves)
    undated = any_mutator.new_array("M8[s]", 5, pinned=True)
    with pytest.raises(TypeError, match="bytes"):
        np.asarray(undated)
    # What says that it copies does.
    for other in (any_mutator.new_array("u1", 3), any_mutator.new_array("i8", 3, pinned=True)):
        other.copy_in(moves)
        assert list(other) == [1, 2, 3]
        other[:] = moves
        assert bytes(moves) == other.copy_out().astype("u1").tobytes()


def test_numpy_has_a_view_of_what_is_pinned_in_every_way(any_mutator):
    pin = any_mutator.new_array("u1", 3, pinned=True)
    for view in (np.asarray(pin), np.array(pin, copy=False), pin.__array__(),
                 pin.__array__("u1", copy=False)):
        view[0] += 1
    assert list(pin) == [4, 0, 0]
    pin.__array__(copy=True)[0] = pin.__array__("i8")[0] = np.array(pin)[0] = 9
    assert list(pin) == [4, 0, 0]
    with pytest.raises(ValueError, match="copy"):
        pin.__array__("i8", copy=False)


# ---- who outlives whom ---------------------------------------------------------------------

def test_a_view_keeps_the_array(heap):
    with heap.attach() as m:
        view = np.asarray(m.new_array("u4", 5000, pinned=True))
        view[:] = 7
        gc.collect()
    for _ in range(2):
        heap.collect()
    assert heap.stats().pinned_bytes > 0 and (view == 7).all()
    del view
    heap.collect()
    assert heap.stats().pinned_bytes == 0


def test_views_outlive_the_heap(combination):
    heap = gcheap.Heap("4MiB", **combination)
    with heap.attach() as m:
        pins = [m.new_array("u4", 5000, pinned=True) for _ in range(2)]
        views = [np.asarray(pin) for pin in pins]
        more = memoryview(pins[0])
        views[0][:] = 1
        views[1][:] = 2
    heap.close()
    heap.close()
    with pytest.raises(gcheap.HeapClosed):
        memoryview(pins[0])
    del heap, pins
    gc.collect()
    assert (views[0] == 1).all() and (views[1] == 2).all()
    views[0][:] = 3
    assert more[4999] == 3
    start = address(views[0]) - 16
    del views
    more.release()
    del more
    gc.collect()
    with open("/proc/self/maps") as maps:
        spans = [line.split()[:2] for line in maps]
    for span, permissions in spans:
        low, high = (int(x, 16) for x in span.split("-"))
        assert not (low <= start < high and permissions == "rw-p" and high - low == 8 * MIB)


def test_closing_while_a_view_is_made(any_heap, monkeypatch):
    """Another thread closes the heap while the view's format is looked up."""
    with any_heap.attach() as m:
        pin = m.new_array("u4", 5000, pinned=True)

    class Numpy:
        def __getattr__(self, name):
            any_heap.close()
            return getattr(np, name)

    monkeypatch.setattr(ref_module, "np", Numpy())
    with pytest.raises(gcheap.HeapClosed):
        memoryview(pin)


@pytest.mark.parametrize("mode", ["continue", "none"])
def test_a_forked_child_has_copies(combination, mode):
    with gcheap.Heap("4MiB", fork=mode, **combination) as heap, heap.attach() as m:
        pin = m.new_array("u1", 10_000, pinned=True)
        view = np.asarray(pin)
        view[:] = 1
        child = os.fork()
        if child == 0:
            ok = (view == 1).all()
            view[:] = 9
            try:
                heap.collect()
                ok &= mode == "continue" and bytes(memoryview(pin)) == b"\t" * 10_000
            except gcheap.HeapClosed:
                ok &= mode == "none"
            ok &= (view == 9).all()
            del pin, view
            os._exit(0 if ok else 1)
        heap.collect()
        view[:10] = 2
        assert status_of_child(child) == 0
        heap.collect()
        assert (view[:10] == 2).all() and (view[10:] == 1).all()


def test_a_process_ends_with_views_alive():
    run_cleanly("""
import gcheap, numpy as np
heap = gcheap.Heap("4MiB")
m = heap.attach()
view = np.asarray(m.new_array("u1", 10_000, pinned=True))
late = memoryview(m.new_array("u1", 10_000, pinned=True))
view[:] = 1
m.detach()
heap.close()
""")


# ---- marking and sweeping ------------------------------------------------------------------

def test_what_died_is_swept_and_comes_back_zero(make_heap):
    heap = make_heap("8MiB", verify=3)
    with heap.attach() as m:
        kept = m.new_array("u1", 3 * PAGE, pinned=True)
        kept[:] = b"k" * (3 * PAGE)
        for turn in range(6):
            pins = [m.new_array("u1", size, pinned=True) for size in (10, PAGE, 600_000, MIB)]
            for pin in pins:
                assert not np.asarray(pin).any()
                np.asarray(pin)[:] = turn + 1
            del pin, pins
            heap.collect()
            assert heap.stats().pinned_bytes == 4 * PAGE
            assert heap.stats().used_bytes == heap.stats().live_bytes
        assert bytes(kept) == b"k" * (3 * PAGE)


def test_what_was_locked_in_memory_comes_back_zero(make_heap):
    """Locked pages cannot be dropped; whoever gets them next must not find what they held."""
    libc = ctypes.CDLL(None, use_errno=True)
    heap = make_heap("4MiB")
    with heap.attach() as m:
        pin = m.new_array("u1", 8 * PAGE - 16, pinned=True)
        at = address(pin) - 16
        if libc.mlock(ctypes.c_void_p(at), ctypes.c_size_t(8 * PAGE)):
            pytest.skip(f"mlock: {os.strerror(ctypes.get_errno())}")
        np.asarray(pin)[:] = 0xFF
        del pin
        heap.collect()
        again = m.new_array("u1", 8 * PAGE - 16, pinned=True)
        assert address(again) - 16 == at and not np.asarray(again).any()


def test_pinned_arrays_in_slots(make_heap):
    heap = make_heap(verify=3)
    tagged = heap.shape("T", refs=("at",), raw=[("n", "u8")], tag=(7, 3))
    with heap.attach() as m:
        holder, large = m.new(tagged), m.new_slots(100_000)
        pin = m.new_array("u8", 1000, pinned=True)
        pin[999] = 42
        holder.at = pin
        large[99_999] = pin
        at = address(pin)
        del pin
        for _ in range(2):
            m.new_array("u1", 100_000)
            heap.collect()
            found = large[99_999]
            assert found.pinned and found == holder.at and found[999] == 42
            assert address(found) == at and hash(found) == hash(holder.at)
        del found
        large[99_999] = None
        heap.collect()
        assert holder.at[999] == 42
        holder.at = None
        heap.collect()
        assert heap.stats().pinned_bytes == 0


def test_during_marking(make_concurrent_heap):
    """Made, moved about and dropped while marking is held."""
    heap = make_concurrent_heap(verify=3)
    with heap.attach() as m:
        old, hidden, dead = (m.new_array("u8", 1000, pinned=True) for _ in range(3))
        holder = m.new_slots(4)
        for i, pin in enumerate((old, hidden, dead)):
            pin[0] = i + 1
        holder[0], holder[1] = old, hidden
        del pin, old, hidden, dead
        with failpoints.pause("mark.concurrent", times=1) as point:
            heap.collect(wait=False)
            point.wait()
            out = holder[1]
            holder[1] = None                            # logged: marked although unseen
            black = m.new_array("u8", 1000, pinned=True)
            black[0] = 4
            lost = m.new_array("u8", 1000, pinned=True)
            holder[2] = black
            del black, lost
            point.release()
            before = heap.stats().cycles
            heap.collect()
        assert heap.stats().cycles > before
        assert (holder[0][0], out[0], holder[2][0]) == (1, 2, 4)
        heap.collect()
        assert heap.stats().pinned_bytes == 3 * 2 * PAGE
        del out
        heap.collect()
        assert heap.stats().pinned_bytes == 2 * 2 * PAGE


def test_allocation_where_the_sweeper_has_been(make_concurrent_heap):
    """The sweeper lets go of the lock now and then: what is placed behind it meanwhile lies below
    the top that it finds."""
    heap = make_concurrent_heap("8MiB", verify=3)
    with heap.attach() as m:
        pins = [m.new_array("u1", 10 * PAGE, pinned=True) for _ in range(60)]
        del pins
        with failpoints.pause("sweep.gap", times=1) as gap:
            heap.collect(wait=False)
            gap.wait()
            # The cursor stands at the top, so this fills what is left of it and starts over.
            made = [m.new_array("u1", 10 * PAGE, pinned=True) for _ in range(20)]
            for i, pin in enumerate(made):
                np.asarray(pin)[:] = i + 1
            gap.release()
            heap.collect()
        del made[::2]
        heap.collect()
        made += [m.new_array("u1", 30 * PAGE, pinned=True) for _ in range(20)]
        spans = sorted((address(pin), address(pin) + len(pin)) for pin in made)
        assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
        for i, pin in enumerate(made[:10]):
            assert (np.asarray(pin) == 2 * i + 2).all()
        assert not any(np.asarray(pin).any() for pin in made[10:])
        del made, pin
        heap.collect()
        assert heap.stats().pinned_bytes == 0


def test_cycles_that_relocate_nothing_sweep(make_concurrent_heap):
    """Where less than a unit would be won, the pages of dead arrays are free all the same."""
    heap = make_concurrent_heap("8MiB", unit_pages=16, verify=3)
    with heap.attach() as m:
        small = [m.new_array("u1", 10, pinned=True) for _ in range(4)]
        big = m.new_array("u1", 6 * MIB, pinned=True)
        heap.collect()
        del small[1:]
        before = heap.stats()
        while heap.stats().cycles == before.cycles:
            m.new_array("u1", 30_000)
        heap.collect()
        assert heap.stats().pinned_bytes == PAGE + 6 * MIB + PAGE
        assert len(big) == 6 * MIB


# ---- limits --------------------------------------------------------------------------------

def test_capacity_counts_whole_pages(make_heap):
    heap = make_heap("1MiB")
    with heap.attach() as m:
        pins = []
        with pytest.raises(gcheap.HeapExhausted, match="full"):
            while True:
                pins.append(m.new_array("u1", 1, pinned=True))
        assert 0.9 * MIB <= len(pins) * PAGE <= MIB
        assert heap.stats().used_bytes <= MIB
        del pins[::2]
        heap.collect()
        pins.append(m.new_array("u1", MIB // 4, pinned=True))
        assert not np.asarray(pins[-1]).any()


def test_garbage_makes_room_by_itself(make_heap):
    heap = make_heap("4MiB")
    with heap.attach() as m:
        for size in (1, PAGE, 100_000, MIB, 3 * MIB, MIB, 5):
            for _ in range(50):
                assert not m.new_array("u1", size, pinned=True)[size - 1]
    assert heap.stats().cycles > 0


def test_nothing_larger_than_the_capacity(make_heap):
    heap = make_heap("1MiB")
    with heap.attach() as m:
        for n in (MIB - 15, MIB, 2 * MIB, 2**63, 2**80):
            with pytest.raises(gcheap.HeapExhausted):
                m.new_array("u1", n, pinned=True)
        with pytest.raises(ValueError, match="-1"):
            m.new_array("u1", -1, pinned=True)
        assert heap.stats().used_bytes == 0
        assert len(m.new_array("u1", MIB - 16, pinned=True)) == MIB - 16


def test_scattered_pages_are_said_to_be_scattered(make_heap):
    """Arrays stand all over the address space, twice the capacity, and no gap between them takes
    what capacity would allow."""
    heap = make_heap("2MiB")
    with heap.attach() as m:
        ones = [m.new_array("u1", 1, pinned=True) for _ in range(500)]
        del ones[1::8], ones[1::7], ones[1::6], ones[1::5], ones[1::4], ones[1::3], ones[1::2]
        heap.collect()
        nines = [m.new_array("u1", 9 * PAGE - 16, pinned=True) for _ in range(47)]
        del nines[1::2]
        heap.collect()
        used = heap.stats().used_bytes
        assert used + 150 * PAGE < 2 * MIB
        with pytest.raises(gcheap.HeapExhausted, match="scattered"):
            m.new_array("u1", 150 * PAGE - 16, pinned=True)
        assert heap.stats().used_bytes == used
        m.new_array("u1", 6 * PAGE, pinned=True)
        nines.clear()
        assert len(m.new_array("u1", 150 * PAGE - 16, pinned=True)) == 150 * PAGE - 16


def test_threads_allocate_during_cycles(make_heap, seed):
    heap = make_heap("16MiB", verify=3)

    def work(m, number):
        rng = np.random.default_rng(seed + number)
        mine = []
        for step in range(250):
            size = int(rng.choice([8, PAGE, 5 * PAGE, 200_000]))
            pin = m.new_array("u1", size, pinned=True)
            view = np.asarray(pin)
            assert not view.any()
            view[:] = (step + number) % 250 + 1
            mine.append((pin, (step + number) % 250 + 1))
            m.new_array("u1", 2000)
            if len(mine) > 8:
                old, value = mine.pop(int(rng.integers(len(mine))))
                assert (np.asarray(old) == value).all()
        return sum(bool((np.asarray(pin) == value).all()) for pin, value in mine)

    threads = [MutatorThread(heap) for _ in range(3)]
    try:
        jobs = [thread.start(work, i * 80) for i, thread in enumerate(threads)]
        while not all(job.done() for job in jobs):
            heap.collect()
        assert [job.result() for job in jobs] == [8, 8, 8]
    finally:
        for thread in threads:
            thread.__exit__()
    gc.collect()
    heap.collect()
    assert heap.stats().pinned_bytes == 0
    assert heap.stats().used_bytes == heap.stats().live_bytes == 0


def test_a_view_that_goes_while_the_heap_is_closed_takes_its_pages_along():
    """close() had counted it already, and left the memory to it."""
    assert run_cleanly("""
import gc
import threading
import numpy as np
import gcheap
from gcheap import failpoints
heap = gcheap.Heap("16MiB")
with heap.attach() as m:
    view = np.asarray(m.new_array("u1", 8 << 20, pinned=True))
view[:] = 1
address = view.ctypes.data
def mapped():
    spans = (line.split()[0].split("-") for line in open("/proc/self/maps"))
    return any(int(low, 16) <= address < int(high, 16) for low, high in spans)
with failpoints.pause("close.begin", times=1) as point:
    closing = threading.Thread(target=heap.close)
    closing.start()
    point.wait()
    assert mapped()
    del view
    gc.collect()
    point.release()
    closing.join()
print(mapped())
""") == "False\n"
