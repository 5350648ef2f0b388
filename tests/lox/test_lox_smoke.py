"""The programs of examples/lox run, and say what their comments expect."""
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples/lox").glob("*.lox"))


def gcheap_lox(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "gcheap", "lox", *map(str, arguments)],
                          capture_output=True, text=True, timeout=300, **options)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example(path):
    expected = re.findall(r"// expect: (.*)", path.read_text())
    done = gcheap_lox("--verify", "2", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == expected and expected


def test_a_session_of_the_repl():
    done = gcheap_lox(input="fun f() { return later; }\nf();\nvar later = 1 +\nvar later = 2;\n"
                            "print f();\n")
    assert done.returncode == 0
    assert done.stdout == "> > > > > 2\n> \n"
    assert done.stderr.splitlines() == [
        "Undefined variable 'later'.", "[line 1] in f()", "[line 1] in script",
        "[line 2] Error at end: Expect expression."]
