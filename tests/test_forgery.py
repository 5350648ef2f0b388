"""What Python code may not get at: a Ref that nobody made, memory outside an object, a heap that
is gone.  Each attack ends in an exception, never in a crash, and the heap goes on."""
from __future__ import annotations

import copy
import gc
import pickle
import pkgutil
import subprocess
import sys
import threading
import weakref
from contextlib import suppress

import numpy as np
import pytest
from support import PATIENCE, Child, MutatorThread, node_shape, run_cleanly

import gcheap

MADE_BY_OTHERS = (gcheap.Ref, gcheap.SlotArray, gcheap.RawArray, gcheap.Shape, gcheap.Mutator,
                  gcheap.WeakRef, gcheap.Guardian)


class Liar(int):
    """An integer that passes every check of its range and is its own index."""

    def __index__(self):
        return self

    def __lt__(self, other):
        return other != 0

    def __le__(self, other):
        return True

    __gt__ = __ge__ = __le__

    def __mul__(self, other):
        return 0

    __rmul__ = __add__ = __radd__ = __mul__


class NoInteger:
    def __index__(self):
        return "3"


@pytest.fixture
def ref(any_heap, any_mutator):
    return any_mutator.new(node_shape(any_heap), key=7)


# ---- making one ---------------------------------------------------------------------------

@pytest.mark.parametrize("kind", MADE_BY_OTHERS, ids=lambda kind: kind.__name__)
def test_nothing_but_a_heap_makes_one(kind):
    heir = type("Heir", (kind,), {})
    attempts = (kind, heir, lambda: kind.__new__(kind), lambda: heir.__new__(heir),
                lambda: object.__new__(kind), lambda: copy._reconstruct(None, None, kind, ()))
    for attempt in attempts:
        with pytest.raises(TypeError):
            attempt()


def test_one_is_made_for_each_permission(any_heap, any_mutator):
    """What lets a Ref be made lets one be made."""
    ref = any_mutator.new(node_shape(any_heap))
    for made in (ref, any_mutator.weak(ref), any_mutator, ref.shape):
        with pytest.raises(TypeError):
            type(made).__new__(type(made))


def test_no_copy_and_no_pickle(any_heap, any_mutator, ref):
    things = [ref, any_mutator.new_slots(2), any_mutator.new_array("u8", 2), any_mutator,
              ref.shape, any_heap, any_heap.guardian(), any_heap.weak_key_table()]
    for thing in things:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError):
                pickle.dumps(thing, protocol)
        for copying in (copy.copy, copy.deepcopy):
            with suppress(TypeError):
                # A mapping can be copied in Python; what it holds natively is the same.
                assert copying(thing)._native is thing._native
    weak = any_mutator.weak(ref)
    assert copy.copy(weak) is copy.deepcopy(weak) is weak
    tagged = gcheap.Tagged(5)
    assert pickle.loads(pickle.dumps(tagged)) == copy.deepcopy(tagged) == tagged


def test_no_module_can_fill_in_what_c_holds():
    """Cython makes unpicklers for classes without pointers, which set every attribute."""
    makers = []
    for module in pkgutil.walk_packages(gcheap.__path__, "gcheap."):
        if module.name.endswith("__main__"):
            continue
        __import__(module.name)
        held = vars(sys.modules[module.name])
        makers += [name for name in held if "unpickle" in name]
        makers += [f"{name}.{method}" for name, kind in held.items() if isinstance(kind, type)
                   for method in ("__setstate_cython__", "__setstate__")
                   if kind.__module__ == module.name and method in vars(kind)]
    assert makers == []


