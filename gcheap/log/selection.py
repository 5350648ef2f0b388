"""What a log shows and where it goes: the text of the option `log`, in HotSpot's form.

    log        = "off" | one { ";" one }
    one        = what [ ":" output [ ":" decorators ] ]
    what       = selector { "," selector }
    selector   = ( "all" | tag { "+" tag } [ "*" ] ) [ "=" level ]
    level      = "off" | "error" | "warning" | "info" | "debug" | "trace"
    output     = "" | "stderr" | "stdout" | "file=" PATH | PATH
    decorators = decorator { "," decorator }: time, uptime, pid, heap, level, tags

    gc                          the summary of each cycle, and stalls
    gc*                         whatever has the tag gc
    gc*=debug:file=gc-%p.log    more of it, in a file whose name has the process in it
    gc*,safepoint;gc:stderr     two outputs

A selector without "*" means lines with exactly its tags; of several that match the last counts.
PATH has neither colons nor semicolons; %p in it is the process, %h the heap's number.  Without an
output it is standard error.

Source: HotSpot's `java -Xlog:help`.
"""
from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass

from gcheap.errors import OptionError
from gcheap.text import shown

OFF = "off"
LEVELS = ("off", "error", "warning", "info", "debug", "trace")      # each with those before it
TAG_SETS = ("gc", "gc,start", "gc,phases", "gc,heap", "gc,reloc", "gc,uffd", "gc,mmu",
            "gc,stalls", "gc,init", "safepoint")
DECORATORS = ("time", "uptime", "pid", "heap", "level", "tags")
DEFAULT_DECORATORS = ("uptime", "level", "tags")
_TAGS = sorted({tag for tags in TAG_SETS for tag in tags.split(",")})
_SELECTOR = re.compile(r"([a-z]+(?:\+[a-z]+)*)(\*?)(?:=([a-z]+))?", re.ASCII)


@dataclass(frozen=True)
class LogOutput:
    """One output of a log.

    levels       tag set -> level (one of LEVELS) up to which its lines are shown
    target       "stderr", "stdout", or a path in which %p and %h are not replaced yet
    decorators   those of DECORATORS in front of each line, in that order
    """

    levels: dict[str, str]
    target: str
    decorators: tuple[str, ...]

    def shows(self, level: str, tags: str) -> bool:
        return LEVELS.index(level) <= LEVELS.index(self.levels[tags])


def path_of(target: str, heap: int) -> str:
    """The path for a heap of this process."""
    return target.replace("%p", str(os.getpid())).replace("%h", str(heap))


def parse_log(text: str, label: str = "log") -> list[LogOutput]:
    """The outputs that `text` names; none for "off".  OptionError naming `label` for what is not of
    the form above."""
    if text.strip() == OFF:
        return []
    try:
        return [_output(one) for one in text.split(";")]
    except ValueError as error:
        raise OptionError(f"{label}={shown(text)}: {error}") from None


def _output(text: str) -> LogOutput:
    what, _, rest = text.strip().partition(":")
    target, _, decorators = rest.partition(":")
    levels = dict.fromkeys(TAG_SETS, OFF)
    for selector in what.split(","):
        levels |= _selected(selector)
    return LogOutput(levels, _target(target), _decorators(decorators))


def _selected(text: str) -> dict[str, str]:
    match = _SELECTOR.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is no selector: expected tags and a level, such as gc*, "
                         "gc+heap=debug or all; or off alone")
    level = match[3] or "info"
    if level not in LEVELS:
        raise ValueError(f"level {level!r}: expected one of {', '.join(LEVELS)}")
    if match[1] == "all" and not match[2]:
        return dict.fromkeys(TAG_SETS, level)
    wanted = match[1].split("+")
    for tag in wanted:
        if tag not in _TAGS:
            close = difflib.get_close_matches(tag, [*_TAGS, "all"], 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"tag {shown(tag)}: there are {', '.join(_TAGS)}, and all{hint}")
    found = [tags for tags in TAG_SETS
             if (set(wanted) <= set(tags.split(",")) if match[2]
                 else set(wanted) == set(tags.split(",")))]
    if not found:
        raise ValueError(f"no lines have the tags {match[1]}{match[2]}: there are "
                         f"{', '.join(tags.replace(',', '+') for tags in TAG_SETS)}")
    return dict.fromkeys(found, level)


def _target(text: str) -> str:
    if text in ("", "stderr"):
        return "stderr"
    if text == "stdout":
        return text
    path = text.removeprefix("file=")
    if not path or "\0" in path:
        raise ValueError(f"output {shown(text)}: expected stderr, stdout or file=PATH")
    return path


def _decorators(text: str) -> tuple[str, ...]:
    wanted = text.split(",") if text else DEFAULT_DECORATORS
    for name in wanted:
        if name not in DECORATORS:
            raise ValueError(f"decorator {shown(name)}: expected some of {', '.join(DECORATORS)} "
                             "(a path has no colon)")
    return tuple(name for name in DECORATORS if name in wanted)
