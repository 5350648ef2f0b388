"""The state machine: the operations of operations.py on two heaps, each beside its model."""
from __future__ import annotations

import random
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from support import PATIENCE, Child, MutatorThread

from fuzz import checks
from fuzz.operations import OPERATIONS, at_random
from fuzz.side import Side
from fuzz.together import Together
from gcheap import failpoints

THREADS = 3                             # the main one and two others
THREAD = st.integers(0, THREADS - 1)
PICK = st.integers(0, 2**16)
# Where a collector may be held while the program goes on: outside of every pause.
# The first, where nothing is traced yet, shows most of what is wrong with marking.
HOLDS = ["mark.concurrent", "mark.concurrent", "mark.concurrent", "mark.traced", "weak.before",
         "weak.cleared", "weak.resurrected", "weak.done", "plan.done", "register.done",
         "flip.after", "compactor.placed", "relocate.done", "unregister.done", "cycle.end"]
# How often the program may allocate meanwhile, and up to which size: what is black has a limit,
# at which it would wait, and large objects one of their own.
SPARE = 10
SMALL = 2000
ALLOCATING = [name for name in OPERATIONS if name.startswith("new_")]
REPORTS = ["census", "walk", "referrers", "retained", "why_alive", "snapshot"]


class Worker:
    """A thread that is a mutator of both heaps."""

    def __init__(self, sides: list[Side], name: str) -> None:
        self.sides = sides
        self.thread = MutatorThread(sides[0].heap, name)
        self.mutators = [self.thread.call(lambda m: m)]
        self.mutators += [self.thread.call(lambda m, s=s: s.heap.attach(name)) for s in sides[1:]]
        for side in sides:
            side.mutators += 1

    def call(self, function: Any) -> Any:
        return self.thread.start(lambda _: function()).result(3 * PATIENCE)

    def end(self) -> None:
        for side in self.sides[1:]:
            self.call(self.mutators[self.sides.index(side)].detach)
        self.thread.__exit__()
        for side in self.sides:
            side.mutators -= 1


class Here:
    """The main thread, in the form of a Worker."""

    def __init__(self, sides: list[Side]) -> None:
        self.mutators = [side.heap.attach("main") for side in sides]

    def call(self, function: Any) -> Any:
        return function()


