"""The Lox programs of programs/ and what their comments expect.

    // expect: TEXT                        a line on standard output
    // expect runtime error: MESSAGE       status 70, and the trace begins at this line
    // expect runtime error 7: MESSAGE     the same at line 7
    // expect trace: [line 7] in f()       all lines of the trace, when they matter
    // Error at 'x': MESSAGE               status 65, an error at this line
    // [line 7] Error at end: MESSAGE      the same at line 7

All errors of a program that does not compile have to be there, in order, and nothing else.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent / "programs"
THREADS = "threads"         # a folder of programs that `evaluator` has no natives for
NATIVES = "natives"         # another

_EXPECT = re.compile(
    r"// (?:expect: ?(?P<out>.*)"
    r"|expect runtime error(?: (?P<at>\d+))?: (?P<message>.*)"
    r"|expect trace: (?P<trace>.*)"
    r"|(?P<error>(?:\[line \d+\] )?Error(?: at .*?)?: .*))$")


@dataclass(frozen=True)
class Expected:
    status: int
    out: str
    errors: tuple[str, ...]     # stderr begins with these lines
    whole: bool                 # and has no others


def names(*folders: str) -> list[str]:
    """The programs, as "folder/name"."""
    found = sorted(str(path.relative_to(PROGRAMS).with_suffix(""))
                   for path in PROGRAMS.rglob("*.lox"))
    return [name for name in found if not folders or name.partition("/")[0] in folders]


def source_of(name: str) -> str:
    return (PROGRAMS / f"{name}.lox").read_text(encoding="utf-8")


def expected_of(source: str) -> Expected:
    out, compiling, running, trace = [], [], [], []
    for number, line in enumerate(source.split("\n"), 1):
        match = _EXPECT.search(line)
        if match is None:
            continue
        if match["out"] is not None:
            out.append(match["out"] + "\n")
        elif match["message"] is not None:
            running += [match["message"], f"[line {match['at'] or number}] in "]
        elif match["trace"] is not None:
            trace.append(match["trace"])
        else:
            error = match["error"]
            compiling.append(error if error.startswith("[") else f"[line {number}] {error}")
    if compiling:
        return Expected(65, "", tuple(compiling), True)
    if trace:
        running[1:] = trace
    return Expected(70 if running else 0, "".join(out), tuple(running), bool(trace) or not running)


def check(expected: Expected, status: int, out: str, err: str) -> None:
    """Fails with both when a run is not what was expected."""
    seen = err.splitlines()
    assert (status, out) == (expected.status, expected.out), err
    assert len(seen) == len(expected.errors) if expected.whole else len(seen) > 1
    for line, begin in zip(seen, expected.errors, strict=False):
        assert line == begin if expected.whole else line.startswith(begin)
