"""`gcheap doctor`: its exit status and advice for machines of every kind (tries are faked), the
tries themselves, and the real doctor on this machine, as root and as an ordinary user, and under
seccomp filters such as containers have."""
from __future__ import annotations

import errno
import io
import json
import os
import signal
import time
from pathlib import Path

import pytest
from rich.console import Console
from support import ROOT, kernel_offers, run_python

from gcheap.tools import capabilities, doctor, settings
from gcheap.tools.capabilities import TRIED, Outcome, Trial

KERNEL = "6.18.44"
PROBE = {"opened_by": "syscall", "feature_names": ("SIGBUS", "MOVE")}
MOVES = Trial(PROBE, "move", "sigbus", "auto: UFFDIO_MOVE works here", None)
COPIES = Trial(PROBE | {"feature_names": ("SIGBUS",)}, "copy", "sigbus", "no MOVE here", None)
STOPS = Trial({"opened_by": "", "feature_names": ()}, "stw", None, "no userfaultfd", None)
EVERYTHING = {name: Outcome(True) for name in TRIED}
HUGE = 2 << 20

FILES = {
    settings.HUGE_PAGES: "always [madvise] never\n",
    settings.HUGE_PAGE_SIZE: f"{HUGE}\n",
    settings.HUGETLB_PAGES: "0\n",
    settings.MEMORY: "MemTotal: 1000 kB\nHugepagesize:       2048 kB\n",
    settings.KSM: "1\n",
    settings.UNPRIVILEGED: "0\n",
    settings.MAPPINGS: "65530\n",
    settings.STATUS: "Name:\tpython\nSeccomp:\t0\nTHP_enabled:\t1\n",
}


@pytest.fixture
def machine(tmp_path):
    """Lays out /proc and /sys, with changes: path -> text, or None for no such file."""
    def make(**changes):
        for path, text in (FILES | changes.pop("files", {})).items():
            if text is not None:
                file = tmp_path / path.lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        assert not changes
        return tmp_path
    return make


def diagnose(root, outcomes=EVERYTHING, trial=MOVES, kernel=KERNEL):
    return doctor.examine(root, lambda *sizes: outcomes, lambda: trial, kernel)


def refused(name, outcome):
    return EVERYTHING | {name: outcome}


def shown(document):
    stream = io.StringIO()
    doctor.show(document, Console(file=stream, width=100, highlight=False))
    return " ".join(stream.getvalue().split())


# ---- what a document says --------------------------------------------------------------------

def test_a_kernel_with_everything(machine):
    document = diagnose(machine())
    assert document["status"] == 0
    assert (document["backend"], document["fault_mode"]) == ("move", "sigbus")
    assert document["features"] == ["SIGBUS", "MOVE"]
    assert "POISON" in document["missing_features"]
    assert document["settings"] == {
        "huge_pages": "madvise", "huge_page_bytes": HUGE, "huge_pages_of_this_process": True,
        "hugetlb_pages": 0, "hugetlb_page_bytes": HUGE, "ksm": "running",
        "unprivileged_userfaultfd": 0, "max_map_count": 65530, "container": None,
        "seccomp_filter": False}
    assert set(document["capabilities"]) == {*TRIED, "heap"}
    assert all(row == {"ok": True, "why": None, "fix": None}
               for row in document["capabilities"].values())
    text = shown(document)
    for part in (KERNEL, "bytes", "madvise, of 2 MiB", "KSM running", "SIGBUS, MOVE",
                 "by the userfaultfd system call",
                 "auto takes backend move, fault mode sigbus: UFFDIO_MOVE works here"):
        assert part in text
    assert "no:" not in text
    json.dumps(document, allow_nan=False)


def test_the_sizes_of_huge_pages_reach_the_tries(machine):
    asked = []
    doctor.examine(machine(), lambda *sizes: asked.append(sizes) or EVERYTHING, lambda: MOVES)
    assert asked == [(HUGE, HUGE)]


