"""What compilers need to know to build against this gcheap."""
from __future__ import annotations

import sysconfig
from pathlib import Path


def get_include() -> str:
    """The directory of gcheap.h and gcheap_python.h, as `include_dirs` of an extension has it."""
    return str(Path(__file__).resolve().parent / "include")


def cflags() -> list[str]:
    """Compiler flags for a file that includes gcheap.h or gcheap_python.h."""
    return [f"-I{get_include()}", f"-I{sysconfig.get_path('include')}"]


def libs() -> list[str]:
    """Linker flags for a program of its own, which starts Python by gc_start().

    An extension module needs none.
    """
    get = sysconfig.get_config_var
    if get("Py_ENABLE_SHARED"):
        where = [f"-L{get('LIBDIR')}", f"-Wl,-rpath,{get('LIBDIR')}"]
    else:       # the program has the interpreter in it, and extension modules look for it there
        where = [f"-L{get('LIBPL')}", *(get("LINKFORSHARED") or "").split()]
    return [*where, f"-lpython{get('LDVERSION')}", *(get("LIBS") or "").split(),
            *(get("SYSLIBS") or "").split(), "-pthread"]
