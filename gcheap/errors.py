"""Every exception that gcheap raises by itself."""
from __future__ import annotations


class GcheapError(Exception):
    """Base of all of them."""


class HeapExhausted(GcheapError, MemoryError):
    """An allocation failed although a finished cycle had freed what could be freed.

    used, live, capacity, asked   bytes when it was raised (live: as the last cycle found them);
                                  None where the heap is not known
    """

    def __init__(self, *args: object, used: int | None = None, live: int | None = None,
                 capacity: int | None = None, asked: int | None = None) -> None:
        super().__init__(*args)
        self.used = used
        self.live = live
        self.capacity = capacity
        self.asked = asked


class HeapClosed(GcheapError, ValueError):
    """The heap was closed, or has fork="none" and belongs to the parent of this process."""


class NotAttached(GcheapError, RuntimeError):
    """The calling thread is not a mutator of this heap, or the `Mutator` is another thread's."""


class ForeignRef(GcheapError, ValueError):
    """A `Ref` or `Shape` of another heap was given."""


class ShapeError(GcheapError, ValueError):
    """A shape was declared in a way that cannot be, or differently than before."""


class OptionError(GcheapError, ValueError):
    """An option, size or environment variable has a value that is not accepted."""


# A traceback calls them what programs do.
for _error in (GcheapError, HeapExhausted, HeapClosed, NotAttached, ForeignRef, ShapeError,
               OptionError):
    _error.__module__ = "gcheap"


class WorkloadError(GcheapError, RuntimeError):
    """The code of a workload that is a plug-in raised something; `__cause__` is that."""
