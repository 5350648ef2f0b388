"""Allocation traces: reading, checking, writing and drawing them.  What `replay` replays.

docs/reference/traces-replay.md has the two formats.  A trace is read as rows (op, id, a, b), the
same in both; `compiled` checks them and turns ids, which may be used again after a death, into
objects with a number of their own and a place in a table that is as large as the most objects
that live at once.
"""

from __future__ import annotations

import errno
import math
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gcheap.errors import OptionError
from gcheap.options import format_size
from gcheap.text import shown

HEADING = "gcheap-trace 1"
ALLOCATE, LINK, DIE = 0, 1, 2
LETTERS = "ald"
ROW = np.dtype([("op", "u8"), ("id", "u8"), ("a", "u8"), ("b", "u8")])
EVENT = np.dtype([("op", "u4"), ("object", "u4"), ("slot", "u4"), ("target", "u4")])
OBJECT = np.dtype([("bytes", "u8"), ("slots", "u4"), ("place", "u4"), ("links", "u8")])
OVERHEAD = 24                   # bytes in the heap beyond the traced ones: header, length, slot
MOST_BYTES = 1 << 40            # of one allocation
MOST_SLOTS = 1 << 24
MOST_OBJECTS = (1 << 31) - 2


@dataclass(frozen=True)
class Trace:
    """A checked trace.

    events      EVENT array; whatever lived at its end dies in it.  `target`: an object's number
                plus 1, or 0 for null
    objects     OBJECT array: `place` is where in the table, `links` which of all slots is its
                first
    places      of the table
    slots       of all objects together
    peak_bytes  the most that live at once, with OVERHEAD
    """

    events: np.ndarray
    objects: np.ndarray
    places: int
    slots: int
    peak_bytes: int


# ---- checking ------------------------------------------------------------------------------

