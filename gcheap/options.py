"""Options as data: one table, from which come validation, GCHEAP_* and the command line.

Imports nothing of gcheap but errors and what they show, so that every layer may read it.
"""
from __future__ import annotations

import difflib
import inspect
import operator
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gcheap.errors import OptionError
from gcheap.text import shown

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
          "kb": 10**3, "mb": 10**6, "gb": 10**9, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"\s*(\d{1,30}(?:\.\d{1,30})?)\s*([a-zA-Z]{0,4})\s*", re.ASCII)
_DIGITS = re.compile(r"-?[0-9]{1,4000}")
MINIMUM = "min"
OFF = "off"
TLAB_BYTES = 65536              # of a heap whose units are not larger
_HOW = 'expected a positive number of bytes such as 67108864 or "64MiB"'


def parse_size(value: int | str, name: str = "size") -> int:
    """Bytes of `value`: an int, or a string such as "64MiB" (k, m, g, KiB … TiB, KB … GB).

    Raises OptionError for anything that is not a positive, whole number of bytes.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None or match[2].lower() not in _UNITS:
            raise OptionError(f"{name}={shown(value)}: {_HOW}")
        exact = Fraction(match[1]) * _UNITS[match[2].lower()]
        if exact.denominator != 1:
            raise OptionError(f"{name}={shown(value)}: not a whole number of bytes; {_HOW}")
        nbytes = int(exact)
    else:
        number = _index(value)
        if number is None:
            raise OptionError(f"{name}={shown(value)}: {_HOW}")
        nbytes = number
    if nbytes <= 0:
        raise OptionError(f"{name}={shown(value)}: {_HOW}")
    if nbytes >= 2**63:
        raise OptionError(f"{name}={shown(value)}: larger than any address space; {_HOW}")
    return nbytes


def format_size(nbytes: int) -> str:
    """`nbytes` in the largest binary unit that keeps it at least 1: "64 MiB", "1.5 GiB"."""
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.1f}".rstrip("0").rstrip(".") + f" {unit}"


def _index(value: Any) -> int | None:
    """What `value` is as an integer; None if it is none, and of a bool."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def plain_int(text: str) -> int:
    """The integer that is written in digits 0 to 9, perhaps after a minus sign; ValueError for
    what Python takes besides: "1_6", blanks, the digits of every script."""
    if not _DIGITS.fullmatch(text):
        raise ValueError(text)
    return int(text)


def plain_float(text: str) -> float:
    """The same for other numbers, with blanks around them."""
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return float(text)


def _integer(value: Any, name: str) -> int:
    if isinstance(value, str):
        try:
            return plain_int(value)
        except ValueError:
            raise OptionError(f"{name}={shown(value)}: expected an integer, in digits 0 to 9"
                              ) from None
    number = _index(value)
    if number is None:
        raise OptionError(f"{name}={shown(value)}: expected an integer")
    return number


def _policy(value: Any, name: str) -> Any:
    # At first use, because that module takes parse_size from this one.
    from gcheap.policy import parse_policy

    return parse_policy(value, name)


def _log(value: Any, name: str) -> str:
    """The text, once it is known to be understood; the log parses it again."""
    from gcheap.log.selection import parse_log

    parse_log(_text(value, name), name)
    return value


def _trace(value: Any, name: str) -> str:
    from gcheap.trace.target import parse_target

    value = os.fsdecode(value) if isinstance(value, (bytes, os.PathLike)) else value
    parse_target(_text(value, name), name)
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise OptionError(f"{name}={shown(value)}: expected a string")
    return value


def _capacity(value: Any, name: str) -> int | str:
    """A size, or "min"; `resolve` knows which size that is."""
    return MINIMUM if isinstance(value, str) and value == MINIMUM else parse_size(value, name)


@dataclass(frozen=True)
class Between:
    """The type of an option that takes a whole number from `least` to `most`."""

    least: int
    most: int

    def __call__(self, value: Any, name: str) -> int:
        number = _integer(value, name)
        if not self.least <= number <= self.most:
            raise OptionError(
                f"{name}={shown(value)}: expected a whole number from {self.least} to {self.most}")
        return number


