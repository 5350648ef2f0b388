"""One run of a peer program: started, timed out, and what it printed taken apart."""
import os
from dataclasses import dataclass, field

from gcheap.percentiles import of_histogram, of_samples
from gcheap.tools.peers.programs import Unavailable
from gcheap.tools.processes import TookTooLong, run_to_end
from gcheap.workloads.mmu import minimum_utilization

MMU_WINDOW_NS = {"1ms": 10**6, "5ms": 5 * 10**6, "10ms": 10**7, "50ms": 5 * 10**7}
CLOCK_STEP = 0.001              # seconds: logs cut the moments that they tell to milliseconds
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999, "max": 1.0}


@dataclass
class Found:
    """What a program printed; times in ns but where stated.

    window      seconds on its own clock, in pairs, between which it was measured, where it tells
                them
    settings    what it found out about how it was set, such as a backend that was probed
    reaches     times to safepoint, one a stop; None: not told
    stalls      (count, longest, in all) of allocations that waited for room; None: not told
    faults      (count, of them those that waited for another thread, p99, longest); None: not told
    """

    version: str = ""
    checksum: int | None = None
    seconds: float = 0.0
    ops: int = 0
    failures: int = 0
    live: int | None = None
    buckets: list = field(default_factory=list)         # (upper edge, count)
    gaps: list = field(default_factory=list)            # (start, length)
    pauses: list = field(default_factory=list)
    reaches: list | None = None
    stalls: tuple | None = None
    faults: tuple | None = None
    collections: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    settings: str = ""
    window: list = field(default_factory=list)
    errors: str = ""                                    # all of standard error
    peak_rss_bytes: int | None = None

    def was_measured(self, at_seconds):
        """Whether a moment on the program's clock lies in the measurement."""
        pairs = list(zip(self.window[::2], self.window[1::2], strict=False))
        return not pairs or any(begun - CLOCK_STEP <= at_seconds <= ended
                                for begun, ended in pairs)


PAIRS = {"bucket": "buckets", "gap": "gaps"}
LISTS = {"pause": "pauses", "collection": "collections"}
COUNTS = {"checksum": "checksum", "ops": "ops", "live": "live", "failures": "failures",
          "peak_rss": "peak_rss_bytes"}
ROWS = {"stalls": 3, "faults": 4}


def parse(output):
    """The Found of a program's output; ValueError for a line that is none of the format."""
    found = Found()
    for line in output.splitlines():
        key, _, rest = line.partition(" ")
        if key in PAIRS:
            first, second = rest.split()
            getattr(found, PAIRS[key]).append((int(first), int(second)))
        elif key in LISTS:
            getattr(found, LISTS[key]).append(int(rest))
        elif key == "reach":
            found.reaches = [*(found.reaches or ()), int(rest)]
        elif key in ROWS:
            row = tuple(map(int, rest.split()))
            if len(row) != ROWS[key]:
                raise ValueError(line)
            setattr(found, key, row)
        elif key in COUNTS:
            setattr(found, COUNTS[key], int(rest))
        elif key == "seconds":
            found.seconds = float(rest)
        elif key == "version":
            found.version = rest
        elif key == "settings":
            found.settings = rest
        elif key == "note":
            found.notes.append(rest)
        elif key in ("measuring", "measured"):
            found.window.append(float(rest))
        else:
            raise ValueError(line)
    return found


def run(system, mode, sizes, folder, most_seconds):
    """Runs one workload under a system: (Found, its pauses); Unavailable when it fails.

    sizes   live, capacity, count, seconds, seed
    """
    live, capacity = sizes[:2]
    log = folder / "collector.log"
    log.unlink(missing_ok=True)
    environment = {**os.environ, **system.variables(live, capacity)}
    command = [*system.command(live, capacity, log), mode, *map(str, sizes)]
    with open(folder / "out", "w+b") as out, open(folder / "err", "w+b") as err:
        try:
            ended = run_to_end(command, out, err, environment=environment,
                               most_seconds=most_seconds)
        except TookTooLong:
            raise Unavailable(f"took more than {most_seconds:.0f} s") from None
        out.seek(0), err.seek(0)
        output = out.read().decode(errors="replace")
        errors = err.read().decode(errors="replace")
    if ended.status != 0:
        version = next((line.partition(" ")[2] for line in output.splitlines()
                        if line.startswith("version ")), None)
        raise Unavailable(_complaint(output, errors, ended.status), version)
    try:
        found = parse(output)
    except ValueError as error:
        raise Unavailable(f"printed something else than its results: {error}") from None
    found.errors = errors
    if found.peak_rss_bytes is None:
        found.peak_rss_bytes = ended.peak_rss_bytes
    return found, system.pauses(found, log)


def _complaint(output, errors, status):
    """Why a run failed, in a line."""
    for line in (errors + "\n" + output).splitlines():
        if "OutOfMemory" in line or "out of memory" in line.lower():
            return "out of memory"
    for line in output.splitlines():
        if line.startswith("failures ") and line != "failures 0":
            return f"its data was damaged: {line.split()[1]} checks failed"
    last = [line for line in errors.splitlines() if line.strip()][-1:]
    return f"ended with status {status}" + (f": {last[0].strip()[:100]}" if last else "")


def figures(mode, found, pauses):
    """What is kept of one run: plain numbers; None for what it does not tell."""
    row = {"peak_rss_bytes": found.peak_rss_bytes}
    if mode == "full":
        best = [found.live / (ns / 1e9) for ns in found.collections if ns]
        return row | {"compacted_bytes_per_s": of_samples(best, 0.5),
                      "pause_max_us": max(pauses) / 1e3 if pauses else None}
    values, counts = zip(*found.buckets, strict=True)
    run_ns = round(found.seconds * 1e9)
    starts, lengths = zip(*found.gaps, strict=True) if found.gaps else ((), ())
    row |= {"ops_per_s": found.ops / found.seconds}
    row |= {f"{name}_us": of_histogram(values, counts, _longest(found), q) / 1e3
            for name, q in QUANTILES.items()}
    row |= {f"mmu_{name}": minimum_utilization(starts, lengths, 0, run_ns, window)
            for name, window in MMU_WINDOW_NS.items()}
    told = pauses is not None
    return row | {"pauses": len(pauses) if told else None,
                  "pause_p50_us": of_samples(pauses, 0.5) / 1e3 if pauses else None,
                  "pause_max_us": max(pauses) / 1e3 if pauses else None,
                  "pause_total_ms": sum(pauses) / 1e6 if told else None} | _waits(found)


def _waits(found):
    """What a program waited for beside pauses, as far as it is told."""
    reaches = found.reaches
    stalls, stall_max, stall_total = found.stalls or (None,) * 3
    faults, fault_waits, fault_p99, fault_max = found.faults or (None,) * 4
    return {"reach_p99_us": of_samples(reaches, 0.99) / 1e3 if reaches else None,
            "reach_max_us": max(reaches) / 1e3 if reaches else None,
            "stalls": stalls,
            "stall_max_us": stall_max / 1e3 if stalls else None,
            "stall_total_ms": None if stalls is None else stall_total / 1e6,
            "faults": faults, "fault_waits": fault_waits,
            "fault_p99_us": fault_p99 / 1e3 if faults else None,
            "fault_max_us": fault_max / 1e3 if faults else None}


def _longest(found):
    """The longest operation: exact where it is a gap, else its bucket's edge."""
    return max((length for _, length in found.gaps), default=found.buckets[-1][0])