def test_no_instance_without_its_arguments_does_harm():
    """Every compiled class, made without arguments, used in every way and dropped: it closes no
    descriptor that is not its own (0 is one), and dereferences nothing."""
    assert run_cleanly("""
        import importlib, os, pkgutil, sys
        import gcheap
        kinds = set()
        for found in pkgutil.walk_packages(gcheap.__path__, "gcheap."):
            if "_testing" in found.name or found.name.endswith("__main__"):
                continue
            for kind in vars(importlib.import_module(found.name)).values():
                if isinstance(kind, type) and kind.__module__.startswith("gcheap") and (
                        not kind.__flags__ & 1 << 9):               # Py_TPFLAGS_HEAPTYPE
                    kinds.add(kind)
        def use(kind):
            thing = kind.__new__(kind)
            for name in sorted(set(dir(kind)) - {"spin"}):          # which spins
                for arguments in ((), (1,), (0, 0), (None,), ("a", "b", "c")):
                    try:
                        getattr(thing, name)(*arguments)
                    except Exception:
                        pass
        for kind in sorted(kinds, key=repr):
            if os.fork() == 0:
                os.dup2(os.open("/dev/null", os.O_RDWR), 2)
                try:
                    use(kind)
                except TypeError:
                    pass
                os._exit(sum(not os.path.exists(f"/proc/self/fd/{fd}") for fd in range(3)))
            status = os.waitstatus_to_exitcode(os.wait()[1])
            if status:
                print(kind, status)
        print(len(kinds) > 20)
    """, stdin=subprocess.DEVNULL) == "True\n"


def test_a_class_cannot_be_changed(any_heap, any_mutator, ref):
    slots = any_mutator.new_slots(3)
    change = object.__dict__["__class__"].__set__
    for victim, kind in ((ref, gcheap.SlotArray), (slots, gcheap.Ref), (slots, gcheap.RawArray),
                         (any_mutator, gcheap.Heap), (ref.shape, gcheap.Tagged)):
        with pytest.raises(TypeError):
            change(victim, kind)
    with pytest.raises(AttributeError):
        ref.__class__ = gcheap.SlotArray
    for name in ("core", "handle", "length", "layout", "is_pinned"):
        with pytest.raises(AttributeError):
            getattr(ref, name)
        with pytest.raises((AttributeError, TypeError)):
            object.__setattr__(slots, name, 1)


def test_made_once(any_heap, any_mutator, ref):
    """A second __init__ would give a heap's threads another heap."""
    guardian, table = any_heap.guardian(), any_heap.weak_key_table()
    with pytest.raises(TypeError):
        any_heap.__init__("1MiB")
    guardian.register(ref)
    for again in (guardian.__init__, table._native.__init__, ref.__init__, any_mutator.__init__,
                  ref.shape.__init__, gcheap.Tagged(1).__init__):
        with suppress(TypeError):
            again()
    assert guardian.registered == 1 and ref.key == 7
    tagged = gcheap.Tagged(1)
    with suppress(TypeError):
        tagged.__init__(2)
    assert tagged.word == 1


# ---- numbers that lie ----------------------------------------------------------------------

FAR = Liar(10**9)


@pytest.mark.parametrize("attack", [
    lambda m, slots, raw: slots[FAR],
    lambda m, slots, raw: slots.__setitem__(FAR, None),
    lambda m, slots, raw: raw[FAR],
    lambda m, slots, raw: raw[Liar(4)],
    lambda m, slots, raw: raw.__setitem__(FAR, 1),
    lambda m, slots, raw: raw.copy_in([1], FAR),
    lambda m, slots, raw: raw.copy_in([1], Liar(-1)),
    lambda m, slots, raw: m.new_slots(Liar(2**61)),
    lambda m, slots, raw: m.new_slots(Liar(-1)),
    lambda m, slots, raw: m.new_array("u8", Liar(2**61)),
    lambda m, slots, raw: m.new_array("u8", Liar(2**61), pinned=True),
    lambda m, slots, raw: raw.__setitem__(0, Liar(2**64)),
    lambda m, slots, raw: gcheap.Tagged(Liar(2**64)),
])
def test_an_integer_that_lies_when_compared(any_mutator, attack):
    slots, raw = any_mutator.new_slots(3), any_mutator.new_array("u8", 4)
    with pytest.raises((IndexError, ValueError, OverflowError, gcheap.HeapExhausted)):
        attack(any_mutator, slots, raw)
    assert list(slots) == [None] * 3 and list(raw) == [0] * 4


