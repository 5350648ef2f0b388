"""The examples of the README and of the page on Python run, and print what stands there."""
import re
import subprocess
import sys

import pytest
from source_tree import needs_tree
from support import ROOT


@needs_tree
@pytest.mark.parametrize("page", ["README.md", "docs/how-to/python.md"])
def test_the_examples_print_what_the_page_says(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    # Pieces of one program, each with what it prints.
    pieces = re.findall(r"```python\n(.*?)```\s*```\n(.*?)```", text, re.DOTALL)
    assert len(pieces) == text.count("```python")
    code, output = ("".join(part) for part in zip(*pieces, strict=True))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (run.stderr, run.stdout) == ("", output)
