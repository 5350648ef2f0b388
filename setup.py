"""Builds the Cython modules; everything else about the package is in pyproject.toml.

GCHEAP_BUILD selects a variant: release (default), debug, tsan, asan.  All are compiled from the
same C, which is in build/cython; objects and results of each are in build/VARIANT.
GCHEAP_NO_FAILPOINTS=1 leaves the failpoints out of any of them, GCHEAP_NO_TRACING=1 tracing.

What was built, from what and how is recorded in gcheap/built.json beside the modules; the programs
of `gcheap bench peers`, which are in benchmarks/peers, are installed as gcheap/peers.
"""
import itertools
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import Cython
from Cython.Build import cythonize
from Cython.Compiler import Errors
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
VARIANTS = {
    "release": ["-O2", "-g1", "-fno-plt"],
    "debug": ["-O1", "-g3", "-fno-omit-frame-pointer"],
    # -Wno-tsan: it does not follow fences, and says so; none of ours has to publish data.
    "tsan": ["-O1", "-g1", "-fno-omit-frame-pointer", "-fsanitize=thread", "-Wno-tsan"],
    # UBSan's checks trap, and ASan reports the trap: two runtimes in one process share what says
    # where reports go, and one of them loses it.
    "asan": ["-O1", "-g1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined",
             "-fsanitize-undefined-trap-on-error"],
}
variant = os.environ.get("GCHEAP_BUILD", "release")
if variant not in VARIANTS:
    raise SystemExit(f"GCHEAP_BUILD={variant!r}: expected one of {', '.join(VARIANTS)}")
sanitizer = [flag for flag in VARIANTS[variant] if flag.startswith("-fsanitize=")]
macros = []
build_base = f"build/{variant}"
for left_out in ("FAILPOINTS", "TRACING"):
    without = os.environ.get(f"GCHEAP_NO_{left_out}", "0")
    if without not in ("0", "1"):
        raise SystemExit(f"GCHEAP_NO_{left_out}={without!r}: expected 0 or 1")
    if without == "1":
        macros.append((f"GCHEAP_NO_{left_out}", "1"))
        build_base += f"-no-{left_out.lower()}"
# popcnt is in every x86-64 CPU since 2008 (x86-64-v2); AArch64 has its own always.
machine = ["-mpopcnt"] if platform.machine() == "x86_64" else []


def refuse_performance_hint(position, message, env):
    """A nogil function without noexcept takes the GIL at every call: never let one pass."""
    raise SystemExit(f"{position}: Cython performance hint treated as an error: {message}")


Errors.performance_hint = refuse_performance_hint


def output(command):
    """What a command prints, None when it fails or is not there."""
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def source():
    """The commit that is built, and whether the tree differs from it; None outside a checkout."""
    if not (HERE / ".git").exists():            # git would find some other repository above
        return {"commit": None, "modified": None}
    changes = output(["git", "status", "--porcelain", "--", "gcheap", "setup.py"])
    return {"commit": output(["git", "rev-parse", "HEAD"]),
            "modified": None if changes is None else bool(changes)}


class BuildExtensions(build_ext):
    """Translates the modules when they are compiled; an sdist or metadata need no C."""

    def run(self):
        wanted = {extension.name: extension for extension in self.extensions}
        for made in cythonize(
            self.extensions,
            build_dir="build/cython",
            nthreads=os.cpu_count(),
            compiler_directives={
                "language_level": 3,
                "boundscheck": False,
                "wraparound": False,
                "cdivision": True,
                "initializedcheck": False,
                "embedsignature": True,
                # Unpickling would fill in C attributes: a Ref could be forged.
                "auto_pickle": False,
                "freethreading_compatible": False,
            },
        ):
            # Cython sees the headers that a module names, and not what those include.
            headers = map(str, Path(*made.name.split(".")[:-1]).glob("native/*.h"))
            wanted[made.name].sources = made.sources
            wanted[made.name].depends = [*made.depends, *headers]
        super().run()
        package = Path(self.get_ext_fullpath("gcheap._fastpath")).parent
        command = [*self.compiler.compiler_so, *self.extensions[0].extra_compile_args]
        # Without its flags, but with what it may be run by ("ccache gcc").
        compiler = itertools.takewhile(lambda part: part[0] != "-", command)
        version = output([*compiler, "--version"])
        (package / "built.json").write_text(json.dumps({
            "variant": variant, "failpoints": ("GCHEAP_NO_FAILPOINTS", "1") not in macros,
            "tracing": ("GCHEAP_NO_TRACING", "1") not in macros, **source(), "command": command,
            "compiler": version and version.splitlines()[0], "cython": Cython.__version__,
        }, indent=1) + "\n")
        if not self.inplace:
            shutil.copytree(HERE / "benchmarks/peers", package / "peers", dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("__pycache__"))


setup(
    cmdclass={"build_ext": BuildExtensions},
    options={"build": {"build_base": build_base},
             "build_ext": {"parallel": os.cpu_count()}},
    ext_modules=[
        Extension(
            ".".join(path.with_suffix("").parts),
            [str(path)],
            include_dirs=[".", "gcheap/include"],
            define_macros=macros,
            extra_compile_args=["-std=gnu11", "-Wall", "-Wno-unused-function",
                                "-Wno-sign-compare", "-pthread"]
            + VARIANTS[variant] + machine,
            extra_link_args=["-pthread", "-lm"] + sanitizer,
        )
        for path in sorted(Path("gcheap").rglob("*.pyx"))
    ],
)
