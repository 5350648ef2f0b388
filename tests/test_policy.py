"""Policies as values and as text, and the formulas of limit and goal."""
from __future__ import annotations

import dataclasses
import math

import pytest
from support import run_cleanly

import gcheap
from gcheap.core import _testing as core
from gcheap.options import BY_NAME, resolve
from gcheap.policy import Factor, Fixed, MemBalancer, parse_policy

MIB = 1 << 20
GIB = 1 << 30


# ---- values and text -----------------------------------------------------------------------

@pytest.mark.parametrize(("text", "policy"), [
    ("fixed", Fixed()), (" Fixed ", Fixed()),
    ("factor", Factor()), ("factor:3", Factor(factor=3.0)),
    ("factor:1.5,minimum=1MiB", Factor(minimum=MIB, factor=1.5)),
    ("factor, minimum = 64k", Factor(minimum=65536)),
    ("membalancer", MemBalancer()), ("membalancer:1e-9", MemBalancer(c=1e-9)),
    ("membalancer:1e-9,minimum=100", MemBalancer(c=1e-9, minimum=100)),
])
def test_a_policy_has_a_text(text, policy):
    assert parse_policy(text) == policy
    assert parse_policy(policy) is policy
    assert parse_policy(str(policy)) == policy


@pytest.mark.parametrize("value", [
    "", "fast", "fixed:1", "fixed,minimum=1MiB", "factor:", "factor:1", "factor:0.5", "factor:nan",
    "factor:inf", "factor:x", "factor:2,minimum=0", "factor:2,maximum=1MiB", "factor:2,1MiB",
    "factor:2,minimum=1MiB,minimum=2MiB", "membalancer:0", "membalancer:-1", "membalancer:2",
    "factor:2,factor=3", 2, 2.0, True, ["fixed"], Factor, object(),
])
def test_what_is_no_policy_is_refused_with_what_is(value):
    with pytest.raises(gcheap.OptionError) as caught:
        parse_policy(value, "GCHEAP_POLICY")
    assert "GCHEAP_POLICY=" in str(caught.value) and "expected" in str(caught.value)


@pytest.mark.parametrize("make", [
    lambda: Factor(factor=1.0), lambda: Factor(factor=True), lambda: Factor(factor="a"),
    lambda: Factor(factor=math.inf), lambda: Factor(minimum=0), lambda: Factor(minimum="lots"),
    lambda: MemBalancer(c=0), lambda: MemBalancer(c=math.nan), lambda: MemBalancer(minimum=-1),
])
def test_a_policy_with_a_bad_value_is_refused(make):
    with pytest.raises(gcheap.OptionError, match="expected"):
        make()


def test_policies_are_frozen_and_normal():
    assert Factor(minimum="1MiB", factor=2) == Factor(minimum=MIB, factor=2.0)
    assert hash(MemBalancer()) == hash(MemBalancer(minimum="16MiB"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Factor().factor = 3.0
    assert gcheap.policy.Factor is Factor


@pytest.mark.parametrize("given", [Fixed(), "factor:4", MemBalancer(minimum="2MiB")])
def test_a_heap_has_the_policy_it_was_given(make_heap, given):
    heap = make_heap("8MiB", policy=given)
    assert heap.policy == parse_policy(given)


def test_the_default_and_the_environment():
    assert isinstance(resolve({}, {})["policy"], Factor)
    assert resolve({}, {"GCHEAP_POLICY": "membalancer"})["policy"] == MemBalancer()
    assert resolve({"policy": "fixed"}, {"GCHEAP_POLICY": "factor"})["policy"] == Fixed()
    with pytest.raises(gcheap.OptionError, match="GCHEAP_POLICY='often'"):
        resolve({}, {"GCHEAP_POLICY": "often"})
    out = run_cleanly("import gcheap; print(gcheap.Heap('4MiB').policy)",
                      env={"GCHEAP_POLICY": "factor:1.25"})
    assert out.strip() == "factor:1.25,minimum=16MiB"


@pytest.mark.parametrize("name", ["stall_warning_ms", "idle_ms"])
def test_milliseconds_are_checked(name):
    assert BY_NAME[name].validate("250") == 250 and BY_NAME[name].validate(0) == 0
    for bad in (-1, "soon", 1.5, True, 10**12):
        with pytest.raises(gcheap.OptionError, match=name):
            BY_NAME[name].validate(bad)


# ---- formulas ------------------------------------------------------------------------------

@pytest.mark.parametrize("live", [0, 1, 5 * MIB, 100 * MIB, GIB])
def test_the_limit_of_factor(live):
    assert core.limit_of(Factor(16 * MIB, 2.5), live, GIB) == min(
        GIB, max(16 * MIB, int(2.5 * live)))
    assert core.limit_of(Fixed(), live, GIB) == GIB


def test_a_minimum_above_the_capacity_is_the_capacity():
    assert core.limit_of(Factor("2GiB"), 0, GIB) == GIB


def test_the_limit_of_membalancer():
    policy = MemBalancer(c=1e-9, minimum=1)
    live, g, s = 100 * MIB, 50e6, 800e6
    expected = live + math.sqrt(live * g / (policy.c * s))
    assert core.limit_of(policy, live, 100 * GIB, g, s) == pytest.approx(expected, abs=1)
    # Four times the rate, or a quarter of c or of the speed: twice the room.
    room = expected - live
    for limit in (core.limit_of(policy, live, 100 * GIB, 4 * g, s),
                  core.limit_of(policy, live, 100 * GIB, g, s / 4),
                  core.limit_of(MemBalancer(2.5e-10, 1), live, 100 * GIB, g, s)):
        assert limit - live == pytest.approx(2 * room, rel=1e-6)
    assert core.limit_of(policy, live, 150 * MIB, 100 * g, s) == 150 * MIB
    assert core.limit_of(MemBalancer(minimum="1GiB"), live, 2 * GIB, 1.0, s) == GIB


def test_the_limit_grows_at_once_and_shrinks_slowly():
    assert core.following_limit(100, 900, False) == 900
    assert core.following_limit(900, 100, False) == 700
    assert core.following_limit(900, 100, True) == 100
    limit = 1000
    for _ in range(100):
        limit = core.following_limit(limit, 10, False)
    assert limit == 10


def test_the_goal_leaves_room_but_no_storm_of_cycles():
    # The whole capacity: the measured need, at least a sixteenth, at most three quarters.
    assert core.goal_of(0, 0, GIB, GIB, 0) == GIB - GIB // 16
    assert core.goal_of(0, 0, GIB, GIB, 100 * MIB) == GIB - 100 * MIB
    assert core.goal_of(512 * MIB, 600 * MIB, GIB, GIB, GIB) == 640 * MIB
    assert core.goal_of(GIB, GIB, GIB, GIB, GIB) == GIB
    # A soft limit: the same within it ...
    assert core.goal_of(32 * MIB, 32 * MIB, 64 * MIB, GIB, 0) == 60 * MIB
    # ... but a quarter of its free room from what is used already ...
    assert core.goal_of(32 * MIB, 100 * MIB, 64 * MIB, GIB, 0) == 108 * MIB
    # ... and never beyond the goal that the capacity sets.
    assert core.goal_of(32 * MIB, GIB, 64 * MIB, GIB, 0) == GIB - GIB // 16
