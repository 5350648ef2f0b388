"""Where results go: whole files or none, standard output, and one line on standard error."""
import json
import os
import sys
from contextlib import contextmanager, suppress

from gcheap.errors import GcheapError
from gcheap.files import check_writable, is_special, whole_file
from gcheap.text import printable

STDOUT = "-"


class OutputError(GcheapError, OSError):
    """A result could not be written; says which file and why."""


class StdoutError(OutputError):
    """Standard output cannot be written."""


def check_target(target):
    """Raise OutputError when `target` ("-" or a path) can plainly not be written.

    Called before a run, so that a mistyped path does not cost the run.
    """
    if target == STDOUT:
        need_stdout()
        return
    try:
        check_writable(target)
    except OSError as error:
        raise _refusal(target, error) from error


def check_targets(outputs, inputs=()):
    """check_target of every `(label, target)` of `outputs` that has a target, and
    check_distinct."""
    for _, target in outputs:
        if target is not None:
            check_target(target)
    check_distinct(outputs, inputs)


def check_distinct(outputs, inputs=()):
    """Raise OutputError when two targets of `outputs`, pairs (label, target or None), are one
    file, which the later would overwrite, or when one is among the paths `inputs`, which are read.

    Devices and pipes may be named twice, and so may anything under the same label.
    """
    outputs = [(label, target) for label, target in outputs if target is not None]
    for at, (label, target) in enumerate(outputs):
        for other, earlier in outputs[:at]:
            if other != label and _same(target, earlier):
                raise OutputError(f"{other} {earlier} and {label} {target} are the same: give "
                                  "each a file of its own")
        for source in inputs:
            if target != STDOUT and _same(target, source):
                raise OutputError(f"{label} {target}: that is {source}, which is read; give "
                                  "another name")


def _same(one, other):
    """Whether two targets are one file, by any name of it."""
    if STDOUT in (one, other):
        return one == other
    try:
        if is_special(one) or is_special(other):
            return False
        return os.path.realpath(one) == os.path.realpath(other) or os.path.samefile(one, other)
    except (OSError, ValueError):           # one is not there yet, or no name at all
        return False


def check_log(target, log=None):
    """OutputError when results go to standard output and the log of a heap does, too.

    `log`: the option as given; None: what the environment says.
    """
    from gcheap.log.selection import parse_log
    from gcheap.options import BY_NAME

    env = BY_NAME["log"].env
    text = os.environ.get(env, "off") if log is None else log
    if target == STDOUT and any(one.target == "stdout" for one in parse_log(text, env)):
        label = f"{env}={text}" if text == os.environ.get(env) else f"--log {text}"
        raise OutputError(f"{label}: the results go to standard output, where the log would "
                          "stand among them; send the log to stderr or to a file")


def called(target):
    """A target in a message."""
    return "standard output" if target == STDOUT else target


def need_stdout():
    """Standard output; OutputError when the process was started without one (`>&-`)."""
    if sys.stdout is None:
        raise StdoutError("cannot write to standard output: it is closed")
    return sys.stdout


@contextmanager
def writing_stdout():
    """What cannot be written to standard output is a StdoutError.  A BrokenPipeError stays one: the
    reader has seen enough, which the command line knows."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StdoutError(f"cannot write to standard output: {error.strerror or error}") from error


def abandon_stdout():
    """Standard output cannot be written: the interpreter's last flush must not try again."""
    if sys.stdout is None:
        return
    with suppress(OSError):             # it may be no file at all
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def complain(message):
    """One line on standard error."""
    if sys.stderr is not None:              # `2>&-`: nobody to tell
        print(f"gcheap: {printable(' '.join(str(message).split()))}", file=sys.stderr)


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


def emit(content, target):
    """Write text or bytes to standard output (`target` "-") or to a file, as write_whole does."""
    if target != STDOUT:
        write_whole(target, content)
        return
    stream = need_stdout()
    with writing_stdout():
        if isinstance(content, str) and not hasattr(stream, "buffer"):
            stream.write(content)           # whoever caught the output takes text only
            return
        stream.flush()
        stream.buffer.write(content.encode() if isinstance(content, str) else content)
        stream.buffer.flush()


def _refusal(path, error):
    if isinstance(error, IsADirectoryError):
        why = "it is a directory; give the name of a file"
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
    emit(dump_json(document), target)
