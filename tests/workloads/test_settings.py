"""Settings and limits of workloads: what is refused, in which words; the list, and its page."""
from __future__ import annotations

import json

import pytest
from support import ROOT
from workload_support import Driven, configured

import gcheap
from gcheap import cli
from gcheap.errors import OptionError
from gcheap.options import least_capacity
from gcheap.stress import StressConfig
from gcheap.tools import workload_arguments
from gcheap.workloads import WORKLOADS, find
from gcheap.workloads._array_holes import largest, place_count
from gcheap.workloads.table import BUILT_IN

NAMES = [workload.name for workload in BUILT_IN]
GIB = 1 << 30


@pytest.mark.parametrize(("options", "told"), [
    ({"workload": "trees", "live": "1KiB"}, "trees needs at least 16 KiB, 8 KiB a"),
    ({"workload": "trees", "settings": {"depth": 20}}, "depth 20: accepted is 6 to"),
    ({"workload": "trees", "settings": {"depth": "deep"}}, "trees: depth='deep'"),
    ({"workload": "churn", "settings": {"depth": 9}}, "churn has no setting 'depth': it has none"),
    ({"workload": "churn", "settings": ["depth"]}, "settings .*expected a dict"),
    ({"workload": "lru-cache", "settings": {"hit_rato": 9}},
     "no setting 'hit_rato': it has hit_ratio; did you mean hit_ratio"),
    ({"workload": "lru-cache", "settings": {"hit_ratio": 101}}, "lru-cache: hit_ratio=101: .*100"),
    ({"workload": "array-holes", "live": "100KiB"}, "array-holes needs at least 128 KiB, 64 KiB a"),
    ({"workload": "big-arrays", "live": "1MiB", "mutators": 1, "capacity": "1GiB"}, None),
    ({"workload": "big-arrays", "live": "1023KiB", "mutators": 1}, "big-arrays needs at least 1 M"),
    ({"workload": "gcbench", "settings": {"depth": 16}}, "depth 16: gcbench needs 16 MiB .*256 K"),
    ({"workload": "deep-list", "settings": {"cells": 10**6}}, "cells 1000000: 2 lists .*45.8 MiB"),
    ({"workload": "wide", "settings": {"slots": 10**6}}, "slots 1000000: .*15.3 MiB"),
    ({"workload": "many-roots", "settings": {"roots": 10**6}}, "roots 1000000: .*more live bytes"),
    ({"workload": "many-roots", "settings": {"roots": 10}}, "many-roots: roots=10"),
    ({"workload": "many-threads", "settings": {"threads": 64}}, "threads 64: .*each keeps a TLAB"),
    ({"workload": "many-threads", "mutators": 3, "settings": {"threads": 2}}, "fewer than the 3"),
    ({"workload": "steady", "settings": {"rate": "100"}}, "rate 100 B a second: an operation"),
    ({"workload": "steady", "settings": {"loop": "round"}}, "loop='round': .*open, closed"),
    ({"workload": "replay", "settings": {"file": "/nonexistent"}}, "/nonexistent': No such file"),
    ({"workload": "churn", "live": 1 << 50}, "live 1024 TiB: churn needs that, and this"),
])
def test_what_a_workload_cannot_run_is_refused(options, told):
    make = {"workload": None, "live": "512KiB", "mutators": 2} | options
    if told is None:
        StressConfig(**make)
    else:
        with pytest.raises(OptionError, match=told):
            StressConfig(**make)


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_are_the_settings_of_the_table(name):
    config = configured(name)
    assert config.settings == {option.name: option.default for option in find(name).settings}
    json.dumps(config.settings)


@pytest.mark.parametrize("name", NAMES)
def test_the_least_live_bytes_are_enough(name):
    least = find(name).least
    with Driven(name, live=least) as driven:            # in the capacity that this gives
        driven.run()
        assert driven.audit() == 0, driven.failure
    with pytest.raises(OptionError, match=f"{name} needs at least"):
        configured(name, mutators=1, live=least - 1)


@pytest.mark.parametrize("unit_pages", [1, 16, 512])
def test_the_default_capacity_is_one_that_a_heap_can_have(unit_pages):
    config = StressConfig(live="32KiB", unit_pages=unit_pages)
    assert config.capacity == least_capacity(unit_pages)
    config = StressConfig(live="128KiB", unit_pages=unit_pages, mutators=4)
    assert config.capacity == 2 * least_capacity(unit_pages)
    assert StressConfig(live="32MiB", unit_pages=unit_pages).capacity == 64 << 20


