"""Refs: identity, hashes, arrays, tagged values, and every way in which a Ref can end."""
from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from support import MutatorThread, node_shape, run_cleanly

import gcheap

FLOATS = np.linspace(-1, 1, 777)


# ---- identity ----------------------------------------------------------------------------

def test_equality_is_identity_of_the_object(heap, node, mutator):
    a, b = mutator.new(node, key=1), mutator.new(node, key=1)
    holder = mutator.new(node, next=a, other=a)
    assert holder.next == a and holder.other == holder.next
    assert a != b and not (a == b)                          # noqa: SIM201
    assert a != 1 and a != None and a != "a"                # noqa: E711
    heap.collect()
    assert holder.next == a and a != b


def test_hashes_hold_a_dict_together_over_collections(heap, node, mutator):
    held = []
    for i in range(500):
        mutator.new(node)
        held.append(mutator.new(node, key=i))
    numbers = {ref: i for i, ref in enumerate(held)}
    chain = mutator.new_slots(500)
    for i, ref in enumerate(held):
        chain[i] = ref
    hashes = [hash(ref) for ref in held]
    for _ in range(6):
        for _ in range(300):
            mutator.new(node)
        heap.collect()
        assert [hash(ref) for ref in held] == hashes
        # Another Ref of the same object is the same key.
        assert [numbers[chain[i]] for i in range(500)] == list(range(500))
    assert len(set(hashes)) > 450                           # identity hashes, not a constant


def test_a_hash_taken_of_a_black_object_stays(heap, node, mutator):
    ref = mutator.new(node, key=1)
    before = hash(ref)
    ref.key = 2                                             # the hash is not of the contents
    assert hash(ref) == before
    heap.collect()
    assert hash(ref) == before and ref.key == 2


def test_none_and_self_and_cycles_of_references(heap, node, mutator):
    a, b = mutator.new(node, key=1), mutator.new(node, key=2)
    assert a.next is None
    a.next, b.next, a.other = b, a, a
    heap.collect()
    assert a.next.next == a and a.other.other == a and b.next.next.next.key == 1
    a.next = None
    assert a.next is None and a.other == a


# ---- tagged values -----------------------------------------------------------------------

def test_tagged_values_survive_and_are_never_followed(heap, mutator):
    shape = heap.shape("Cell", refs=("value", "next"), raw=[("key", "u8")])
    words = [1, 3, 0xFFFF_FFFF_FFFF_FFFF, 0x7FFF_0000_0000_0001, 8 * 1234 + 1]
    slots = mutator.new_slots(len(words))
    for i, word in enumerate(words):
        mutator.new(shape)
        slots[i] = mutator.new(shape, value=gcheap.Tagged(word), key=i)
    table = mutator.new_slots(2)
    table[0] = gcheap.Tagged(words[2])
    heap.collect()
    heap.collect()
    for i, word in enumerate(words):
        assert slots[i].value == gcheap.Tagged(word)
        assert isinstance(slots[i].value, gcheap.Tagged)
        assert slots[i].key == i and slots[i].next is None
    assert table[0] == gcheap.Tagged(words[2]) and table[1] is None


def test_tagged_values_compare_and_hash_by_word(any_heap):
    assert gcheap.Tagged(5) == gcheap.Tagged(5) != gcheap.Tagged(7)
    assert hash(gcheap.Tagged(5)) == hash(gcheap.Tagged(5))
    assert gcheap.Tagged(5) != 5
    for wrong in (-1, 2**64):
        with pytest.raises(OverflowError):
            gcheap.Tagged(wrong)
    with pytest.raises(TypeError):
        gcheap.Tagged("5")


def test_a_word_that_the_rule_calls_a_reference_is_no_tagged_value(any_heap, any_mutator):
    shape = any_heap.shape("Cell", refs=("value",))
    with pytest.raises(ValueError, match="0x1000|4096"):
        any_mutator.new(shape, value=gcheap.Tagged(0x1000))
    cell = any_mutator.new(shape)
    with pytest.raises(ValueError, match="0x1000|4096"):
        cell.value = gcheap.Tagged(0x1000)
    assert cell.value is None


# ---- slot arrays -------------------------------------------------------------------------

