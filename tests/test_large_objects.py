"""Large objects: spaces of their own, moved whole, never copied and never read."""
from __future__ import annotations

import errno
import os
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from support import PAGE, MutatorThread, run_cleanly, wait_until

import gcheap
from gcheap import failpoints
from gcheap.core._testing import read_words

MIB = 1 << 20
HUGE_LEAST = 8 * MIB


def raw(m, nbytes: int, number: int):
    """A raw array of `nbytes` with its header, its contents told by `number`."""
    array = m.new_array("u1", nbytes - 16)
    array.copy_in(expected(nbytes, number))
    return array


def expected(nbytes: int, number: int) -> np.ndarray:
    return np.resize(np.random.default_rng(number).integers(0, 256, 4099, dtype="u1"), nbytes - 16)


def check_raw(array, nbytes: int, number: int) -> None:
    assert np.array_equal(array.copy_out(), expected(nbytes, number))


# ---- sizes ---------------------------------------------------------------------------------

@pytest.mark.parametrize("unit_pages", [1, 16, 512])
def test_sizes_around_every_threshold(make_heap, unit_pages):
    heap = make_heap("128MiB", unit_pages=unit_pages, verify=3)
    unit = unit_pages * PAGE
    sizes = sorted({size + d for size in (unit // 2, unit, 2 * unit, 5 * PAGE, HUGE_LEAST)
                    for d in (-8, 0, 8)})
    with heap.attach() as m:
        made = []
        for number, size in enumerate(sizes):
            m.new_array("u1", size - 16)                # garbage before each
            made.append((raw(m, size, number), size, number))
            slots = m.new_slots(size // 8 - 2)
            slots[0], slots[len(slots) - 1] = made[-1][0], gcheap.Tagged(8 * number + 1)
            if size < HUGE_LEAST - 8:
                made.append((slots, None, number))
            del slots
        for _ in range(3):
            heap.collect()
            before = None
            for thing, size, number in made:
                if size is not None:
                    check_raw(thing, size, number)
                    before = thing
                else:
                    assert thing[0] == before
                    assert thing[len(thing) - 1] == gcheap.Tagged(8 * number + 1)
            assert heap.stats().used_bytes == heap.stats().live_bytes
        del made, thing, before
        heap.collect()
        assert heap.stats().used_bytes == 0


@pytest.mark.parametrize("unit_pages", [1, 16, 512])
def test_the_smallest_heaps(make_heap, unit_pages):
    """Capacity at its minimum: every large object that it allows finds a place, again and again."""
    heap = make_heap(4 * max(unit_pages * PAGE, 65536), unit_pages=unit_pages, verify=3)
    unit, capacity = unit_pages * PAGE, heap.capacity
    with heap.attach() as m:
        for turn in range(3):
            for size in (unit // 2 + 8, unit, unit + 8, capacity // 2, capacity):
                array = raw(m, size, turn)
                check_raw(array, size, turn)
                del array
        with pytest.raises(gcheap.HeapExhausted):
            m.new_array("u1", capacity - 8)
        kept = [m.new_slots(unit // 16) for _ in range(capacity // (unit // 2 + 16))]
        with pytest.raises(gcheap.HeapExhausted):
            while True:
                kept.append(m.new_slots(unit // 16))
        del kept[::2]
        heap.collect()
        kept.append(m.new_slots(unit // 16))


def test_arrays_without_elements(make_heap):
    heap = make_heap("4MiB", verify=3)
    with heap.attach() as m:
        empty = [m.new_slots(0), m.new_bytes(b""), m.new_array("f8", 0),
                 m.new_array("f8", 0, pinned=True)]
        heap.collect()
        assert [len(array) for array in empty] == [0, 0, 0, 0]
        assert [list(array) for array in empty] == [[], [], [], []]


@pytest.mark.parametrize("unit_pages", [1, 16])
def test_large_fixed_shapes(make_heap, unit_pages):
    """A record of 100 KiB; with small units its slots lie in several grains."""
    heap = make_heap("16MiB", unit_pages=unit_pages, verify=3)
    names = tuple(f"r{i}" for i in range(1200))
    shape = heap.shape("Big", refs=names, raw=[("data", "V100000"), ("key", "u8")])
    with heap.attach() as m:
        leaves = [m.new_bytes(b"%d" % i) for i in range(len(names))]
        m.new_slots(50_000)                             # garbage
        big = m.new(shape, key=7, data=b"\xa5" * 100_000)
        for name, leaf in zip(names, leaves, strict=True):
            setattr(big, name, leaf)
        holder = m.new_slots(1)
        holder[0] = big
        del big, leaf
        del leaves[1::2]
        for _ in range(3):
            m.new_slots(50_000)
            heap.collect()
            big = holder[0]
            assert big.key == 7 and bytes(big.data) == b"\xa5" * 100_000
            for i, name in enumerate(names):
                assert bytes(getattr(big, name)) == b"%d" % i
            assert [getattr(big, name) for name in names[::2]] == leaves


def test_tagged_values_in_large_arrays(make_heap):
    heap = make_heap("16MiB", verify=3)
    shape = heap.shape("Odd", refs=tuple(f"r{i}" for i in range(9000)), tag=(7, 5))
    with heap.attach() as m:
        m.new_slots(50_000)
        odd, slots, leaf = m.new(shape), m.new_slots(30_000), m.new_bytes(b"leaf")
        for i in range(0, 9000, 3):
            setattr(odd, f"r{i}", leaf)
            setattr(odd, f"r{i + 1}", gcheap.Tagged(8 * i + 8))     # no reference under its rule
            slots[3 * i], slots[3 * i + 1] = leaf, gcheap.Tagged(8 * i + 5)
        for _ in range(2):
            heap.collect()
            for i in range(0, 9000, 3):
                assert getattr(odd, f"r{i}") == leaf and slots[3 * i] == leaf
                assert getattr(odd, f"r{i + 1}") == gcheap.Tagged(8 * i + 8)
                assert slots[3 * i + 1] == gcheap.Tagged(8 * i + 5)
                assert getattr(odd, f"r{i + 2}") is None and slots[3 * i + 2] is None


# ---- nothing is read, copied or made resident ------------------------------------------------

def rss() -> int:
    """Resident anonymous bytes of this process, the zero page not counted."""
    return int(re.search(r"RssAnon:\s*(\d+)", Path("/proc/self/status").read_text())[1]) << 10


@pytest.mark.uninstrumented("its shadow is resident memory too", only="thread")
def test_sparse_arrays_stay_sparse(make_heap):
    """Pages that were never touched stay holes, in raw arrays and among empty slots."""
    heap = make_heap("256MiB", huge_pages="never")
    with heap.attach() as m:
        m.new_array("u1", 20 * MIB)                     # garbage: everything will move
        m.new_slots(3 * MIB)
        sparse, middle = m.new_array("u8", 4 * MIB), m.new_array("u1", 3 * MIB)
        slots = m.new_slots(2 * MIB)
        sparse[4 * MIB - 1], middle[MIB], slots[MIB] = 1, 2, middle
        before = rss()
        for _ in range(3):
            m.new_array("u1", 20 * MIB)
            heap.collect()
            # 51 MiB would be all of them; a thread's stack on huge pages is two or four.
            assert rss() <= before + 12 * MIB
        assert (sparse[4 * MIB - 1], middle[MIB], slots[MIB]) == (1, 2, middle)
        assert sparse[5] == 0 and slots[5] is None


def test_raw_arrays_are_moved_not_copied():
    heap = gcheap.Heap("128MiB", backend="auto", huge_pages="never")
    if heap.backend != "move":
        pytest.skip(heap.why)
    with heap, heap.attach() as m:
        m.new_array("u1", 9 * MIB)
        big = raw(m, 32 * MIB, 1)
        before = heap.stats()
        heap.collect()
        after = heap.stats()
        assert after.moved_bytes - before.moved_bytes >= 32 * MIB
        assert after.copied_bytes == 0
        assert after.ioctls["move"].calls - before.ioctls["move"].calls <= 8
        check_raw(big, 32 * MIB, 1)


def run_with_huge_pages(script: str) -> None:
    """Runs `script`, which has huge(): KiB of its process in huge pages.  Skips where pages do not
    move, or the script ends by saying that there are no huge pages to be had."""
    with gcheap.Heap("min") as heap:
        if heap.backend != "move":
            pytest.skip(heap.why)
    told = run_cleanly("""
import re
import sys
import numpy as np
import gcheap
MIB = 1 << 20
def huge():
    return int(re.search(r"AnonHugePages: *(\\d+)", open("/proc/self/smaps_rollup").read())[1])
""" + script + """
print("sound")
""")
    if told.startswith("no huge pages"):
        pytest.skip(told)
    assert told == "sound\n"


def test_huge_pages_stay_huge_over_ten_cycles():
    """In a process of its own: what other heaps give back would be counted too."""
    run_with_huge_pages("""
contents = np.resize(np.arange(251, dtype="u1"), 64 * MIB)
with gcheap.Heap("160MiB", huge_pages="always") as heap, heap.attach() as m:
    base = huge()
    garbage, array = m.new_array("u1", 9 * MIB), m.new_array("u1", 64 * MIB)
    array[:] = contents
    before = huge() - base
    if before < 60 << 10:
        sys.exit(print(f"no huge pages to be had: {before} KiB of 64 MiB"))
    del garbage
    for _ in range(10):
        moves = heap.stats().ioctls["move"]
        heap.collect()
        after = heap.stats().ioctls["move"]
        assert huge() - base >= min(before, 64 << 10)
        calls, nbytes = after.calls - moves.calls, 4096 * (after.pages - moves.pages)
        assert nbytes >= 64 * MIB and calls * 2 * MIB <= nbytes + 4 * MIB
    assert not heap.stats().copied_bytes
    assert np.array_equal(array.copy_out(), contents)
""")


# ---- interleavings -------------------------------------------------------------------------

def test_black_ones_during_marking(make_concurrent_heap):
    heap = make_concurrent_heap("64MiB", verify=3)
    heap.disable()              # collect(wait=False) would join an automatic cycle
    with heap.attach() as m:
        garbage = [m.new_slots(40_000) for _ in range(5)]
        old = m.new_slots(40_000)
        old[39_999] = m.new_bytes(b"old")
        secret = raw(m, 9 * MIB, 1)
        old[0] = secret
        del garbage, secret
        with failpoints.pause("mark.concurrent", times=1) as point:
            heap.collect(wait=False)
            point.wait()
            black, huge = m.new_slots(50_000), raw(m, 10 * MIB, 2)
            black[0], black[49_999], black[25_000] = huge, old[39_999], black
            black[1], old[0] = old[0], None             # hidden in a black one; logged
            old[1] = black
            del black, huge
            m.new_slots(50_000)                         # black garbage, kept one cycle
            point.release()
            heap.collect()
        black = old[1]
        check_raw(black[0], 10 * MIB, 2)
        check_raw(black[1], 9 * MIB, 1)
        assert bytes(black[49_999]) == b"old" and black[25_000] == black and old[0] is None
        heap.collect()
        live = sum([2 * 16 + 8 * 90_000, 19 * MIB, 24])
        assert heap.stats().live_bytes == live == heap.stats().used_bytes


@pytest.mark.parametrize("unit_pages", [1, 16])
def test_faults_on_large_grains(make_concurrent_heap, unit_pages):
    """Right after the flip a mutator reads what it needs: grains it claims, and holes."""
    heap = make_concurrent_heap("64MiB", unit_pages=unit_pages, verify=3)
    heap.disable()              # collect(wait=False) would join an automatic cycle
    with heap.attach() as m:
        m.new_slots(40_000), m.new_array("u1", 9 * MIB)
        slots, huge, sparse = m.new_slots(40_000), raw(m, 9 * MIB, 4), m.new_array("u8", 2 * MIB)
        for i in range(0, 40_000, 100):
            slots[i] = huge if i % 200 else slots
        sparse[MIB] = 5
        before = heap.stats()
        with failpoints.pause("flip.after", times=1) as flipped:
            heap.collect(wait=False)
            flipped.wait()
            assert sparse[MIB] == 5 and sparse[MIB + PAGE] == 0 and sparse[2 * MIB - 1] == 0
            for i in range(0, 40_000, 100):
                assert slots[i] == (huge if i % 200 else slots) and slots[i + 1] is None
            check_raw(huge, 9 * MIB, 4)
            sparse[77], slots[39_999] = 6, huge
            flipped.release()
            heap.collect()
        after = heap.stats()
        assert after.faults > before.faults and after.hole_faults > before.hole_faults
        assert (sparse[77], slots[39_999]) == (6, huge)
        check_raw(huge, 9 * MIB, 4)


@pytest.mark.sigbus_only("with a handler both sleep in the kernel: test_handler_races.py")
def test_waiting_for_a_grain_that_somebody_else_builds(make_concurrent_heap):
    heap = make_concurrent_heap("64MiB", verify=3)
    heap.disable()              # collect(wait=False) would join an automatic cycle
    with heap.attach() as m, MutatorThread(heap) as other:
        m.new_array("u1", 9 * MIB)
        m.new_slots(9000)
        huge, slots = raw(m, 9 * MIB, 5), m.new_slots(9000)
        slots[8999] = huge
        for target, words in ((huge, 100), (slots, 9002)):
            m.new_array("u1", 9 * MIB), m.new_slots(9000)
            with failpoints.pause("flip.after", times=1) as flipped, \
                    failpoints.pause("mutator.claimed", times=1) as claimed, \
                    failpoints.pause("mutator.wait", times=1) as waits:
                heap.collect(wait=False)
                flipped.wait()
                first = m.native()
                owner = other.start(lambda m, t=target, n=words: read_words(m.native(), t, n))
                claimed.wait()
                with MutatorThread(heap) as third:
                    late = third.start(lambda m, t=target, n=words: read_words(m.native(), t, n))
                    waits.wait()
                    waits.release()
                    assert not late.done() and not owner.done()
                    claimed.release()
                    assert owner.result() == late.result()
                flipped.release()
                heap.collect()
            assert first == m.native()
        assert slots[8999] == huge
        check_raw(huge, 9 * MIB, 5)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINVAL, errno.EAGAIN, errno.ENOMEM, "short"])
@pytest.mark.parametrize("who", ["compactor", "mutator"])
def test_refusals_lose_nothing(make_concurrent_heap, number, who):
    heap = make_concurrent_heap("64MiB", verify=3)
    heap.disable()              # collect(wait=False) would join an automatic cycle
    point = "place.move" if heap.backend == "move" else "place.copy"
    if heap.backend == "copy" and number in (errno.EBUSY, errno.EINVAL):
        pytest.skip("the ladder starts at MOVE")
    with heap.attach() as m:
        m.new_array("u1", 9 * MIB), m.new_slots(40_000)
        huge, slots, sparse = raw(m, 9 * MIB, 6), m.new_slots(40_000), m.new_array("u8", 2 * MIB)
        slots[20_000], slots[39_999], sparse[MIB] = huge, slots, 5
        refuse = (failpoints.short(point, 3, times=30) if number == "short"
                  else failpoints.fail(point, number, times=30))
        with failpoints.pause("flip.after", times=1) as flipped, refuse:
            heap.collect(wait=False)
            flipped.wait()
            if who == "compactor":
                flipped.release()
                heap.collect()
            check_raw(huge, 9 * MIB, 6)
            assert slots[20_000] == huge and slots[39_999] == slots and slots[5] is None
            assert sparse[MIB] == 5 and sparse[0] == 0 and sparse[2 * MIB - 1] == 0
            flipped.release()
            assert refuse.hits
        heap.collect()
        check_raw(huge, 9 * MIB, 6)
        assert slots[20_000] == huge and sparse[MIB] == 5


@pytest.mark.uninstrumented("its shadow is resident memory too", only="thread")
def test_every_move_refused(make_concurrent_heap):
    """MOVE to COPY for whole grains: contents arrive, zero pages stay holes."""
    heap = make_concurrent_heap("64MiB", verify=3, huge_pages="never")
    if heap.backend != "move":
        pytest.skip("the ladder starts at MOVE")
    with heap.attach() as m:
        m.new_array("u1", 9 * MIB), m.new_slots(40_000)
        huge, slots, sparse = raw(m, 9 * MIB, 7), m.new_slots(40_000), m.new_array("u8", 2 * MIB)
        slots[39_999], sparse[MIB] = huge, 5
        before = rss()
        with failpoints.fail("place.move", errno.EBUSY, times=None):
            heap.collect()
        assert heap.stats().copied_bytes >= 9 * MIB
        assert rss() <= before + 2 * MIB
        check_raw(huge, 9 * MIB, 7)
        assert slots[39_999] == huge and sparse[MIB] == 5 and sparse[2 * MIB - 1] == 0


@pytest.mark.parametrize("advice", ["always", "never"])
def test_pages_that_a_live_forked_child_shares(make_concurrent_heap, advice):
    """MOVE refuses them; they are copied, and the rest moves again once the child is gone."""
    heap = make_concurrent_heap("64MiB", verify=3, huge_pages=advice)
    with heap.attach() as m:
        m.new_array("u1", 9 * MIB), m.new_slots(40_000)
        huge, slots, sparse = raw(m, 9 * MIB, 8), m.new_slots(40_000), m.new_array("u8", 2 * MIB)
        slots[39_999], sparse[MIB] = huge, 5
        hold, release = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(release)
            os.read(hold, 1)
            os._exit(0)
        try:
            for _ in range(2):
                heap.collect()
                check_raw(huge, 9 * MIB, 8)
                assert slots[39_999] == huge and sparse[MIB] == 5 and sparse[0] == 0
            assert heap.stats().copied_bytes >= 9 * MIB
        finally:
            os.close(hold)
            os.close(release)
            os.waitpid(child, 0)
        m.new_array("u1", 9 * MIB)
        heap.collect()
        check_raw(huge, 9 * MIB, 8)
        assert slots[39_999] == huge and sparse[MIB] == 5


@pytest.mark.uninstrumented("it needs mappings when there are none")
@pytest.mark.skipif(int(Path("/proc/sys/vm/max_map_count").read_text()) > 200_000,
                    reason="too many mappings are allowed to use them all up")
def test_without_a_mapping_left_they_move_inside_the_pause(concurrent):
    """REGISTER of one of the spaces is refused; those that were registered are not any more."""
    assert run_cleanly("""
import sys
import numpy as np
from support import MappingsUsedUp
import gcheap
heap = gcheap.Heap("64MiB", backend=sys.argv[1], verify=3)
with heap.attach() as m:
    garbage = [m.new_slots(40_000), m.new_array("u1", 9 << 20), m.new_bytes(b"small")]
    slots, huge, small = m.new_slots(40_000), m.new_array("u1", 9 << 20), m.new_bytes(b"alive")
    huge[:] = np.resize(np.arange(251, dtype="u1"), 9 << 20)
    slots[0], slots[39_999] = small, huge
    pin = m.new_array("u1", 100_000, pinned=True)
    slots[1] = pin
    del garbage
    refused = []
    with MappingsUsedUp() as mappings:
        # The more mappings are free again, the later the space that REGISTER refuses.
        for given in range(5):
            if given:
                mappings.give_back()
            heap.collect()
            refused.append(heap.stats().register_refusals)
            assert bytes(slots[0]) == b"alive" and slots[39_999] == huge and slots[1] == pin
            assert np.array_equal(huge.copy_out(), np.resize(np.arange(251, dtype="u1"), 9 << 20))
    heap.collect()
    assert refused[0] >= 1 and heap.stats().register_refusals == refused[-1], refused
    assert bytes(slots[0]) == b"alive" and slots[39_999] == huge
print("sound")
""", arguments=(concurrent["backend"],)) == "sound\n"


def test_cycles_that_relocate_nothing(make_concurrent_heap):
    """Where nothing is won objects stay; what they hold is right, and marks start afresh."""
    heap = make_concurrent_heap("64MiB", verify=3)
    with heap.attach() as m:
        kept = [raw(m, 3 * MIB, i) for i in range(8)] + [raw(m, 9 * MIB, 8)]
        slots = m.new_slots(20_000)
        slots[19_999] = kept[0]
        chain = []
        while heap.stats().used_bytes < 61 * MIB:       # the first cycle starts at 60
            chain.append(m.new_slots(7000))
        wait_until(lambda: heap.stats().cycles > 0, "a cycle that nobody asked for")
        stats = heap.stats()
        assert stats.relocations == 0 and stats.live_bytes <= stats.used_bytes
        for i, array in enumerate(kept[:8]):
            check_raw(array, 3 * MIB, i)
        heap.collect()
        for i, array in enumerate(kept[:8]):
            check_raw(array, 3 * MIB, i)
        assert slots[19_999] == kept[0]
        del chain
        heap.collect()
        assert heap.stats().used_bytes == 33 * MIB + 16 + 160_000


# ---- against a model -------------------------------------------------------------------------

@pytest.mark.parametrize("unit_pages", [1, 16, 512])
def test_random_mixtures(make_heap, rng, unit_pages):
    """Small, large, huge and pinned objects, drops, writes, and cycles of both kinds."""
    heap = make_heap("64MiB", unit_pages=unit_pages, verify=3)
    unit = unit_pages * PAGE
    kinds = ["small"] * 4 + ["unit"] * 3 + ["huge", "slots", "slots", "pinned", "pinned"]
    with heap.attach() as m:
        model = {}                          # number: (ref, checksum, pinned address or {slot: n})
        for number in range(260):
            kind = rng.choice(kinds)
            if kind == "slots":
                size = rng.choice([3, unit // 16 + 1, 3 * unit // 8 + 5, 70_000])
                model[number] = (m.new_slots(min(size, 300_000)), None, {})
            else:
                nbytes = {"small": rng.randrange(16, 3000),
                          "unit": min(rng.randrange(unit // 2, 3 * unit), 2 * MIB),
                          "huge": HUGE_LEAST + rng.randrange(3) * MIB,
                          "pinned": rng.choice([16, PAGE, 9 * PAGE + 1, MIB])}[kind]
                array = m.new_array("u1", nbytes, pinned=kind == "pinned")
                content = np.resize(np.frombuffer(rng.randbytes(5003), "u1"), nbytes)
                array.copy_in(content)
                at = np.asarray(array).ctypes.data if kind == "pinned" else None
                model[number] = (array, zlib.crc32(content), at)
                del array, content
            for _ in range(6):              # references among what there is
                aim, source = rng.choice(list(model)), rng.choice(list(model))
                ref, _, slots = model[source]
                if isinstance(slots, dict):
                    slot = rng.randrange(len(ref))
                    ref[slot] = model[aim][0]
                    slots[slot] = aim
            del ref
            while len(model) > 14 or sum(
                    len(r) * (8 if isinstance(s, dict) else 1) for r, _, s in model.values()
                    ) > 24 * MIB:
                dead = rng.choice(list(model))
                for ref, _, slots in model.values():
                    if isinstance(slots, dict):
                        for slot in [slot for slot, aim in slots.items() if aim == dead]:
                            ref[slot] = None
                            del slots[slot]
                del model[dead], ref
            if number % 40 == 39:
                heap.collect(wait=number % 80 == 39)
                check_model(model)
        model.clear()
        heap.collect()
        assert heap.stats().used_bytes == heap.stats().pinned_bytes == 0


def check_model(model) -> None:
    for ref, checksum, rest in model.values():
        if isinstance(rest, dict):
            for slot, aim in rest.items():
                assert ref[slot] == model[aim][0]
            assert sum(ref[i] is not None for i in range(0, len(ref), 97)) == sum(
                slot % 97 == 0 for slot in rest)
        else:
            assert zlib.crc32(ref.copy_out()) == checksum
            if rest is not None:
                assert np.asarray(ref).ctypes.data == rest


def test_an_array_that_is_filled_after_it_moved_gets_huge_pages():
    """MOVE makes page tables for holes, so empty grains are left alone."""
    run_with_huge_pages("""
import errno
from gcheap import failpoints
def filled_after_a_move():
    with gcheap.Heap("160MiB", huge_pages="always", verify=1) as heap, heap.attach() as m:
        heap.disable()
        m.new_array("u1", 9 * MIB)
        array = m.new_array("u1", 64 * MIB)
        array[20 * MIB + 5] = 7             # in the middle of what stays empty
        heap.collect()
        before = huge()
        array.copy_in(np.ones(64 * MIB, "u1"))
        gained = huge() - before
        m.new_array("u1", 9 * MIB)
        heap.collect()
        assert (array.copy_out() == 1).all()
        return gained
with gcheap.Heap("160MiB", huge_pages="always") as heap, heap.attach() as m:
    m.new_array("u1", 64 * MIB).copy_in(np.ones(64 * MIB, "u1"))
    if huge() < 60 << 10:
        sys.exit(print("no huge pages to be had"))
assert filled_after_a_move() >= 56 << 10
with failpoints.fail("memory.pagemap", errno.EMFILE, times=None):
    filled_after_a_move()                   # by whatever pages; nothing is lost
""")
