"""The operations of the fuzzer, each on one Side: what a program can do with objects.

An operation draws nothing by itself, so that the same call does the same on every Side: it is
`function(side, mutator, **arguments)`; `OPERATIONS` says how the arguments are drawn.
It changes heap and model, or returns a *commit*, a function without arguments that does: that
is called when the operation gave one on every Side, so that an object which one heap had no room
for, or which one heap has cleared, exists on none.
"""
from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import gcheap
from fuzz.draws import Draw, choice, either, made, several, whole
from fuzz.layouts import DEFAULT_TAG, DTYPES, FIXED, pattern, refers
from fuzz.model import BYTES, SLOTS, Thing, Weak
from fuzz.side import Side

PICK = whole(0, 2**16)
BOOL = choice(False, True)
Commit = Callable[[], Any]


@dataclass(frozen=True)
class Operation:
    run: Callable[..., Commit | None]
    draws: dict[str, Draw]
    weight: int                         # how often, among those drawn at random


OPERATIONS: dict[str, Operation] = {}
PAGE = 4096
TABLES = 3                              # at most, of each kind

# Around what is small or large for units of 1, 2 and 16 pages, and pages.
_BORDERS = [0, PAGE // 2, PAGE, 2 * PAGE, 8 * PAGE, 16 * PAGE]
BYTE_SIZES = either(
    whole(0, 200),
    made(lambda border, more: max(0, border + more), choice(*_BORDERS), whole(-40, 40)),
    whole(0, 90_000))


def operation(weight: int = 2, **draws: Draw) -> Callable[[Callable], Callable]:
    def enter(function: Callable) -> Callable:
        OPERATIONS[function.__name__] = Operation(function, draws, weight)
        return function
    return enter


def at_random(rng: random.Random, names: list[str]) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of an operation."""
    [name] = rng.choices(names, [OPERATIONS[n].weight for n in names])
    return name, {key: draw.random(rng) for key, draw in OPERATIONS[name].draws.items()}


# ---- allocation --------------------------------------------------------------------------

def crowded(side: Side, asked: int, pinned: bool) -> None:
    """HeapExhausted is right only if what may be alive fills the heap, with a TLAB for each mutator
    and the one asked for, and the garbage that dense runs may keep (1/16)."""
    heap = side.heap
    tlab = max(65536, heap.unit_pages * heap.page_size)
    charge = side.model.charge(heap.page_size)
    room = heap.capacity - charge - charge // 16 - (side.mutators + 1) * tlab
    scattered = pinned and any(t.pinned for t in side.model.roots.values())
    assert asked > room or scattered or not side.sole, (
        f"HeapExhausted for {asked} bytes, {charge} of {heap.capacity} may be alive; "
        f"{heap.stats()}")


def make(side: Side, m: gcheap.Mutator, thing: Thing) -> gcheap.Ref | None:
    """The object that `thing` describes; None when the heap is full, as the model agrees."""
    try:
        if thing.fixed:
            fields = {name: thing.raw[name][0] for name in thing.raw.dtype.names}
            return m.new(side.shapes[thing.layout], **fields)
        if thing.layout == SLOTS:
            return m.new_slots(len(thing.slots))
        if thing.layout == BYTES:
            return m.new_bytes(thing.raw)
        return m.new_array(thing.layout, len(thing.raw), pinned=thing.pinned)
    except gcheap.HeapExhausted:
        crowded(side, thing.nbytes, thing.pinned)
        return None


def holding(side: Side, made: list[tuple[gcheap.Ref, Thing]]) -> Commit:
    def commit() -> None:
        for ref, thing in made:
            side.hold(ref, thing)
    return commit


@operation(weight=8, layout=choice(*FIXED), count=whole(1, 30))
def new_fixed(side: Side, m: Any, layout: str, count: int) -> Commit | None:
    """Objects of one shape; every third is kept, the others are garbage."""
    made = []
    for i in range(count if FIXED[layout].nbytes < PAGE // 4 else min(count, 4)):
        thing = Thing(side.number(), layout)
        ref = make(side, m, thing)
        if ref is None:
            return None
        if i % 3 == 0:
            made.append((ref, thing))
    return holding(side, made)


@operation(weight=4, count=whole(2, 40), layout=choice("Pair", "Boxed", "Odd", "Wide"))
def new_chain(side: Side, m: Any, count: int, layout: str) -> Commit | None:
    """A list whose first node alone is a root."""
    before = None
    for _ in range(count):
        thing = Thing(side.number(), layout)
        ref = make(side, m, thing)
        if ref is None:
            return None
        if before is not None:
            side.write_slot(ref, thing, 0, before[0])
            thing.slots[0] = before[1]
        before = ref, thing
    return holding(side, [before])


@operation(length=either(whole(0, 30), made(lambda n: n // 8, BYTE_SIZES)))
def new_slots(side: Side, m: Any, length: int) -> Commit | None:
    return new_array_like(side, m, Thing(side.number(), SLOTS, length))


@operation(size=BYTE_SIZES)
def new_bytes(side: Side, m: Any, size: int) -> Commit | None:
    thing = Thing(side.number(), BYTES, size)
    thing.raw[:] = pattern(thing.raw.dtype, size, thing.uid)
    return new_array_like(side, m, thing)


@operation(dtype=choice(*DTYPES), size=BYTE_SIZES, pinned=BOOL)
def new_array(side: Side, m: Any, dtype: str, size: int, pinned: bool) -> Commit | None:
    length = size // np.dtype(dtype).itemsize
    thing = Thing(side.number(), dtype, length, pinned)
    made = new_array_like(side, m, thing)
    if made is not None and length % 2:     # the others stay zero for a while
        contents = pattern(thing.raw.dtype, length, thing.uid)

        def commit() -> None:
            made()
            side.refs[side.made].copy_in(contents)
            thing.raw[:] = contents
        return commit
    return made


@operation(weight=1, length=choice((8 << 20) - 24, (8 << 20) - 16, 8 << 20, 9_000_001))
def new_huge(side: Side, m: Any, length: int) -> Commit | None:
    """A raw array of the size for which there is a space of huge pages."""
    if side.heap.capacity < 4 * length:
        return None
    return new_bytes(side, m, length)


def new_array_like(side: Side, m: Any, thing: Thing) -> Commit | None:
    ref = make(side, m, thing)
    return None if ref is None else holding(side, [(ref, thing)])


# ---- slots -------------------------------------------------------------------------------

def tag_of(thing: Thing) -> tuple[int, int]:
    return FIXED[thing.layout].tag if thing.fixed else DEFAULT_TAG


def tagged(tag: tuple[int, int], pick: int) -> int:
    """A word that is no reference under `tag`; addresses of all kinds are among them."""
    for word in (pick * 0x1000193, pick << 48 | 8, pick * 8, pick << 3 | 5, 0xFFF8 << 48 | pick, 3):
        word &= 2**64 - 1
        if not refers(tag, word):
            return word
    return 0


def place(thing: Thing, pick: int) -> int:
    """One of the slots; of a large array often one beside the border of two pages."""
    count = len(thing.slots)
    if count > PAGE // 8 and pick % 2:
        header = 2                          # words before the first element
        return min(pick // 8 % (count * 8 // PAGE) * PAGE // 8 + PAGE // 8 - header
                   - pick // 2 % 2, count - 1)
    return pick % count


@operation(weight=10, source=PICK, index=PICK, aim=PICK, what=choice(*["ref"] * 5, "none", "tag"))
def write_slot(side: Side, m: Any, source: int, index: int, aim: int, what: str) -> None:
    holder, target = side.pick_root(source), side.pick_root(aim)
    if holder is None or target is None or not holder[2].slots:
        return
    _, ref, thing = holder
    index = place(thing, index)
    if what == "ref":
        value, wanted = target[1:]
    elif what == "none":
        value, wanted = None, None
    else:
        word = tagged(tag_of(thing), aim)
        value, wanted = gcheap.Tagged(word), word or None       # a zero word is None
    side.write_slot(ref, thing, index, value)
    thing.slots[index] = wanted


@operation(weight=4, aims=several(PICK, 1, 20), source=PICK)
def write_slots(side: Side, m: Any, aims: list[int], source: int) -> None:
    for aim in aims:
        write_slot(side, m, source, aim // 7, aim, "ref")


@operation(weight=5, source=PICK, aims=several(PICK, 1, 12), clear=BOOL)
def move_slots(side: Side, m: Any, source: int, aims: list[int], clear: bool) -> None:
    """References move within the heap; no root keeps what they lead to."""
    holder = side.pick_root(source)
    if holder is None:
        return
    _, ref, thing = holder
    full = sorted(i for i, _ in thing.slots.targets())
    for index, aim in zip(full, aims, strict=False):
        _, to, to_thing = side.pick_root(aim)
        if to_thing.slots and to_thing is not thing:
            other = place(to_thing, aim)
            side.write_slot(to, to_thing, other, side.read_slot(ref, thing, index))
            to_thing.slots[other] = thing.slots[index]
            if clear:
                side.write_slot(ref, thing, index, None)
                thing.slots[index] = None


@operation(weight=6, source=PICK, index=PICK)
def pop_slot(side: Side, m: Any, source: int, index: int) -> None:
    """A reference leaves the heap: what it leads to is a root from now on."""
    full = full_slots(side, source)
    if full is None:
        return
    ref, thing, indices = full
    at = indices[index % len(indices)]
    found, target = side.read_slot(ref, thing, at), thing.slots[at]
    side.write_slot(ref, thing, at, None)
    thing.slots[at] = None
    side.hold(found, target)


@operation(weight=6, source=PICK, index=PICK, layout=choice("Pair", "Boxed", "Odd", "Wide"))
def insert(side: Side, m: Any, source: int, index: int, layout: str) -> Commit | None:
    """A new object in the place of another, to which it refers, as in a list; no root keeps it."""
    full = full_slots(side, source)
    if full is None:
        return None
    ref, thing, indices = full
    at = indices[index % len(indices)]
    fresh = Thing(side.number(), layout)
    new = make(side, m, fresh)
    if new is None:
        return None

    def commit() -> None:
        side.write_slot(new, fresh, 0, side.read_slot(ref, thing, at))
        fresh.slots[0] = thing.slots[at]
        side.write_slot(ref, thing, at, new)
        thing.slots[at] = fresh
    return commit


def full_slots(side: Side, pick: int) -> tuple[gcheap.Ref, Thing, list[int]] | None:
    """A root, and its slots that hold references."""
    chosen = side.pick_root(pick)
    if chosen is None:
        return None
    _, ref, thing = chosen
    indices = sorted(i for i, _ in thing.slots.targets())
    return (ref, thing, indices) if indices else None


@operation(weight=6, source=PICK, index=PICK, steps=whole(1, 4))
def follow(side: Side, m: Any, source: int, index: int, steps: int) -> None:
    """What a reference leads to becomes a root."""
    chosen = side.pick_root(source)
    if chosen is None:
        return
    _, ref, thing = chosen
    moved = False
    for _ in range(steps):
        full = sorted(i for i, _ in thing.slots.targets())
        if not full:
            break
        at = full[index % len(full)]
        ref, thing, moved = side.read_slot(ref, thing, at), thing.slots[at], True
    if moved:
        side.is_thing(ref, thing)
        side.hold(ref, thing)


@operation(weight=6, which=several(PICK, 1, 12))
def drop(side: Side, m: Any, which: list[int]) -> None:
    for pick in which:
        chosen = side.pick_root(pick)
        if chosen is not None:
            name = chosen[0]
            del chosen
            side.release(name)


@operation(weight=1, keep=PICK)
def drop_many(side: Side, m: Any, keep: int) -> None:
    """All roots but a few."""
    names = list(side.refs)
    for i, name in enumerate(names):
        if (i + keep) % 4:
            side.release(name)


# ---- raw contents ------------------------------------------------------------------------

@operation(which=PICK, seed=PICK)
def write_fields(side: Side, m: Any, which: int, seed: int) -> None:
    chosen = side.pick_root(which)
    if chosen is None or not chosen[2].fixed:
        return
    _, ref, thing = chosen
    fresh = pattern(thing.raw.dtype, 1, seed)
    for name in thing.raw.dtype.names[1:]:
        setattr(ref, name, fresh[name][0])
        thing.raw[name] = fresh[name]


@operation(weight=4, which=PICK, start=PICK, count=PICK, seed=PICK,
           how=choice("element", "slice", "copy_in", "view"))
def write_array(side: Side, m: Any, which: int, start: int, count: int, seed: int,
                how: str) -> None:
    names = [n for n, t in side.model.roots.items() if t.raw is not None and not t.fixed]
    if not names:
        return
    name = names[which % len(names)]
    ref, thing = side.refs[name], side.model.roots[name]
    if not len(thing.raw):
        return
    start %= len(thing.raw)
    count = 1 if how == "element" else count % (len(thing.raw) - start + 1)
    fresh = pattern(thing.raw.dtype, count, seed)
    if how == "element":
        ref[start] = fresh[0]
        assert np.asarray(ref[start]).astype(thing.raw.dtype).tobytes() == fresh.tobytes()
    elif how == "slice":
        ref[start:start + count] = fresh
    elif how == "view" and look(side, name) is not None:
        side.views[name][start:start + count] = fresh
    else:
        ref.copy_in(fresh, start)
    thing.raw[start:start + count] = fresh
    if how == "slice":
        found = ref[start:start + count]
        assert (found if isinstance(found, bytes) else found.tobytes()) == fresh.tobytes()


def look(side: Side, name: int) -> np.ndarray | None:
    """The view of a pinned array, made when first asked for; None where there can be none."""
    thing = side.model.roots[name]
    if name not in side.views:
        try:
            view = memoryview(side.refs[name])
        except BufferError:                 # it moves, or numpy has no format for the dtype
            assert not thing.pinned or thing.raw.dtype.kind == "M", thing
            return None
        side.views[name] = np.frombuffer(view, thing.raw.dtype)
    return side.views[name]


@operation(weight=3, which=PICK)
def hash_one(side: Side, m: Any, which: int) -> None:
    chosen = side.pick_root(which)
    if chosen is not None:
        side.same_hash(*chosen[1:])


# ---- weak references ---------------------------------------------------------------------

@operation(weight=5, which=PICK)
def make_weak(side: Side, m: Any, which: int) -> None:
    chosen = side.pick_root(which)
    if chosen is None:
        return
    number = side.number()
    side.weak_refs[number] = m.weak(chosen[1])
    side.model.weak_refs[number] = Weak(chosen[2])


@operation(weight=4, which=PICK, keep=BOOL)
def read_weak(side: Side, m: Any, which: int, keep: bool) -> Commit | None:
    number = side.pick(side.weak_refs, which)
    if which % 2:                           # one whose object is dying, if there is any
        reachable = side.model.reachable()
        dying = [n for n, weak in side.model.weak_refs.items() if weak.target not in reachable]
        number = dying[which // 2 % len(dying)] if dying else number
    if number is None:
        return None
    return read_cell(side, side.model.weak_refs[number], side.weak_refs[number], keep)


def read_cell(side: Side, weak: Weak, read: Callable[[], Any], keep: bool) -> Commit | None:
    found = read()
    side.model.is_told(weak, found is not None)
    if found is None:
        return None
    side.is_thing(found, weak.target)
    return functools.partial(side.hold, found, weak.target) if keep else None


@operation(which=PICK)
def drop_weak(side: Side, m: Any, which: int) -> None:
    number = side.pick(side.weak_refs, which)
    if number is not None:
        del side.weak_refs[number], side.model.weak_refs[number]


# ---- weak-key tables ---------------------------------------------------------------------

def key_table(side: Side, pick: int) -> int:
    if len(side.key_tables) < TABLES and pick % 5 == 0 or not side.key_tables:
        number = side.number()
        side.key_tables[number] = side.heap.weak_key_table()
        side.model.key_tables[number] = {}
        return number
    return side.pick(side.key_tables, pick)


@operation(weight=6, table=PICK, key=PICK, value=PICK, what=choice("ref", "ref", "none", "tag"),
           replace=BOOL)
def put_entry(side: Side, m: Any, table: int, key: int, value: int, what: str,
              replace: bool) -> None:
    at, aim = side.pick_root(key), side.pick_root(value)
    if at is None:
        return
    number = key_table(side, table)
    entries, native = side.model.key_tables[number], side.key_tables[number]
    _, ref, thing = at
    if what == "ref":
        new, wanted = aim[1:]
    else:
        word = value << 3 | 1
        new, wanted = (None, None) if what == "none" else (gcheap.Tagged(word), word)
    if replace:
        native[ref] = new
        entries[thing] = wanted
    else:
        found = native.setdefault(ref, new)
        side.same_value(found, entries.setdefault(thing, wanted), thing)
    side.same_hash(ref, thing)              # putting it into a table draws one


@operation(weight=3, table=PICK, key=PICK, how=choice("get", "get", "in", "pop", "del", "keep"))
def use_entry(side: Side, m: Any, table: int, key: int, how: str) -> None:
    at = side.pick_root(key)
    if at is None:
        return
    number = key_table(side, table)
    entries, native = side.model.key_tables[number], side.key_tables[number]
    _, ref, thing = at
    if thing not in entries:
        assert ref not in native and native.get(ref, "none") == "none"
        return
    wanted = entries[thing]
    if how == "in":
        assert ref in native
    elif how == "del":
        del native[ref]
        del entries[thing]
    else:
        found = native.pop(ref) if how == "pop" else native[ref]
        side.same_value(found, wanted, thing)
        if how == "pop":
            del entries[thing]
        if how == "keep" and isinstance(wanted, Thing):
            side.hold(found, wanted)


@operation(table=PICK, how=choice("items", "items", "clear", "drop"))
def use_key_table(side: Side, m: Any, table: int, how: str) -> None:
    number = key_table(side, table)
    entries, native = side.model.key_tables[number], side.key_tables[number]
    if how == "items":
        found = {}
        for key, value in native.items():
            thing = side.recognise(key, entries)
            assert thing not in found and thing not in side.model.told_dead, thing
            side.same_value(value, entries[thing], thing)
            found[thing] = True
            del key, value
        missed = (entries.keys() - found.keys()) & side.model.reachable()
        assert not missed, f"items() left out {missed}"
        return
    if how == "clear":
        native.clear()
        assert len(native) == 0
        entries.clear()
    else:
        del side.model.key_tables[number], side.key_tables[number]


# ---- weak-value tables -------------------------------------------------------------------

def value_table(side: Side, pick: int) -> int:
    if not side.value_tables:
        number = side.number()
        side.value_tables[number] = side.heap.weak_value_table()
        side.model.value_tables[number] = {}
        return number
    return side.pick(side.value_tables, pick)


@operation(weight=4, table=PICK, key=choice(*"0123456789"), which=PICK,
           how=choice("set", "set", "get", "keep", "setdefault", "pop", "items"))
def use_value_table(side: Side, m: Any, table: int, key: str, which: int,
                    how: str) -> Commit | None:
    number, chosen = value_table(side, table), side.pick_root(which)
    entries, native = side.model.value_tables[number], side.value_tables[number]
    if how in ("set", "setdefault") and chosen is not None:
        _, ref, thing = chosen
        known = entries.get(key)
        if how == "set" or known is None or known.gone:
            if how == "set":
                native[key] = ref
            else:
                side.is_thing(native.setdefault(key, ref), thing)
            entries[key] = Weak(thing)
    elif how == "items":
        for found, value in native.items():
            side.model.is_told(entries[found], alive=True)
            side.is_thing(value, entries[found].target)
            del value
    elif how == "pop":
        found, known = native.pop(key, None), entries.pop(key, None)
        if known is None:
            assert found is None
            return None
        side.model.is_told(known, found is not None)
    elif key in entries:
        return read_cell(side, entries[key], lambda: native.get(key), how == "keep")
    return None


# ---- guardians and finalizers ------------------------------------------------------------

@operation(weight=3, guardian=PICK, which=PICK, agent=either(choice(None), PICK))
def register(side: Side, m: Any, guardian: int, which: int, agent: int | None) -> None:
    chosen = side.pick_root(which)
    if chosen is None:
        return
    if len(side.guardians) < TABLES and guardian % 4 == 0 or not side.guardians:
        number = side.number()
        side.guardians[number] = side.heap.guardian()
    else:
        number = side.pick(side.guardians, guardian)
    stand_in = None if agent is None else side.pick_root(agent)
    side.register(number, *chosen[1:], None if stand_in is None else stand_in[1:])


@operation(which=PICK)
def finalize(side: Side, m: Any, which: int) -> None:
    chosen = side.pick_root(which)
    if chosen is not None:
        side.finalize(*chosen[1:])


@operation(which=PICK, how=choice("call", "detach", "peek"))
def end_finalizer(side: Side, m: Any, which: int, how: str) -> None:
    """Of an object that is reachable: of any other the callback may have run already."""
    reachable = side.model.reachable()
    numbers = [n for n, final in side.model.finals.items() if final.thing in reachable]
    if not numbers:
        return
    number = numbers[which % len(numbers)]
    finalizer, thing = side.finalizers[number], side.model.finals[number].thing
    assert finalizer.alive and number not in side.told
    if how == "call":
        finalizer()
        assert number in side.told and not finalizer.alive
    else:
        ref, *_ = finalizer.peek() if how == "peek" else finalizer.detach()
        side.is_thing(ref, thing)
    if how != "peek":
        del side.model.finals[number], side.finalizers[number]


# ---- the collector -----------------------------------------------------------------------

@operation(weight=1)
def collect_without_waiting(side: Side, m: Any) -> None:
    side.heap.collect(wait=False)


@operation(weight=1, on=BOOL)
def automatic(side: Side, m: Any, on: bool) -> None:
    (side.heap.enable if on else side.heap.disable)()
    assert side.heap.isenabled() == on


@operation(weight=1)
def unfreeze(side: Side, m: Any) -> None:
    side.heap.unfreeze()
    side.model.frozen.clear()


# What belongs to one owner of objects, and says nothing of the rest of the heap.
LOCAL = [name for name in OPERATIONS if name not in ("unfreeze", "automatic", "new_huge")]