def test_a_lying_integer_within_range_is_what_it_is(any_mutator):
    raw = any_mutator.new_array("u8", Liar(4))
    raw[Liar(2)] = Liar(9)
    assert len(raw) == 4 and list(raw) == [0, 0, 9, 0] and raw[Liar(-2)] == 9


def test_lying_path_lengths(any_heap, ref):
    with pytest.raises(ValueError, match="at least 2"):
        any_heap.why_alive(ref, longest=Liar(0))


@pytest.mark.parametrize("value", [NoInteger(), 1.0, "1", None, [1]],
                         ids=lambda value: repr(value).split(" at 0x")[0])
def test_what_is_no_integer(any_mutator, value):
    slots, raw = any_mutator.new_slots(3), any_mutator.new_array("u8", 4)
    for use in (lambda: slots[value], lambda: raw[value], lambda: raw.__setitem__(0, value),
                lambda: any_mutator.new_slots(value), lambda: any_mutator.new_array("u1", value),
                lambda: raw.copy_in([1], value), lambda: gcheap.Tagged(value)):
        with pytest.raises(TypeError, match="expected"):
            use()


@pytest.mark.parametrize("far", [3, -4, 2**31, -2**31, 2**63, -2**63, 2**64, 2**64 + 1, 2**70,
                                 10**5000, -10**5000], ids=lambda n: f"{n.bit_length()}bits")
def test_far_indices(any_mutator, far):
    """10**5000 has no repr; the error is the same."""
    slots = any_mutator.new_slots(3)
    raw = any_mutator.new_array("u2", 3)
    for use in (lambda: slots[far], lambda: slots.__setitem__(far, None), lambda: raw[far],
                lambda: raw.__setitem__(far, 0)):
        with pytest.raises(IndexError, match="out of range for length 3"):
            use()
    assert len(raw[far:]) in (0, 3) and len(raw[:far]) in (0, 3)


@pytest.mark.parametrize("n", [2**61, 2**61 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 8, 10**5000],
                         ids=lambda n: f"{n.bit_length()}bits")
def test_sizes_that_would_wrap(any_heap, any_mutator, n):
    """8 * n, or 16 + 8 * n, is small again in 64 bits."""
    for use in (lambda: any_mutator.new_slots(n), lambda: any_mutator.new_array("u8", n),
                lambda: any_mutator.new_array("V24", n),
                lambda: any_mutator.new_array("u8", n, pinned=True)):
        with pytest.raises(gcheap.HeapExhausted):
            use()
    for use in (lambda: any_mutator.new_slots(-n), lambda: any_mutator.new_array("u8", -n)):
        with pytest.raises(ValueError, match="0 or more"):
            use()
    assert any_heap.stats().handles == 0


# ---- element types -------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["O", [("a", "O")], [("a", [("b", "O")])], ("O", 3),
                                   np.dtypes.StringDType(), [("s", np.dtypes.StringDType())]],
                         ids=str)
def test_no_pointers_in_raw_memory(any_heap, any_mutator, dtype):
    """Objects, and numpy's strings of variable length, whose bytes are addresses."""
    with pytest.raises((gcheap.ShapeError, TypeError)):
        any_mutator.new_array(dtype, 2)
    with pytest.raises((gcheap.ShapeError, TypeError)):
        any_heap.shape("Pointers", raw=dtype)


@pytest.mark.parametrize("dtype", [
    "V2000000000", "S2147483647", {"names": ["a"], "formats": ["u8"], "offsets": [2**30]}],
    ids=["void", "text", "offset"])
