"""One heap beside its model: what is held of it in Python, and the comparisons."""
from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from support import wait_until

import gcheap
from fuzz.layouts import FIXED
from fuzz.model import BYTES, SLOTS, Final, Model, Registration, Thing, Weak

NEWEST = 6
FEW = 400


class Side:
    """A heap, its model, and the Refs and other handles that the program holds, by number.

    `refs` has the same numbers as `model.roots`.  Every operation of operations.py changes both.
    Several Sides may share a heap, each with objects of its own (`heap` given): `sole` is false
    then, and nothing is asked about the whole heap.
    """

    def __init__(self, options: dict[str, Any], heap: gcheap.Heap | None = None) -> None:
        self.options = options
        self.sole = heap is None
        self.heap = gcheap.Heap(**options) if heap is None else heap
        self.shapes = {
            name: self.heap.shape(name, refs=layout.refs, raw=layout.raw, tag=layout.tag)
            for name, layout in FIXED.items()}
        self.model = Model()
        self.refs: dict[int, gcheap.Ref] = {}
        self.views: dict[int, np.ndarray] = {}
        self.weak_refs: dict[int, gcheap.WeakRef] = {}
        self.key_tables: dict[int, gcheap.WeakKeyTable] = {}
        self.value_tables: dict[int, gcheap.WeakValueTable] = {}
        self.guardians: dict[int, gcheap.Guardian] = {}
        self.finalizers: dict[int, gcheap.Finalizer] = {}
        self.told: list[int] = []           # numbers of the finalizers that have run
        self.mutators = 1
        self.made = 0                       # objects, and names of all kinds
        self.yielded: dict[int, gcheap.Ref] = {}
        self.came: dict[int, Registration] = {}
        self.kept_all = True
        self.perhaps: set[Thing] = set()

    # ---- numbers -------------------------------------------------------------------------

    def number(self) -> int:
        self.made += 1
        return self.made

    def pick_root(self, pick: int) -> tuple[int, gcheap.Ref, Thing] | None:
        """One of the Refs held; every other time one of the newest."""
        names = list(self.refs)
        if not names:
            return None
        if pick % 2:
            names = names[-NEWEST:]
        name = names[pick // 2 % len(names)]
        return name, self.refs[name], self.model.roots[name]

    @staticmethod
    def pick(things: dict[int, Any], pick: int) -> int | None:
        names = list(things)
        return names[pick % len(names)] if names else None

    def hold(self, ref: gcheap.Ref, thing: Thing) -> int:
        """`ref` is held from now on."""
        name = self.number()
        self.refs[name] = ref
        self.model.adopt(name, thing)
        return name

    def release(self, name: int) -> None:
        self.views.pop(name, None)
        del self.refs[name], self.model.roots[name]

    # ---- single objects ------------------------------------------------------------------

    def read_slot(self, ref: gcheap.Ref, thing: Thing, index: int) -> Any:
        return getattr(ref, FIXED[thing.layout].refs[index]) if thing.fixed else ref[index]

    def write_slot(self, ref: gcheap.Ref, thing: Thing, index: int, value: Any) -> None:
        if thing.fixed:
            setattr(ref, FIXED[thing.layout].refs[index], value)
        else:
            ref[index] = value

    def same_contents(self, ref: gcheap.Ref, thing: Thing) -> None:
        """The shape and the raw part of one object."""
        if thing.fixed:
            assert ref.shape == self.shapes[thing.layout], (ref, thing)
            for name in thing.raw.dtype.names:
                found, wanted = getattr(ref, name), thing.raw[name][0]
                assert np.asarray(found).astype(wanted.dtype).tobytes() == wanted.tobytes(), (
                    f"{thing}.{name} is {found!r}, ought to be {wanted!r}")
            return
        assert ref.shape.name == (f"array[{thing.raw.dtype}]" if thing.layout not in (SLOTS, BYTES)
                                  else thing.layout), (ref, thing)
        if thing.layout == SLOTS:
            assert len(ref) == len(thing.slots), (ref, thing)
            return
        assert len(ref) == len(thing.raw) and ref.pinned == thing.pinned, (ref, thing)
        assert bytes(ref) == thing.raw.tobytes(), f"the contents of {thing} changed"

    def same_hash(self, ref: gcheap.Ref, thing: Thing) -> None:
        found = hash(ref)
        if thing.hash is None:
            thing.hash = found
        assert found == thing.hash, f"the identity hash of {thing} changed"

    def is_thing(self, ref: gcheap.Ref, thing: Thing) -> None:
        """`ref` refers to `thing` and to no other."""
        self.same_contents(ref, thing)
        if not thing.fixed or thing.hash is not None:
            self.same_hash(ref, thing)

    def recognise(self, ref: gcheap.Ref, things: Any) -> Thing:
        """Which of `things` it is: by number, or of arrays by identity hash."""
        layout = ref.shape.name
        for thing in things:
            if thing.fixed and layout == thing.layout and ref.uid == thing.uid:
                return thing
            if not thing.fixed and layout not in FIXED and thing.hash == hash(ref):
                return thing
        raise AssertionError(f"{ref!r} is none of {list(things)[:20]}")

    # ---- everything reachable ------------------------------------------------------------

    def compare(self, whole: bool = False) -> None:
        """Walks heap and model side by side from all roots: contents, edges, identity.  Of large
        arrays that are mostly empty it reads a part, unless `whole`."""
        refs: dict[Thing, gcheap.Ref] = {}
        seen: dict[int, Thing] = {}
        todo = [(ref, self.model.roots[name]) for name, ref in self.refs.items()]
        while todo:
            ref, thing = todo.pop()
            if thing in refs:
                assert refs[thing] == ref, f"{thing} became two"
                continue
            refs[thing] = ref
            self.is_thing(ref, thing)
            if not thing.fixed:
                other = seen.setdefault(thing.hash, thing)
                assert other is thing or refs[other] != ref, f"{other} and {thing} became one"
            indices = range(len(thing.slots))
            if not whole and len(thing.slots) > FEW:
                indices = sorted({*thing.slots.used, *indices[:8], *indices[-8:], *indices[::509]})
            for index in indices:
                wanted = thing.slots[index]
                found = self.read_slot(ref, thing, index)
                if isinstance(wanted, Thing):
                    assert isinstance(found, gcheap.Ref), (thing, index, wanted, found)
                    todo.append((found, wanted))
                else:
                    self.same_plain(found, wanted, (thing, index))
        for name, view in self.views.items():
            assert view.tobytes() == self.model.roots[name].raw.tobytes()

    @staticmethod
    def same_plain(found: Any, wanted: int | None, where: Any) -> None:
        """A slot that holds no reference."""
        assert found == (None if wanted is None else gcheap.Tagged(wanted)), (where, found, wanted)

    # ---- settling ------------------------------------------------------------------------

    def collect(self) -> None:
        """A full collection; then every guardian's queue is emptied into `yielded`."""
        self.heap.collect()
        self.perhaps, must = self.model.forget_dead()
        for number in must:
            wait_until(lambda number=number: number in self.told, f"finalizer {number}")
            del self.model.finals[number], self.finalizers[number]
        self.yielded = {}
        for number, guardian in self.guardians.items():
            self.drain(number, guardian)
        self.check_yields()
        self.model.told_dead.clear()

    def drain(self, number: int, guardian: gcheap.Guardian) -> None:
        reachable = self.model.reachable()
        due = {r.number: r for r in self.model.registrations.values()
               if r.guardian == number and r.thing not in reachable}
        for ref in guardian:
            thing = self.recognise(ref, {r.yields for r in due.values()})
            found = next(r for r in due.values() if r.yields is thing)
            self.is_thing(ref, thing)
            del due[found.number]
            self.yielded[found.number] = ref
            del ref

    def check_yields(self) -> None:
        """Each registered object that was in limbo came out, or is reached from one that did."""
        model = self.model
        came = [model.registrations.pop(number) for number in self.yielded]
        alive = model.reach([*model.strong(), *(r.yields for r in came)])
        for registration in model.registrations.values():
            thing = registration.thing
            assert thing in alive or (registration.agent is not None and thing in self.perhaps), (
                f"{registration} was due and did not come")
        for number, guardian in self.guardians.items():
            left = sum(r.guardian == number for r in model.registrations.values())
            assert (guardian.registered, guardian.ready) == (left, 0)
        self.came = {r.number: r for r in came}

    def settle(self, keep: set[int]) -> None:
        """Ends limbo: holds what came out by the registrations `keep`, drops the rest, and asks
        once what was uncertain."""
        model = self.model
        for number in sorted(keep):
            self.hold(self.yielded[number], self.came[number].yields)
        self.kept_all = keep == self.yielded.keys()
        self.yielded.clear()
        alive = model.reachable()
        # Of two objects that reach each other either may come out, on each side another: what is
        # dropped then is in limbo again.
        assert self.perhaps <= alive or not self.kept_all, (
            "what a guardian kept is not reachable from what it gave")
        for number, weak in self.model.weak_refs.items():
            self.resolve(weak, self.weak_refs[number])
        for number, table in model.value_tables.items():
            for key in list(table):
                self.resolve(table[key], lambda n=number, k=key: self.value_tables[n].get(k))
                if table[key].gone:
                    del table[key]
        self.resolve_keys()
        for number in list(model.finals):
            self.resolve_final(number)
        self.perhaps = set()

    def resolve(self, weak: Weak, read: Any) -> None:
        found = read()
        if weak.target in self.perhaps and not weak.gone:
            weak.gone = found is None
        assert (found is None) == weak.gone, (
            f"a weak reference to {weak.target} is {found!r}; gone: {weak.gone}")
        if found is not None:
            self.is_thing(found, weak.target)

    def resolve_keys(self) -> None:
        """Entries of weak-key tables whose keys a guardian may have brought back."""
        for number, entries in self.model.key_tables.items():
            table = self.key_tables[number]
            found = {}
            for key, value in table.items():
                found[self.recognise(key, entries)] = value
                del key
            for key in list(entries):
                if key not in found:
                    assert key in self.perhaps, f"the entry of {key} is lost"
                    del entries[key]
            assert len(table) == len(entries)
            for key, value in found.items():
                self.same_value(value, entries[key], key)

    def same_value(self, found: Any, wanted: Any, where: Any) -> None:
        if isinstance(wanted, Thing):
            assert isinstance(found, gcheap.Ref), (where, found, wanted)
            self.is_thing(found, wanted)
        else:
            self.same_plain(found, wanted, where)

    def resolve_final(self, number: int) -> None:
        thing = self.model.finals[number].thing
        alive = self.finalizers[number].peek() is not None
        if thing in self.perhaps and not alive:
            wait_until(lambda: number in self.told, f"finalizer {number}")
            del self.model.finals[number], self.finalizers[number]
        else:
            assert alive and number not in self.told, f"the finalizer of {thing} ran too early"

    def finalize(self, ref: gcheap.Ref, thing: Thing) -> None:
        number = self.number()
        self.finalizers[number] = self.heap.finalize(ref, self.told.append, number)
        self.model.finals[number] = Final(thing)

    def register(self, guardian: int, ref: gcheap.Ref, thing: Thing,
                 agent: tuple[gcheap.Ref, Thing] | None) -> None:
        number = self.number()
        self.same_hash(ref, thing)          # to know it again
        if agent is not None:
            self.same_hash(*agent)
        self.guardians[guardian].register(ref, None if agent is None else agent[0])
        self.model.registrations[number] = Registration(
            number, guardian, thing, None if agent is None else agent[1])

    # ---- counts --------------------------------------------------------------------------

    def tally(self, things: Any) -> Counter:
        """Objects and bytes by the name of the shape."""
        out: Counter = Counter()
        for thing in things:
            name = thing.layout
            if not thing.fixed and name not in (SLOTS, BYTES):
                name = f"array[{thing.raw.dtype}]"
            out[name, "objects"] += 1
            out[name, "bytes"] += thing.nbytes
        return out

    def close(self) -> None:
        if self.sole:
            self.heap.close()
