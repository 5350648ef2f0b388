"""What run_stress returns: its names, its consistency, its end when something goes wrong."""
from __future__ import annotations

import json
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import gcheap
from gcheap.stress import StressConfig, run_stress
from gcheap.workloads import document as documents
from gcheap.workloads._noise import measure_noise
from gcheap.workloads._record import RunControl
from gcheap.workloads.runner import Run

pytestmark = pytest.mark.sigbus_only("the document is the same")

SHORT = {"p50", "p99", "max"}
SHORT_US = {"p50_us", "p99_us", "max_us"}
NAMES = {
    "version": None,
    "machine": {"cpus", "kernel", "page_size", "cpu_model", "thp", "governor"},
    "provenance": {"date", "command", "seed", "load_average", "build"},
    "config": {"workload", "seconds", "mutators", "live", "capacity", "backend", "faults",
               "unit_pages", "verify", "seed"},
    "workload": None, "seconds": None, "ops": None, "ops_per_s": None,
    "alloc_bytes_per_s": None, "cycles": None,
    "cycle_ms": SHORT, "relocate_ms": SHORT,
    "pauses": SHORT_US | {"count", "by_phase"},
    "time_to_safepoint_us": SHORT,
    "op_latency_us": SHORT | {"p99_9", "p99_99"},
    "mmu": {"1ms", "5ms", "10ms", "50ms"},
    "faults": SHORT_US | {"count", "pages"},
    "stalls": {"count", "total_ms", "max_ms", "p50_ms", "p99_ms"},
    "relocate_ops": None,
    "bytes": {"moved", "copied", "zeroed", "recycled"},
    "ioctls": {"move", "copy", "zeropage"},
    "peak_rss_bytes": None, "peak_heap_resident_bytes": None, "live_bytes": None,
    "limit": {"policy", "peak_bytes", "least_bytes", "last_bytes"},
    "backend": None, "fault_mode": None, "verified": None,
}


def quick(**options):
    return StressConfig(**({"seconds": 0.5, "live": "4MiB", "warm_up": 0.1,
                            "noise_seconds": 0.05} | options))


@pytest.fixture(scope="module")
def churned():
    """The document of a run long enough for several cycles, as JSON brings it back."""
    document = run_stress(quick(seconds=1.5, mutators=2))
    return json.loads(json.dumps(document, allow_nan=False))


# ---- names and consistency ---------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_document_is_there(churned, name):
    if NAMES[name] is None:
        assert name in churned
    else:
        assert NAMES[name] <= set(churned[name])


def test_rows_of_phases_and_ioctls_have_their_names(churned):
    assert churned["pauses"]["by_phase"]
    for row in churned["pauses"]["by_phase"].values():
        assert set(row) == SHORT_US | {"count"}
    for row in churned["ioctls"].values():
        assert set(row) == {"calls", "pages", "refused"}


def test_figures_agree_with_each_other(churned):
    assert churned["verified"] is True
    assert churned["interrupted"] is False
    assert churned["cycles"] > 0
    assert 1.4 < churned["seconds"] < 10
    assert churned["ops_per_s"] == pytest.approx(churned["ops"] / churned["seconds"], rel=0.1)
    # About 480 bytes an operation, and whole TLABs are counted when they are taken.
    assert 400 < churned["alloc_bytes_per_s"] / churned["ops_per_s"] < 600
    pauses = churned["pauses"]
    assert pauses["count"] == sum(row["count"] for row in pauses["by_phase"].values())
    assert pauses["p50_us"] <= pauses["p99_us"] <= pauses["max_us"]
    latency = list(churned["op_latency_us"].values())
    assert latency == sorted(latency)
    mmu = list(churned["mmu"].values())
    assert all(0 <= share <= 1 for share in mmu)
    assert churned["live_bytes"] == pytest.approx(4 << 20, rel=0.25)
    assert churned["peak_heap_resident_bytes"] > 4 << 20
    assert churned["peak_rss_bytes"] > churned["peak_heap_resident_bytes"]


def test_the_configuration_is_complete_and_resolved(churned):
    assert churned["config"]["capacity"] == 2 * churned["config"]["live"] == 8 << 20
    assert churned["workload"] == churned["config"]["workload"] == "churn"


def test_stw_has_no_faults_and_says_so_with_nulls():
    document = run_stress(quick(backend="stw"))
    assert document["verified"] is True
    assert document["faults"]["count"] == 0
    assert all(document["faults"][name] is None for name in SHORT_US)
    assert document["stalls"]["count"] > 0 or document["stalls"]["max_ms"] is None
    assert document["relocate_ops"] == 0


