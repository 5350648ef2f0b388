"""Coordinated omission: what a stall costs whoever would have asked meanwhile."""
from __future__ import annotations

import numpy as np
import pytest
from workload_support import ENOUGH, Driven

from gcheap import failpoints

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
