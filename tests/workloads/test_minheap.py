"""The smallest heap: the search by itself, and one real search."""
from __future__ import annotations

import json
from dataclasses import replace

import pytest
from workload_support import configured

from gcheap import cli
from gcheap.errors import HeapExhausted
from gcheap.options import least_capacity
from gcheap.tools import minheap
from gcheap.workloads.memory import Room

GRAIN = least_capacity(16) // 4
CONFIG = configured("churn", live="16MiB")


def found(minimum, within=0.0):
    tried = []

    def passes(capacity):
        tried.append(capacity)
        return (True, 15 << 20) if capacity >= minimum else (False, None)

    document = minheap.search(CONFIG, tries=1, within=within, passes=passes)
    assert [row["capacity"] for row in document["tried"]] == tried
    assert len(set(tried)) == len(tried)                # nothing is tried twice
    return document


@pytest.mark.parametrize("minimum", [
    1, least_capacity(16), least_capacity(16) + 1, 5 << 20, (16 << 20) - 1, 16 << 20, 20 << 20,
    32 << 20, (32 << 20) + 1, 200 << 20])
def test_the_search_finds_the_smallest_that_passes(minimum):
    document = found(minimum)
    smallest = max(-(-minimum // GRAIN) * GRAIN, least_capacity(16))
    assert document["minimum_bytes"] == smallest
    assert document["too_small_bytes"] == smallest - GRAIN
    assert document["live_bytes"] == 15 << 20


def test_no_heap_is_tried_that_cannot_be():
    config = replace(CONFIG, workload="trees", live="16KiB", capacity=None)
    document = minheap.search(config, tries=1, within=0, passes=lambda capacity: (True, 5))
    assert [row["capacity"] for row in document["tried"]] == [least_capacity(16)]


def test_the_heading_names_the_seed():
    assert str(minheap.heading(found(20 << 20))) == (
        f"churn: 16 MiB live, 2 mutators, 1 try of {CONFIG.seconds:g} s from seed {CONFIG.seed}, "
        f"backend {CONFIG.backend}")


def test_a_margin_saves_runs():
    exact, rough = found(23 << 20), found(23 << 20, within=0.1)
    assert len(rough["tried"]) < len(exact["tried"])
    assert 23 << 20 <= rough["minimum_bytes"] <= (23 << 20) * 1.1


def test_more_than_the_machine_has_is_never_asked_for(monkeypatch):
    monkeypatch.setattr(minheap, "room", lambda: Room(1 << 40, 128 << 20))
    with pytest.raises(HeapExhausted, match="churn: 128 MiB is not enough, and the machine"):
        found(1 << 40)


def test_a_failed_check_ends_the_search(monkeypatch, capsys):
    monkeypatch.setattr(minheap, "run_stress", lambda config: {
        "verified": False, "interrupted": False, "failure": "a null link"})
    assert cli.main(["minheap", "churn", "--live", "1MiB"]) == 1
    assert "churn: with 2 MiB: a null link" in capsys.readouterr().out


def test_every_try_has_a_seed_of_its_own(monkeypatch):
    seeds = []

    def run(config):
        seeds.append(config.seed)
        if len(seeds) == 3:
            raise HeapExhausted("full")
        return {"verified": True, "interrupted": False, "live_bytes": 5}

    monkeypatch.setattr(minheap, "run_stress", run)
    assert minheap.passes_with(CONFIG, 20 << 20, 2) == (True, 5)
    assert minheap.passes_with(CONFIG, 20 << 20, 2) == (False, None)
    assert seeds == [1, 2, 1]


def test_a_real_search(tmp_path, capsys):
    target = tmp_path / "found.json"
    assert cli.main(["minheap", "deep-list", "--live", "2MiB", "--seconds", "0.05", "--within",
                     "10", "--set", "cells=40000", "--json", str(target)]) == 0
    document = json.loads(target.read_text())
    # 40,000 cells are 937 KiB.  Less can never pass, and twice as much always does.
    assert 960_000 < document["minimum_bytes"] < 2 << 20
    assert document["too_small_bytes"] < document["minimum_bytes"]
    assert document["settings"] == {"cells": 40000}
    assert {row["passed"] for row in document["tried"]} == {True, False}
    assert "smallest heap that passes" in capsys.readouterr().out