STANDARD = [("gcbench", "64MiB", {"depth": 16, "array_elements": 500_000}),
            ("deep-list", GIB, {"cells_a_mutator": 10_000_000}),
            ("wide", GIB, {"slots": 10_000_000}),
            ("many-threads", "64MiB", {"threads": 64})]


@pytest.mark.parametrize(("name", "live", "sizes"), STANDARD, ids=[row[0] for row in STANDARD])
def test_with_live_bytes_enough_sizes_are_the_standard_ones(any_heap, name, live, sizes):
    config = configured(name, live=live, mutators=1, capacity=2 * GIB, policy="factor:2")
    session = find(name).session(any_heap, config)      # not populated: nothing is allocated
    assert sizes.items() <= session.workers[0].sizes().items()


def test_the_roots_of_many_roots_are_a_thousand_to_a_million(any_heap):
    for roots in (1000, 1_000_000):
        config = configured("many-roots", live="32MiB", settings={"roots": roots})
        assert find("many-roots").session(any_heap, config).facts()["roots"] == roots


def test_sizes_of_array_holes_follow_the_live_bytes():
    assert {share: largest(share) for share in (64 << 10, 4 << 20, GIB)} == {
        64 << 10: 4 << 10, 4 << 20: 256 << 10, GIB: 4 << 20}
    assert all(place_count(share) >= 80 for share in (64 << 10, 4 << 20, GIB))


# ---- the command line ------------------------------------------------------------------------

def test_list_tells_every_workload_and_setting(capsys):
    assert cli.main(["stress", "--list"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for workload in BUILT_IN:
        assert workload.name in text and workload.shows.split(":")[0] in text
        for option in workload.settings:
            assert f"--set {option.name.replace('_', '-')}=" in text


def test_list_as_json(capsys):
    assert cli.main(["stress", "--list", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)["workloads"]
    assert [row["name"] for row in rows] == list(WORKLOADS)
    assert {"name", "shows", "least_bytes", "operand", "settings"} == set(rows[0])


def test_the_page_has_the_table():
    page = (ROOT / "docs/reference/workloads.md").read_text()
    assert workload_arguments.markdown(BUILT_IN) in page
    for workload in BUILT_IN:
        assert f"## `{workload.name}`" in page


def test_settings_go_to_every_workload_that_has_them():
    assert workload_arguments.chosen(["trees", "churn", "gcbench"], ["depth=9"]) == [
        ("trees", {"depth": "9"}), ("churn", {}), ("gcbench", {"depth": "9"})]
    assert workload_arguments.chosen(["lru-cache"], ["hit-ratio=5", "hit_ratio=6"]) == [
        ("lru-cache", {"hit_ratio": "6"})]
    assert workload_arguments.chosen([], []) == [("churn", {})]


def test_an_operand_follows_its_workload():
    assert workload_arguments.chosen(["replay", "a.txt", "churn"], []) == [
        ("replay", {"file": "a.txt"}), ("churn", {})]
    assert workload_arguments.chosen(["replay", "churn"], []) == [("replay", {}), ("churn", {})]


@pytest.mark.parametrize(("command", "told"), [
    (["stress", "churn", "--set", "depth=3"], "churn has no setting 'depth'"),
    (["stress", "trees", "--set", "depth"], "--set 'depth': expected NAME=VALUE"),
    (["stress", "trees", "--set", "=3"], "expected NAME=VALUE"),
    (["stress", "trees", "--set", "depth=x"], "depth='x'"),
    (["stress", "replay", "/nonexistent"], "/nonexistent"),
    (["stress", "churn", "file"], "'file' is unknown"),
    (["stress", "--live", "900TiB"], "this machine gives a process"),
    (["minheap", "nonsense"], "'nonsense' is unknown"),
    (["minheap", "deep-list", "--live", "1MiB", "--set", "cells=1000000"], "fewer cells"),
])
def test_what_cannot_run_is_one_line_and_status_2(command, told, capsys):
    assert cli.main(command) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and told in output.err


def test_exhaustion_is_told_with_the_workload():
    config = configured("lru-cache", live="4MiB", seconds=5).with_capacity(2 << 20)
    with pytest.raises(gcheap.HeapExhausted, match="lru-cache exhausted the heap"):
        gcheap.stress.run_stress(config)