@pytest.mark.parametrize("length", [0, 1, 2, 511, 512, 513, 5000])
def test_slot_arrays(heap, node, mutator, length):
    mutator.new_slots(7)
    slots = mutator.new_slots(length)
    assert len(slots) == length
    assert list(slots) == [None] * length
    for i in range(length):
        if i % 3:
            slots[i] = mutator.new(node, key=i)
    heap.collect()
    assert [None if r is None else r.key for r in slots] == [
        i if i % 3 else None for i in range(length)]


def test_indices_of_slot_arrays(heap, node, mutator):
    slots = mutator.new_slots(4)
    slots[-1] = mutator.new(node, key=9)
    assert slots[3].key == 9 and slots[-1] == slots[3] and slots[-4] is None
    slots[np.int64(1)] = slots[3]
    assert slots[1] == slots[-1]
    for wrong in (4, -5, 2**63, -2**70):
        with pytest.raises(IndexError, match=str(wrong)):
            slots[wrong]
        with pytest.raises(IndexError, match=str(wrong)):
            slots[wrong] = None
    for wrong in ("1", 1.0, None):
        with pytest.raises(TypeError):
            slots[wrong]
    with pytest.raises(TypeError):
        slots[0] = 7
    assert [r is None for r in slots] == [True, False, True, False]


def test_a_slice_of_a_slot_array_is_a_list_or_a_clear_error(any_mutator):
    slots = any_mutator.new_slots(4)
    slots[2] = slots
    try:
        part = slots[1:3]
    except TypeError as e:
        assert "slice" in str(e) or "int" in str(e)
    else:
        assert list(part) == [None, slots]


# ---- raw arrays --------------------------------------------------------------------------

@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 4095, 4096, 4097, 100_000])
def test_bytes_arrays(heap, mutator, length):
    content = (bytes(range(256)) * (length // 256 + 1))[:length]
    mutator.new_bytes(b"garbage")
    blob = mutator.new_bytes(content)
    neighbour = mutator.new_bytes(b"\xff" * 9)
    heap.collect()
    assert len(blob) == length
    assert bytes(blob) == content
    assert bytes(neighbour) == b"\xff" * 9


def test_new_bytes_takes_any_buffer(any_mutator):
    for source in (bytearray(b"abc"), memoryview(b"abc"), np.frombuffer(b"abc", "u1")):
        assert bytes(any_mutator.new_bytes(source)) == b"abc"
    for wrong in ("text", 7, None):
        with pytest.raises(TypeError):
            any_mutator.new_bytes(wrong)


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u4", "f8", "c16", "S3", "?",
                                   [("a", "u1"), ("b", "f8")]], ids=str)
def test_typed_arrays(heap, mutator, dtype):
    dtype = np.dtype(dtype)
    source = np.zeros(1001, dtype)
    source.view("u1")[:] = np.arange(source.nbytes) % 2 if dtype == "?" else np.arange(
        source.nbytes) % 61 + 32
    array = mutator.new_array(dtype, 1001)
    assert np.array_equal(array.copy_out(), np.zeros(1001, dtype))
    array.copy_in(source)
    mutator.new_array(dtype, 10)
    heap.collect()
    out = array.copy_out()
    assert out.dtype == dtype and out.tobytes() == source.tobytes()
    assert bytes(array) == source.tobytes() and len(array) == 1001
    for i in (0, 500, 1000, -1):
        assert np.asarray(array[i], dtype).tobytes() == source[i:][:1].tobytes()
    array[5] = source[900]
    assert np.asarray(array[5], dtype).tobytes() == source[900:901].tobytes()
    part = np.asarray(array[10:20], dtype)
    assert part.tobytes() == source[10:20].tobytes()


def test_copy_out_is_a_copy(any_mutator):
    array = any_mutator.new_array("f8", len(FLOATS))
    array.copy_in(FLOATS)
    out = array.copy_out()
    out[:] = 0
    assert np.array_equal(array.copy_out(), FLOATS)