# ---- the worse mutator -------------------------------------------------------------------

def recording(ops, nanoseconds, gaps):
    """A stand-in for a Recording whose operations all took the same time."""
    return SimpleNamespace(
        ops=ops, relocate_ops=0, begin_ns=1, end_ns=1 + 10**9, failures=0, gaps_lost=0,
        first_failure=lambda: None,
        histogram=lambda: (np.array([nanoseconds]), np.array([ops], "u8"), nanoseconds),
        gaps=lambda: np.array(gaps, dtype=[("start_ns", "u8"), ("duration_ns", "u8")]))


def outcome(recordings, **more):
    nothing = np.zeros(0, "u8")
    io = SimpleNamespace(calls=0, pages=0, refused={})
    counters = dict.fromkeys(
        ("allocated_bytes", "cycles", "moved_bytes", "copied_bytes", "zeroed_bytes",
         "recycled_bytes", "faults", "fault_pages", "fault_waits", "hole_faults",
         "foreign_faults", "stalls", "stall_ns", "stall_max_ns"), 0)
    stats = SimpleNamespace(**counters, backend="stw", fault_mode="none", why="",
                            ioctls=dict.fromkeys(("move", "copy", "zeropage"), io))
    looks = [documents.Look(at, stats, (nothing, nothing, 0), (nothing, nothing, 0))
             for at in (0, 10**9)]
    records = ("start_ns", "cycle_ns", "relocate_ns", "relocated", "used_before")
    return documents.Outcome(
        config={"workload": "churn"}, stamp={"version": "0"}, begin=looks[0], end=looks[1],
        pauses=np.zeros(0, [("phase", "U16"), ("start_ns", "u8"), ("work_ns", "u8")]),
        cycles=np.zeros(0, [(name, "u8") for name in records]),
        recordings=recordings, audited=True, **more)


def test_each_figure_is_that_of_the_mutator_for_which_it_is_worst():
    calm = recording(1000, 5000, [])
    busy = recording(500, 2000, [(1000, 500_000)])
    document = documents.build(outcome([calm, busy]))
    assert document["ops"] == 1500
    assert document["ops_per_s"] == pytest.approx(1500, rel=1e-6)
    assert document["op_latency_us"]["p99"] == 5.0
    assert document["mmu"]["1ms"] == 0.5


def test_a_failed_check_is_told():
    failed = recording(10, 2000, [])
    failed.failures, failed.first_failure = 1, lambda: "wrong filler"
    document = documents.build(outcome([recording(10, 2000, []), failed]))
    assert document["verified"] is False
    assert document["failure"] == "wrong filler"


def test_a_run_that_measured_nothing_has_only_nulls():
    document = documents.build(outcome([], interrupted=True))
    assert document["ops"] == 0 and document["interrupted"] is True
    assert set(document["op_latency_us"].values()) == {None}
    assert set(document["mmu"].values()) == {None}
    assert set(document["cycle_ms"].values()) == {None}


# ---- ends --------------------------------------------------------------------------------

def test_live_data_that_does_not_fit_is_heap_exhausted():
    with pytest.raises(gcheap.HeapExhausted, match="churn exhausted the heap.*capacity"):
        run_stress(quick(live=4 << 20, capacity=(4 << 20) + 1, seconds=20))


