"""Failpoints as text: GCHEAP_FAILPOINTS, and the same in a test.

    settings = setting { ";" setting }
    setting  = point "=" action [ "*" times ] [ "@" key "=" number { "," key "=" number } ]
    point    = a failpoint's name, or "explore": all of them
    action   = "pause" | "delay(" time [ ".." time ] ")" | "errno(" NAME ")" | "short(" pages ")"
    time     = "0" | number ( "ns" | "us" | "ms" | "s" )
    key      = "after": the first arrival, from 1, to which the action applies
             | "seed": of a range of delays | "share": of arrivals that `explore` delays

    place.move=errno(EBUSY)*3;flip.after=delay(2ms);mutator.claimed=delay(0..500us)@seed=7
    explore=delay(0..200us)@seed=7,share=0.25

Blanks are allowed around a setting, nowhere else.  Without `*` an action applies always.
"""
from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from gcheap import failpoints
from gcheap.errors import GcheapError, OptionError

VARIABLE = "GCHEAP_FAILPOINTS"
EXPLORE = "explore"
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_SETTING = re.compile(
    r"(?P<point>[a-z]+(?:\.[a-z]+)?)=(?P<action>[a-z]+)(?:\((?P<argument>[^()]*)\))?"
    r"(?:\*(?P<times>\d{1,10}))?(?:@(?P<keys>.*))?", re.ASCII)
_TIME = re.compile(r"(\d{1,20}(?:\.\d{1,9})?)(ns|us|ms|s)", re.ASCII)
_KEY = re.compile(r"([a-z]+)=(\d{1,20}(?:\.\d{1,20})?)", re.ASCII)
_FORM = ("expected POINT=ACTION[*TIMES][@KEY=NUMBER,...] with the action pause, delay(2ms), "
         "delay(0..500us), errno(EBUSY) or short(3)")

Armable = failpoints.Failpoint | failpoints.explore


def _time(text: str) -> int:
    if text == "0":
        return 0
    match = _TIME.fullmatch(text)
    ns = float(match[1]) * _UNITS[match[2]] if match else -1.0
    if match and "." not in match[1]:
        ns = int(match[1]) * _UNITS[match[2]]
    if ns < 0 or ns != int(ns):
        raise ValueError(f"{text!r} is no time: expected a number with ns, us, ms or s, and whole "
                         f"nanoseconds")
    return int(ns)


def _keys(text: str | None, allowed: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in [] if text is None else text.split(","):
        match = _KEY.fullmatch(part)
        if match is None or match[1] not in allowed or match[1] in found:
            raise ValueError(f"{part!r} after @: expected {' or '.join(allowed)} once each, as in "
                             f"{allowed[0]}=7")
        found[match[1]] = match[2]
    return found


def _whole(keys: dict[str, str], name: str, default: int) -> int:
    text = keys.get(name, str(default))
    if not text.isdecimal():
        raise ValueError(f"{name}={text}: expected a whole number")
    return int(text)


def _exploring(match: re.Match[str]) -> failpoints.explore:
    low, dots, high = (match["argument"] or "").partition("..")
    if match["action"] != "delay" or match["times"] or not dots or _time(low) != 0:
        raise ValueError("explore takes delay(0..TIME), and no *")
    keys = _keys(match["keys"], ("seed", "share"))
    seed = _whole(keys, "seed", 0) if "seed" in keys else None
    return failpoints.explore(seed, ns=_time(high), share=float(keys.get("share", "0.1")))


def _point(match: re.Match[str]) -> failpoints.Failpoint:
    name, action, argument = match["point"], match["action"], match["argument"]
    ranged = action == "delay" and ".." in (argument or "")
    keys = _keys(match["keys"], ("after", "seed") if ranged else ("after",))
    times = None if match["times"] is None else int(match["times"])
    after = _whole(keys, "after", 1)
    if action not in ("pause", "delay", "errno", "short"):
        raise ValueError(f"unknown action {action!r}; {_FORM}")
    if (argument is None) != (action == "pause"):
        raise ValueError(_FORM)
    if action == "pause":
        return failpoints.pause(name, times, after=after)
    if action == "delay":
        low, dots, high = argument.partition("..")
        return failpoints.delay(name, _time(low), times, after=after,
                                most_ns=_time(high) if dots else None,
                                seed=_whole(keys, "seed", 0))
    if action == "errno":
        number = getattr(errno, argument, None) if argument.isupper() else None
        if number is None:
            raise ValueError(f"errno({argument}): expected a name such as EBUSY")
        return failpoints.fail(name, number, times, after=after)
    if not (argument.isascii() and argument.isdecimal()):
        raise ValueError(f"short({argument}): expected a number of pages")
    return failpoints.short(name, int(argument), times, after=after)


def parse(text: str, label: str = "failpoints") -> list[Armable]:
    """What `text` says, not yet armed; nothing when it is blank.

    Raises OptionError naming `label` for anything that is not of the form above.
    """
    found: list[Armable] = []
    if not isinstance(text, str):
        raise OptionError(f"{label}={text!r}: expected a string")
    seen = set()
    for setting in text.split(";") if text.strip() else []:
        match = _SETTING.fullmatch(setting.strip())
        try:
            if match is None:
                raise ValueError(_FORM)
            if match["point"] in seen:
                raise ValueError(f"{match['point']} is set twice")
            seen.add(match["point"])
            found.append(_exploring(match) if match["point"] == EXPLORE else _point(match))
        except ValueError as error:
            raise OptionError(f"{label}={setting.strip()!r}: {error}") from None
    return found


@contextmanager
def armed(text: str) -> Iterator[list[Armable]]:
    """Arms what `text` says for the length of the block."""
    with ExitStack() as stack:
        yield [stack.enter_context(point) for point in parse(text)]


def arm_environment(environ: Mapping[str, str] = os.environ) -> None:
    """Arms what GCHEAP_FAILPOINTS says, until the process ends.  Raises OptionError."""
    try:
        for point in parse(environ.get(VARIABLE, ""), VARIABLE):
            point.__enter__()
            if isinstance(point, failpoints.explore):
                print(f"gcheap: exploring schedules: {VARIABLE}='explore=delay(0..{point.ns}ns)"
                      f"@seed={point.seed},share={point.share}'", file=sys.stderr)
    except GcheapError as error:
        failpoints._let_go()
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"{VARIABLE} is set, but {error}") from None