def test_raw_array_errors(any_mutator):
    array = any_mutator.new_array("u2", 8)
    for wrong in (8, -9, 2**63):
        with pytest.raises(IndexError, match=str(wrong)):
            array[wrong]
        with pytest.raises(IndexError, match=str(wrong)):
            array[wrong] = 1
    with pytest.raises(OverflowError):
        array[0] = 65536
    with pytest.raises((TypeError, ValueError)):
        array[0] = "x"
    array.copy_in(np.zeros(3, "u2"), 5)
    for values, start in ((np.zeros(9, "u2"), 0), (np.zeros(4, "u2"), 5), ([], -1), ([], 9)):
        with pytest.raises(IndexError, match="8"):
            array.copy_in(values, start)
    with pytest.raises(ValueError, match="step"):
        array[::2]
    with pytest.raises((TypeError, ValueError, OverflowError)):
        array.copy_in(np.zeros(8, "f8") + 0.5)
    assert np.array_equal(array.copy_out(), np.zeros(8, "u2"))
    with pytest.raises((TypeError, ValueError)):
        any_mutator.new_array("O", 3)
    for call in (lambda: any_mutator.new_array("u2", -1), lambda: any_mutator.new_slots(-1)):
        with pytest.raises((ValueError, OverflowError), match="-1"):
            call()
    for call in (lambda: any_mutator.new_array("u2", 1.5), lambda: any_mutator.new_slots("3")):
        with pytest.raises(TypeError):
            call()


def test_arrays_have_identity_hash_and_shape_like_objects(heap, node, mutator):
    slots, blob = mutator.new_slots(2), mutator.new_bytes(b"x")
    holder = mutator.new(node, next=slots, other=blob)
    numbers = {slots: 1, blob: 2}
    heap.collect()
    assert numbers[holder.next] == 1 and numbers[holder.other] == 2
    assert holder.next == slots and bytes(holder.other) == b"x"
    assert type(holder.next) is type(slots) and type(holder.other) is type(blob)
    assert slots.shape != blob.shape


# ---- how a Ref ends ----------------------------------------------------------------------

def test_dropping_a_ref_drops_the_root(heap, node, mutator):
    slots = mutator.new_slots(4000)
    for i in range(4000):
        slots[i] = mutator.new(node)
    heap.collect()
    with_all = heap.stats()
    del slots
    gc.collect()
    heap.collect()
    without = heap.stats()
    assert with_all.live_bytes > 4000 * 40
    assert without.live_bytes < with_all.live_bytes - 4000 * 40
    assert without.handles < with_all.handles


def test_refs_in_garbage_cycles_drop_their_roots_too(heap, node, mutator):
    class Holder:
        pass

    before = heap.stats().handles
    for _ in range(100):
        refs = [mutator.new(node) for _ in range(3)]        # older than what holds them
        holder = Holder()
        holder.refs, holder.me = refs, holder
    del refs, holder
    gc.collect()
    assert heap.stats().handles == before


def test_handles_are_used_again(heap, node, mutator):
    for _ in range(20):
        refs = [mutator.new(node) for _ in range(1000)]
        del refs
        heap.collect()
    assert heap.stats().handles <= 10


def test_a_ref_outlives_its_mutator(heap, node):
    with heap.attach() as m:
        ref = m.new(node, key=7)
    heap.collect()
    with pytest.raises(gcheap.NotAttached):
        ref.key                                             # noqa: B018
    with heap.attach():
        assert ref.key == 7
    del ref
    heap.collect()
    assert heap.stats().live_bytes == 0


def test_refs_dropped_on_a_thread_that_is_not_attached(heap, node, mutator):
    refs = [mutator.new(node, key=i) for i in range(1000)]
    before = heap.stats().handles
    thread = threading.Thread(target=refs.clear)
    thread.start()
    thread.join()
    heap.collect()
    assert heap.stats().handles <= before - 1000


def test_a_ref_dropped_after_close(make_heap):
    heap = make_heap()
    node = node_shape(heap)
    with heap.attach() as m:
        refs = [m.new(node, key=i) for i in range(100)] + [m.new_slots(3)]
    heap.close()
    for use in (lambda: refs[0].key, lambda: refs[0].next, lambda: refs[100][0],
                lambda: setattr(refs[0], "key", 1)):
        with pytest.raises(gcheap.HeapClosed):
            use()
    assert refs[0] == refs[0]
    assert "Node" in repr(refs[0])
    refs.clear()
    gc.collect()


def test_refs_alive_at_interpreter_shutdown():
    run_cleanly("""
        import gcheap
        heap = gcheap.Heap("1MiB")
        Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
        m = heap.attach()
        kept = [m.new(Node, key=i) for i in range(100)]
        kept[3].next = kept[4]
        class Late:                     # dropped while modules are torn down
            def __init__(self): self.ref = kept[3]; self.me = self
            def __del__(self): del self.ref
        late = Late()
    """)