class DifferentialMachine(RuleBasedStateMachine):
    """Subclasses set `configurations`, a strategy of lists of options, one for each heap."""

    configurations: Any
    fork = True

    @initialize(data=st.data())
    def start(self, data: Any) -> None:
        self.started = False
        options = data.draw(self.configurations, label="heaps")
        self.sides = [Side(given) for given in options]
        self.together = Together(self.sides)
        self.crew = [Here(self.sides)]
        self.crew += [Worker(self.sides, f"worker {i}") for i in range(1, THREADS)]
        self.held: failpoints.Failpoint | None = None
        # An allocation must not wait for a collector that is held.
        self.may_hold = all(
            o.get("backend") != "stw" and not o.get("collect_every")
            and o["capacity"] not in ("min", "512KiB") for o in options)
        self.folder = tempfile.TemporaryDirectory()
        self.started = True

    def teardown(self) -> None:
        if not getattr(self, "started", False):
            return
        try:
            self.let_go()
            self.settle(0)
            self.everything(0, random.Random(0))
        finally:
            with suppress(Exception):
                self.let_go()
            for worker in self.crew[1:]:
                worker.end()
            self.folder.cleanup()
            for side in self.sides:
                side.close()
            # A machine is garbage in a cycle; what it has of the models is large, and every fork
            # would copy its page tables.
            del self.sides, self.crew, self.together

    # ---- steps ---------------------------------------------------------------------------

    def do(self, name: str, thread: int, arguments: dict[str, Any]) -> None:
        if self.held is not None and name in ALLOCATING:
            self.spare -= 1
            if not self.spare or max(arguments.get("size", 0),
                                     8 * arguments.get("length", 0)) > SMALL:
                self.let_go()
        worker = self.crew[thread]
        self.together.do(worker.mutators, name, arguments, worker.call)

    # ---- settling and checkpoints --------------------------------------------------------

    def settle(self, thread: int) -> None:
        """A full collection of both heaps, after which nothing is uncertain."""
        self.let_go()
        self.together.settle(self.crew[thread].call)
        for side in self.sides:
            if side.kept_all:
                checks.live_bytes(side)

    def everything(self, thread: int, rng: random.Random) -> None:
        call = self.crew[thread].call
        for side in self.sides:
            call(lambda s=side: s.compare(whole=True))
            call(lambda s=side: checks.counters(s))
            for name in REPORTS:
                call(lambda s=side, n=name: self.report_on(s, n, rng.randrange(2**16)))
        first, *others = (side.model.reachable() for side in self.sides)
        for other in others:
            if not any(side.model.registrations for side in self.sides):
                assert {t.uid for t in first} == {t.uid for t in other}

    def report_on(self, side: Side, name: str, pick: int) -> None:
        if name == "snapshot":
            checks.snapshot(side, Path(self.folder.name))
        elif name in ("census", "walk"):
            getattr(checks, name)(side)
        else:
            getattr(checks, name)(side, pick)

    def at_random(self, rng: random.Random) -> None:
        """One operation, or one rule."""
        thread = rng.randrange(THREADS)
        if rng.random() < 0.9:
            name, arguments = at_random(rng, list(OPERATIONS))
            self.do(name, thread, arguments)
        else:
            name = rng.choice(["compare", "let_go", "hold_a_collector", "hold_a_collector",
                               "collect", "report"])
            arguments = {"hold_a_collector": {"point": rng.choice(HOLDS)},
                         "report": {"thread": thread, "name": rng.choice(REPORTS),
                                    "pick": rng.randrange(2**16)},
                         "let_go": {}}.get(name, {"thread": thread})
            getattr(self, name)(**arguments)
        self.check_step()

    # ---- rules that concern the whole heap -----------------------------------------------

    @rule(thread=THREAD)
    def collect(self, thread: int) -> None:
        self.settle(thread)
        for side in self.sides:
            self.crew[thread].call(side.compare)

    @rule(thread=THREAD, seed=PICK)
    def checkpoint(self, thread: int, seed: int) -> None:
        self.settle(thread)
        self.everything(thread, random.Random(seed))

    def many_operations(self, seed: int, count: int) -> None:
        rng = random.Random(seed)
        for _ in range(count):
            self.at_random(rng)

    @rule(thread=THREAD)
    def compare(self, thread: int) -> None:
        """In the middle of whatever the collectors do."""
        for side in self.sides:
            self.crew[thread].call(side.compare)

    @rule(thread=THREAD, name=st.sampled_from(REPORTS), pick=PICK)
    def report(self, thread: int, name: str, pick: int) -> None:
        for side in self.sides:
            self.crew[thread].call(lambda s=side: self.report_on(s, name, pick))

    @rule(thread=THREAD)
    def freeze(self, thread: int) -> None:
        self.settle(thread)
        for side in self.sides:
            self.crew[thread].call(side.heap.freeze)
            side.model.frozen |= side.model.reachable()

    @rule(point=st.sampled_from(HOLDS))
    def hold_a_collector(self, point: str) -> None:
        """What follows happens beside a collector that stands there, until some rule lets it go."""
        if self.held is None and self.may_hold and self.room():
            self.held = failpoints.pause(point)
            self.held.__enter__()
            self.spare = SPARE
            for side in self.sides:
                side.heap.collect(wait=False)
            with suppress(TimeoutError):        # nothing to place or to relocate
                self.held.wait(0.1)

    def room(self) -> bool:
        return all(s.heap.stats().used_bytes < s.heap.capacity // 2 for s in self.sides)

    @rule()
    def let_go(self) -> None:
        held, self.held = self.held, None
        if held is not None:
            held.__exit__(None, None, None)

    @rule(thread=st.integers(1, THREADS - 1))
    def renew_thread(self, thread: int) -> None:
        """A thread ends, another one begins."""
        self.crew[thread].end()
        self.crew[thread] = Worker(self.sides, f"worker {thread}")

    @rule(thread=THREAD)
    def fork_a_child(self, thread: int) -> None:
        """The child looks at everything, collects, and looks again; the parent goes on."""
        if not self.fork:
            return
        self.let_go()
        self.crew[thread].call(lambda: Child(self.as_a_child).join(2 * PATIENCE))

    def as_a_child(self) -> None:
        for side in self.sides:
            side.compare()
            checks.census(side)
            side.collect()
            side.settle(set(side.yielded))
            side.compare()
            checks.census(side)

    def check_step(self) -> None:
        if self.held is not None and not self.room():
            self.let_go()
        for side in self.sides:
            self.crew[0].call(lambda s=side: checks.counters(s))


def _rule(name: str) -> Any:
    def step(self: DifferentialMachine, thread: int, **arguments: Any) -> None:
        self.do(name, thread, arguments)
        self.check_step()
    step.__name__ = step.__qualname__ = name
    draws = {key: draw.strategy for key, draw in OPERATIONS[name].draws.items()}
    return rule(thread=THREAD, **draws)(step)


for _name in OPERATIONS:
    setattr(DifferentialMachine, _name, _rule(_name))

# Hypothesis picks rules evenly.  Eight of these, so that graphs grow.
for _i in range(8):
    setattr(DifferentialMachine, f"many_operations_{_i}", rule(
        seed=st.integers(0, 2**32), count=st.integers(1, 60))(DifferentialMachine.many_operations))
