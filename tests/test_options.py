"""One table of options: `gcheap options`, the documentation, signature and stub all follow it."""
from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import gcheap
from gcheap import cli
from gcheap.core import probe
from gcheap.options import OPTIONS, Between, Option, least_capacity, resolve
from gcheap.tools import options as command

ROOT = Path(__file__).parent.parent
NAMES = [option.name for option in OPTIONS]
ANNOTATIONS = {"size": "int | str | None", "integer": "int | None", "text": "str | None"}


def test_the_page_of_the_documentation_is_the_table():
    assert (ROOT / "docs/reference/options.md").read_text() == command.page(), (
        "make it again: gcheap options --markdown > docs/reference/options.md")


def test_the_signature_shows_every_option():
    parameters = inspect.signature(gcheap.Heap).parameters
    assert list(parameters) == NAMES
    assert all(parameter.default is None for parameter in parameters.values())
    kinds = {name: parameter.kind for name, parameter in parameters.items()}
    assert kinds.pop("capacity") is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds.values()) == {inspect.Parameter.KEYWORD_ONLY}


def test_the_stub_has_every_option_with_its_type():
    tree = ast.parse((Path(gcheap.__path__[0]) / "face/heap.pyi").read_text())
    heap = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Heap")
    init = next(n for n in heap.body
                if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    arguments = init.args.args[1:] + init.args.kwonlyargs
    assert [argument.arg for argument in arguments] == NAMES
    for argument, option in zip(arguments, OPTIONS, strict=True):
        wanted = ANNOTATIONS.get(option.kind)
        assert wanted is None or ast.unparse(argument.annotation) == wanted, option.name
    defaults = init.args.defaults + init.args.kw_defaults
    assert [ast.unparse(default) for default in defaults] == ["None"] * len(OPTIONS)


def test_the_docstring_lists_every_option():
    lines = inspect.getdoc(gcheap.Heap).split("\n\n")
    listing = next(part for part in lines if part.startswith("capacity "))
    assert re.findall(r"^(\w+)(?:\s|$)", listing, re.MULTILINE) == NAMES


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_each_option_can_be_read_by_people(option):
    assert option.kind and option.accepted and option.help
    assert option.env == f"GCHEAP_{option.name.upper()}"
    assert option.validate(option.default) is not None


def test_the_command_shows_what_the_environment_says(monkeypatch, capsys):
    monkeypatch.setenv("GCHEAP_VERIFY", "2")
    assert cli.main(["options"]) == 0
    shown = capsys.readouterr().out
    for option in OPTIONS:
        assert option.name in shown and option.env in shown
    assert shown.count("(environment)") == 1
    assert cli.main(["options", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)["options"]
    assert [row["name"] for row in rows] == NAMES
    verify = rows[NAMES.index("verify")]
    assert (verify["value"], verify["default"], verify["set_by_environment"]) == (2, 0, True)
    assert set(verify) >= {"type", "accepted", "environment", "help"}


def test_the_page_does_not_depend_on_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("GCHEAP_VERIFY", "nonsense")
    assert cli.main(["options", "--markdown"]) == 0
    assert capsys.readouterr().out == command.page()


def test_a_bad_environment_is_one_line_and_status_2(monkeypatch, capsys):
    monkeypatch.setenv("GCHEAP_COLLECT_EVERY", "often")
    assert cli.main(["options"]) == 2
    error = capsys.readouterr().err
    assert "GCHEAP_COLLECT_EVERY" in error and error.count("\n") == 1


def test_a_number_outside_its_range_is_told_with_the_range():
    option = Option("depth", Between(2, 9), 3, "GCHEAP_DEPTH", "levels")
    assert (option.kind, option.accepted) == ("integer", "2 to 9")
    assert option.validate("9") == 9
    with pytest.raises(gcheap.OptionError, match="depth=10: .* 2 to 9"):
        option.validate(10)


def test_capacity_min_follows_the_units():
    for unit_pages in (1, 16, 512):
        values = resolve({"capacity": "min", "unit_pages": unit_pages}, {})
        assert values["capacity"] == least_capacity(unit_pages)
    assert resolve({}, {"GCHEAP_CAPACITY": "min"})["capacity"] == least_capacity(16)


# ---- what came from the environment is called by its variable --------------------------------

@pytest.mark.parametrize(("name", "text", "options"), [
    ("CAPACITY", "99TiB", {}), ("CAPACITY", "1KiB", {}), ("BATCH_UNITS", "4096", {}),
    ("BATCH_UNITS", "300", {"unit_pages": 16})])
def test_a_refusal_names_the_variable(monkeypatch, name, text, options):
    monkeypatch.setenv(f"GCHEAP_{name}", text)
    with pytest.raises(gcheap.OptionError, match=f"^GCHEAP_{name}='{text}': expected"):
        gcheap.Heap(**options)


def test_what_was_given_keeps_its_own_name(monkeypatch):
    monkeypatch.setenv("GCHEAP_CAPACITY", "1GiB")
    with pytest.raises(gcheap.OptionError, match="^capacity=1024: expected"):
        gcheap.Heap("1KiB")


@pytest.mark.parametrize(("name", "text"), [
    ("LOG", "gc*:/nowhere/at/all"), ("TRACE", "/nowhere/at/all.json")])
def test_an_output_that_cannot_be_written_names_the_variable(monkeypatch, name, text):
    with pytest.raises(gcheap.OptionError, match=f"^{name.lower()}: cannot write"):
        gcheap.Heap("1MiB", **{name.lower(): text})
    monkeypatch.setenv(f"GCHEAP_{name}", text)
    with pytest.raises(gcheap.OptionError, match=f"^GCHEAP_{name}: cannot write"):
        gcheap.Heap("1MiB")
    other = text.replace("/nowhere", "/nowhere/else")
    with pytest.raises(gcheap.OptionError, match=f"^{name.lower()}: cannot write"):
        gcheap.Heap("1MiB", **{name.lower(): other})


@pytest.mark.parametrize(("name", "text"), [
    ("CAPACITY", "99TiB"), ("CAPACITY", "16MiB"), ("CAPACITY", "min"),
    ("LOG", "gc*:/nowhere/at/all"), ("TRACE", "/nowhere/at/all.json")])
def test_a_command_names_it_as_well(monkeypatch, capsys, name, text):
    monkeypatch.setenv(f"GCHEAP_{name}", text)
    assert cli.main(["stress", "--seconds", "0.01"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith(f"gcheap: GCHEAP_{name}")


def test_a_backend_that_is_not_there_is_called_by_the_variable(monkeypatch):
    monkeypatch.setattr(probe, "probe", lambda: SimpleNamespace(
        move_works=False, copy_works=True, backend="copy", why="not on this kernel"))
    monkeypatch.setenv("GCHEAP_BACKEND", "move")
    with pytest.raises(gcheap.OptionError, match="^GCHEAP_BACKEND='move' is not available"):
        gcheap.Heap("1MiB")


@pytest.mark.parametrize("words", [[], ["--trace", "x.json"]])
def test_one_trace_for_two_heaps_is_refused_by_its_name(monkeypatch, capsys, words):
    monkeypatch.setenv("GCHEAP_TRACE", "x.json")
    assert cli.main(["stress", "churn", "trees", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gcheap: {'--trace' if words else 'GCHEAP_TRACE'}: each workload")


# ---- numbers as text -------------------------------------------------------------------------

# The last is 16 in full-width digits.
@pytest.mark.parametrize("text", ["1_6", " 16", "16 ", "+16", "0x10", "16.0", "", "\uff11\uff16"])
def test_an_integer_is_plain_digits(monkeypatch, capsys, text):
    monkeypatch.setenv("GCHEAP_UNIT_PAGES", text)
    with pytest.raises(gcheap.OptionError, match="^GCHEAP_UNIT_PAGES=.*digits 0 to 9"):
        resolve({})
    monkeypatch.delenv("GCHEAP_UNIT_PAGES")
    for flag in ("--unit-pages", "--mutators", "--seed"):
        with pytest.raises(SystemExit) as caught:
            cli.main(["stress", f"{flag}={text}"])
        error = capsys.readouterr().err
        assert caught.value.code == 2 and flag in error and error.count("\n") == 1


@pytest.mark.parametrize("words", [
    ["stress", "--seconds", "1_0"], ["stress", "--seconds", "\uff11"],
    ["stress", "--policy", "factor:1_6"], ["bench", "lbo", "--heaps", "1_0,2"],
    ["bench", "peers", "--heap", "\uff12"]])
def test_so_are_other_numbers(capsys, words):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2 and capsys.readouterr().err.count("\n") == 1
