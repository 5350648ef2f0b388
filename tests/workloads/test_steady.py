"""Coordinated omission: what a stall costs whoever would have asked meanwhile."""
from __future__ import annotations

import numpy as np
import pytest
from workload_support import ENOUGH, Driven

from gcheap import failpoints
from gcheap.clock import clock_ns

STALL_NS = 60_000_000
LONG_NS = 20_000_000


def longer(histogram):
    values, counts, _ = histogram
    return int(np.sum(counts[values > LONG_NS]))


@pytest.fixture(params=["open", "closed"])
def stalled(request):
    """(loop, recording, worker) of a run in which the mutator was once held up for long: when it
    left the heap, to wait for its next operation."""
    settings = {"loop": request.param, "rate": "4MiB"}          # an operation in 275 us
    with Driven("steady", settings=settings) as driven:
        driven.run()
        with failpoints.delay("mutator.leave", ns=STALL_NS, times=1) as delay:
            driven.run(1000)
            assert delay.hits > 0
        assert driven.audit() == 0, driven.failure
        yield request.param, driven.recordings[0], driven.session.workers[0]


def test_only_the_open_loop_counts_those_who_waited(stalled):
    loop, recording, worker = stalled
    response, service = longer(recording.histogram()), longer(worker.histogram())
    if loop == "open":
        # One held up for 60 ms, and every 275 us another one that should have begun.
        assert response > service + (STALL_NS - LONG_NS) // 275_000 // 2
    else:
        assert response == service


def test_facts_tell_the_service_times():
    with Driven("steady", settings={"rate": "64MiB"}) as driven:
        driven.run(ENOUGH)
        facts = driven.session.facts()
    assert set(facts["service_us"]) == {"p50", "p99", "p99_9", "max"}
    assert 0 < facts["service_us"]["p50"] <= facts["service_us"]["max"]
    assert facts["interval_us"] == pytest.approx(1152 / (64 << 20) * 1e6, rel=1e-2)
    assert facts["most_behind_ms"] >= 0


@pytest.mark.parametrize("loop", ["open", "closed"])
def test_a_run_that_ends_between_operations_begins_none(loop):
    with Driven("steady", settings={"loop": loop, "rate": "16KiB"}) as driven:   # one in 70 ms
        begin = clock_ns()
        driven.run(2)                           # stopped while it sleeps until the third
        elapsed = clock_ns() - begin
        recording, facts = driven.recordings[0], driven.session.facts()
        _, counts, longest = recording.histogram()
    # Began early, the third would have ended before its time: a latency of 2**64 ns less some.
    assert longest <= elapsed
    assert counts.sum() == recording.ops + facts["not_begun"]["count"]


def test_what_was_due_and_had_not_begun_counts_with_the_time_it_waited():
    with Driven("steady", settings={"rate": "8GiB"}) as driven:     # beyond any machine: 134 ns
        driven.run(ENOUGH)
        recording, facts = driven.recordings[0], driven.session.facts()
        values, counts, longest = recording.histogram()
    interval = int(facts["interval_us"] * 1e3)
    due, waited = facts["not_begun"]["count"], round(facts["not_begun"]["oldest_ms"] * 1e6)
    assert counts.sum() == recording.ops + due
    # Nobody is left out: one for each interval of the measurement.
    assert recording.ops + due >= (recording.end_ns - recording.begin_ns) // interval
    assert longest >= waited and facts["most_behind_ms"] * 1e6 >= waited
    # They had waited 1, 2, 3 … intervals and the same rest; those that did begin come on top.
    within = values <= waited
    below = (values[within].astype(int) - waited % interval) // interval + 1
    beside = np.cumsum(counts[within]).astype(int) - below
    assert beside.min() >= 0 and beside.max() <= recording.ops
