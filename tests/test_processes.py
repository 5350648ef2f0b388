"""Programs that are run to their end: what is measured of them, and that none is left."""
import os
import sys
from pathlib import Path

import pytest

from gcheap.tools.processes import TookTooLong, run_to_end


def ran(tmp_path, program, **options):
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
        return run_to_end([sys.executable, "-c", program], out, err, **options)


@pytest.mark.uninstrumented("its shadow is resident memory too", only="thread")
def test_a_program_is_measured(tmp_path):
    ended = ran(tmp_path, """if True:
        import os, sys, time
        held = b"x" * (64 << 20)
        print(os.environ["NAME"], os.getcwd())
        print("on the other", file=sys.stderr)
        time.sleep(0.1)                 # so that its memory is looked at
        sys.exit(3)
    """, environment={**os.environ, "NAME": "value"}, cwd=tmp_path)
    assert ended.status == 3 and ended.seconds >= 0.1 and ended.cpu_seconds > 0
    assert 64 << 20 < ended.peak_rss_bytes < 128 << 20
    assert (tmp_path / "out").read_text().split() == ["value", str(tmp_path)]
    assert (tmp_path / "err").read_text() == "on the other\n"


@pytest.mark.uninstrumented("its shadow is resident memory too", only="thread")
def test_the_peak_is_the_programs_own(tmp_path):
    """Not what this process had when it forked, with which the kernel's account begins."""
    held = b"x" * (256 << 20)
    with open(os.devnull, "wb") as nowhere:
        ended = run_to_end(["sleep", "0.1"], nowhere, nowhere)
    assert len(held) > 16 << 20 > ended.peak_rss_bytes > 0


def test_a_program_that_a_signal_ends(tmp_path):
    assert ran(tmp_path, "import os; os.kill(os.getpid(), 9)").status == -9


def children() -> set[str]:
    return {pid for task in Path("/proc/self/task").iterdir()
            for pid in (task / "children").read_text().split()}


def test_none_is_left(tmp_path, monkeypatch):
    before = children()
    with pytest.raises(TookTooLong):
        ran(tmp_path, "import time; time.sleep(600)", most_seconds=0.05)

    def interrupted(pid, deadline):
        raise KeyboardInterrupt

    monkeypatch.setattr("gcheap.tools.processes._watch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ran(tmp_path, "import time; time.sleep(600)")
    assert children() <= before


def test_a_command_that_is_not_there(tmp_path):
    with open(os.devnull, "wb") as nowhere, pytest.raises(FileNotFoundError):
        run_to_end(["/no/such/program"], nowhere, nowhere)
