"""Workloads of somebody else's: the example project, and entry points that are wrong."""
from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support import HOME, ROOT
from workload_support import Driven, configured, exercise

from gcheap import cli, workloads
from gcheap import errors as gcheap_errors
from gcheap.errors import OptionError
from gcheap.tools import workload_arguments
from gcheap.workloads import Workload, find, session_of
from gcheap.workloads.plain import PlainWorker

EXAMPLE = ROOT / "examples" / "workload_plugin"
PAGE = ROOT / "docs" / "how-to" / "add-a-workload.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A directory into which the example was installed, by pip."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    if importlib.util.find_spec("Cython") is None:
        pytest.skip("Cython is not installed")
    # As the page has it; the rest is so that it lands in a directory of its own.
    documented, = re.findall(r"^pip install (.*) examples/workload_plugin$", PAGE.read_text(),
                             re.MULTILINE)
    project = tmp_path_factory.mktemp("project") / "plugin"
    shutil.copytree(EXAMPLE, project)
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *documented.split(), "--quiet", "--no-deps",
         "--no-index", "--target", str(target), str(project)],
        capture_output=True, text=True, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def gcheap(target, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path[:0] = sys.argv[1:3]; "
         "from gcheap.cli import main; sys.exit(main(sys.argv[3:]))", HOME, str(target),
         *arguments], capture_output=True, text=True, cwd=target)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.xdist_group("plug-in")         # one installation
def test_installed_workloads_are_listed(installed):
    rows = {row["name"]: row for row in json.loads(gcheap(
        installed, "stress", "--list", "--json", "-"))["workloads"]}
    assert rows["accounts"]["settings"][0]["name"] == "most"
    assert rows["ring"]["least_bytes"] == 16 << 10


@pytest.mark.xdist_group("plug-in")
@pytest.mark.parametrize(("name", "fact"), [("accounts", "entries"), ("ring", "rounds")])
def test_installed_workloads_run(installed, name, fact):
    document = json.loads(gcheap(
        installed, "stress", name, "--live", "512KiB", "--seconds", "0.3", "--mutators", "2",
        "--verify", "3", "--collect-every", "2000", "--json", "-"))
    assert document["verified"] is True, document["failure"]
    assert document["facts"][fact] > 0 and document["ops"] > 0


# ---- in this process ---------------------------------------------------------------------------

@pytest.fixture
def accounts(monkeypatch):
    """The workload in Python, registered as if it had been installed."""
    spec = importlib.util.spec_from_file_location("accounts", EXAMPLE / "accounts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(workloads.WORKLOADS, "accounts", module.WORKLOAD)
    return module


def test_plain_python_loses_nothing(accounts, combination, seed):
    outcome = exercise(configured("accounts", seed=seed, verify=3), **combination)
    assert outcome.error is None and outcome.failures == [] and outcome.audited
    assert outcome.facts["entries"] > 0


def test_plain_python_sees_damage(accounts):
    with Driven("accounts") as driven:
        driven.run()
        assert driven.audit() == 0, driven.failure
        driven.damage("amount")
        assert driven.audit() > 0
        assert "account 0 has" in driven.failure
        with pytest.raises(ValueError, match="'nothing' is not in"):
            driven.damage("nothing")


def test_an_exception_of_a_workload_ends_the_run(monkeypatch):
    class Broken(PlainWorker):
        def operation(self):
            raise LookupError("of the workload")

    monkeypatch.setitem(workloads.WORKLOADS, "broken",
                        Workload("broken", "nothing", session_of(lambda: Broken)))
    outcome = exercise(configured("broken"))
    assert isinstance(outcome.error, LookupError) and not outcome.audited


@pytest.mark.parametrize("error", [LookupError("\x1b[31mred"), OSError(5, "\x1b[31mred"),
                                   gcheap_errors.HeapClosed("\x1b[31mred")])
def test_an_exception_is_shown_with_its_place_and_without_escapes(monkeypatch, capsys, error):
    class Broken(PlainWorker):
        def operation(self):
            raise error

    monkeypatch.setitem(workloads.WORKLOADS, "broken",
                        Workload("broken", "nothing", session_of(lambda: Broken)))
    assert cli.main(["stress", "broken", "--seconds", "0.1", "--live", "1MiB"]) == 1
    said = capsys.readouterr()
    assert "Traceback" in said.err and "in operation" in said.err and "\x1b" not in said.err
    last = said.err.splitlines()[-1]
    assert last.startswith(f"gcheap: broken: {type(error).__name__}: ") and r"\x1b[31mred" in last


def loading(result):
    def load():
        if isinstance(result, Exception):
            raise result
        return result
    return SimpleNamespace(name="foreign", value="module:NAME", load=load)


@pytest.mark.parametrize(("result", "told"), [
    (ImportError("no such module"), "module:NAME cannot be loaded: ImportError: no such module"),
    (42, "module:NAME is int, not a gcheap.workloads.Workload"),
])
def test_an_entry_point_that_is_wrong_is_told(monkeypatch, result, told):
    monkeypatch.setitem(workloads.WORKLOADS, "foreign", loading(result))
    with pytest.raises(OptionError, match=told):
        find("foreign")
    assert told in workload_arguments.document()[-1]["error"]
    names = {str(cell) for cell in workload_arguments.table().columns[0].cells}
    assert {"churn", "foreign"} <= names


def test_a_plug_in_cannot_take_a_name(monkeypatch):
    monkeypatch.setattr(workloads, "entry_points", lambda group: [
        SimpleNamespace(name="churn"), SimpleNamespace(name="other")])
    registry = workloads._registry()
    assert isinstance(registry["churn"], Workload) and registry["other"].name == "other"
