"""Random object graphs mirrored in Python, compared whole after every cycle.

A hypothesis state machine makes objects, writes and drops references, starts and waits for
cycles, holds the collector during marking or right after the flip while it goes on working, and
lets a second attached thread do some of the work.
"""
from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from support import MutatorThread

import gcheap
from gcheap import failpoints

SHAPES = {
    "Leaf": {"raw": [("key", "u8")]},
    "Pair": {"refs": ("a", "b"), "raw": [("key", "u8")]},
    "Wide": {"refs": tuple(f"r{i}" for i in range(12)), "raw": [("key", "u8"), ("pad", "V44")]},
}
PICK = st.integers(0, 2**32)


class Twin:
    """What one heap object ought to be: its kind, contents and outgoing references."""

    def __init__(self, kind: str, content, slots: int) -> None:
        self.kind = kind
        self.content = content
        self.refs: list[Twin | int | None] = [None] * slots     # an int: a tagged value


class GraphMachine(RuleBasedStateMachine):
    options: dict
    capacity = "8MiB"

    @initialize(unit_pages=st.sampled_from([1, 2, 16]))
    def start(self, unit_pages):
        self.heap = gcheap.Heap(self.capacity, unit_pages=unit_pages, **self.options)
        self.shapes = {n: self.heap.shape(n, **d) for n, d in SHAPES.items()}
        self.mutator = self.heap.attach()
        self.second = MutatorThread(self.heap, "second")
        self.roots: list[tuple[object, Twin]] = []
        self.counter = 0
        self.held = None

    def teardown(self):
        if not hasattr(self, "heap"):
            return
        try:
            self.finish_cycle()
        finally:
            if self.held is not None:
                self.held.__exit__()
            self.second.__exit__()
            self.heap.close()

    # ---- helpers ------------------------------------------------------------------------

    def on(self, thread: bool, function):
        """Runs `function(mutator)` here or on the second thread."""
        return self.second.call(function) if thread else function(self.mutator)

    def pick(self, number: int):
        return self.roots[number % len(self.roots)]

    def write(self, ref, index: int, value) -> None:
        if isinstance(ref, gcheap.SlotArray):
            ref[index] = value
        else:
            setattr(ref, SHAPES[ref.shape.name]["refs"][index], value)

    def read(self, ref, twin: Twin):
        if twin.kind == "slots":
            return list(ref)
        return [getattr(ref, name) for name in SHAPES[twin.kind].get("refs", ())]

    def compare(self) -> None:
        """Walks heap and model side by side from all roots: contents, edges, identity."""
        seen: dict[object, Twin] = {}
        refs: dict[int, object] = {}
        todo = list(self.roots)
        while todo:
            ref, twin = todo.pop()
            if id(twin) in refs:
                assert refs[id(twin)] == ref, "one object became two"
                continue
            assert ref not in seen, "two objects became one"
            seen[ref], refs[id(twin)] = twin, ref
            if twin.kind == "bytes":
                assert bytes(ref) == twin.content
                continue
            if twin.kind != "slots":
                assert ref.shape == self.shapes[twin.kind]
                assert ref.key == twin.content
            values = self.read(ref, twin)
            assert len(values) == len(twin.refs)
            for value, wanted in zip(values, twin.refs, strict=True):
                if isinstance(wanted, Twin):
                    todo.append((value, wanted))
                elif wanted is None:
                    assert value is None
                else:
                    assert value == gcheap.Tagged(wanted)

    def finish_cycle(self) -> None:
        self.release()
        self.heap.collect()
        self.compare()

    # ---- rules --------------------------------------------------------------------------

    @rule(kind=st.sampled_from(list(SHAPES)), thread=st.booleans(), count=st.integers(1, 60))
    def new(self, kind, thread, count):
        def make(m):
            made = []
            for _ in range(count):
                self.counter += 1
                made.append((m.new(self.shapes[kind], key=self.counter), self.counter))
            return made
        for number, (ref, key) in enumerate(self.on(thread, make)):
            if number % 3 == 0:                             # the others are garbage
                self.roots.append((ref, Twin(kind, key, len(SHAPES[kind].get("refs", ())))))

    @rule(length=st.sampled_from([0, 1, 5, 300, 511, 1500, 9000]), thread=st.booleans())
    def new_slots(self, length, thread):
        ref = self.on(thread, lambda m: m.new_slots(length))
        self.roots.append((ref, Twin("slots", None, length)))

    @rule(length=st.sampled_from([0, 1, 33, 3000, 4080, 20_000, 70_000]), thread=st.booleans())
    def new_bytes(self, length, thread):
        self.counter += 1
        content = self.counter.to_bytes(4, "little") * (length // 4 + 1)
        ref = self.on(thread, lambda m: m.new_bytes(content[:length]))
        self.roots.append((ref, Twin("bytes", content[:length], 0)))

    @rule(source=PICK, aim=PICK, index=PICK, thread=st.booleans(),
          what=st.sampled_from(["ref", "ref", "ref", "none", "tag"]))
    def write_reference(self, source, aim, index, thread, what):
        if not self.roots:
            return
        (ref, twin), (other, other_twin) = self.pick(source), self.pick(aim)
        if not twin.refs:
            return
        slot = index % len(twin.refs)
        value, model = {"ref": (other, other_twin), "none": (None, None),
                        "tag": (gcheap.Tagged(index | 1), index | 1)}[what]
        self.on(thread, lambda m: self.write(ref, slot, value))
        twin.refs[slot] = model

    @rule(aims=st.lists(PICK, min_size=1, max_size=40), source=PICK, thread=st.booleans())
    def write_many_references(self, aims, source, thread):
        for number in aims:
            self.write_reference(source, number, number // 7, thread, "ref")

    @rule(which=PICK, thread=st.booleans())
    def write_raw(self, which, thread):
        if not self.roots:
            return
        ref, twin = self.pick(which)
        if twin.kind in SHAPES:
            self.counter += 1
            key = self.counter
            self.on(thread, lambda m: setattr(ref, "key", key))
            twin.content = key

    @rule(source=PICK, index=PICK)
    def follow(self, source, index):
        """A reference read from the heap becomes a root of its own."""
        if not self.roots:
            return
        ref, twin = self.pick(source)
        if twin.refs:
            slot = index % len(twin.refs)
            if isinstance(twin.refs[slot], Twin):
                self.roots.append((self.read(ref, twin)[slot], twin.refs[slot]))

    @rule(source=PICK, aims=st.lists(PICK, min_size=1, max_size=20), thread=st.booleans())
    def move_references(self, source, aims, thread):
        """References change their place in the heap; no root keeps what they lead to."""
        if not self.roots:
            return
        ref, twin = self.pick(source)
        full = [i for i, wanted in enumerate(twin.refs) if isinstance(wanted, Twin)]
        for slot, number in zip(full, aims, strict=False):
            to, to_twin = self.pick(number)
            if to_twin.refs and to_twin is not twin:
                other = number % len(to_twin.refs)

                def move(m, slot=slot, to=to, other=other):
                    self.write(to, other, self.read(ref, twin)[slot])
                    self.write(ref, slot, None)
                self.on(thread, move)
                to_twin.refs[other], twin.refs[slot] = twin.refs[slot], None

    @rule(which=st.lists(PICK, max_size=30), thread=st.booleans())
    def drop(self, which, thread):
        for number in which:
            if self.roots:
                last = [self.roots.pop(number % len(self.roots))]
                self.on(thread, lambda m, last=last: last.clear())

    @rule(thread=st.booleans())
    def collect(self, thread):
        self.release()
        self.on(thread, lambda m: self.heap.collect())
        self.compare()

    @rule()
    def collect_without_waiting(self):
        self.heap.collect(wait=False)

    @rule(point=st.sampled_from(["mark.concurrent", "flip.after", "flip.after", "relocate.done"]))
    def hold_the_collector(self, point):
        """What follows happens during marking, or faults, until some later rule releases it."""
        if self.held is None and self.options["backend"] != "stw":
            self.heap.collect()
            self.held = failpoints.pause(point)
            self.held.__enter__()
            self.heap.collect(wait=False)
            self.held.wait()

    @rule()
    def release(self):
        if self.held is not None:
            self.held.__exit__(None, None, None)
            self.held = None

    @rule(thread=st.booleans())
    def compare_now(self, thread):
        self.on(thread, lambda m: self.compare())


@pytest.mark.parametrize("verify", [
    pytest.param(0, marks=pytest.mark.sigbus_only("once with every check is enough")), 3])
def test_random_graphs(combination, verify):
    machine = type("Machine", (GraphMachine,), {"options": combination | {"verify": verify}})
    examples = {0: 50, 3: 25}.get(verify, 10)
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=50))