def test_refs_alive_at_shutdown_after_their_heap_was_dropped():
    run_cleanly("""
        import gc, gcheap
        def make():
            heap = gcheap.Heap("1MiB")
            with heap.attach() as m:
                return m.new(heap.shape("Node", raw=[("key", "u8")]), key=7)
        ref = make()
        gc.collect()
        print("still here")
    """)


def test_a_ref_of_another_heap_is_refused(any_heap, any_mutator):
    with gcheap.Heap("1MiB") as other, other.attach() as m:
        theirs = m.new(node_shape(other), key=1)
        ours = any_mutator.new(node_shape(any_heap), key=2)
        slots = any_mutator.new_slots(1)
        with pytest.raises(gcheap.ForeignRef):
            ours.next = theirs
        with pytest.raises(gcheap.ForeignRef):
            slots[0] = theirs
        with pytest.raises(gcheap.ForeignRef):
            any_mutator.new(ours.shape, next=theirs)
        assert ours.next is None and slots[0] is None
        assert ours != theirs
        any_heap.collect()
        assert theirs.key == 1 and ours.key == 2


# ---- attachment --------------------------------------------------------------------------

def test_a_thread_that_is_not_attached_is_told_so(any_heap):
    shape = node_shape(any_heap)
    with MutatorThread(any_heap) as t:
        ref = t.call(lambda m: m.new(shape, key=1))
        slots = t.call(lambda m: m.new_slots(2))
        blob = t.call(lambda m: m.new_bytes(b"abc"))
        for use in (lambda: ref.key, lambda: setattr(ref, "key", 2), lambda: ref.next,
                    lambda: setattr(ref, "next", None), lambda: slots[0],
                    lambda: slots.__setitem__(0, None), lambda: bytes(blob), lambda: blob[0],
                    lambda: blob.copy_out()):
            with pytest.raises(gcheap.NotAttached, match="attach"):
                use()
        assert t.call(lambda m: ref.key) == 1
    assert isinstance(gcheap.NotAttached("x"), RuntimeError)


def test_a_mutator_belongs_to_its_thread(any_heap):
    shape = node_shape(any_heap)
    with MutatorThread(any_heap) as t:
        theirs = t.call(lambda m: m)
        for use in (lambda: theirs.new(shape), lambda: theirs.new_slots(1),
                    lambda: theirs.new_bytes(b""), lambda: theirs.new_array("u1", 1)):
            with pytest.raises(gcheap.NotAttached, match="thread"):
                use()


def test_attaching_twice_is_refused(any_heap):
    with any_heap.attach() as m:
        with pytest.raises(gcheap.GcheapError, match="attached"):
            any_heap.attach()
        assert m.new(node_shape(any_heap), key=4).key == 4
    with any_heap.attach():
        pass


def test_use_after_detach(any_heap):
    m = any_heap.attach()
    shape = node_shape(any_heap)
    m.detach()
    for use in (m.detach, lambda: m.new(shape), lambda: m.new_slots(1), m.native):
        with pytest.raises(gcheap.NotAttached, match="detached"):
            use()
    assert any_heap.stats().mutators == 0


def test_one_thread_is_a_mutator_of_two_heaps(any_heap, any_mutator):
    with gcheap.Heap("1MiB") as other, other.attach("second") as second:
        a = any_mutator.new(node_shape(any_heap), key=1)
        b = second.new(node_shape(other), key=2)
        any_heap.collect()
        other.collect()
        assert (a.key, b.key) == (1, 2)
    assert a.key == 1


def test_use_after_close(make_heap):
    heap = make_heap("1MiB")
    shape = node_shape(heap)
    m = heap.attach()
    heap.close()
    heap.close()                                            # twice is harmless
    assert heap.closed
    for use in (heap.collect, heap.attach, lambda: heap.shape("Other"), lambda: m.new(shape),
                lambda: m.new_slots(1), lambda: m.new_bytes(b"")):
        with pytest.raises(gcheap.HeapClosed, match="closed"):
            use()
    m.detach()


def test_a_field_cannot_be_deleted(any_heap, any_mutator):
    pair = any_mutator.new(any_heap.shape("Pair", refs=("next",), raw=[("key", "u8")]))
    pair.key = 7
    with pytest.raises(AttributeError, match=r"Pair\.next: .*set it to None"):
        del pair.next
    with pytest.raises(AttributeError, match=r"Pair\.key: .*set it to another value"):
        del pair.key
    with pytest.raises(AttributeError, match="no field 'shape'; it has next, key"):
        del pair.shape
    assert (pair.next, pair.key) == (None, 7)
