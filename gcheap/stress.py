"""`gcheap stress` as a function: a workload on a heap, measured and checked.

    document = run_stress(StressConfig(workload="churn", seconds=5, live="256MiB"))

The document is plain data (`json.dumps` takes it); `gcheap.workloads.document` says how each
figure is formed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import gcheap
from gcheap.clock import clock_ns
from gcheap.errors import HeapExhausted, OptionError, WorkloadError
from gcheap.options import BY_NAME, MINIMUM, format_size, label_of, parse_size, resolve
from gcheap.policy import Policy
from gcheap.provenance import stamp
from gcheap.text import shown
from gcheap.workloads import DEFAULT, find
from gcheap.workloads._noise import measure_noise
from gcheap.workloads._record import RunControl
from gcheap.workloads.document import Look, Outcome, build
from gcheap.workloads.interrupt import Interrupt
from gcheap.workloads.memory import check_memory, peak_rss_bytes, reset_peak_rss
from gcheap.workloads.runner import Run
from gcheap.workloads.samples import Samples
from gcheap.workloads.table import BUILT_IN

PROGRESS_SECONDS = 0.1
MOST_MUTATORS = 256
HEAP_OPTIONS = ("backend", "faults", "unit_pages", "verify", "batch_units", "relocate",
                "collect_every", "delay_placements_us", "log", "trace", "policy", "mark_threads")


@dataclass(frozen=True, kw_only=True)
class StressConfig:
    """What to run.  Sizes are bytes or strings such as "64MiB"; OptionError for bad values.

    seconds         measured, from the end of population and warm-up
    live            bytes of live data, headers included
    capacity        of the heap; None is twice `live`, and at least two TLABs for each
                    mutator and what a heap needs
    warm_up         seconds, not counted; None is a tenth of `seconds`, 0.1 to 2
    noise_seconds   of the control loop before the run, 0 for none; None is a twentieth of
                    `seconds`, at most 1
    settings        of the workload, by name (`gcheap stress --list` has them); what is left out
                    has its default

    What is in HEAP_OPTIONS is an option of `gcheap.Heap`, and None has the meaning it has there:
    the environment's GCHEAP_* value, or the default.  Of `policy` the default is "fixed" here: a
    run then has the capacity to itself, and figures of different runs compare.  All are resolved
    when the configuration is made.
    """

    workload: str = DEFAULT
    seconds: float = 20.0
    mutators: int = 1
    live: int | str = 64 << 20
    capacity: int | str | None = None
    backend: str | None = None
    faults: str | None = None
    unit_pages: int | None = None
    verify: int | None = None
    batch_units: int | None = None
    relocate: str | None = None
    collect_every: int | None = None
    delay_placements_us: int | None = None
    log: str | None = None
    trace: str | None = None
    policy: Policy | str | None = None
    mark_threads: int | None = None
    seed: int = 1
    warm_up: float | None = None
    noise_seconds: float | None = None
    settings: Mapping[str, Any] | None = None

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("seconds", _seconds("seconds", self.seconds, least=0.001))
        for name, default in (("warm_up", min(2.0, max(0.1, self.seconds / 10))),
                              ("noise_seconds", min(1.0, self.seconds / 20))):
            value = getattr(self, name)
            put(name, default if value is None else _seconds(name, value, least=0.0))
        _whole("mutators", self.mutators, 1, MOST_MUTATORS)
        _whole("seed", self.seed, 0, (1 << 56) - 1)
        put("live", parse_size(self.live, "live"))
        if self.policy is None and BY_NAME["policy"].env not in os.environ:
            put("policy", "fixed")
        options = resolve({name: getattr(self, name) for name in HEAP_OPTIONS} | {
            "capacity": MINIMUM if self.capacity is None else self.capacity})
        if self.capacity is None:
            # Two mutators share the least heap, which has four TLABs; each more pair has as much.
            options["capacity"] = max(options["capacity"] * ((self.mutators + 1) // 2),
                                      2 * self.live)
        options["policy"] = str(options["policy"])          # plain data, for the document
        for name in ("capacity", *HEAP_OPTIONS):
            put(name, options[name])
        label = label_of("capacity", self.capacity)
        if self.capacity <= self.live:
            raise OptionError(
                f"{label} {format_size(self.capacity)} does not exceed the "
                f"{format_size(self.live)} of live data; leave it out for twice the live data"
            )
        workload = find(self.workload)
        put("settings", workload.resolve({} if self.settings is None else self.settings))
        check_memory(self, workload, label)
        workload.check_config(self)

    def with_capacity(self, capacity: int) -> StressConfig:
        """A copy with a capacity that may be below the live bytes, for those who look for the
        least with which a workload passes."""
        copy = replace(self)
        object.__setattr__(copy, "capacity", capacity)
        return copy


@dataclass(frozen=True)
class Progress:
    """A glance at a run under way, for a live display.  Counts include the warm-up."""

    phase: str  # "population 42 %", "warm-up", "run", "audit"
    elapsed: float  # seconds of the phase "run"
    seconds: float  # what it will last
    ops: int
    cycles: int
    faults: int
    last_pause_ns: int | None  # work of the latest pause
    heap: gcheap.Heap | None = None  # for who wants to see more; during the call only


def run_stress(config: StressConfig,
               progress: Callable[[Progress], None] | None = None) -> dict:
    """Runs a workload and returns the result document.

    `progress` is called about ten times a second from this thread.  Ctrl-C ends the run and
    returns what there is, with "interrupted" true.  HeapExhausted when the live data does
    not fit; OptionError when the heap refuses an option; WorkloadError, from the exception, when
    the code of a plug-in raises one.  Run it from the main thread when
    Ctrl-C shall work; nothing else may use the mutators it creates.
    """
    return _Stress(config, progress).document()


class _Stress:
    """One call of run_stress; all methods run in the supervising thread."""

    def __init__(self, config, progress):
        self._config = config
        self._progress = progress
        self._control = RunControl()
        self._begin = self._end = None      # Looks at the heap: of the measurement
        self._interrupted = False
        self._stamp = stamp(config.seed)    # before anything runs: the load is that of others

    def document(self):
        config = self._config
        reset_peak_rss()
        # Everything under one Interrupt: a second Ctrl-C must not break the orderly end that
        # the first one asked for.
        with Interrupt(self._control.stop) as interrupt:
            noise = (measure_noise(config.noise_seconds, self._control)
                     if config.noise_seconds else None)
            options = {name: getattr(config, name) for name in HEAP_OPTIONS}
            # Stalls and pauses are measured here: no lines between those of the live display.
            with gcheap.Heap(config.capacity, stall_warning_ms=0, pause_warning_ms=0,
                             **options) as heap:
                outcome = self._outcome(heap)
            outcome.noise = noise
            outcome.interrupted = self._interrupted or interrupt.seen
            return build(outcome)

    def _outcome(self, heap):
        config = self._config
        with _blamed(config.workload):
            session = find(config.workload).session(heap, config)
        samples = Samples(heap)
        view = _View(heap, session, config, self._progress)
        run = Run(heap, session, config.workload, session.threads, self._control)
        try:
            self._supervise(heap, run, samples, view)
        except KeyboardInterrupt:       # of a handler of SIGINT that is not Python's own
            self._interrupted = True
        finally:
            if self._begin is not None:
                self._end = Look.at(heap, clock_ns())
                if heap.stats().cycles == 0 and not self._control.stopped:
                    heap.collect()
            live_bytes = heap.stats().live_bytes        # while the data lives
            run.finish()
        with _blamed(config.workload):
            if run.error is not None:
                raise run.error
            facts = session.facts()
        begin_ns = self._begin.at_ns if self._begin is not None else 0
        return Outcome(
            config=asdict(config), stamp=self._stamp, begin=self._begin,
            end=self._end or Look.at(heap, clock_ns()), pauses=heap.pauses(),
            cycles=heap.cycles(), recordings=run.recordings, audited=run.audited,
            peak_rss_bytes=peak_rss_bytes(), peak_heap_resident_bytes=samples.peak_bytes,
            live_bytes=live_bytes, limit=_limits(heap), facts=facts,
            series=samples.series(begin_ns), page_map=samples.page_map(begin_ns),
        )

    def _supervise(self, heap, run, samples, view):
        config = self._config
        run.start()
        run.wait_populated(
            lambda: view.look(run, f"population {100 * view.session.populated:.0f} %"))
        run.wait(config.warm_up, lambda: view.look(run, "warm-up"))
        if run.stopped:                 # nothing was measured
            return
        self._begin = Look.at(heap, clock_ns())
        run.measure()
        view.started()

        def watch():
            samples.look()
            view.look(run, "run")

        watch()
        run.wait(config.seconds, watch)
        samples.look()
        view.look(run, "audit", due=True)


@contextmanager
def _blamed(name):
    """What somebody else's workload raises says so; the traceback is in its cause."""
    try:
        yield
    except (HeapExhausted, OptionError):
        raise
    except Exception as error:
        if name in {workload.name for workload in BUILT_IN}:
            raise
        raise WorkloadError(f"{name}: {type(error).__name__}: {error}") from error


