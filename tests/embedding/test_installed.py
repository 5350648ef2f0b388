"""What somebody has who installed the wheel and nothing else: the four ways to embed, from there.

The wheel is built from a copy of the tree and of what is compiled already, so nothing of gcheap is
compiled here; what begins at the source distribution is test_wheel.py's, in the soak.
"""
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from embedding_support import COMPILER, EXAMPLES, MISSING, WARNINGS, compiled, run
from packages import sources, wheel_faults
from support import ROOT
from versions import clean_environment

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.uninstrumented("the wheel is a release build"),
    pytest.mark.xdist_group("wheel"),           # one wheel, one environment
]
SANITIZE = ("-fsanitize=address,undefined", "-fno-omit-frame-pointer",
            "-fno-sanitize-recover=undefined")
PROGRAM = """
class Greeter {
  init(name) { this.name = name; }
  greet() { return "hello, " + this.name; }
}
fun twice(f) { return f() + "; " + f(); }
print twice(Greeter("heap").greet);
gc();
print nothing;
"""


def built_wheel(folder: Path) -> Path:
    """A wheel of this tree, whose modules are not compiled again."""
    libraries = list((ROOT / "build/release").glob(f"lib*-{sys.implementation.cache_tag}"))
    if not libraries:
        pytest.skip("nothing is compiled for this Python in build/release: `make test` does that")
    tree = folder / "tree"
    for name in sources(ROOT):
        if not name.startswith(("tests/", "docs/", "examples/")):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    for made in (ROOT / "build/cython", *(ROOT / "build/release").glob("temp*")):
        shutil.copytree(made, tree / made.relative_to(ROOT))
    for made in libraries[0].rglob("*.so"):
        name = made.relative_to(libraries[0])
        if (ROOT / name.parent / f"{name.name.split('.')[0]}.pyx").exists():    # it still has one
            (tree / libraries[0].relative_to(ROOT) / name.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy2(made, tree / libraries[0].relative_to(ROOT) / name)
    run([sys.executable, "-c", "import setuptools.build_meta as b; b.build_wheel('..')"], cwd=tree,
        env=clean_environment(GCHEAP_BUILD="release"))
    shutil.rmtree(tree)
    wheel, = folder.glob("gcheap-*.whl")
    assert wheel_faults(wheel, ROOT) == []
    return wheel


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """An environment with the wheel, and with what gcheap and the build of an extension need: links
    to what is installed here, but for gcheap.  Without a source tree (versions.py) it is this one,
    which was given a wheel."""
    if not (ROOT / "setup.py").exists():
        return Path(sys.prefix)
    wheel = built_wheel(tmp_path_factory.mktemp("wheel"))
    home = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", home])
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "gcheap" not in entry.name:
            (site / entry.name).symlink_to(entry)
    run([sys.executable, "-m", "pip", "--python", home / "bin/python", "install", "--no-deps",
         "--no-index", "--disable-pip-version-check", wheel], env=clean_environment())
    return home


@pytest.fixture
def activated(home):
    """Variables as in a shell where that environment is activated."""
    path = os.pathsep.join([str(home / "bin"), os.environ["PATH"]])
    return clean_environment(VIRTUAL_ENV=str(home), PATH=path, GCHEAP_STALL_WARNING_MS="0")


def test_nothing_is_imported_from_the_source_tree(home, activated, tmp_path):
    said = run(["python", "-c", "import sys, gcheap.embed.capi, gcheap.lox.session\n"
                "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('gcheap')))\n"
                "print(*filter(None, sys.path))"], cwd=tmp_path, env=activated)
    modules, path = (list(map(Path, line.split())) for line in said.splitlines())
    assert len(modules) > 20 and all(file.is_relative_to(home) for file in modules)
    assert home == Path(sys.prefix) or not any(entry.is_relative_to(ROOT) for entry in path)


def test_the_c_example_under_address_sanitizer(home, activated, tmp_path):
    """The program is instrumented, and gcheap is as it was installed."""
    flags = run(["gcheap", "config", "--cflags", "--libs"], cwd=tmp_path, env=activated).split()
    assert f"-I{home}" in flags[0]
    source = shutil.copy(EXAMPLES / "c_vm/scheme.c", tmp_path)
    compiled([*COMPILER, "-std=c11", "-O1", "-g", *WARNINGS, *SANITIZE, source, "-o",
              tmp_path / "scheme", *flags])
    # CPython leaks at exit.  No argument: gc_start() takes the first python3 of PATH.
    said = run([tmp_path / "scheme"], cwd=tmp_path,
               env=activated | {"ASAN_OPTIONS": "detect_leaks=0"})
    assert said.count("60 sums are right") == 2 and "0 bytes live" in said


def test_the_cython_example(activated, tmp_path):
    project = shutil.copytree(EXAMPLES / "cython_runtime", tmp_path / "project",
                              ignore=shutil.ignore_patterns("*.so", "*.c", "build"))
    run(["python", "setup.py", "build_ext", "--inplace"], cwd=project, env=activated)
    assert "all right" in run(["python", "main.py"], cwd=project, env=activated)


def test_the_lisp(activated, tmp_path):
    program = shutil.copy(EXAMPLES / "tiny_lisp.py", tmp_path)
    (tmp_path / "squares.lisp").write_text(
        "(define square (lambda (x) (* x x)))\n"
        "(define up (lambda (n l) (if (eq n 0) l (up (- n 1) (cons (square n) l)))))\n(up 5 nil)\n")
    assert run(["python", program, "squares.lisp"], cwd=tmp_path,
               env=activated) == "(1 4 9 16 25)\n"


def test_lox(activated, tmp_path):
    (tmp_path / "hello.lox").write_text(PROGRAM)
    done = subprocess.run(["gcheap", "lox", "hello.lox"], cwd=tmp_path, env=activated,
                          capture_output=True, text=True)
    assert done.stdout == "hello, heap; hello, heap\n"
    assert done.stderr == "Undefined variable 'nothing'.\n[line 9] in script\n"
    assert done.returncode == 70