def test_an_older_kernel_falls_back_to_copy(machine):
    no_move = refused("move", Outcome(False, "UFFDIO_API", errno.EINVAL))
    document = diagnose(machine(), no_move, COPIES, "5.15.0-89-generic")
    assert document["status"] == 1
    assert document["backend"] == "copy"
    row = document["capabilities"]["move"]
    assert not row["ok"] and "EINVAL" in row["why"]
    assert row["fix"] == "run Linux 6.8 or newer"
    assert document["capabilities"]["copy"]["ok"]
    assert "run Linux 6.8 or newer" in shown(document)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
@pytest.mark.parametrize("files", [{"/.dockerenv": ""}, {"/run/.containerenv": ""},
                                   {"/run/systemd/container": "lxc\n"},
                                   {"/proc/1/cgroup": "0::/kubepods/pod1\n"}])
def test_in_a_container_the_seccomp_profile_is_named(machine, number, files):
    outcomes = {"userfaultfd": Outcome(False, "userfaultfd", number)}
    document = diagnose(machine(files=files), outcomes, STOPS)
    assert document["status"] == 1
    assert document["settings"]["container"]
    row = document["capabilities"]["userfaultfd"]
    assert errno.errorcode[number] in row["why"]
    for part in ("seccomp profile is the likely cause", "--security-opt", "--device"):
        assert part in row["fix"]
    assert document["capabilities"]["move"] == {
        "ok": False, "why": "there is no userfaultfd", "fix": None}
    assert document["opened_by"] is None
    text = shown(document)
    assert "seccomp profile" in text and errno.errorcode[number] in text
    assert "auto takes backend stw, fault mode none" in text


@pytest.mark.parametrize(("kernel", "outcome", "advice"), [
    ("5.4.0", Outcome(False, "userfaultfd", errno.EPERM),
     "sudo sysctl -w vm.unprivileged_userfaultfd=1"),
    (KERNEL, Outcome(False, "userfaultfd", errno.EPERM), "security module"),
    (KERNEL, Outcome(False, "userfaultfd", errno.ENOSYS), "CONFIG_USERFAULTFD"),
    (KERNEL, Outcome(False, "userfaultfd", errno.EMFILE), "ulimit -n"),
    (KERNEL, Outcome(False, signal=signal.SIGSYS), "seccomp"),
])
def test_what_would_give_a_descriptor(machine, kernel, outcome, advice):
    document = diagnose(machine(), {"userfaultfd": outcome}, STOPS, kernel)
    assert advice in document["capabilities"]["userfaultfd"]["fix"]


@pytest.mark.parametrize(("name", "outcome", "advice"), [
    ("kernel_faults", Outcome(False, "userfaultfd", errno.EPERM), "unprivileged_userfaultfd=1"),
    ("device", Outcome(False, "/dev/userfaultfd", errno.EACCES), "setfacl"),
    ("event_fork", Outcome(False, "UFFDIO_API", errno.EPERM), "cap_sys_ptrace"),
    ("missing_hugetlbfs", Outcome(False, "mmap of a huge page", errno.ENOMEM),
     "vm.nr_hugepages=2"),
    ("poison", Outcome(False, "UFFDIO_API", errno.EINVAL), "CONFIG_USERFAULTFD"),
    ("move_huge", Outcome(False, "no huge page was given"), "compact_memory"),
])
def test_what_would_give_a_capability(machine, name, outcome, advice):
    document = diagnose(machine(), refused(name, outcome))
    row = document["capabilities"][name]
    assert not row["ok"] and advice in row["fix"]
    assert document["status"] == 0              # the heap has what it needs
    assert advice in shown(document)


@pytest.mark.parametrize(("files", "advice"), [
    ({settings.HUGE_PAGES: "always madvise [never]\n"}, "echo madvise"),
    ({settings.HUGE_PAGES: None}, "CONFIG_TRANSPARENT_HUGEPAGE"),
    ({settings.STATUS: "THP_enabled:\t0\n"}, "PR_SET_THP_DISABLE")])
def test_why_no_huge_page_was_given(machine, files, advice):
    outcomes = refused("move_huge", Outcome(False, "no huge page was given"))
    document = diagnose(machine(files=files), outcomes)
    assert advice in document["capabilities"]["move_huge"]["fix"]


def test_a_split_huge_page_is_a_fact_and_not_advice_for_the_kernel(machine):
    outcomes = refused("move_huge", Outcome(False, "the huge page was split"))
    row = diagnose(machine(), outcomes)["capabilities"]["move_huge"]
    assert row["why"] == "the huge page was split"