@pytest.mark.parametrize("phase", ["population", "warm-up", "run"])
def test_ctrl_c_gives_the_results_so_far(phase):
    interrupted = []

    def progress(glance):
        if not interrupted and glance.phase.startswith(phase) and (
                phase != "run" or glance.elapsed > 0.2):
            interrupted.append(glance)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)      # a second one changes nothing

    document = run_stress(
        quick(seconds=30, warm_up=1, live="128MiB" if phase == "population" else "4MiB"),
        progress)
    assert interrupted
    assert document["interrupted"] is True
    assert document["seconds"] < 10
    assert (document["ops"] > 0) is (phase == "run")
    assert document["verified"] is (phase != "population")
    json.dumps(document, allow_nan=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_keyboard_interrupt_out_of_the_display_ends_the_run_too():
    def progress(glance):
        if glance.phase == "run":
            raise KeyboardInterrupt

    document = run_stress(quick(seconds=30), progress)
    assert document["interrupted"] is True and document["seconds"] < 10


def test_an_error_of_the_display_stops_the_mutators_and_is_raised():
    def progress(_glance):
        raise LookupError("no terminal")

    before = threading.active_count()
    with pytest.raises(LookupError, match="no terminal"):
        run_stress(quick(seconds=30), progress)
    assert threading.active_count() == before


def test_progress_tells_the_phases_in_order():
    glances = []
    run_stress(quick(live="8MiB"), glances.append)
    phases = list(dict.fromkeys(glance.phase.split()[0] for glance in glances))
    assert phases[-3:] == ["warm-up", "run", "audit"]
    ops = [glance.ops for glance in glances]
    assert ops == sorted(ops) and ops[-1] > 0
    assert glances[-1].elapsed <= glances[-1].seconds == 0.5
    assert glances[-1].cycles > 0 and glances[-1].last_pause_ns > 0


class BrokenSession:
    """A session one of whose mutators fails while the others run until they are stopped."""

    populated = 0.0

    def __init__(self, control, fails_in):
        self.control, self.fails_in = control, fails_in
        self.left = []

    def populate(self, _mutator, index, _recording):
        if index == 1 and self.fails_in == "populate":
            raise LookupError("of mutator 1")

    def run(self, index):
        if index == 1 and self.fails_in == "run":
            raise LookupError("of mutator 1")
        pause = threading.Event()
        while not self.control.stopped:
            pause.wait(0.001)

    def audit(self, index):
        if index == 1 and self.fails_in == "audit":
            raise LookupError("of mutator 1")

    def leave(self, index):
        self.left.append(index)


@pytest.mark.parametrize("step", ["populate", "run", "audit"])
def test_when_one_mutator_fails_all_stop_and_its_error_is_kept(any_heap, step):
    control = RunControl()
    session = BrokenSession(control, step)
    run = Run(any_heap, session, "broken", 3, control)
    run.start()
    run.wait_populated(lambda: None)
    run.measure()
    run.wait(0.2 if step == "audit" else 60, lambda: None)
    run.finish()
    assert isinstance(run.error, LookupError)
    assert not run.audited
    assert sorted(session.left) == [0, 1, 2]
    assert any_heap.stats().mutators == 0


# ---- configurations and the control loop ---------------------------------------------------

@pytest.mark.parametrize(("options", "told"), [
    ({"workload": "chrun"}, "'chrun'.*churn, trees"),
    ({"seconds": 0}, "seconds 0"), ({"seconds": float("nan")}, "seconds nan"),
    ({"seconds": "2"}, "seconds '2'"), ({"warm_up": -1}, "warm_up -1"),
    ({"mutators": 0}, "mutators 0"), ({"mutators": True}, "mutators True"),
    ({"seed": -1}, "seed -1"), ({"batch_units": -1}, "batch_units=-1"),
    ({"backend": "fast"}, "backend='fast'"), ({"unit_pages": 3}, "unit_pages=3"),
    ({"live": "16KiB"}, "churn needs"), ({"live": "1MiB", "mutators": 99}, "churn needs"),
    ({"live": "-1"}, "-1"), ({"capacity": "4MiB"}, "capacity .* does not exceed"),
    ({"workload": "trees", "live": "1KiB"}, "trees needs at least 8 KiB"),
    ({"live": 1 << 50}, "live 1024 TiB: churn needs that, and this machine .* of memory"),
    ({"capacity": "90TiB"}, "capacity 90 TiB: churn needs that, and .* or another policy"),
])
def test_a_bad_configuration_is_refused_with_its_value(options, told):
    with pytest.raises(gcheap.OptionError, match=told):
        quick(**options)


def test_sizes_are_taken_as_numbers_and_as_text():
    assert StressConfig(live="8MiB") == StressConfig(live=8 << 20, capacity="16MiB")


def test_the_control_loop_records_what_the_machine_does():
    noise = measure_noise(0.2)
    values, counts, longest = noise.histogram()
    assert noise.ops == counts.sum() > 10_000
    assert values[0] <= values[-1] and longest <= values[-1]
    assert noise.end_ns - noise.begin_ns >= 200_000_000
    gaps = noise.gaps()
    assert counts[values > 20_100].sum() <= len(gaps) <= counts[values > 19_900].sum()
    assert np.all(gaps["duration_ns"] > 20_000)
    assert np.all(np.diff(gaps["start_ns"].astype("i8")) >= gaps["duration_ns"][:-1].astype("i8"))
