"""Driving workloads by events and counts: no test waits for a duration."""
from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from support import PATIENCE, wait_until

import gcheap
from gcheap.stress import StressConfig
from gcheap.workloads import find
from gcheap.workloads._record import Recording, RunControl
from gcheap.workloads.runner import Run

TINY = {"big-arrays": 2 << 20}          # live bytes of two mutators; of the others:
LIVE = 512 << 10
ENOUGH = 50                             # operations


def configured(name: str, **options) -> StressConfig:
    return StressConfig(**({"workload": name, "live": TINY.get(name, LIVE), "mutators": 2,
                            "seconds": 1, "warm_up": 0, "noise_seconds": 0} | options))


def session_of(heap, config: StressConfig):
    return find(config.workload).session(heap, config)


class Outcome:
    """What a run left: recordings, its audit, cycles, facts."""

    def __init__(self, run, heap, session) -> None:
        self.error = run.error
        self.audited = run.audited
        self.ops = [recording.total_ops for recording in run.recordings]
        self.failures = [recording.first_failure() for recording in run.recordings
                         if recording.failures]
        self.cycles = heap.stats().cycles
        self.facts = session.facts()


def exercise(config: StressConfig, *, ops: int = ENOUGH, cycles: int = 2, **heap_options):
    """A run until every mutator has done `ops` operations and `cycles` cycles have ended."""
    control = RunControl()
    with gcheap.Heap(config.capacity, policy="fixed", stall_warning_ms=0, verify=config.verify,
                     **heap_options) as heap:
        session = session_of(heap, config)
        run = Run(heap, session, config.workload, session.threads, control)
        run.start()
        try:
            run.wait_populated(lambda: None)
            run.measure()
            for _ in range(cycles):
                if not run.stopped:
                    heap.collect()
            wait_until(lambda: run.stopped or all(
                recording.total_ops >= ops for recording in run.recordings), f"{ops} operations")
        finally:
            run.finish()
        return Outcome(run, heap, session)


class Driven:
    """A session of one mutator, on a heap and a thread of its own."""

    def __init__(self, name: str, **options) -> None:
        self.config = configured(name, mutators=1, **({"live": max(TINY.get(name, 0) // 2, LIVE)}
                                                      | options))
        self.heap = gcheap.Heap(self.config.capacity, policy="fixed", stall_warning_ms=0)
        self.session = session_of(self.heap, self.config)
        self.control = RunControl()
        self._pool = [ThreadPoolExecutor(max_workers=1) for _ in range(self.session.threads)]
        self.recordings = [Recording(self.control) for _ in self._pool]
        self._mutators = self.each(lambda index: self.heap.attach(f"driven-{index}"))
        self.each(self._populate)
        self.control.measure()

    def _populate(self, index):
        self.recordings[index].bind(self._mutators[index])
        self.session.populate(self._mutators[index], index, self.recordings[index])
        assert not self.recordings[index].exhausted

    def each(self, function) -> list:
        """`function(index)` on every mutator's thread, all at once."""
        futures = [pool.submit(function, index) for index, pool in enumerate(self._pool)]
        return [future.result(PATIENCE) for future in futures]

    def run(self, ops: int = ENOUGH) -> None:
        """Runs until so many operations are done, or too many checks have failed."""
        before = self.recordings[0].total_ops
        control = RunControl()
        for recording in self.recordings:
            recording.follow(control)
        control.measure()
        done = threading.Event()
        over = threading.Thread(target=self._stop_at, args=(before + ops, control, done))
        over.start()
        self.each(self.session.run)
        done.set()
        over.join()

    def _stop_at(self, ops, control, done):
        while self.recordings[0].total_ops < ops and not done.wait(0.0005):
            pass
        control.stop()

    def audit(self) -> int:
        """Failures so far, those of an audit included."""
        self.each(self.session.audit)
        return sum(recording.failures for recording in self.recordings)

    def damage(self, what: str, index: int = 0) -> None:
        self._pool[index].submit(self.session.damage, index, what).result(PATIENCE)

    @property
    def failure(self) -> str | None:
        return next((recording.first_failure() for recording in self.recordings
                     if recording.failures), None)

    def leave(self) -> None:
        self.each(self.session.leave)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.control.stop()
        self.leave()
        self.each(lambda index: self._mutators[index].detach())
        for pool in self._pool:
            pool.shutdown()
        self.heap.close()