@pytest.mark.parametrize(("outcome", "why"), [
    (Outcome(False, hung=True), "did not end"),
    (Outcome(False, signal=signal.SIGSEGV), "killed by SIGSEGV"),
    (Outcome(False, signal=250), "signal 250"), (Outcome(False), "without a word")])
def test_a_try_that_crashed_or_hung_is_told_apart(machine, outcome, why):
    row = diagnose(machine(), refused("poison", outcome))["capabilities"]["poison"]
    assert not row["ok"] and why in row["why"]


@pytest.mark.parametrize(("failure", "fix"), [
    ("mmap answers Cannot allocate memory", "ulimit -v"),
    ("no room for 1 MiB of address space", "ulimit -v"),
    ("the process that made a heap was killed by SIGSYS", "answer EPERM"),
    ("node 3 of 2000 changed when it was moved", None)])
def test_nothing_works(machine, failure, fix):
    document = diagnose(machine(), trial=Trial(PROBE, None, None, None, failure))
    assert document["status"] == 2
    assert document["backend"] is None
    row = document["capabilities"]["heap"]
    assert row["why"] == failure
    assert (fix is None and row["fix"] is None) or fix in row["fix"]
    assert f"no heap can be made here: {failure}" in shown(document)


def test_missing_settings_are_null_and_said_so(tmp_path):
    document = diagnose(tmp_path)
    found = document["settings"]
    assert [name for name, value in found.items() if value is not None] == [
        "huge_pages_of_this_process", "seccomp_filter"]
    assert "not available" in shown(document)


@pytest.mark.parametrize(("setting", "word"), [
    ("always [madvise] never", "madvise"), ("[always] madvise never", "always"),
    ("always madvise [never]", "never"), ("odd", "odd"), (None, None)])
def test_the_selected_word_of_a_setting(setting, word):
    assert settings.selected(setting) == word


@pytest.mark.parametrize(("release", "since", "older"), [
    ("6.18.44-fc", "6.8", False), ("6.7.9", "6.8", True), ("6.8", "6.8", False),
    ("5.15.0-89-generic", "5.2", False), ("4.18.0-553.el8.x86_64", "4.14", False),
    ("6.8-rc1", "6.8", False), ("odd", "4.3", True)])
def test_which_kernel_is_older(release, since, older):
    assert capabilities.older(release, since) == older


# ---- tries -----------------------------------------------------------------------------------

@pytest.fixture
def userfaultfd():
    reason = kernel_offers("copy")
    if reason is not None:
        pytest.skip(reason)


def test_a_try_that_hangs_is_killed(userfaultfd):
    begun = time.monotonic()
    outcome = capabilities.try_one("hang", seconds=0.2)
    assert outcome == Outcome(False, hung=True)
    assert time.monotonic() - begun < 30


def test_a_try_that_crashes_does_not_reach_the_parent(userfaultfd):
    outcome = capabilities.try_one("crash")
    assert not outcome.works
    assert outcome.signal == signal.SIGBUS


def test_what_is_tried_and_what_is_told_are_the_same_names():
    from gcheap.tools._tries import TRIES
    assert set(TRIES) - {"hang", "crash"} == set(TRIED)
    with pytest.raises(KeyError):
        capabilities.try_one("no such thing")


def test_without_a_descriptor_nothing_else_is_tried(monkeypatch):
    monkeypatch.setattr(capabilities, "try_one", lambda name, *sizes: Outcome(False))
    assert list(capabilities.try_all()) == ["userfaultfd"]


