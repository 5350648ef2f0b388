"""What `Heap.stats()` returns."""
from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from gcheap.late import np, tables

if TYPE_CHECKING:
    from gcheap.records import Records

# What a notebook shows of HeapStats, in groups; the rest is in its attributes.
SHOWN = {
    "memory": ("used_bytes", "live_bytes", "limit_bytes", "capacity_bytes", "allocated_bytes"),
    "cycles": ("cycles", "relocations", "moved_bytes", "copied_bytes", "recycled_bytes"),
    "waits": ("faults", "fault_waits", "hole_faults", "stalls", "stall_ns", "stall_max_ns",
              "slow_safepoints"),
    "what is held": ("mutators", "handles", "shapes", "weak_refs", "weak_entries", "guarded"),
    "how": ("backend", "fault_mode", "why"),
}


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
    unreported_pages: int       # pages that MOVE moved and did not count, as Linux 6.18 may
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

    def to_array(self) -> Records:
        """A structured array of one row: every counter by its name, ioctls as move_calls,
        move_pages and so on (refusals are in `ioctls` alone)."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, counts in row.pop("ioctls").items():
            row |= {f"{name}_{key}": value for key, value in asdict(counts).items()
                    if key != "refused"}
        dtype = [(name, "i8" if isinstance(value, int) else f"U{max(1, len(value))}")
                 for name, value in row.items()]
        return tables.records(np.array([tuple(row.values())], dtype=dtype))

    def _repr_html_(self) -> str:
        return tables.pairs({heading: {
            name.removesuffix("_ns").removesuffix("_bytes").replace("_", " "):
                tables.in_units(name, getattr(self, name)) for name in names}
            for heading, names in SHOWN.items()})