def test_elements_of_gigabytes(any_mutator, dtype):
    with pytest.raises(gcheap.HeapExhausted):
        any_mutator.new_array(dtype, 3)
    assert len(any_mutator.new_array(dtype, 0)) == 0


def test_a_field_lies_where_numpy_says(any_heap, any_mutator):
    dtype = np.dtype({"names": ["a", "b"], "formats": ["u8", "S3"], "offsets": [3, 13],
                      "itemsize": 21})
    array = any_mutator.new_array(dtype, 5)
    array[4] = (2**64 - 1, b"xyz")
    assert array[4]["a"] == 2**64 - 1 and array[4]["b"] == b"xyz" and array[3]["a"] == 0
    one = any_mutator.new(any_heap.shape("Odd", raw=dtype), a=5, b=b"abc")
    assert (one.a, one.b) == (5, b"abc")


def test_a_dtype_that_is_changed_later_changes_no_shape(any_heap, any_mutator):
    dtype = np.dtype([("first", "u8"), ("second", "u8")])
    shape = any_heap.shape("Pair", raw=dtype)
    dtype.names = ("second", "first")
    ref = any_mutator.new(shape, first=1, second=2)
    assert shape.raw.names == ("first", "second") and (ref.first, ref.second) == (1, 2)


# ---- heaps that are others', or gone ---------------------------------------------------------

def test_a_ref_of_another_heap_is_refused_everywhere(any_heap, any_mutator, ref):
    with gcheap.Heap("1MiB") as other, other.attach() as m:
        shape = node_shape(other)
        alien = m.new(shape, key=1)
        slots = any_mutator.new_slots(1)
        table, values = any_heap.weak_key_table(), any_heap.weak_value_table()
        guardian = any_heap.guardian()
        attempts = [
            lambda: setattr(ref, "next", alien), lambda: slots.__setitem__(0, alien),
            lambda: any_mutator.new(shape), lambda: any_mutator.new(ref.shape, next=alien),
            lambda: any_mutator.weak(alien), lambda: table.__setitem__(alien, None),
            lambda: table.__setitem__(ref, alien), lambda: table[alien],
            lambda: values.__setitem__("a", alien), lambda: guardian.register(alien),
            lambda: guardian.register(ref, alien), lambda: any_heap.finalize(alien, print),
            lambda: any_heap.referrers(alien), lambda: any_heap.retained(alien),
            lambda: any_heap.why_alive(alien)]
        for attempt in attempts:
            with pytest.raises(gcheap.ForeignRef):
                attempt()
        assert ref != alien and slots[0] is None and len(table) == len(values) == 0


def everything(heap, m, ref):
    """Things of a heap, and what may be asked of each: name -> call."""
    slots, pinned = m.new_slots(2), m.new_array("u8", 4, pinned=True)
    weak, table, values = m.weak(ref), heap.weak_key_table(), heap.weak_value_table()
    guardian = heap.guardian()
    table[ref], values["a"] = slots, ref
    guardian.register(ref)
    shape = ref.shape
    uses = {
        "field": lambda: ref.key, "set": lambda: setattr(ref, "key", 1), "hash": lambda: hash(ref),
        "equal": lambda: ref == slots, "slot": lambda: slots[0], "raw": lambda: pinned[0],
        "slice": lambda: pinned[:], "copy": pinned.copy_out, "view": lambda: memoryview(pinned),
        "weak": weak, "table": lambda: table[ref], "items": table.items, "clear": table.clear,
        "value": lambda: values["a"], "poll": guardian, "wait": lambda: guardian.wait(0.01),
        "new": lambda: m.new(shape), "array": lambda: m.new_array("u8", 1), "native": m.native,
        "attach": heap.attach, "collect": heap.collect, "shape": lambda: heap.shape("Other"),
        "census": heap.census, "stats": heap.stats, "walk": lambda: list(heap.walk()),
        "paths": lambda: heap.why_alive(ref), "freeze": heap.freeze, "callbacks":
        lambda: heap.callbacks, "resident": heap.resident_bytes, "pauses": heap.pauses,
        "guardian": heap.guardian, "tables": heap.weak_key_table, "enable": heap.enable,
        "unfreeze": heap.unfreeze, "finalize": lambda: heap.finalize(ref, print)}
    harmless = (lambda: repr((heap, m, ref, slots, pinned, weak, table, values, guardian, shape)),
                lambda: (weak.cleared, len(table), len(values), guardian.registered, shape.nbytes),
                lambda: (heap.capacity, heap.backend, heap.why, heap.fault_mode, heap.closed))
    return uses, harmless


