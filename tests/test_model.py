"""The Promela models of tests/model, searched exhaustively by spin; and every mutant of them fails.

Each model says at its head what it stands for, what it leaves out and why.  Here stands what is
run.  An error in a model leaves a counterexample, which the test prints.  See
docs/explanation/model.md.
"""
from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import ROOT

pytestmark = pytest.mark.model

MODELS = ROOT / "tests" / "model"
NAMES = sorted(path.stem for path in MODELS.glob("*.pml"))
LEAST_STATES = 500_000          # fewer: something keeps the model from doing what it did
LEAST_LIVENESS = 1000           # without going round for ever there are few
SLOTS = 24                      # of the hash table of states: 2^24, 128 MiB


@dataclass(frozen=True)
class Answer:
    """What one search said."""

    output: str
    states: int
    error: str | None           # as the table of mutants calls it; None: no error
    trail: str                  # the counterexample

    @property
    def complete(self) -> bool:
        doubts = ("max search depth too small", "bitstate", "hash-compact", "out of memory",
                  "search not completed", "aborted", "truncated")
        return "Full statespace search" in self.output and not any(
            doubt in self.output.lower() for doubt in doubts)


def run(*command: str, at: Path) -> str:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def search(model: str, at: Path, *defines: str, liveness: bool = False,
           quick: bool = False, slots: int = SLOTS) -> Answer:
    """Searches all states of a model in the directory `at`; a first error ends the search.

    `quick`: an error is expected, soon.  Then what takes time is to compile; and the search is by
    breadth, where a model lets it be, so that the error is the one with the shortest trail.
    """
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here: the models need it (Debian: apt-get install {tool})")
    source = f"{model}.pml"
    for file in (source, "reached.h"):
        shutil.copy(MODELS / file, at)
    flags = [f"-D{name}" for name in defines]
    run("spin", "-a", *flags, source, at=at)
    # NFAIR: two bits for each process, so that weak fairness knows all of them.
    kind = ["-DNFAIR=3"] if liveness else ["-DSAFETY", "-DNOCLAIM"]
    if quick and not re.search(r"^hidden ", (at / source).read_text(), re.M):
        kind.append("-DBFS")
    run("gcc", "-O0" if quick else "-O2", "-w", "-DCOLLAPSE", *kind, "-o", "pan", "pan.c", at=at)
    output = run("./pan", "-m1000000", f"-w{slots}", *(["-a", "-f"] if liveness else []), at=at)
    found = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+) states, stored", output)
    assert found and states, output
    error, trail = None, ""
    if int(found.group(1)):
        trail = subprocess.run(["spin", "-t", "-p", "-g", *flags, source], cwd=at,
                               capture_output=True, text=True).stdout
        error = name_of_error(model, output, trail)
    return Answer(output, int(states.group(1)), error, trail)


def name_of_error(model: str, output: str, trail: str) -> str:
    """`asleep`, `for ever`, or what the comment behind the failed assertion says."""
    if "invalid end state" in output.split("\n(Spin")[0]:
        return "asleep"
    if "acceptance cycle" in output.split("\n(Spin")[0]:
        return "for ever"
    place = re.search(rf"{model}\.pml:(\d+), Error: assertion violated", trail)
    assert place, output + trail
    return assertions(model)[int(place.group(1))]


def assertions(model: str) -> dict[int, str]:
    """The lines of the assertions, and what the comment behind each calls it."""
    names, begun = {}, []
    for number, line in enumerate((MODELS / f"{model}.pml").read_text().splitlines(), 1):
        if begun or re.search(r"\bassert\(", line):
            begun.append(number)
            if name := re.search(r"/\* (\w+)", line.rpartition("assert(")[2]):
                names |= dict.fromkeys(begun, name.group(1))
                begun = []
    assert not begun, f"{model}.pml:{begun[0]}: an assertion without a name"
    return names


def lines_marked(model: str) -> set[int]:
    """The numbers of the lines that the search must reach: see reached.h."""
    return {number for number, line in enumerate(
        (MODELS / f"{model}.pml").read_text().splitlines(), 1) if re.search(r"\bREACHED\b", line)}


def lines_reached(output: str) -> set[int]:
    return {int(number) for number in re.findall(r"^reached (\d+)$", output, re.M)}


def check_sound(model: str, at: Path, *defines: str, slots: int = SLOTS) -> Answer:
    answer = search(model, at, *defines, slots=slots)
    assert answer.error is None, f"{model}: {answer.error}\n{answer.output}\n{answer.trail}"
    assert answer.complete, answer.output
    assert answer.states > LEAST_STATES, answer.output
    return answer


# ---- the models hold ---------------------------------------------------------------------

@pytest.mark.parametrize("model", NAMES)
def test_a_model_holds_in_every_state(model, tmp_path):
    answer = check_sound(model, tmp_path, "TELL")
    # What it never gets to, it says nothing about.
    marked = lines_marked(model)
    assert marked, f"no line of {model}.pml is marked REACHED"
    assert lines_reached(answer.output) == marked


def test_every_waiter_goes_on(tmp_path):
    """Not only is nobody asleep for good: nobody goes round for ever."""
    answer = search("waiting", tmp_path, "LIVENESS", liveness=True)
    assert answer.error is None, answer.output + answer.trail
    assert answer.complete and "acceptance   cycles \t+ (fairness enabled)" in answer.output
    assert answer.states > LEAST_LIVENESS