class _View:
    """Feeds the live display, at most ten times a second."""

    def __init__(self, heap, session, config, progress):
        self.session = session
        self._heap = heap
        self._seconds = config.seconds
        self._progress = progress
        self._begin = None
        self._next = 0.0
        self._last_pause = None
        self._pauses_of = -1            # the cycle count they were read at

    def started(self):
        """The measurement begins."""
        self._begin = time.monotonic()

    def look(self, run, phase, due=False):
        now = time.monotonic()
        if self._progress is None or (now < self._next and not due):
            return
        self._next = now + PROGRESS_SECONDS
        stats = self._heap.stats()
        if stats.cycles != self._pauses_of:
            self._pauses_of = stats.cycles
            pauses = self._heap.pauses()
            if len(pauses):
                self._last_pause = int(pauses["work_ns"][-1])
        self._progress(Progress(
            phase=phase,
            elapsed=0.0 if self._begin is None else min(now - self._begin, self._seconds),
            seconds=self._seconds,
            ops=sum(recording.total_ops for recording in run.recordings),
            cycles=stats.cycles,
            faults=stats.faults,
            last_pause_ns=self._last_pause,
            heap=self._heap,
        ))


def _limits(heap):
    """How the soft heap size went, over the whole run and the cycles that a heap remembers."""
    stats = heap.stats()
    began = heap.cycles()["limit_bytes"]
    return {"policy": str(heap.policy), "peak_bytes": stats.limit_peak_bytes,
            "least_bytes": min([stats.limit_bytes, *began.tolist()]),
            "last_bytes": stats.limit_bytes}


def _seconds(name, value, least):
    if (isinstance(value, bool) or not isinstance(value, (int, float))
            or not least <= value <= 1e7):
        raise OptionError(
            f"{name} {shown(value)}: accepted is a number of seconds from {least} to 10,000,000")
    return float(value)


def _whole(name, value, least, most):
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise OptionError(
            f"{name} {shown(value)}: accepted is a whole number from {least} to {most}")