def refused(uses, harmless) -> None:
    for name, use in uses.items():
        with pytest.raises(gcheap.HeapClosed):
            use()
            pytest.fail(f"{name} of a heap that is gone")
    for ask in harmless:
        ask()
    uses.clear()
    gc.collect()


def test_a_closed_heap_is_closed_for_everything(make_heap):
    heap = make_heap()
    m = heap.attach()
    uses, harmless = everything(heap, m, m.new(node_shape(heap)))
    heap.close()
    refused(uses, harmless)


def test_so_is_the_parents_in_a_child_that_has_none_of_it(make_heap):
    heap = make_heap(fork="none")
    with heap.attach() as m:
        ref = m.new(node_shape(heap), key=3)
        pinned = m.new_array("u8", 4, pinned=True)
        view = np.asarray(pinned)
        view[:] = 9
        uses, harmless = everything(heap, m, ref)

        def child():
            refused(uses, harmless)
            assert view.sum() == 36             # views alone go along, with their pages

        Child(child).join()
        assert ref.key == 3 and view.sum() == 36


def test_a_mutator_is_its_threads(any_heap, any_mutator):
    node = node_shape(any_heap)
    mine = any_mutator.new(node, key=1)
    with MutatorThread(any_heap) as other:
        theirs = other.call(lambda m: m)
        for use in (lambda: theirs.new(node), lambda: theirs.new_slots(1), theirs.native,
                    lambda: theirs.new_array("u8", 1), lambda: theirs.weak(mine), theirs.detach):
            with pytest.raises(gcheap.NotAttached):
                use()
        assert other.call(lambda m: mine.key) == 1
    with pytest.raises(gcheap.NotAttached):     # detached by now
        theirs.new(node)
    found = []
    thread = threading.Thread(target=lambda: found.append(attempt(lambda: mine.key)))
    thread.start()
    thread.join(PATIENCE)
    assert isinstance(found[0], gcheap.NotAttached)


def attempt(use):
    try:
        return use()
    except gcheap.GcheapError as error:
        return error


# ---- code that runs in between ---------------------------------------------------------------

def test_a_thread_that_detaches_while_a_value_is_asked_for(any_heap):
    """The value's own code runs between the check of the thread and the store."""
    m = any_heap.attach()
    ref = m.new(node_shape(any_heap), key=1)

    class Detaches:
        def __index__(self):
            m.detach()
            return 5

    with pytest.raises(gcheap.NotAttached):
        ref.key = Detaches()
    with any_heap.attach():
        assert ref.key == 1


def test_a_heap_that_is_closed_while_a_value_is_asked_for():
    heap = gcheap.Heap("1MiB")
    m = heap.attach()
    raw = m.new_array("u8", 4)

    class Closes:
        def __index__(self):
            heap.close()
            return 0

        def __array__(self, dtype=None, copy=None):
            heap.close()
            return np.zeros(4, "u8")

    with pytest.raises(gcheap.HeapClosed):
        raw[Closes()]
    heap = gcheap.Heap("1MiB")
    m = heap.attach()
    raw = m.new_array("u8", 4)
    with pytest.raises(gcheap.HeapClosed):
        raw.copy_in(Closes())


