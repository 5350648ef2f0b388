"""The stubs of the Python face say what the compiled modules have."""
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import gcheap


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_the_stubs_match_the_compiled_face(tmp_path):
    home = Path(gcheap.__path__[0]).parent
    run = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "gcheap.face", "--ignore-missing-stub"],
        cwd=tmp_path if home.name.endswith("-packages") else home,
        capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
