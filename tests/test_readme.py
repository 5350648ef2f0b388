"""The README's example runs, and prints what the README says."""
import re
import subprocess
import sys

from source_tree import needs_tree
from support import ROOT

README = ROOT / "README.md"


@needs_tree
def test_the_example_prints_what_the_readme_says():
    text = README.read_text(encoding="utf-8")
    code, output = re.search(r"```python\n(.*?)```\s*```\n(.*?)```", text, re.DOTALL).groups()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (run.stderr, run.stdout) == ("", output)
