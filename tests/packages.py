"""What an sdist and a wheel of gcheap must hold, and must not: used by versions.py."""
from __future__ import annotations

import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

# What belongs in an sdist: everything to build, test and read.
TREES = {
    "gcheap": (".py", ".pyx", ".pxd", ".pyi", ".h", ".typed", ".j2", ".css", ".lox", ".lua"),
    "tests": (".py", ".c", ".h", ".lox"),
    "examples": (".py", ".pyx", ".c", ".toml", ".lox"),
    "benchmarks": (".py", ".c", ".h", ".go", ".java", ".ml"),
    "docs": (".md", ".png"),
}
SINGLE = ("LICENSE", "MANIFEST.in", "Makefile", "README.md", "pyproject.toml", "setup.py")
MADE = ("PKG-INFO", "setup.cfg")                        # by setuptools
# Of the package, beside compiled modules.
IN_WHEEL = (".py", ".pxd", ".pyi", ".h", ".typed", ".j2", ".css", ".lox", ".lua")
COMPILED_IN = "gcheap/lox/native/"                      # headers of one module, for nobody else
PEERS = ("benchmarks/peers/", "gcheap/peers/")          # in the tree, in a wheel


def sources(root: Path) -> set[str]:
    """Every file of the tree at `root` that belongs in an sdist."""
    found = {name for name in SINGLE if (root / name).exists()}
    for tree, endings in TREES.items():
        found |= {str(path.relative_to(root)) for path in (root / tree).rglob("*")
                  if path.is_file() and path.suffix in endings}
    return found


def installed(root: Path) -> set[str]:
    """What a wheel of the tree at `root` holds beside compiled modules and metadata."""
    names = sources(root)
    return ({name for name in names if name.startswith("gcheap/") and name.endswith(IN_WHEEL)
             and not name.startswith(COMPILED_IN)}
            | {name.replace(*PEERS) for name in names if name.startswith(PEERS[0])}
            | {"gcheap/built.json"})


def supported(root: Path) -> list[str]:
    """The Pythons that the metadata claim: ["3.11", …]."""
    metadata = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    prefix = "Programming Language :: Python :: 3."
    return ["3." + line.removeprefix(prefix) for line in metadata["project"]["classifiers"]
            if line.startswith(prefix)]


def sdist_faults(sdist: Path, root: Path) -> list[str]:
    """What is wrong with an sdist of the tree at `root`; empty: nothing."""
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    top = sdist.name.removesuffix(".tar.gz")
    names = {str(PurePosixPath(member.name).relative_to(top)) for member in members
             if member.isfile() and PurePosixPath(member.name).parts[0] == top}
    wanted = sources(root)
    faults = [f"outside {top}/, or no plain file: {member.name}" for member in members
              if not (member.isfile() or member.isdir())
              or PurePosixPath(member.name).parts[0] != top or ".." in member.name.split("/")]
    faults += [f"missing: {name}" for name in sorted(wanted - names)]
    faults += [f"does not belong there: {name}" for name in sorted(names - wanted)
               if name not in MADE and not name.startswith("gcheap.egg-info/")]
    return faults


def wheel_faults(wheel: Path, root: Path) -> list[str]:
    """What is wrong with a wheel built from the tree at `root`; empty: nothing."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(archive.read(name).decode() for name in names
                        if name.endswith(".dist-info/METADATA"))
    wanted = installed(root)
    modules = {name.removesuffix(".pyx") for name in sources(root)
               if name.startswith("gcheap/") and name.endswith(".pyx")}
    built = {name.split(".")[0] for name in names if name.endswith(".so")}
    dist_info = f"gcheap-{wheel.name.split('-')[1]}.dist-info/"
    others = {name for name in names if not name.startswith(dist_info)}
    faults = [f"missing: {name}" for name in sorted(wanted - names)]
    faults += [f"not compiled: {name}" for name in sorted(modules - built)]
    faults += [f"does not belong there: {name}" for name in sorted(others - wanted)
               if not (name.endswith(".so") and name.split(".")[0] in modules)]
    if not any(name.startswith(dist_info) and name.endswith("/LICENSE") for name in names):
        faults.append("missing: the licence")
    faults += [f"METADATA does not name Python {minor}" for minor in supported(root)
               if f"Classifier: Programming Language :: Python :: {minor}\n" not in metadata]
    if "Free Threading" in metadata:
        faults.append("METADATA claims the free-threaded build, which nobody tests")
    return faults