class _Compiler:
    """Checks rows one by one, and knows what is alive."""

    def __init__(self, name):
        self._name = name
        self._alive = {}                # id -> number
        self._free = []                 # places
        self._live = self._slots = 0
        self.peak = 0
        self.events, self.objects = [], []
        self.places = 0

    def take(self, at, op, ident, a, b):
        """One row; `at` says where it stands."""
        if op == ALLOCATE:
            self._allocate(at, ident, a, b)
        elif ident not in self._alive:
            self._refuse(at, f"{LETTERS[op]} {ident}: no object of that id is alive")
        elif op == LINK:
            self._link(at, self._alive[ident], ident, a, b)
        else:
            self._die(ident)

    def finish(self):
        for ident in list(self._alive):
            self._die(ident)
        if not self.events:
            self._refuse(None, "no event in it")
        return Trace(np.array(self.events, EVENT), np.array(self.objects, OBJECT), self.places,
                     self._slots, self.peak)

    def _allocate(self, at, ident, nbytes, slots):
        if ident == 0:
            self._refuse(at, "a 0: an id is a number above 0")
        if ident in self._alive:
            self._refuse(at, f"a {ident}: an object of that id is alive already")
        if nbytes > MOST_BYTES or slots > min(MOST_SLOTS, nbytes // 8):
            self._refuse(at, f"a {ident}: {nbytes} bytes with {slots} slots; accepted are "
                             f"{MOST_BYTES} bytes and {MOST_SLOTS} slots at most, 8 bytes a slot")
        if len(self.objects) == MOST_OBJECTS:
            self._refuse(at, f"more than {MOST_OBJECTS} objects")
        if not self._free:
            self._free.append(self.places)
            self.places += 1
        number = self._alive[ident] = len(self.objects)
        self.objects.append((nbytes, slots, self._free.pop(), self._slots))
        self._slots += slots
        self.events.append((ALLOCATE, number, 0, 0))
        self._live += nbytes + OVERHEAD
        self.peak = max(self.peak, self._live)

    def _link(self, at, number, ident, slot, target):
        slots = self.objects[number][1]
        if slot >= slots:
            self._refuse(at, f"l {ident} {slot}: the object has {slots} slots, counted from 0")
        if target and target not in self._alive:
            self._refuse(at, f"l {ident} {slot} {target}: no object of id {target} is alive")
        self.events.append((LINK, number, slot, self._alive[target] + 1 if target else 0))

    def _die(self, ident):
        number = self._alive.pop(ident)
        self._live -= self.objects[number][0] + OVERHEAD
        self._free.append(self.objects[number][2])
        self.events.append((DIE, number, 0, 0))

    def _refuse(self, at, why):
        raise OptionError(f"{self._name}{'' if at is None else f', {at}'}: {why}")


def compiled(rows: Iterable, name: str = "trace") -> Trace:
    """The trace of rows (op, id, a, b); OptionError names the first row that is wrong."""
    compiler = _Compiler(name)
    for number, (op, ident, a, b) in enumerate(rows):
        compiler.take(f"event {number}", int(op), int(ident), int(a), int(b))
    return compiler.finish()


# ---- reading -------------------------------------------------------------------------------

def read(path) -> Trace:
    """The trace in a file of either format; OptionError says what is wrong with it."""
    try:
        known = os.stat(path)
        return _read(os.fspath(path), known.st_mtime_ns, known.st_size)
    except OSError as error:
        raise OptionError(f"trace {shown(os.fspath(path))}: {error.strerror}") from None


@lru_cache(maxsize=1)           # checked once, then read by every mutator
def _read(path, _changed, _size):
    with open(path, "rb") as stream:
        if stream.read(2) == b"PK":
            return compiled(_npz_rows(path), path)
    return _read_text(path)


def _npz_rows(path):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            version, columns = arrays["version"], [arrays[name] for name in ROW.names]
    except Exception as error:      # zlib's, zipfile's, numpy's: a damaged file has many ends
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise                   # the disk's; a seek to before the file is the file's
        why = " ".join(str(error).split()) or type(error).__name__
        raise OptionError(f"{path}: no trace: {why}") from None
    if version.shape != () or version != 1:
        raise OptionError(f"{path}: a trace of version {version}; known is version 1")
    if any(column.ndim != 1 or column.dtype.kind not in "iu" or len(column) != len(columns[0])
           for column in columns):
        raise OptionError(f"{path}: no trace: {', '.join(ROW.names)} are to be arrays of "
                          f"integers, all of one length")
    if any(column.dtype.kind == "i" and (column < 0).any() for column in columns):
        raise OptionError(f"{path}: no trace: a number in it is negative")
    if (columns[0] > DIE).any():
        raise OptionError(f"{path}: no trace: op is {int(columns[0].max())}; known are 0, 1 and 2")
    return zip(*(column.tolist() for column in columns), strict=True)


def _read_text(path):
    compiler = _Compiler(path)
    with open(path, encoding="ascii", errors="replace") as lines:
        first = lines.readline(200)
        if first.strip() != HEADING:
            raise OptionError(f"{path}: no trace: its first line is {shown(first.strip())}, "
                              f"expected {HEADING!r}")
        for number, line in enumerate(lines, 2):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            compiler.take(f"line {number}", *_row_of(path, number, words))
    return compiler.finish()


_COUNTS = {"a": (2, 3), "l": (3,), "d": (1,)}     # numbers after the letter


def _row_of(path, number, words):
    letter, rest = words[0], words[1:]
    if len(rest) not in _COUNTS.get(letter, ()) or not all(
            word.isascii() and word.isdigit() and len(word) < 20 for word in rest):
        raise OptionError(
            f"{path}, line {number}: {shown(' '.join(words))}: expected a ID BYTES [SLOTS], "
            f"l ID SLOT TARGET or d ID, all numbers")
    numbers = [int(word) for word in rest] + [0, 0]
    return LETTERS.index(letter), *numbers[:3]


# ---- writing -------------------------------------------------------------------------------

def write_text(rows: Iterable, stream) -> None:
    """Writes rows as text to a binary stream."""
    stream.write(f"{HEADING}\n".encode())
    for op, ident, a, b in rows:
        numbers = {ALLOCATE: [ident, a, b] if b else [ident, a], LINK: [ident, a, b],
                   DIE: [ident]}[op]
        stream.write(f"{LETTERS[op]} {' '.join(map(str, numbers))}\n".encode())


def write_npz(rows: Iterable, stream) -> None:
    """Writes rows as npz to a binary stream."""
    table = np.array([tuple(row) for row in rows], ROW)
    np.savez_compressed(stream, version=np.array(1), **{
        name: table[name].astype("u1") if name == "op" else table[name] for name in ROW.names})


# ---- drawing -------------------------------------------------------------------------------

@lru_cache(maxsize=4)
def drawn(seed: int, share: int) -> Trace:
    """A trace by `seed` that stays below `share` live bytes: what is replayed without a file."""
    return compiled(drawn_rows(seed, share), "the drawn trace")


def drawn_rows(seed: int, share: int) -> list[tuple]:
    """Its rows: 2,000 to 20,000 objects of log-uniform sizes from 16 bytes to 4 KiB, a quarter
    with slots; deaths at random, the young more likely to die than the old."""
    rng = random.Random(seed)
    objects = min(20_000, max(2_000, share // 256))
    limit = share * 3 // 4
    largest = math.log(min(4096, max(32, share // 64)))
    rows, alive, live = [], [], 0
    for ident in range(1, objects + 1):
        nbytes = int(math.exp(rng.uniform(math.log(16), largest)))
        slots = rng.randint(1, min(8, nbytes // 8)) if rng.random() < 0.25 else 0
        while alive and live + nbytes + OVERHEAD > limit:
            # The greater of two draws: towards the end, where the young are.
            at = max(rng.randrange(len(alive)), rng.randrange(len(alive)))
            alive[at], alive[-1] = alive[-1], alive[at]
            dead, size, _ = alive.pop()
            rows += [(DIE, dead, 0, 0)]
            live -= size + OVERHEAD
        rows.append((ALLOCATE, ident, nbytes, slots))
        alive.append((ident, nbytes, slots))
        live += nbytes + OVERHEAD
        for _ in range(2):
            source, _size, slots = rng.choice(alive)
            if slots:
                target = 0 if rng.random() < 0.2 else rng.choice(alive)[0]
                rows.append((LINK, source, rng.randrange(slots), target))
    return rows


def check_fits(trace: Trace, config) -> None:
    """OptionError when the live bytes of a run are less than what the trace has at its peak."""
    needed = trace.peak_bytes * config.mutators
    if needed > config.live:
        each = "" if config.mutators == 1 else f" for each of {config.mutators} mutators"
        raise OptionError(
            f"live {format_size(config.live)}: the trace has {format_size(trace.peak_bytes)} "
            f"alive at its peak{each}; it needs --live {needed} at least")
