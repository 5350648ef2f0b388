"""The package as it is installed, and the checks of what is shipped (packages.py)."""
from __future__ import annotations

import importlib.metadata
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packages import installed, sdist_faults, sources, supported, wheel_faults
from source_tree import IN_TREE, needs_tree
from support import ROOT, run_python

import gcheap

PACKAGE = Path(gcheap.__path__[0])


# ---- as installed ----------------------------------------------------------------------------

def test_what_other_cython_modules_and_type_checkers_need_is_installed():
    for name in ("_fastpath.pxd", "core/layout.pxd", "core/uffd.pxd",
                 "include/gcheap/native/uffd_abi.h", "include/gcheap/native/atomics.h",
                 "include/gcheap.h", "py.typed", "face/heap.pyi",
                 "face/ref.pyi"):
        assert (PACKAGE / name).is_file(), name


def test_every_header_that_a_declaration_names_is_installed():
    """`cdef extern from "gcheap/native/…"`: who cimports it, compiles it."""
    named = set()
    for declarations in PACKAGE.rglob("*.pxd"):
        for line in declarations.read_text(encoding="utf-8").splitlines():
            if 'cdef extern from "gcheap/' in line:
                named.add("include/" + line.split('"')[1])
    assert named and all((PACKAGE / name).is_file() for name in named)


def test_this_python_is_one_that_the_metadata_claim():
    claimed = supported(ROOT)
    assert claimed == sorted(claimed, key=lambda minor: int(minor.split(".")[1]))
    assert f"3.{sys.version_info.minor}" in claimed
    if not IN_TREE:
        classifiers = importlib.metadata.metadata("gcheap").get_all("Classifier")
        assert {f"Programming Language :: Python :: {minor}" for minor in claimed} <= set(
            classifiers)
        assert importlib.metadata.version("gcheap") == gcheap.__version__


def test_the_free_threaded_build_is_not_claimed():
    assert "Free Threading" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("has_gil", "status"), [(True, 0), (False, 1)])
def test_without_a_gil_the_import_says_so(has_gil, status):
    """A free-threaded build enables its GIL for our modules, unless it was told not to: then
    nothing here would be safe."""
    done = run_python(f"import sys; sys._is_gil_enabled = lambda: {has_gil}; import gcheap")
    assert done.returncode == status
    if status:
        assert "ImportError: gcheap needs the GIL" in done.stderr and "PYTHON_GIL" in done.stderr


# ---- the checks --------------------------------------------------------------------------------

def an_sdist(folder: Path, names) -> Path:
    path = folder / "gcheap-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


def a_wheel(folder: Path, names, metadata: str) -> Path:
    path = folder / "gcheap-1.0-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
        archive.writestr("gcheap-1.0.dist-info/METADATA", metadata)
    return path


def classifiers(*minors: str) -> str:
    return "".join(f"Classifier: Programming Language :: Python :: {minor}\n" for minor in minors)


@needs_tree
def test_an_sdist_is_checked(tmp_path):
    whole = {f"gcheap-1.0/{name}" for name in sources(ROOT)} | {"gcheap-1.0/PKG-INFO"}
    assert sdist_faults(an_sdist(tmp_path, whole), ROOT) == []
    for lost in ("gcheap/include/gcheap/native/sync.h", "gcheap/face/ref.pyx", "tests/support.py",
                 "pyproject.toml", "docs/README.md", "gcheap/py.typed"):
        assert sdist_faults(an_sdist(tmp_path, whole - {f"gcheap-1.0/{lost}"}), ROOT) == [
            f"missing: {lost}"]
    for more in ("gcheap/face/ref.c", "gcheap/face/ref.cpython-311-x86_64-linux-gnu.so",
                 "build/cython-release/a.c", ".ci/run", "tests/__pycache__/a.pyc"):
        assert sdist_faults(an_sdist(tmp_path, whole | {f"gcheap-1.0/{more}"}), ROOT) == [
            f"does not belong there: {more}"]
    for outside in ("/etc/passwd", "other/x", "gcheap-1.0/../x"):
        assert sdist_faults(an_sdist(tmp_path, whole | {outside}), ROOT)


@needs_tree
def test_a_wheel_is_checked(tmp_path):
    names = installed(ROOT)
    names |= {name.removesuffix(".pyx") + ".cpython-311-x86_64-linux-gnu.so"
              for name in sources(ROOT) if name.startswith("gcheap/") and name.endswith(".pyx")}
    names |= {"gcheap-1.0.dist-info/licenses/LICENSE", "gcheap-1.0.dist-info/RECORD"}
    claims = classifiers(*supported(ROOT))
    assert wheel_faults(a_wheel(tmp_path, names, claims), ROOT) == []
    for lost, fault in (("gcheap/_fastpath.pxd", "missing"), ("gcheap/py.typed", "missing"),
                        ("gcheap/include/gcheap/native/sync.h", "missing"),
                        ("gcheap/face/ref.pyi", "missing"),
                        ("gcheap/built.json", "missing"),
                        ("gcheap/peers/peer.py", "missing"), ("gcheap/peers/record.h", "missing"),
                        ("gcheap/face/heap.cpython-311-x86_64-linux-gnu.so", "not compiled"),
                        ("gcheap-1.0.dist-info/licenses/LICENSE", "missing")):
        fault_found, = wheel_faults(a_wheel(tmp_path, names - {lost}, claims), ROOT)
        assert fault_found.startswith(fault)
    for more in ("gcheap/face/ref.c", "gcheap/face/ref.pyx", "tests/support.py", "setup.py"):
        assert wheel_faults(a_wheel(tmp_path, names | {more}, claims), ROOT) == [
            f"does not belong there: {more}"]
    assert wheel_faults(a_wheel(tmp_path, names, classifiers("3.11")), ROOT)
    assert wheel_faults(a_wheel(
        tmp_path, names, claims + "Classifier: Programming Language :: Python :: Free Threading"
                                  " :: 1 - Unstable\n"), ROOT)
