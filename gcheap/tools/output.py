"""Where results go: whole files or none, and JSON on standard output."""
import json
import sys

from gcheap.errors import GcheapError
from gcheap.files import check_writable, whole_file


class OutputError(GcheapError, OSError):
    """A result could not be written; says which file and why."""


def check_target(target):
    """Raise OutputError when `target` ("-" or a path) can plainly not be written.

    Called before a run, so that a mistyped path does not cost the run.
    """
    if target == "-":
        return
    try:
        check_writable(target)
    except OSError as error:
        raise _refusal(target, error) from error


def write_whole(path, content):
    """Write text or bytes to the file `path`: it is there whole afterwards, or as it was before.

    Text is written as UTF-8.  OutputError when it fails.  See `gcheap.files.whole_file`.
    """
    if isinstance(content, str):
        content = content.encode()
    try:
        with whole_file(path) as stream:
            stream.write(content)
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path, error):
    if isinstance(error, IsADirectoryError):
        why = "it is a directory; give a file name or -"
    elif isinstance(error, FileNotFoundError):
        why = f"there is no directory {error.filename}"
    elif isinstance(error, PermissionError):
        why = f"no permission to write {error.filename}"
    else:
        why = error.strerror or error
    return OutputError(f"cannot write {path}: {why}")


def dump_json(document):
    """`document` as ASCII text, fit for any terminal and file; a NaN or infinity is a mistake here
    and raises ValueError."""
    # json leaves DEL as it is, the one control character of ASCII above the letters.
    return _pretty(document, "\n").replace("\x7f", "\\u007f") + "\n"


def _pretty(value, line):
    """As json.dumps(indent=2) has it, but a list of numbers or short texts is one line."""
    if isinstance(value, dict) and value:
        inner = line + "  "
        rows = (f"{_key(key)}: {_pretty(item, inner)}" for key, item in value.items())
        return "{" + inner + f",{inner}".join(rows) + line + "}"
    if isinstance(value, (list, tuple)) and any(isinstance(item, (dict, list, tuple))
                                                for item in value):
        inner = line + "  "
        return "[" + inner + f",{inner}".join(_pretty(item, inner) for item in value) + line + "]"
    return json.dumps(value, allow_nan=False)


def _key(key):
    return json.dumps({key: 0})[1:-len(": 0}")]


def emit_json(document, target):
    """Write `document` to standard output (`target` "-") or to a file, whole or not at all."""
    text = dump_json(document)
    if target == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_whole(target, text)
