"""What a Lox program cost, as plain data: `gcheap lox --json`."""
from __future__ import annotations

from gcheap.provenance import stamp
from gcheap.workloads.document import pause_figures


def document(session, file, args, status, seconds):
    """Of a session that still has its heap.

    `seconds` is wall time with everything: making the heap, compiling, running.  Sizes are bytes.
    """
    heap = session.heap
    stats, pauses, cycles = heap.stats(), heap.pauses(), heap.cycles()
    figures = pause_figures(pauses)
    return stamp() | {
        "config": {"file": file, "args": list(args), "capacity": heap.capacity,
                   "policy": str(heap.policy), "verify": heap.verify,
                   "unit_pages": heap.unit_pages, "gc_stress": session.gc_stress},
        "status": status,
        "seconds": seconds,
        "cycles": stats.cycles,
        "relocations": stats.relocations,
        "pauses": figures,
        "longest_pause_us": figures["max_us"],
        "longest_to_safepoint_us": max(pauses["reach_ns"].tolist(), default=0) / 1e3,
        "stalls": {"count": stats.stalls, "total_ms": stats.stall_ns / 1e6,
                   "max_ms": stats.stall_max_ns / 1e6},
        "faults": stats.faults,
        "fault_waits": stats.fault_waits,
        "allocated_bytes": stats.allocated_bytes,
        "peak_live_bytes": max([stats.live_bytes, *cycles["live_bytes"].tolist()]),
        "bytes": {"moved": stats.moved_bytes, "copied": stats.copied_bytes},
        "backend": heap.backend,
        "fault_mode": heap.fault_mode,
        "why": heap.why,
    }
