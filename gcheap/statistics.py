"""What `Heap.stats()` returns."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IoctlStats:
    """Calls of one ioctl, pages it placed, and refusals by errno name (short calls: EAGAIN)."""

    calls: int
    pages: int
    refused: dict[str, int]


@dataclass(frozen=True)
class HeapStats:
    """Counters of a heap since it was made.  Sizes in bytes, times in nanoseconds."""

    capacity_bytes: int
    used_bytes: int             # as capacity counts them: live at the last cycle, and since then
    live_bytes: int             # found live by the last cycle
    wasted_bytes: int           # garbage that the last relocation carried along in dense runs
    pinned_bytes: int           # of pinned arrays, in whole pages
    limit_bytes: int            # soft heap size, set by the policy; only capacity stalls mutators
    limit_peak_bytes: int       # the greatest it was
    goal_bytes: int             # the next cycle starts when `used` passes it
    allocated_bytes: int        # ever allocated
    cycles: int
    relocations: int            # cycles that slid objects
    moved_bytes: int            # placed by UFFDIO_MOVE
    copied_bytes: int           # placed by UFFDIO_COPY
    zeroed_bytes: int           # holes zeroed on demand
    recycled_bytes: int         # evacuated pages used again as buffers
    released_bytes: int         # evacuated pages given back during relocation
    faults: int                 # of mutators on pages that had not arrived; handler: of any thread
    fault_pages: int            # pages those faults placed
    fault_waits: int            # faults on a unit that somebody else was building
    hole_faults: int            # ... which were zeroed: nobody had ever touched them
    foreign_faults: int         # of threads that are not mutators; handler: counted in `faults`
    stalls: int
    stall_ns: int
    stall_max_ns: int
    ioctls: dict[str, IoctlStats]
    register_refusals: int      # cycles that relocated in a pause: to-space was not registrable
    stray_pages: int            # pages found in an unplaced unit and dropped
    handler_reinstalls: int     # times somebody had replaced our SIGBUS handler
    sigbus_unblocks: int        # times a mutator had blocked SIGBUS after attach()
    slow_safepoints: int        # stops that waited longer than safepoint_warning_ms
    marker_threads: int         # that mark beside the collector; started when first needed
    marker_bytes: int           # marked by them, ever
    batch_flushes: int          # batches cut short for a waiting mutator
    floating_bytes: int         # verify=4: marked by the last cycle, unreachable at its Mark End
    handles: int                # live Refs
    mutators: int
    shapes: int
    weak_refs: int              # WeakRefs in use, and objects watched by finalizers
    weak_entries: int           # entries of weak-key tables and of native intern tables
    guarded: int                # registrations whose objects no cycle found unreachable
    cleared: int                # weak references and entries that cycles cleared, ever
    resurrected: int            # registrations that cycles found due, ever
    finalized: int              # callbacks of finalizers that were run, ever
    backend: str
    fault_mode: str
    why: str