def test_a_heap_that_hangs_or_crashes_or_complains_is_a_failure(monkeypatch):
    def tried(report):
        monkeypatch.setattr(capabilities, "heap_report", report)
        return capabilities.try_heap(seconds=0.3).failure

    assert "did not end within 0.3 s" in tried(lambda: time.sleep(600))
    assert "SIGKILL" in tried(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert tried(lambda: 1 // 0).startswith("ZeroDivisionError")
    assert "said nothing" in tried(lambda: b"")


def test_a_broken_probe_leaves_no_process_and_no_descriptor(monkeypatch):
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(capabilities, "heap_report", lambda: time.sleep(600))
    capabilities.try_heap(seconds=0.1)
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# ---- this machine ----------------------------------------------------------------------------

# Imports first: an ordinary user may not be able to read this tree.
REAL = """
    import ctypes, os, struct, sys
    import gcheap.cli, gcheap.core.probe, gcheap.tools._attempt, gcheap.tools.capabilities
    gcheap.cli.build_parser("doctor").parse_args(["doctor"])    # what is imported late
    gcheap.Records
    user, action = sys.argv[1:]
    if user == "nobody":
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    if action:
        # Loads the number of the system call; userfaultfd gets the action, all others pass.
        number = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
        code = b"".join(struct.pack("HBBI", *line) for line in (
            (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, int(action, 0)),
            (0x06, 0, 0, 0x7FFF0000)))
        kept = ctypes.create_string_buffer(code)
        program = struct.pack("HxxxxxxP", 4, ctypes.addressof(kept))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(program)):
            sys.exit(77)
    sys.exit(gcheap.cli.main(["doctor", "--json", "-"]))
"""
RETURN_ERRNO, KILL = 0x00050000, 0x80000000
USERS = ["root", "nobody"] if os.geteuid() == 0 else ["this one"]


def real(user, action=""):
    done = run_python(REAL, arguments=(user, action))
    if done.returncode == 77:
        pytest.skip("no seccomp filter can be installed here")
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (document["status"], "")
    return document


@pytest.mark.parametrize("user", USERS)
def test_the_real_doctor_agrees_with_the_kernel(user):
    document = real(user)
    expected = next(name for name in ("move", "copy", "stw") if kernel_offers(name) is None)
    assert document["backend"] == expected
    assert document["status"] == (0 if expected == "move" else 1)
    rows = document["capabilities"]
    assert rows["move"]["ok"] == (kernel_offers("move") is None)
    assert rows["copy"]["ok"] == rows["sigbus"]["ok"] == (kernel_offers("copy") is None)
    assert rows["heap"]["ok"]
    for name, row in rows.items():
        assert row["ok"] == (row["why"] is None), name
    assert set(document) >= {"kernel", "page_size", "features", "capabilities", "backend",
                             "fault_mode", "status"}
    if user == "nobody" and settings.read(Path("/"))["unprivileged_userfaultfd"] == 0:
        assert "unprivileged_userfaultfd" in rows["kernel_faults"]["fix"]
        assert "cap_sys_ptrace" in rows["event_fork"]["fix"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_under_a_seccomp_filter_an_ordinary_user_gets_stw_and_the_cause(number):
    document = real(USERS[-1], hex(RETURN_ERRNO | number))
    if document["opened_by"] == "device":
        pytest.skip("an ordinary user may open /dev/userfaultfd here")
    assert document["status"] == 1
    assert (document["backend"], document["settings"]["seccomp_filter"]) == ("stw", True)
    row = document["capabilities"]["userfaultfd"]
    assert errno.errorcode[number] in row["why"]
    assert "seccomp profile is the likely cause" in row["fix"]


@pytest.mark.skipif(not os.access("/dev/userfaultfd", os.R_OK | os.W_OK),
                    reason="/dev/userfaultfd cannot be opened")
def test_under_a_seccomp_filter_the_device_still_gives_move():
    document = real(USERS[0], hex(RETURN_ERRNO | errno.EPERM))
    assert document["opened_by"] == "device"
    assert document["capabilities"]["userfaultfd"]["ok"]
    assert document["status"] == (0 if kernel_offers("move") is None else 1)


def test_a_filter_that_kills_does_not_kill_the_doctor():
    document = real(USERS[0], hex(KILL))
    assert document["status"] == 2
    assert "SIGSYS" in document["capabilities"]["userfaultfd"]["why"]
    assert "seccomp" in document["capabilities"]["heap"]["fix"]


def test_the_table_of_the_real_doctor():
    done = run_python("import sys; from gcheap.cli import main; sys.exit(main(['doctor']))",
                      cwd=ROOT)
    assert done.stderr == ""
    assert "for the heap" in done.stdout and "auto takes backend" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
