"""Where results go: whole files or none, and JSON on standard output."""
import json
import os
import stat
import sys

from gcheap.errors import GcheapError


class OutputError(GcheapError, OSError):
    """A result could not be written; says which file and why."""


def check_target(target):
    """Raise OutputError when `target` ("-" or a path) can plainly not be written.

    Called before a run, so that a mistyped path does not cost the run.
    """
    if target == "-":
        return
    path = os.path.realpath(target)
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise OutputError(f"cannot write {target}: it is a directory; give a file name or -")
    if not os.path.isdir(folder):
        raise OutputError(f"cannot write {target}: there is no directory {folder}")
    # A file takes the place of the old one, so the directory is what must be writable.
    checked = path if _is_special(path) else folder
    if not os.access(checked, os.W_OK):
        raise OutputError(f"cannot write {target}: no permission to write {checked}")


def write_whole(path, content):
    """Write text or bytes to the file `path`: it is there whole afterwards, or as it was before.

    Text is written as UTF-8.  Written beside the target and renamed over it.  Symbolic links
    are followed; a device or pipe is written to directly, never replaced.  OutputError when
    that fails.
    """
    target = os.path.realpath(path)
    if isinstance(content, str):
        content = content.encode()
    try:
        if _is_special(target):
            with open(target, "wb") as stream:
                stream.write(content)
        else:
            _replace(target, content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def dump_json(document):
    """`document` as text; a NaN or infinity is a mistake here and raises ValueError."""
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def emit_json(document, target):
    """Write `document` to standard output (`target` "-") or to a file, whole or not at all."""
    text = dump_json(document)
    if target == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_whole(target, text)


def _is_special(path):
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def _replace(target, content):
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        mode = stat.S_IMODE(os.stat(target).st_mode)
    except FileNotFoundError:
        mode = None
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as stream:
            if mode is not None:
                os.fchmod(descriptor, mode)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
