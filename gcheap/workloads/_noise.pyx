"""The machine's noise floor: a control loop that only reads the clock.

Whatever interrupts it (the host, interrupts, other processes) interrupts mutators too, and
no collector can be blamed for it.  Its figures are printed beside the pauses.
"""
from libc.stdint cimport uint64_t

from gcheap.core.events cimport hist_record
from gcheap.core.native cimport clock_ns
from gcheap.workloads._record cimport (
    GAP_NS, Recorder, Recording, RunControl, record_gap, stop_wanted)


cdef void read_clock(Recorder* r, uint64_t for_ns) noexcept nogil:
    cdef uint64_t now = clock_ns(), duration
    r.begin_ns = r.last_ns = now
    while now - r.begin_ns < for_ns and not stop_wanted(r):
        now = clock_ns()
        duration = now - r.last_ns
        r.last_ns = now
        hist_record(&r.latency, duration)
        if duration > GAP_NS:
            record_gap(r, duration)
        r.ops += 1


def measure_noise(double seconds, RunControl control=None):
    """Reads the clock back to back for `seconds`, without the GIL; returns a Recording.

    Its histogram holds the time from each reading to the next, its gaps those over 20 us.
    `control.stop()` on another thread ends it early.
    """
    cdef Recording recording = Recording(RunControl() if control is None else control)
    cdef uint64_t for_ns = <uint64_t>(seconds * 1e9)
    with nogil:
        read_clock(recording.r, for_ns)
    return recording
