"""A line on standard error outlives the process of pytest that wrote it."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PROGRAM = """
import os
def test_before():
    os.write(2, b"of a test that ended well")
def test_that_dies():
    os.write(2, b"gcheap: fatal: of the one that did not\\n")
    {end}
"""


def run_pytest(tmp_path, end: str, *arguments: str) -> subprocess.CompletedProcess:
    (tmp_path / "test_some.py").write_text(PROGRAM.format(end=end))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "black_box", "--rootdir", str(tmp_path), *arguments,
         str(tmp_path)], env={k: v for k, v in os.environ.items()
                              if not k.startswith("PYTEST_XDIST")} | {"PYTHONPATH": os.pathsep.join(
            filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))},
        cwd=tmp_path, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("arguments", "who"), [((), "pytest"), (("-n", "1"), "gw0")])
def test_what_a_process_said_before_it_died_is_shown(tmp_path, arguments, who):
    done = run_pytest(tmp_path, "os.kill(os.getpid(), 9)", *arguments)
    assert done.returncode != 0
    assert done.stderr.count("gcheap: fatal: of the one that did not\n") == 1
    assert f"{who} (process " in done.stderr
    assert "ended well" not in done.stderr


def test_nothing_is_shown_of_one_that_ended(tmp_path):
    done = run_pytest(tmp_path, "pass")
    assert (done.returncode, done.stderr) == (0, "")