# ---- and could fail ----------------------------------------------------------------------

# What is wrong with a mutant, and which assertion must say so (or `asleep`: an end state in which
# somebody waits for good).  What follows a mutant's name narrows the search down to where it shows.
MUTANTS = {
    "units": {
        "NO_CAS": "I2",
        "FREE_ASSEMBLED": "I3",
        "CURSOR": "I3",
        "STRAY_ALWAYS": "I6",
        "SHORT_IS_WHOLE": "I7",
        "SHORT_RESTARTS": "I6",          # it drops what it has placed for a stray page
        "ASSEMBLE_TWICE LAYOUT=DENSE": "I7",
        "EEXIST_IS_PLACED": "I7",
        "GIVE_BACK_USED LAYOUT=DEAD": "I2",
    },
    "window": {
        "FLIP_FIRST": "I6",
        "UNREGISTER_EARLY": "I6",
        "EMPTY_FIRST": "I6",
        "EMPTY_EARLY": "I3",
        "KEEP_ROOT": "I1",
        "FLIP_RUNNING": "I1",
        "FINISH_LATE": "fatal",
        "SERVING_LATE": "late",
        "SERVED_LATE": "late",
        "REFUSED_COUNTS": "fatal",       # as the code was until this model was made
        "LATE_STRANGER": "late",
    },
    "satb": {
        "NO_BARRIER": "snapshot",
        "LOG_NEW": "snapshot",
        "WRITE_FIRST": "snapshot",
        "OPEN_LOGS": "snapshot",
        "FULL_DROPPED": "snapshot",
        "LATE_ROOTS": "snapshot",
        "NO_TRACE": "snapshot",
        "WHITE": "reachable",
        "MARK_AGAIN": "termination",
    },
    "team": {
        "NO_WIN": "once",
        "STILL_WAITS": "idle",
        "KEEP_ENTRIES": "idle",
        "NO_SECOND_LOOK WIDE": "parcels",
        "STOP_UNSAID": "complete",
        "NO_RING": "asleep",
        "SEEN_LATE": "asleep",
        "LATE_SLEEPER": "asleep",
    },
    "safepoint": {
        "NO_FENCE": "I5",
        "NO_RECHECK": "I5",
        "PARK_ONCE": "I5",
        "NO_ARRIVAL": "asleep",
        "NO_SECOND_LOOK": "asleep",
        "NO_RESUME_WAKE": "asleep",
        "GIL_RUNNING": "asleep",
    },
    "waiting": {
        "NO_WAKE": "asleep",
        "NO_EVENT": "asleep",
        "NO_FENCE": "asleep",
        "ONE_LOOK": "asleep",
        "LATE_ANNOUNCE": "asleep",
        "STATE_FIRST": "asleep",
        "STILL_COUNTED": "I2",
    },
}


@pytest.mark.parametrize(("model", "mutant"), [
    pytest.param(model, mutant, id=f"{model}-{mutant.replace(' ', '-')}")
    for model, mutants in MUTANTS.items() for mutant in mutants])
def test_a_mutant_breaks_what_it_should(model, mutant, tmp_path):
    answer = search(model, tmp_path, *f"MUTATE_{mutant}".split(), quick=True)
    assert answer.error == MUTANTS[model][mutant], answer.output


# ---- the models and what they stand for --------------------------------------------------

def head_of(model: str) -> str:
    """The essay, without its margin."""
    return re.sub(r"\s*\n \*", " ", (MODELS / f"{model}.pml").read_text().split("*/")[0])


@pytest.mark.parametrize("model", NAMES)
def test_every_mutant_of_a_model_is_tried(model):
    source = (MODELS / f"{model}.pml").read_text()
    declared = re.findall(r"^#ifn?def MUTATE_(\w+)", source, re.M)
    assert set(declared) == {mutant.split()[0] for mutant in MUTANTS[model]}


@pytest.mark.parametrize("model", NAMES)
def test_every_invariant_of_a_model_is_broken_by_a_mutant(model):
    assert set(assertions(model).values()) <= set(MUTANTS[model].values())


@pytest.mark.parametrize("model", NAMES)
def test_a_model_names_code_that_exists(model):
    stands_for = re.search(r"Stands for: (.+?)\.  ", head_of(model) + "  ", re.S).group(1)
    named = re.findall(r"([\w/]+\.(?:pyx|pxd|h))(?: \(([\w\s,]+)\))?", stands_for)
    assert named
    for path, functions in named:
        file = ROOT / (path if "/" in path else f"gcheap/core/{path}")
        text = file.read_text()
        for function in re.findall(r"\w+", functions):
            assert re.search(rf"\b{function}\(", text), f"{path} has no {function}"


# ---- larger ones, for a long evening -----------------------------------------------------

LARGER = {
    "units": [("MUTATORS=3", "LAYOUT=SLIDE"), ("MUTATORS=3", "LAYOUT=DENSE"),
              ("MUTATORS=3", "LAYOUT=BLACK")],
    "safepoint": [("PAUSES=2",)],
    "team": [("WIDE",)],
}


@pytest.mark.soak("a search of many million states")
@pytest.mark.parametrize(("model", "defines"), [
    pytest.param(model, defines, id="-".join((model, *defines)))
    for model, variants in LARGER.items() for defines in variants])
def test_a_larger_model_holds(model, defines, tmp_path):
    check_sound(model, tmp_path, *defines, slots=26)
