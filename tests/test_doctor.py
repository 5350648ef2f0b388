"""`gcheap doctor`: its exit status and advice for machines of every kind (probes are faked),
and the real one on this machine."""
import errno
import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console
from support import kernel_offers, run_python

from gcheap.errors import OptionError
from gcheap.tools import doctor

FULL = {
    "kernel": "6.18.44", "page_size": 4096, "syscall_errno": 0, "opened_by": "syscall",
    "features": 1 << 16 | 1 << 7, "feature_names": ("SIGBUS", "MOVE"), "ioctls": 0,
    "move_works": True, "copy_works": True, "sigbus": True, "backend": "move",
    "fault_mode": "sigbus", "why": "UFFDIO_MOVE works",
}
NO_USERFAULTFD = {
    "opened_by": "", "features": 0, "feature_names": (), "move_works": False,
    "copy_works": False, "sigbus": False, "backend": "stw", "fault_mode": "",
    "why": "no userfaultfd",
}


def fake(**changes):
    return lambda: SimpleNamespace(**(FULL | changes))


def no_trouble():
    pass


@pytest.fixture
def root(tmp_path):
    """A file system root with the two settings."""
    for path, text in ((doctor.HUGE_PAGES, "always [madvise] never\n"),
                       (doctor.UNPRIVILEGED, "0\n")):
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return tmp_path


def shown(document):
    stream = io.StringIO()
    doctor.show(document, Console(file=stream, width=100, highlight=False))
    return " ".join(stream.getvalue().split())


def test_a_kernel_with_move(root):
    document = doctor.examine(fake(), no_trouble, root)
    assert document["status"] == 0
    assert (document["backend"], document["fault_mode"]) == ("move", "sigbus")
    assert document["features"] == ["SIGBUS", "MOVE"]
    assert document["huge_pages"] == "madvise"
    assert document["unprivileged_userfaultfd"] == "0"
    assert document["opened_by"] == "syscall"
    assert all(row == {"ok": True, "why": None, "fix": None}
               for row in document["capabilities"].values())
    text = shown(document)
    for part in ("6.18.44", "4096 bytes", "madvise", "by the userfaultfd system call",
                 "SIGBUS, MOVE", "auto takes backend move, fault mode sigbus: UFFDIO_MOVE works"):
        assert part in text


def test_an_older_kernel_falls_back_to_copy(root):
    document = doctor.examine(
        fake(move_works=False, backend="copy", feature_names=("SIGBUS",)), no_trouble, root)
    assert document["status"] == 1
    move = document["capabilities"]["move"]
    assert not move["ok"] and "6.8" in move["fix"]
    assert document["capabilities"]["copy"]["ok"]
    assert "6.8" in shown(document)


@pytest.mark.parametrize(("number", "advice"), [
    (errno.EPERM, "seccomp"), (errno.ENOSYS, "seccomp"), (errno.EMFILE, "open files"),
])
def test_without_userfaultfd_it_falls_back_to_stw_and_says_what_would_help(root, number, advice):
    document = doctor.examine(fake(**NO_USERFAULTFD, syscall_errno=number), no_trouble, root)
    assert document["status"] == 1
    row = document["capabilities"]["userfaultfd"]
    assert not row["ok"]
    assert errno.errorcode[number] in row["why"] and advice in row["fix"]
    assert document["opened_by"] is None
    text = shown(document)
    assert errno.errorcode[number] in text and advice in text
    assert "auto takes backend stw, fault mode none" in text


def test_a_descriptor_by_the_device_is_not_a_refusal(root):
    document = doctor.examine(
        fake(opened_by="device", syscall_errno=errno.EPERM), no_trouble, root)
    assert document["capabilities"]["userfaultfd"]["ok"]
    assert document["status"] == 0
    assert "by /dev/userfaultfd" in shown(document)


@pytest.mark.parametrize("error", [
    OptionError("no room for 1 MiB of address space"), OSError(errno.ENOMEM, "no memory")])
def test_nothing_works(root, error):
    def refuse():
        raise error

    document = doctor.examine(fake(), refuse, root)
    assert document["status"] == 2
    row = document["capabilities"]["heap"]
    assert not row["ok"] and str(error) in row["why"] and "ulimit" in row["fix"]
    assert "no heap can be made here" in shown(document)


def test_missing_settings_are_null_and_said_so(tmp_path):
    document = doctor.examine(fake(), no_trouble, tmp_path)
    assert document["huge_pages"] is None
    assert document["unprivileged_userfaultfd"] is None
    assert "not available" in shown(document)


@pytest.mark.parametrize(("setting", "word"), [
    ("always [madvise] never", "madvise"), ("[always] madvise never", "always"),
    ("always madvise [never]", "never"), ("odd", "odd"), (None, None)])
def test_the_selected_word_of_a_setting(setting, word):
    assert doctor.selected(setting) == word


def test_the_real_doctor_agrees_with_the_kernel():
    done = run_python(
        "import sys; from gcheap.cli import main; sys.exit(main(['doctor', '--json', '-']))")
    document = json.loads(done.stdout)
    expected = next(name for name in ("move", "copy", "stw") if kernel_offers(name) is None)
    assert document["backend"] == expected
    assert document["capabilities"]["move"]["ok"] == (kernel_offers("move") is None)
    assert done.returncode == document["status"] == (0 if expected == "move" else 1)
    assert set(document) >= {"kernel", "page_size", "features", "capabilities", "backend",
                             "fault_mode", "status"}
