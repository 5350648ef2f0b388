"""The failpoints: where each stands, which actions it takes, what an errno there leads to.

The names are those of the enum in core/failpoint.pxd, in its order; `python -m
gcheap.failpoint_table` prints the table of docs/reference/failpoints.md.
"""
from __future__ import annotations

from dataclasses import dataclass

_PLACED = ("EAGAIN: asked again. ENOMEM: backs off, asks again, and stalled allocations fail after "
           "0.5 s. EEXIST: {}a stray page is dropped, and asked again; twice at one page: abort. ")
_MOVE = _PLACED.format("a page whose source is empty has arrived; ") + (
    "EBUSY, EINVAL: COPY to the end of that unit. Others: abort")
_COPY = _PLACED.format("") + "Others: abort"
_AT_ONCE = "any: does not sleep, looks again"
_LOCKED = "any: unlocked and tried again; twice: zeroed by hand"


@dataclass(frozen=True)
class Point:
    """One failpoint.

    errno   what an injected errno leads to; "": it takes none
    short   whether it takes `short`: the kernel is asked for fewer pages
    gil     whether Python threads pass it, or wait for who stands there, with the GIL held, so that
            a `pause` there stops the interpreter unless only native threads are concerned
    """

    name: str
    where: str
    errno: str = ""
    short: bool = False
    gil: bool = False

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of the actions that it takes."""
        return ("pause", "delay", *(["errno"] if self.errno else []),
                *(["short"] if self.short else []))


def _gil(name: str, where: str, errno: str = "") -> Point:
    return Point(name, where, errno, gil=True)


def _placing(name: str, where: str, gil: bool = False) -> Point:
    return Point(name, f"UFFDIO_{where}", _MOVE if name.endswith(".move") else _COPY, True, gil)


POINTS: tuple[Point, ...] = (
    # the cycle
    _gil("cycle.requested", "whoever asks for a cycle: its ticket is drawn, the collector not yet "
         "woken"),
    Point("cycle.busy", "the collector says that it is busy, before it looks whether a fork bars "
          "cycles"),
    Point("cycle.begin", "a cycle has its number; before last cycle's marks are cleared"),
    Point("mark.before", "Pause Mark Start, before anything is done"),
    Point("mark.concurrent", "Concurrent Mark begins (not `stw`)"),
    _gil("marker.claim", "marking by several threads: an object was found unmarked, its mark is "
         "not yet won"),
    Point("marker.give", "... a thread is about to give entries to another"),
    Point("marker.taken", "... has taken entries, and traced none"),
    Point("marker.idle", "... has no entries left, and nobody knows"),
    Point("marker.sleep", "... is about to sleep until there are some", _AT_ONCE),
    Point("marker.stop", "... has seen that a fork waits; no other knows"),
    Point("marker.done", "... the collector has found that nobody has entries"),
    Point("mark.traced", "everything known is traced; before Pause Mark End (not `stw`)"),
    Point("mark.end", "Pause Mark End: the logs are handed over, not yet marked"),
    Point("weak.before", "marking is complete, weak reads of unmarked objects give null; nothing "
          "is cleared"),
    Point("weak.cleared", "weak references and tables are cleared, nothing is resurrected"),
    Point("weak.resurrected", "what guardians hold is marked, not yet handed out"),
    Point("weak.done", "weak reads are as ever"),
    Point("plan.begin", "before the pinned space is swept and the slide planned"),
    Point("sweep.gap", "between two stretches of the sweep of pinned arrays"),
    Point("plan.done", "the plan is complete, nothing is registered"),
    Point("cycle.stay", "this cycle will not relocate, and is about to say so"),
    Point("register.more", "before REGISTER of the ranges of large objects",
          "any: as if REGISTER answered it"),
    Point("register.refused", "REGISTER was refused, what is registered is so still"),
    Point("register.done", "to-space is registered and empty; before Pause Relocate Start"),
    Point("flip.ahead", "handles are forwarded, not yet rewritten; before Pause Relocate Start"),
    Point("flip.before", "Pause Relocate Start (`stw`: the one pause), before roots are rewritten"),
    Point("flip.after", "the flip is done; before the compactor looks at the first unit"),
    Point("relocate.done", "every unit is PLACED, to-space is still registered"),
    Point("unregister.before", "phase Finish, to-space is still registered (not `stw`)"),
    Point("unregister.done", "to-space is ordinary memory, the old half not yet emptied"),
    Point("cycle.emptied", "the old half is empty, the phase not yet Idle"),
    Point("cycle.end", "the cycle is over; nobody who waits for it knows"),
    _gil("cycle.abandoned", "a cycle was given up for a fork, before its flip"),
    Point("collector.sleep", "the collector is about to sleep until a cycle is asked for",
          _AT_ONCE),
    Point("collector.end", "the collector thread is about to end"),
    # units and chunks
    Point("compactor.claimed", "a unit or grain: UNCLAIMED to ASSEMBLING is done"),
    Point("compactor.assembled", "a batch: each of its units is ASSEMBLED"),
    Point("compactor.placing", "a batch: PLACING, before the ioctl"),
    Point("compactor.arrived", "a batch: its pages are there, still PLACING"),
    Point("compactor.placed", "a batch: PLACED, waiters woken, sources free"),
    _gil("mutator.fault", "a page is missing: its address was found valid, nothing is done"),
    _gil("mutator.claimed", "the faulting thread has won the unit: ASSEMBLING"),
    _gil("mutator.assembled", "... ASSEMBLED"),
    _gil("mutator.placing", "... PLACING, before the ioctl"),
    _gil("mutator.arrived", "... its pages are there, still PLACING"),
    _gil("mutator.placed", "... PLACED, waiters woken, sources free"),
    _gil("mutator.wait", "the unit is somebody else's: about to wait for it"),
    _gil("unit.sleep", "a waiter has announced itself and is about to sleep", _AT_ONCE),
    _gil("unit.published", "PLACED is stored, waiters not yet looked for, sources not yet free"),
    _gil("recycle.push", "a from-space chunk has lost its last reader, and is not yet FREE"),
    _gil("recycle.pop", "a FREE chunk was taken for a buffer (`move`)"),
    Point("handler.poll", "fault mode `handler`: the fault server is about to read"),
    Point("handler.read", "... has read messages, and served none of them"),
    Point("handler.served", "... has served a message, and not yet woken its thread"),
    # mutators and pauses
    Point("mutator.attach", "a mutator is made, and not yet on the heap's list"),
    Point("mutator.detach", "a mutator is about to leave that list"),
    Point("mutator.detached", "it has left, and its memory is not yet freed"),
    _gil("mutator.enter", "RUNNING is stored, the wish for a pause not yet looked at"),
    _gil("mutator.leave", "OUTSIDE (or PARKED, in a stall) is stored, the wish for a pause not yet "
         "looked at"),
    _gil("mutator.park", "PARKED is stored at a safepoint, the collector not yet told"),
    _gil("mutator.sleep", "a parked mutator is about to sleep until the pause ends", _AT_ONCE),
    _gil("mutator.resumed", "the pause is over; still PARKED"),
    _gil("mutator.running", "only in a hook for tests: RUNNING, without a poll"),
    Point("safepoint.asked", "a pause is wished for; no mutator has been looked at"),
    Point("safepoint.sleep", "a mutator still runs: about to sleep until one stops", _AT_ONCE),
    Point("safepoint.reached", "no mutator runs"),
    Point("safepoint.released", "the pause is over; nobody has been woken"),
    Point("inspect.stopped", "introspection: the world has stopped"),
    # allocation, logs, handles
    _gil("tlab.refill", "a mutator needs a TLAB, and has taken nothing yet"),
    _gil("tlab.taken", "the units of a TLAB are taken, and not yet populated"),
    _gil("large.claimed", "grains for a large object are taken; its entry is not written"),
    _gil("pinned.claimed", "a pinned array is charged; its place is not yet looked for"),
    _gil("stall.wait", "an allocation that found no room has asked for a cycle"),
    _gil("stall.sleep", "... and is about to sleep until there is progress", _AT_ONCE),
    _gil("log.push", "a buffer of the write barrier's log is about to be handed over"),
    _gil("log.take", "the marker is about to take the buffers that were handed over"),
    _gil("handle.drop", "a Ref is dropped: its handle is about to be pushed on the free chain"),
    _gil("weak.read", "a weak cell is read; what it says is not yet checked"),
    # fork and the end
    _gil("fork.prepare", "before fork(): the list of heaps is locked"),
    _gil("fork.held", "... no cycle will start any more"),
    _gil("fork.stopped", "... everything stands still and is locked"),
    _gil("fork.parent", "after fork(), in the parent, before anything is released"),
    _gil("fork.child", "after fork(), in the child: descriptors are closed, nothing is released"),
    _gil("fork.start", "in a child: about to open its own descriptor and start its threads"),
    Point("close.begin", "close(), or the last reference: the collector is about to be stopped"),
    Point("close.ended", "... its threads have ended, nothing is unmapped"),
    # ioctls that place pages
    _placing("place.move", "MOVE, whoever makes it", gil=True),
    _placing("place.copy", "COPY, whoever makes it", gil=True),
    _gil("place.zeropage", "UFFDIO_ZEROPAGE, for a hole in a PLACED unit",
         "EAGAIN: asked again. ENOMEM: as place.move. EEXIST: the access is run again. ENOENT, "
         "EINVAL: after the end of the relocation the access is run again, before it: abort. "
         "Others: abort"),
    _gil("place.unreported", "MOVE has moved pages: what it is taken to answer, without a count",
         "EAGAIN: asked again, which is EEXIST. EEXIST: a page whose source is empty has arrived"),
    _placing("compactor.move", "MOVE by the compactor, of a batch of small objects"),
    _placing("mutator.move", "MOVE for a fault (mode `handler`: by the fault server)", gil=True),
    _placing("large.move", "MOVE of grains of large objects, whoever makes it", gil=True),
    _placing("compactor.copy", "COPY by the compactor, of a batch of small objects"),
    _placing("mutator.copy", "COPY for a fault (mode `handler`: by the fault server)", gil=True),
    _placing("large.copy", "COPY of grains of large objects, whoever makes it", gil=True),
    # other calls of the kernel
    _gil("uffd.open", "a probe, a new heap or a forked child opens a descriptor",
         "any: `auto` takes the next backend of the ladder, a child `stw`; where one has just been "
         "probed: GcheapError"),
    _gil("uffd.api", "... and makes the handshake", "as uffd.open"),
    Point("uffd.register", "REGISTER of one planned range",
          "any: what is registered is unregistered, this cycle relocates inside its pause"),
    Point("uffd.unregister", "UNREGISTER of one range",
          "ENOMEM: backs off and asks again. Others: abort"),
    Point("uffd.wake", "mode `handler`: WAKE", "any: abort"),
    Point("uffd.poll", "mode `handler`: poll of the descriptor",
          "EINTR: polls again. Others: abort"),
    Point("uffd.read", "mode `handler`: read of the descriptor",
          "EAGAIN, EINTR: polls, reads again. Others: abort"),
    _gil("thread.collector", "pthread_create of the collector thread",
         "any: GcheapError; in a forked child from whoever waits for a cycle"),
    Point("thread.marker", "pthread_create of a thread that marks",
          "any: fewer threads mark; tried again in the next cycle"),
    _gil("thread.server", "mode `handler`: pthread_create of the fault server", "any: GcheapError"),
    _gil("thread.bell", "mode `handler`: eventfd of the fault server", "any: GcheapError"),
    _gil("memory.map", "mmap for a new heap (its address space, each half, its tables), a new "
         "mutator (shadow stack, bounce buffer) or a thread that marks (its stack)",
         "any: OptionError, MemoryError on attaching; fewer threads mark"),
    _gil("memory.inspect", "mmap or mremap for introspection or freezing", "any: MemoryError"),
    _gil("memory.fork", "madvise(MADV_DONTFORK) of a heap with fork=\"none\"", "any: OptionError"),
    Point("memory.empty", "madvise(MADV_DONTNEED) of a whole half",
          _LOCKED + "; to-space that is registered already: this cycle relocates inside its pause"),
    _gil("memory.stray", "madvise(MADV_DONTNEED) of a stray page", "any: abort"),
    Point("memory.pagemap", "open of /proc/self/pagemap, before huge grains are moved",
          "any: empty grains are moved like others"),
    Point("memory.release", "madvise(MADV_DONTNEED) of evacuated memory (`copy`, `stw`)",
          "any: it goes at the end of the cycle"),
    _gil("memory.populate", "madvise(MADV_POPULATE_WRITE) of a new TLAB",
         "any: its pages come by page faults"),
    _gil("memory.pinned", "madvise(MADV_DONTNEED) of a dead pinned array", _LOCKED),
    Point("memory.tables", "madvise(MADV_DONTNEED) of side tables between cycles",
          "any: they keep their pages"),
    Point("verify.close", "mprotect: the old half becomes inaccessible (`verify` 3)",
          "any: it stays accessible"),
    Point("verify.open", "mprotect: it becomes accessible again", "any: abort"),
)
BY_NAME = {point.name: point for point in POINTS}


def markdown() -> str:
    """The table as it stands in the documentation; † marks `gil`."""
    lines = ["| point | where | actions | an errno there leads to |", "|---|---|---|---|"]
    for point in POINTS:
        name = f"`{point.name}`" + (" †" if point.gil else "")
        lines.append(f"| {name} | {point.where} | {', '.join(point.actions)} | {point.errno} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