def least_capacity(unit_pages: int) -> int:
    """Bytes of the smallest heap with units of so many pages: four TLABs."""
    return 4 * max(unit_pages * os.sysconf("SC_PAGE_SIZE"), TLAB_BYTES)


# Readable: what an option's type is called, and what it accepts.
_KINDS: dict[Any, tuple[str, str]] = {
    _capacity: ("size", 'bytes, text such as "64MiB", or "min": the smallest that works'),
    parse_size: ("size", 'bytes, or text such as "64MiB"'),
    _integer: ("integer", "any"),
    _text: ("text", "any"),
    _policy: ("policy", "a policy of gcheap.policy, or its text"),
    _log: ("log", 'selectors such as "gc*" or "gc*=debug:file=PATH", or "off"'),
    _trace: ("trace", '"1", a path that ends in .json, .pftrace or .perfetto-trace, or "off"'),
}


@dataclass(frozen=True)
class Option:
    """One option of a heap.

    `type` turns a given value (or the text of the environment variable `env`) into the
    option's own; then it must be one of `choices`, where there are any.
    """

    name: str
    type: Callable[[Any, str], Any]
    default: Any
    env: str
    help: str
    choices: tuple[Any, ...] = ()

    @property
    def kind(self) -> str:
        """What the type is called: "size", "integer", "text" …"""
        if isinstance(self.type, Between):
            return "integer"
        return _KINDS.get(self.type, (self.type.__name__.strip("_"), ""))[0]

    @property
    def accepted(self) -> str:
        """The range or the choices, for people."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        if isinstance(self.type, Between):
            return f"{self.type.least} to {self.type.most}"
        return _KINDS.get(self.type, ("", "any"))[1]

    def validate(self, value: Any, label: str | None = None) -> Any:
        """The accepted form of `value`; OptionError naming `label` otherwise."""
        label = label or self.name
        value = self.type(value, label)
        if self.choices and value not in self.choices:
            accepted = ", ".join(map(str, self.choices))
            raise OptionError(f"{label}={shown(value)}: expected one of {accepted}")
        return value


def _option(name: str, kind: Callable[[Any, str], Any], default: Any, text: str,
            choices: tuple[Any, ...] = ()) -> Option:
    return Option(name, kind, default, f"GCHEAP_{name.upper()}", text, choices)


DAY_MS = 86_400_000

OPTIONS: tuple[Option, ...] = (
    _option("capacity", _capacity, "64MiB",
            "most bytes of objects the heap may hold, headers included"),
    _option("backend", _text, "auto",
            "how units reach to-space: UFFDIO_MOVE, UFFDIO_COPY, or inside one pause",
            ("auto", "move", "copy", "stw")),
    _option("faults", _text, "sigbus",
            "who serves a fault on a page that has not arrived: the faulting thread, or a thread "
            "of the heap", ("sigbus", "handler")),
    _option("unit_pages", _integer, 16,
            "pages claimed, assembled and placed as one; 1: page by page",
            (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)),
    _option("batch_units", Between(0, 4096), 0,
            "most units the compactor places by one ioctl; 0: 256 pages' worth "
            "(1 if unit_pages is 1)"),
    _option("huge_pages", _text, "system",
            "transparent huge pages for raw arrays of 8 MiB and more: as the system has it, "
            "asked for, or refused", ("system", "always", "never")),
    _option("policy", _policy, "factor:3.0,minimum=16MiB",
            "how far the heap grows before a cycle: fixed (to its capacity), "
            "factor:F[,minimum=SIZE] times the live bytes, membalancer:C[,minimum=SIZE]"),
    _option("stall_warning_ms", Between(0, DAY_MS), 100,
            "an allocation stall that is longer is reported on standard error; 0: none is"),
    _option("idle_ms", Between(0, DAY_MS), 0,
            "a heap in which nothing was allocated for so long is collected once; 0: never"),
    _option("mark_threads", Between(1, 64), 1,
            "native threads that mark, the collector among them"),
    _option("fork", _text, "continue",
            "what a forked child has: the heap, as its own, or nothing", ("continue", "none")),
    _option("safepoint_warning_ms", Between(0, DAY_MS), 1000,
            "a pause that waits longer for a mutator names it on standard error; 0: never"),
    _option("pause_warning_ms", Between(0, DAY_MS), 100,
            "a pause that is longer is reported on standard error, unless cycles are verified; 0: "
            "none is"),
    _option("log", _log, OFF,
            "what is logged, in HotSpot's form, and where to; off: nothing"),
    _option("trace", _trace, OFF,
            "1: one line a cycle on standard error, in the manner of Go; a file: what each thread "
            "does, for ui.perfetto.dev; off: neither"),
    _option("verify", _integer, 0,
            "checks of each cycle, each level with those below it: 0 none, 1 counters, 2 every "
            "phase, 3 the full graph and an inaccessible old half, 4 marking again and comparing",
            (0, 1, 2, 3, 4)),
    _option("relocate", _text, "worth",
            "which cycles relocate that were not asked for explicitly: those that win a unit, "
            "or all", ("worth", "always")),
    _option("collect_every", Between(0, 2**32), 0,
            "stress: a full cycle at every so many allocations of a mutator; 1: it waits for the "
            "flip each time; 0: off"),
    _option("delay_placements_us", Between(0, 1_000_000), 0,
            "stress: microseconds that every placement in to-space waits; 0: none"),
)
BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}
_LEAST = {least_capacity(pages) for pages in BY_NAME["unit_pages"].choices}      # "min", resolved
_ELSEWHERE = {"GCHEAP_BUILD", "GCHEAP_NO_FAILPOINTS", "GCHEAP_NO_TRACING",     # read by setup.py
              "GCHEAP_FAILPOINTS"}                         # by failpoint_settings.py


def check_environment(environ: Mapping[str, str] = os.environ) -> None:
    """Raises OptionError for a GCHEAP_* variable that no option has."""
    known = {option.env for option in OPTIONS} | _ELSEWHERE
    for name in environ:
        if name.startswith("GCHEAP_") and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise OptionError(
                f"unknown environment variable {name}: gcheap knows "
                f"{', '.join(sorted(known))}{hint}")


def label_of(name: str, value: Any, environ: Mapping[str, str] = os.environ) -> str:
    """How a message calls an option that has this value: by its variable where that is what it
    says.  Commands resolve options before they make a heap, to which they are given ones then."""
    option = BY_NAME[name]
    if option.env in environ:
        with suppress(OptionError):
            said = option.validate(environ[option.env])
            if said == value or (said == MINIMUM and value in _LEAST):
                return option.env
    return name


def setting_of(name: str, value: Any, environ: Mapping[str, str] = os.environ) -> str:
    """The option as it was set: "capacity=5", "GCHEAP_CAPACITY='99TiB'"."""
    label = label_of(name, value, environ)
    return f"{label}={shown(value if label == name else environ[label])}"


def resolve(given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Every option's value: as given, else from the environment, else its default.

    Raises OptionError for an unknown name or a value that is not accepted.
    """
    for name in given:
        if name not in BY_NAME:
            close = difflib.get_close_matches(name, BY_NAME, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise OptionError(
                f"unknown option {shown(name)}: a heap takes {', '.join(BY_NAME)}{hint}")
    check_environment(environ)
    values = {}
    for option in OPTIONS:
        if given.get(option.name) is not None:
            values[option.name] = option.validate(given[option.name])
        elif option.env in environ:
            values[option.name] = option.validate(environ[option.env], option.env)
        else:
            values[option.name] = option.validate(option.default)
    if values["capacity"] == MINIMUM:
        values["capacity"] = least_capacity(values["unit_pages"])
    if values["batch_units"] * values["unit_pages"] > 4096:
        setting = setting_of("batch_units", values["batch_units"], environ)
        raise OptionError(f"{setting}: expected 0 to {4096 // values['unit_pages']} for units of "
                          f"{values['unit_pages']} pages")
    return values


def signature() -> inspect.Signature:
    """The signature of `gcheap.Heap`: every option, `capacity` by position too."""
    kinds = {"capacity": inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return inspect.Signature([
        inspect.Parameter(option.name, kinds.get(option.name, inspect.Parameter.KEYWORD_ONLY),
                          default=None)
        for option in OPTIONS])
