"""`make versions`: builds, installs and tests gcheap for every Python it supports.

    sdist --> wheel, for each Python --> a fresh environment without a compiler --> tests

An environment is given the wheel and nothing of the source tree: the tests run in a copy of the
sdist without the package.  The short form builds release wheels of those Pythons that `make test`
does not run (it takes this machine's `python3`) and runs SMOKE.  `--turn N` takes one Python and
one build, the N-th in turn: CI has no time for more, and gives the number of commits.  `--full`
does all of them, release and debug, each wheel from the sdist anew, and runs the whole suite.

Needs nothing but a Python with venv; pip fetches the rest.  Exit status: 0 all passed, 1 not.
"""
from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packages import sdist_faults, supported, wheel_faults

ROOT = Path(__file__).resolve().parent.parent
# Of each layer something; together some 30 s.
SMOKE = ("test_refs.py", "test_shapes.py", "test_forgery.py", "test_outputs.py",
         "test_descriptors.py", "test_packaging.py", "test_pinned.py", "test_weak.py",
         "test_guardians.py", "test_finalize.py", "test_shutdown.py", "test_typing.py",
         "embedding/test_installed.py", "lox/test_lox_smoke.py")
WHOLE = ("--numprocesses", "auto", "--dist", "loadgroup")    # as `make test`
BUILDS = ("release", "debug")
ASK = ("import ensurepip, platform, sysconfig, venv; print(platform.python_version(), "
       "platform.python_implementation(), sysconfig.get_config_var('Py_GIL_DISABLED') or 0)")


class Failure(Exception):
    """A step that failed, with what it said."""


@dataclass(frozen=True)
class Python:
    """An interpreter of this machine."""

    minor: str
    version: str
    path: str


def say(text: str) -> None:
    print(text, flush=True)


def run(command: list[str], **options) -> str:
    """Runs a command; returns what it printed.  Failure when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **options)
    if done.returncode:
        raise Failure(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def clean_environment(**more: str) -> dict[str, str]:
    """This one's, without what would reach the source tree or change a heap."""
    ours = ("GCHEAP_", "PYTHON", "PYTEST_", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="gcheap-versions-") as name:
        yield Path(name)


# ---- the Pythons -------------------------------------------------------------------------

