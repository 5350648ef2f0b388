"""`PlainWorker`: the frame of a workload in plain Python.

The same steps as `worker.Worker`, for whoever writes no Cython: the heap is reached through the
`Mutator` of the calling thread, whose calls raise HeapExhausted when it is full; that ends the
run, and is told as it is of any other workload.
"""

from __future__ import annotations


class PlainWorker:
    """One mutator of a workload.  A subclass writes `start`, `operation`, `check_all`.

    `heap`, `part` (a `gcheap.workloads.session.Part`) and, from `start` on, `mutator` are there
    to be used.  References held in attributes are roots until `leave`, which drops those named
    in `roots`.
    """

    DAMAGES: tuple[str, ...] = ()       # names that `break_one` takes
    roots: tuple[str, ...] = ()         # names of attributes that hold references

    def __init__(self, heap, part):
        self.heap = heap
        self.part = part
        self.mutator = None
        self.populated = 0.0            # 0 to 1, for the display: `start` may keep it
        self._recording = None

    # ---- what a workload writes ----

    def start(self):
        """Builds the live data of this mutator."""

    def operation(self):
        """One operation; what it reads it checks, and tells `fail` what is wrong."""
        raise NotImplementedError

    def check_all(self):
        """The audit: checks everything that this mutator holds."""

    def break_one(self, what):
        """Breaks what `what` of DAMAGES names, for tests of the checks."""

    def counts(self):
        """{name: number} for the document, added up over the mutators."""
        return {}

    def sizes(self):
        """{name: value} for the document, the same for every mutator."""
        return {}

    # ---- what it may use ----

    def fail(self, message: str):
        """A check failed: the run is not verified, and the first message is its reason."""
        self._recording.fail(message)

    # ---- what a session calls, in this order ----

    def meet(self, workers):
        """All workers of the run, in the order of their index; before any thread runs."""

    def populate(self, mutator, recording):
        self.mutator = mutator
        self._recording = recording
        self.start()
        self.populated = 1.0

    def run(self):
        self._recording.begin()
        while True:
            self.operation()
            if not self._recording.operation():
                return

    def audit(self, _heap):
        self.check_all()

    def damage(self, what):
        if what not in self.DAMAGES:
            raise ValueError(f"{what!r} is not in {self.DAMAGES}")
        self.break_one(what)

    def leave(self):
        for name in self.roots:
            setattr(self, name, None)
        self.mutator = None