def test_garbage_collection_may_use_the_heap_at_any_moment():
    """What it runs (here a callback of gc's) comes from within calls of the heap, first ones of
    their kind above all, which make threads and take locks."""
    assert run_cleanly("""
        import gc
        import gcheap
        used = within = 0
        def use(phase, info):
            global used, within
            if within or phase == "stop":
                return
            within = 1
            try:
                heap.finalize(m.new(heap.shape("Node", refs=("a",))), str, "died")
                heap.callbacks.append(lambda phase, info: None)
                m.new_array([("f", "u8"), ("g", "u8")], 1)[0]
                heap.weak_value_table()["a"] = m.new_slots(1)
                used += 1
            finally:
                within = 0
        for turn in range(15):
            with gcheap.Heap("1MiB") as heap, heap.attach() as m:
                gc.callbacks.append(use)
                gc.set_threshold(1 + turn)
                call = heap.finalize(m.new(heap.shape("Other", refs=("b",))), str, "died")
                told = heap.callbacks
                assert told is heap.callbacks and call.alive
                m.new_array([("h", "u8")], 1)
                assert m.new(heap.shape("Node", refs=("a",))).a is None
                gc.callbacks.clear()
                gc.set_threshold(700)
                heap.collect()
        print("used" if used > 50 else used)
    """).splitlines()[-1] == "used"


def test_a_signal_may_close_a_heap_that_is_being_closed():
    """close() waits for a mutator that runs; only the handler, within close(), lets it leave."""
    assert run_cleanly("""
        import signal, threading
        import gcheap
        from gcheap import failpoints
        from gcheap.core import _testing
        heap = gcheap.Heap("1MiB")
        def stay():
            with heap.attach() as m:
                _testing.stay_running(m.native())
        def handler(number, frame):
            point.release()
            try:
                heap.shape("Any")
            except gcheap.HeapClosed:
                print("closing")
            heap.close()
        signal.signal(signal.SIGALRM, handler)
        with failpoints.pause("mutator.running") as point:
            thread = threading.Thread(target=stay)
            thread.start()
            point.wait()
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            heap.close()
        thread.join()
        print(heap.closed)
    """) == "closing\nTrue\n"


def test_a_heap_and_its_mutator_in_a_cycle_are_garbage_together():
    class Holder:
        pass

    for _ in range(5):
        holder = Holder()
        holder.heap = gcheap.Heap("1MiB")
        holder.mutator = holder.heap.attach()
        holder.ref = holder.mutator.new(node_shape(holder.heap))
        holder.table, holder.guardian = holder.heap.weak_key_table(), holder.heap.guardian()
        holder.table[holder.ref] = holder.ref
        holder.me = holder
        gone = weakref.ref(holder)
        del holder
        gc.collect()
        assert gone() is None


def test_views_of_a_heap_that_is_closed_by_another_thread(make_heap):
    """Views are taken while the heap is closed: each is whole or refused."""
    heap = make_heap("4MiB")
    with heap.attach() as m:
        arrays = [m.new_array("u8", 64, pinned=True) for _ in range(20)]
        for i, array in enumerate(arrays):
            array[:] = np.full(64, i, "u8")
        views, started = [], threading.Event()

        def take(arrays):
            for turn in range(1_000_000):
                i = turn % len(arrays)
                try:
                    views.append((i, np.asarray(arrays[i])))
                except gcheap.HeapClosed:
                    return
                started.set()
                del views[:-200]

        thread = threading.Thread(target=take, args=(arrays,))
        thread.start()
        assert started.wait(PATIENCE)
        heap.close()
        thread.join(PATIENCE)
    assert views and all((view == i).all() for i, view in views)
    for _, view in views:
        with pytest.raises(ValueError):
            view.resize(10_000)
        assert not view.flags.owndata and view.nbytes == 512
    del arrays, array, thread
    gc.collect()
    assert all((view == i).all() for i, view in views)      # a view keeps its array
