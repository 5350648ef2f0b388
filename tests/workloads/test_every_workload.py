"""Every workload: under every combination nothing is lost, and each of its checks can fail."""
from __future__ import annotations

import pytest
from workload_support import ENOUGH, Driven, configured, exercise, session_of

import gcheap
from gcheap.stress import run_stress
from gcheap.workloads import find
from gcheap.workloads._record import RunControl
from gcheap.workloads.runner import Run
from gcheap.workloads.session import Session
from gcheap.workloads.table import BUILT_IN

NAMES = [workload.name for workload in BUILT_IN]


@pytest.mark.parametrize("verify", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost(combination, name, verify, seed):
    outcome = exercise(configured(name, verify=verify, seed=seed), **combination)
    assert outcome.error is None and outcome.failures == []
    assert outcome.audited
    assert all(ops >= ENOUGH for ops in outcome.ops)
    assert outcome.cycles >= 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.sigbus_only("the document is the same")
def test_a_run_has_its_document(name, seed):
    document = run_stress(configured(name, live="2MiB", seconds=0.1, seed=seed))
    assert document["verified"] is True, document["failure"]
    assert document["ops"] > 0 and document["config"]["seed"] == seed
    # Beside its live data each mutator keeps a little that is young, and black objects count.
    assert document["live_bytes"] < 1.25 * document["config"]["live"]
    assert document["facts"]


@pytest.mark.soak("longer runs with more mutators")
@pytest.mark.parametrize("mutators", [1, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_for_longer(combination, name, mutators, seed):
    live = max(find(name).least, 1 << 20) * mutators
    document = run_stress(configured(name, live=live, mutators=mutators, seconds=2, verify=3,
                                     seed=seed, **combination))
    assert document["verified"] is True, document["failure"]
    assert document["ops"] > 0


# ---- each check must be able to fail ---------------------------------------------------------

def damages():
    """(workload, damage) of every worker class."""
    class Heap:                         # what a session asks of a heap before it is populated
        @staticmethod
        def shape(*_names, **_fields):
            class Shape:
                id = 3
            return Shape

    for name in NAMES:
        config = configured(name, mutators=1, live=2 << 20)
        session = find(name).session(Heap, config)
        assert isinstance(session, Session)
        yield from ((name, what) for what in type(session.workers[0]).DAMAGES)


@pytest.mark.parametrize(("name", "what"), list(damages()))
def test_an_audit_sees_damage(name, what):
    with Driven(name) as driven:
        driven.run()
        assert driven.audit() == 0, driven.failure
        driven.damage(what)
        assert driven.audit() > 0
        assert driven.failure


def test_every_workload_has_damages():
    assert {name for name, _ in damages()} == set(NAMES)


@pytest.mark.parametrize(("name", "what"), [
    ("churn", "id"), ("churn", "link"), ("compaction", "bytes"), ("deep-list", "cut"),
    ("graph-mutate", "lost"), ("lru-cache", "string"), ("many-roots", "id"), ("queue", "number"),
    ("weak-table", "entry"), ("wide", "lost"), ("old-to-young", "young"), ("steady", "filler")])
def test_reads_see_damage_while_running(name, what):
    """On so little data that random reads come by."""
    with Driven(name, live=64 << 10, capacity="1MiB") as driven:
        driven.damage(what)
        driven.run(20_000)
        assert driven.failure


def test_too_many_failures_end_a_run():
    with Driven("churn", live=64 << 10, capacity="1MiB") as driven:
        driven.damage("id")
        driven.run(10**12)                  # of which it does a few thousand
        assert driven.recordings[0].failures > 1000


@pytest.mark.parametrize("name", NAMES)
def test_after_leaving_the_live_data_is_garbage(name):
    with Driven(name) as driven:
        while driven.heap.stats().allocated_bytes <= 100 << 10:
            driven.run()
        driven.leave()
        driven.heap.collect()
        assert driven.heap.stats().live_bytes < 4 << 10


@pytest.mark.parametrize("name", NAMES)
def test_a_run_can_be_stopped_before_its_data_is_there(name):
    config = configured(name, live="256MiB")
    control = RunControl()
    with gcheap.Heap(config.capacity, policy="fixed", stall_warning_ms=0) as heap:
        session = session_of(heap, config)
        run = Run(heap, session, name, session.threads, control)
        run.start()
        run.finish()
        assert run.error is None
        assert heap.stats().mutators == 0
