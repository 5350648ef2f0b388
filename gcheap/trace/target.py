"""What the option `trace` says, and the file names of traces."""
from __future__ import annotations

from gcheap.errors import OptionError
from gcheap.options import OFF
from gcheap.text import shown

LINE = "1"                      # one line a cycle; see gcheap/log/gctrace.py
FORMATS = {".json": "json", ".pftrace": "perfetto", ".perfetto-trace": "perfetto"}


def format_of(path: str, label: str = "trace") -> str:
    """"json" (Chrome's trace events) or "perfetto" (protobuf), by the suffix; OptionError for
    another one."""
    for suffix, name in FORMATS.items():
        if path.endswith(suffix):
            return name
    raise OptionError(f"{label}={shown(path)}: a trace is a file whose name ends in "
                      f"{', '.join(FORMATS)}")


def parse_target(text: str, label: str = "trace") -> str | None:
    """The path that `text` names, None for "off" and "1".  OptionError for anything else."""
    if text in (OFF, LINE, "0"):
        return None
    format_of(text, label)
    return text
