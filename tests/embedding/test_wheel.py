"""The built wheel, and embedders under sanitizers: as outsiders have them, from files alone."""
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from embedding_support import (
    EXAMPLES,
    HERE,
    MISSING,
    build_program,
    build_project,
    config,
    environment,
    run,
)
from support import ROOT

pytestmark = [
    pytest.mark.soak("builds the whole package, twice"),
    pytest.mark.xdist_group("wheel"),
    pytest.mark.uninstrumented("the package that it builds has a sanitizer of its own"),
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]
HEADERS = {"gcheap/include/gcheap.h", "gcheap/include/gcheap_python.h",
           "gcheap/include/gcheap/native/atomics.h"}
SANITIZE = ("-fsanitize=address,undefined", "-fno-omit-frame-pointer")
# CPython itself leaks at exit; the fault path has a handler of its own.
QUIET = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The source distribution, unpacked: only what is in it can be built."""
    made = tmp_path_factory.mktemp("sdist")
    run([sys.executable, "-c", "import setuptools.build_meta as b, sys; b.build_sdist(sys.argv[1])",
         made], cwd=ROOT)
    archive, = made.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(made, filter="data")
    return archive.with_name(archive.name.removesuffix(".tar.gz"))


def wheel_of(source: Path, made: Path, variant: str) -> Path:
    run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir",
         made, source], env=os.environ | {"GCHEAP_BUILD": variant}, timeout=7200)
    wheel, = made.glob("*.whl")
    return wheel


def installed(wheel: Path, made: Path) -> Path:
    run([sys.executable, "-m", "pip", "install", "--no-deps", "--target", made, wheel])
    return made


@pytest.fixture(scope="session")
def wheel(source, tmp_path_factory):
    return wheel_of(source, tmp_path_factory.mktemp("wheel"), "release")


@pytest.fixture(scope="session")
def package(wheel, tmp_path_factory):
    """Where the wheel is installed: a directory with nothing else in it."""
    return installed(wheel, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def checked_package(source, tmp_path_factory):
    """The same, with AddressSanitizer and UndefinedBehaviorSanitizer in gcheap itself."""
    wheel = wheel_of(source, tmp_path_factory.mktemp("asan-wheel"), "asan")
    return installed(wheel, tmp_path_factory.mktemp("asan-site"))


def preload() -> dict[str, str]:
    """For a python that is not built with the sanitizer, importing modules that are."""
    libraries = [run(["gcc", f"-print-file-name={name}"]).strip()
                 for name in ("libasan.so", "libubsan.so")]
    return QUIET | {"LD_PRELOAD": " ".join(libraries)}


def test_the_wheel_has_what_embedders_need(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= HEADERS
    assert {"gcheap/heap.pxd", "gcheap/_fastpath.pxd", "gcheap/core/layout.pxd",
            "gcheap/embed/mutators.pxd"} <= names
    # The programs of `gcheap bench peers` are sources on purpose.
    assert not any(name.endswith((".c", ".o")) or name.startswith(("tests", "examples"))
                   for name in names if not name.startswith("gcheap/peers/"))


def test_the_flags_are_those_of_the_installed_wheel(package, tmp_path):
    assert config(package=package, cwd=tmp_path) == [str(package / "gcheap/include")]


@pytest.mark.parametrize("name", ["every_function", "nan_boxing"])
def test_programs_build_against_the_wheel(package, tmp_path, name):
    program = build_program(HERE / f"{name}.c", tmp_path / name, package=package)
    assert run([program, sys.executable, "capacity=16MiB verify=3"], cwd=tmp_path,
               env=environment(package)) == "done\n"


def test_the_c_example_builds_against_the_wheel(package, tmp_path):
    program = build_program(EXAMPLES / "c_vm/scheme.c", tmp_path / "scheme", package=package)
    said = run([program, sys.executable], cwd=tmp_path, env=environment(package))
    assert said.count("60 sums are right") == 2


def test_the_cython_example_builds_against_the_wheel(package, tmp_path):
    project = build_project(EXAMPLES / "cython_runtime", tmp_path / "project", package)
    assert "all right" in run([sys.executable, "main.py"], cwd=project, env=environment(package))


@pytest.mark.parametrize("options", ["capacity=16MiB verify=2", "capacity=16MiB backend=copy",
                                     "capacity=16MiB faults=handler collect_every=5000"])
@pytest.mark.parametrize("name", ["every_function", "nan_boxing"])
def test_programs_in_c_under_address_sanitizer(checked_package, tmp_path, name, options):
    program = build_program(HERE / f"{name}.c", tmp_path / name, *SANITIZE, package=checked_package,
                            **preload())
    assert run([program, sys.executable, options], cwd=tmp_path,
               env=environment(checked_package, **QUIET)) == "done\n"


def test_the_c_example_under_address_sanitizer(checked_package, tmp_path):
    program = build_program(EXAMPLES / "c_vm/scheme.c", tmp_path / "scheme", *SANITIZE,
                            package=checked_package, **preload())
    said = run([program, sys.executable], cwd=tmp_path, env=environment(checked_package, **QUIET))
    assert said.count("60 sums are right") == 2


def test_address_sanitizer_watches_the_program(checked_package, tmp_path):
    """It would notice: a root area says it has a word more than it has."""
    source = tmp_path / "wrong.c"
    source.write_text(f'''
        #include "{HERE}/checking.h"
        int main(int argc, char **argv) {{
            gc_heap *heap = begin(argv, NULL);
            gc_mutator *m = gc_attach(heap, "wrong");
            gc_word *area = calloc(4, sizeof *area);
            uint64_t count = 5;                     /* one more than there are */
            (void)argc;
            gc_enter(m);
            gc_add_roots(m, area, &count, NULL);
            gc_collect(heap);
            return end(heap);
        }}
    ''')
    program = build_program(source, tmp_path / "wrong", *SANITIZE, package=checked_package,
                            **preload())
    done = subprocess.run([program, sys.executable, "capacity=4MiB"], cwd=tmp_path,
                          env=environment(checked_package, **QUIET), capture_output=True, text=True)
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr, done.stderr


def test_the_cython_example_under_address_sanitizer(checked_package, tmp_path):
    project = build_project(EXAMPLES / "cython_runtime", tmp_path / "project", checked_package,
                            CFLAGS=" ".join(SANITIZE), LDFLAGS=SANITIZE[0], **preload())
    said = run([sys.executable, "main.py"], cwd=project,
               env=environment(checked_package, **preload()))
    assert "all right" in said
