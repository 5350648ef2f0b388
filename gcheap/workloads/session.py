"""A session from one worker for each mutator: what `runner.Run` drives.

A worker is native (`gcheap.workloads.worker.Worker`) or plain Python
(`gcheap.workloads.plain.PlainWorker`); a session only tells each what all are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Part:
    """Which worker of how many, and what all are told.  Sizes are bytes."""

    index: int
    mutators: int                               # workers of the run
    live: int                                   # bytes, of all together
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)   # every one of the workload
    busy: int = 1                               # --mutators: the first so many never rest

    @property
    def share(self) -> int:
        """Live bytes of this worker."""
        return self.live // self.mutators


class Session:
    """A workload on one heap: `kind(heap, part)` for each of `mutators` threads, or of `threads`.

    Every thread calls, in this order, with its own index: `populate`, `run`, `audit`, `leave`;
    all have returned from one before any enters the next, and `leave` comes after errors too.
    """

    def __init__(self, kind, heap, *, mutators, live, seed, settings=None, threads=None):
        self._heap = heap
        count = threads or mutators
        self.workers = [kind(heap, Part(index, count, live, seed, settings or {}, mutators))
                        for index in range(count)]
        for worker in self.workers:
            worker.meet(self.workers)

    @property
    def threads(self) -> int:
        """Mutator threads that the run needs."""
        return len(self.workers)

    @property
    def populated(self) -> float:
        """The share of the live data built so far, 0 to 1; from any thread."""
        return sum(worker.populated for worker in self.workers) / len(self.workers)

    def populate(self, mutator, index, recording):
        """Builds the live data of one mutator; worker 0 also what all share."""
        self.workers[index].populate(mutator, recording)

    def run(self, index):
        """Operations until the run is stopped, the heap exhausted, or too much failed."""
        self.workers[index].run()

    def audit(self, index):
        """Checks everything that this mutator worked on; failures go to its recording."""
        self.workers[index].audit(self._heap)

    def damage(self, index, what):
        """Breaks one thing of a mutator's part, for tests of the checks."""
        self.workers[index].damage(what)

    def leave(self, index):
        """Gives back what the mutator holds."""
        self.workers[index].leave()

    def facts(self) -> dict:
        """What the workload adds to the document: sizes, and counts with the warm-up."""
        facts = dict(self.workers[0].sizes())
        for worker in self.workers:
            for name, count in worker.counts().items():
                facts[name] = facts.get(name, 0) + count
        together = getattr(type(self.workers[0]), "together", None)
        return facts if together is None else facts | together(self.workers)