def candidates(minor: str) -> list[str]:
    """Where a Python of this minor version may be: on PATH, or one of pyenv's, newest first."""
    found = [shutil.which(f"python{minor}")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += [str(path) for path in sorted(
        pyenv.glob(f"{minor}.*/bin/python{minor}"),
        key=lambda path: [int(part) for part in re.findall(r"\d+", path.parts[-3])], reverse=True)]
    return [path for path in found if path]


def find(minor: str) -> Python | None:
    """The first one that works, has venv and has a GIL."""
    for path in candidates(minor):
        try:
            version, implementation, no_gil = run(
                [path, "-c", ASK], env=clean_environment()).split()[-3:]
        except (Failure, OSError, ValueError):
            continue
        if (version.startswith(f"{minor}.") and implementation == "CPython" and no_gil == "0"):
            return Python(minor, version, path)
    return None


def environment(python: Python, home: Path) -> str:
    """A fresh virtual environment; returns its interpreter."""
    run([python.path, "-m", "venv", str(home)], env=clean_environment())
    return str(home / "bin" / "python")


# ---- sdist and wheels --------------------------------------------------------------------

def left_out(folder: str, names: list[str]) -> set[str]:
    """What is no source: C that was made of a module beside it, too."""
    made = shutil.ignore_patterns(".git", "build", "*.so", "__pycache__", "*.egg-info", ".venv")
    return made(folder, names) | {name for name in names if name.endswith(".c")
                                  and f"{name.removesuffix('.c')}.pyx" in names}


def make_sdist(python: Python, folder: Path) -> Path:
    """An sdist of this tree, by the build backend alone."""
    tree = folder / "tree"                      # a copy: the backend leaves files behind
    shutil.copytree(ROOT, tree, ignore=left_out)
    interpreter = environment(python, folder / "sdist-env")
    run([interpreter, "-m", "pip", "install", "--quiet", "build"], env=clean_environment())
    run([interpreter, "-m", "build", "--sdist", "--outdir", str(folder), str(tree)],
        env=clean_environment())
    sdist, = folder.glob("gcheap-*.tar.gz")
    check("sdist", sdist_faults(sdist, ROOT))
    return sdist


def unpack(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


def make_wheel(interpreter: str, source: Path, folder: Path, build: str) -> Path:
    """A wheel from an sdist or an unpacked one, built in isolation."""
    run([interpreter, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder),
         str(source)], env=clean_environment(GCHEAP_BUILD=build, CCACHE_BASEDIR=str(folder.parent)))
    wheel, = folder.glob("gcheap-*.whl")
    check(f"wheel {wheel.name}", wheel_faults(wheel, ROOT))
    return wheel


def check(what: str, faults: list[str]) -> None:
    if faults:
        raise Failure("\n".join([f"{what}:", *faults]))


# ---- one wheel, tried --------------------------------------------------------------------

def install(interpreter: str, wheel: Path) -> None:
    """Only wheels, and no compiler on PATH: what a user without one gets."""
    run([interpreter, "-m", "pip", "install", "--quiet", "--only-binary", ":all:",
         f"gcheap[test] @ {wheel.as_uri()}"],
        env=clean_environment(PATH=str(Path(interpreter).parent), CC="false"))


def try_wheel(interpreter: str, wheel: Path, home: Path, files: tuple[str, ...],
              options: tuple[str, ...]) -> str:
    """Runs tests against an installed wheel, in `home`; returns the last line of pytest."""
    install(interpreter, wheel)
    where = run([interpreter, "-c", "import gcheap; print(gcheap.__file__)"], cwd=home,
                env=clean_environment()).strip()
    if not Path(where).is_relative_to(Path(interpreter).parent.parent):
        raise Failure(f"gcheap was imported from {where}, not from the environment")
    said = run([interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options,
                *(f"tests/{name}" for name in files)], cwd=home,
               env=clean_environment(PYTHONDONTWRITEBYTECODE="1"))
    return said.strip().splitlines()[-1]


def tests_alone(sdist: Path, folder: Path) -> Path:
    """An unpacked sdist without the package and what builds it."""
    home = unpack(sdist, folder)
    shutil.rmtree(home / "gcheap")
    (home / "setup.py").unlink()
    return home


class Attempt:
    """One Python and one build: a wheel, then its tests."""

    def __init__(self, python: Python, build: str, folder: Path) -> None:
        self.name = f"{python.version} {build}"
        self.build = build
        self.folder = folder / f"{python.minor}-{build}"
        self.folder.mkdir()
        self.python = python
        self.began = time.monotonic()

    def make(self, source: Path) -> None:
        self.began = time.monotonic()
        self.interpreter = environment(self.python, self.folder / "env")
        self.wheel = make_wheel(self.interpreter, source, self.folder, self.build)

    def test(self, sdist: Path, files: tuple[str, ...], *options: str) -> None:
        built = time.monotonic()
        summary = try_wheel(self.interpreter, self.wheel, tests_alone(sdist, self.folder), files,
                            options)
        say(f"{self.name}: {summary.strip('= ')} "
            f"(with the wheel {built - self.began:.0f} s before that)")


def guarded(attempt: Attempt, step, *arguments) -> bool:
    """Whether a step succeeded; says why not."""
    try:
        step(*arguments)
    except Failure as failure:
        say(f"{attempt.name}: FAILED\n{failure}")
        return False
    return True


def short(attempts: list[Attempt], sdist: Path, folder: Path) -> bool:
    """One tree for all wheels, so that the modules are translated to C once; the tests of one
    Python run while the next one's modules are compiled."""
    tree = unpack(sdist, folder / "shared")
    good = True
    with ThreadPoolExecutor() as pool:
        tests = []
        for attempt in attempts:
            if guarded(attempt, attempt.make, tree):
                tests.append(pool.submit(guarded, attempt, attempt.test, sdist, SMOKE))
            else:
                good = False
    return good and all(test.result() for test in tests)


def full(attempts: list[Attempt], sdist: Path) -> bool:
    """Everything from the sdist, one after the other."""
    good = True
    for attempt in attempts:
        good = (guarded(attempt, attempt.make, sdist)
                and guarded(attempt, attempt.test, sdist, ("",), *WHOLE) and good)
    return good


def in_turn(number: int, found: dict[str, Python | None]) -> tuple[Python, str]:
    """The Python and build whose turn it is, of all but what `make test` runs."""
    tested = next(iter(found)), "release"
    pairs = [(python, build) for build in BUILDS for minor, python in found.items()
             if python is not None and (minor, build) != tested]
    return pairs[number % len(pairs)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--full", action="store_true",
                        help="every Python, release and debug, the whole suite")
    parser.add_argument("--python", action="append", metavar="3.X", help="only these")
    parser.add_argument("--build", action="append", choices=BUILDS, help="only these builds")
    parser.add_argument("--turn", type=int, metavar="N", help="only the N-th Python and build")
    parser.add_argument("--folder", type=Path, help="work in this new folder, and leave it")
    args = parser.parse_args()
    # A shell starts background jobs with SIGINT ignored, which tests of Ctrl-C would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    versions = supported(ROOT)
    found = {minor: find(minor) for minor in versions}
    for minor, python in found.items():
        say(f"{minor}: {f'{python.version}, {python.path}' if python else 'not found here'}")
    # The first one is the one that `make test` takes.
    chosen = args.python or (versions if args.full else versions[1:])
    pythons = [found[minor] for minor in chosen if found.get(minor)]
    if not pythons:
        say(f"no Python to try: none of {', '.join(chosen)} is here")
        return 1
    builds = args.build or (BUILDS if args.full else BUILDS[:1])
    if args.turn is not None:
        python, build = in_turn(args.turn, found)
        pythons, builds = [python], (build,)
        say(f"whose turn it is: {python.version}, {build}")
    with work_folder(args.folder) as folder:
        try:
            sdist = make_sdist(pythons[0], folder)
        except Failure as failure:
            say(str(failure))
            return 1
        attempts = [Attempt(python, build, folder) for python in pythons for build in builds]
        good = full(attempts, sdist) if args.full else short(attempts, sdist, folder)
    say("all passed" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
