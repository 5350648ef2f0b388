"""gcheap: a concurrent compacting heap on Linux userfaultfd.

A compactor thread slides live objects together with UFFDIO_MOVE while mutator threads run and
build the pages they touch on demand.  Importing starts no thread and opens no descriptor.
"""
import struct as _struct
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING

if not _sys.platform.startswith("linux") or _struct.calcsize("P") != 8:
    raise ImportError(
        f"gcheap needs 64-bit Linux; this is {_sys.platform}, {8 * _struct.calcsize('P')}-bit")

from gcheap._unbuilt import use_installed_copy as _use_installed_copy

_use_installed_copy(__path__)

from gcheap import failpoints, log, policy, trace
from gcheap.building import get_include
from gcheap.clock import clock_ns
from gcheap.errors import (
    ForeignRef,
    GcheapError,
    HeapClosed,
    HeapExhausted,
    NotAttached,
    OptionError,
    ShapeError,
)
from gcheap.face.finalize import Finalizer
from gcheap.face.guardian import Guardian
from gcheap.face.heap import Heap
from gcheap.face.mutator import Mutator
from gcheap.face.ref import RawArray, Ref, SlotArray, Tagged
from gcheap.face.shape import Shape
from gcheap.face.weakref import WeakRef
from gcheap.face.weaktables import WeakKeyTable, WeakValueTable
from gcheap.failpoint_settings import arm_environment as _arm_environment
from gcheap.inspection import Path, Retained, Root, Step
from gcheap.statistics import HeapStats, IoctlStats
from gcheap.version import __version__

if _TYPE_CHECKING:
    from gcheap.records import Histogram, Records

_arm_environment()
# A free-threaded build has enabled its GIL by now, for modules that need it, unless told not to.
if not getattr(_sys, "_is_gil_enabled", lambda: True)():
    raise ImportError("gcheap needs the GIL, which PYTHON_GIL=0 or -X gil=0 keeps off")

__all__ = [
    "Finalizer", "ForeignRef", "GcheapError", "Guardian", "Heap", "HeapClosed", "HeapExhausted",
    "HeapStats", "Histogram", "IoctlStats", "Mutator", "NotAttached", "OptionError", "Path",
    "RawArray", "Records", "Ref", "Retained", "Root", "Shape", "ShapeError", "SlotArray", "Step",
    "Tagged", "WeakKeyTable", "WeakRef", "WeakValueTable", "__version__", "clock_ns", "failpoints",
    "get_include", "log", "policy", "trace",
]


def __getattr__(name: str) -> object:
    """`Records` and `Histogram`, which stand on numpy, when they are asked for."""
    if name in ("Histogram", "Records"):
        from gcheap.late import tables

        return getattr(tables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
