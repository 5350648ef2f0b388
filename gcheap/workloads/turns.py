"""A heap whose mutators run in turns: `churn`, and one forced cycle in each turn.

Several of these stand side by side, alive at once, and only the one whose turn it is runs:

    supervisor     populate()  ......  turn() ...............................  close()
                      |                  | warm-up | heap.collect() | stop        |
    its mutators   populate, OUTSIDE     operations ................| OUTSIDE    leave
    other heaps    OUTSIDE .........................................................

Between turns the mutators wait outside the heap for what comes next, in Python; so nothing is
allocated, no cycle starts by itself, and the CPUs belong to the heap that is being measured.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import gcheap
from gcheap.clock import clock_ns
from gcheap.errors import GcheapError, HeapExhausted
from gcheap.options import format_size
from gcheap.workloads._churn import Churn
from gcheap.workloads._record import Recording, RunControl
from gcheap.workloads.session import Session

WARM_UP_SECONDS = 0.03          # of operations in each turn before its cycle is asked for


@dataclass(frozen=True)
class Turn:
    """One turn: `clock_ns` of its begin and end, and the number of its forced cycle."""

    start_ns: int
    end_ns: int
    cycle: int


class TurnTaker:
    """`churn` with `live` bytes on a heap of its own, of twice the capacity.

    All methods belong to one supervising thread.  `handles` roots are held beside the mutators'
    shadow stacks, whatever the size.  HeapExhausted when the live data does not fit; whatever
    else a mutator thread raises is raised here.
    """

    def __init__(self, live, *, mutators, handles, seed, **options):
        self.live = live
        self._handles = handles
        self._control = RunControl()
        self.heap = gcheap.Heap(2 * live, policy="fixed", stall_warning_ms=0,
                                pause_warning_ms=0, **options)
        self._session = Session(Churn, self.heap, mutators=mutators, live=live, seed=seed)
        self._recordings = [Recording(self._control) for _ in range(mutators)]
        self._orders = [queue.SimpleQueue() for _ in range(mutators)]
        self._answers = queue.SimpleQueue()
        self._owed = 0                  # answers that mutators have not given yet
        self._threads = [
            threading.Thread(target=self._mutate, args=(index,), daemon=True,
                             name=f"churn-{format_size(live)}-{index}")
            for index in range(mutators)
        ]

    # ---- the supervising thread ----

    def populate(self):
        """Starts the mutators; they build the live data and stand still."""
        for thread in self._threads:
            thread.start()
        # Mutator 0 builds it for all, so the others come after it.
        for index in range(len(self._threads)):
            self._order(self._populate, [index])
            self._wait()
        if not self._control.stopped:
            self._order(self._hold, [0])
            self._wait()

    def turn(self, idle=False):
        """Lets the mutators run, forces one cycle under them, and stops them: a Turn.

        With `idle` they run before the cycle only, and stand still while it goes on.
        """
        self._control = RunControl()
        for recording in self._recordings:
            recording.follow(self._control)
        start = clock_ns()
        self._order(self._run)
        time.sleep(WARM_UP_SECONDS)
        if idle:
            self._control.stop()
            self._wait()
        self.heap.collect()
        cycle = int(self.heap.cycles()["cycle"][-1])
        self._control.stop()
        self._wait()
        return Turn(start, clock_ns(), cycle)

    def audit(self):
        """Whether everything that the turns left behind is as it should be."""
        self._order(self._audit)
        self._wait()
        return not any(recording.failures for recording in self._recordings)

    def close(self):
        """Ends whatever is under way, the threads and the heap."""
        self._control.stop()
        while self._owed:               # what it raised, if it did, was raised before or is moot
            with suppress(GcheapError, MemoryError):
                self._wait()
        for orders in self._orders:
            orders.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self.heap.close()

    def _order(self, step, indices=None):
        chosen = range(len(self._threads)) if indices is None else indices
        self._owed += len(chosen)
        for index in chosen:
            self._orders[index].put(step)

    def _wait(self):
        """Until every order is carried out; raises the first error."""
        first = None
        while self._owed:
            error = self._answers.get()
            self._owed -= 1
            first = first or error
        if first is not None:
            raise first

    # ---- the mutator threads ----

    def _mutate(self, index):
        mutator = None
        while (step := self._orders[index].get()) is not None:
            error = None
            try:
                mutator = mutator or self.heap.attach(threading.current_thread().name)
                step(mutator, index)
            except BaseException as caught:     # raised in the supervising thread
                error = caught
            self._answers.put(error)
        if mutator is not None:
            self._session.leave(index)
            mutator.detach()

    def _populate(self, mutator, index):
        self._recordings[index].bind(mutator)
        self._session.populate(mutator, index, self._recordings[index])
        self._check_room(index)

    def _hold(self, _mutator, index):
        self._session.workers[index].hold(self._handles)

    def _run(self, _mutator, index):
        self._session.run(index)
        self._check_room(index)

    def _audit(self, _mutator, index):
        self._session.audit(index)

    def _check_room(self, index):
        if self._recordings[index].exhausted:
            raise HeapExhausted(
                f"churn with {format_size(self.live)} live exhausted a heap of "
                f"{format_size(self.heap.capacity)}; use fewer mutators or less live data")
