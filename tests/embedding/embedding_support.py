"""Building programs and extension modules as somebody does who has gcheap installed."""
from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from support import HOME, ROOT

from gcheap.core._testing_sanitizer import sanitizer

HERE = Path(__file__).resolve().parent
EXAMPLES = ROOT / "examples"
COMPILER = shlex.split(os.environ.get("CC", "cc"))      # as "ccache gcc"
MISSING = ("no C compiler" if shutil.which(COMPILER[0]) is None else
           "no Python.h" if not Path(sysconfig.get_path("include"), "Python.h").exists() else None)
WARNINGS = ("-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Werror")
# What embeds a build with a sanitizer has it too, as setup.py has it.
SANITIZED = {"thread": ("-fsanitize=thread", "-Wno-tsan"),
             "address": ("-fsanitize=address,undefined", "-fsanitize-undefined-trap-on-error"),
             None: ()}[sanitizer()]


def environment(package: Path | None = None, **more: str) -> dict[str, str]:
    """Variables for a process that imports gcheap: of `package`, a directory that it was
    installed to, or as the tests do; and what is in its own directory, also under sanitize.py."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GCHEAP_")}
    paths = [str(package or HOME), clean.get("PYTHONPATH", "")]
    return clean | {"PYTHONPATH": os.pathsep.join(filter(None, paths)),
                    "PYTHONSAFEPATH": "", "GCHEAP_STALL_WARNING_MS": "0"} | more


def run(command, timeout: float = 300, **kwargs) -> str:
    """Runs a command, which must end with status 0; returns its output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          timeout=timeout, **kwargs)
    assert done.returncode == 0, f"{shlex.join(done.args)}: {done.returncode}\n{done.stdout}" + (
        done.stderr)
    return done.stdout


def compiled(command) -> None:
    """Runs a compiler, which has no use for a sanitizer that is loaded before everything."""
    run(command, env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"})


def config(*options: str, cwd: Path, package: Path | None = None, **more: str) -> list[str]:
    """What `gcheap config` prints, asked for outside of the source tree."""
    return run([sys.executable, "-m", "gcheap", "config", *options], cwd=cwd,
               env=environment(package, **more)).split()


def build_program(source: Path, target: Path, *flags: str, package: Path | None = None,
                  **more: str) -> Path:
    """Compiles a program of one file, with the flags that gcheap gives."""
    compiled([*COMPILER, "-std=c11", "-O1", "-g", *WARNINGS, *SANITIZED, *flags, source, "-o",
              target, *config("--cflags", "--libs", cwd=target.parent, package=package, **more)])
    return target


def build_module(source: Path, target: Path, *flags: str) -> Path:
    """Compiles an extension module of one file; `flags` come first, so their -I does."""
    made = target / (source.stem + sysconfig.get_config_var("EXT_SUFFIX"))
    compiled([*COMPILER, "-std=c11", "-O1", "-g", "-shared", "-fPIC", *WARNINGS, *SANITIZED, *flags,
              source, "-o", made, *config("--cflags", cwd=target)])
    return made


def build_project(source: Path, target: Path, package: Path | None = None, **more: str) -> Path:
    """Copies a project with a setup.py and builds its extension modules in the copy."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.so", "*.c", "build"))
    if SANITIZED:
        # The build imports gcheap, which needs what is loaded before everything; gcc does not.
        more = {"CC": "env -u LD_PRELOAD gcc", "LDSHARED": "env -u LD_PRELOAD gcc -shared",
                "CFLAGS": " ".join(SANITIZED), "LDFLAGS": SANITIZED[0]} | more
    run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=target,
        env=environment(package, **more))
    return target
