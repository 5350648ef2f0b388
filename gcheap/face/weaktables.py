"""Mappings that hold their keys, or their values, weakly."""
from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from gcheap.face.keytable import KeyTable
from gcheap.face.ref import Ref, Tagged
from gcheap.face.weakref import WeakRef, weak
from gcheap.text import shown

_MISSING: Any = object()
Slot = Ref | Tagged | None
_value_tables: weakref.WeakSet[WeakValueTable] = weakref.WeakSet()


class WeakKeyTable(MutableMapping[Ref, Slot]):
    """A mapping from objects, by identity, to a Ref, Tagged or None; made by
    `Heap.weak_key_table`.

    It is a table of ephemerons: an entry keeps its value alive as long as its key is alive other
    than through the table, even if the value refers to the key.  Entries of dead keys are
    removed by each cycle.  Single operations are atomic; any attached thread may use the table
    at any time.  Iteration, keys(), values() and items() go over a snapshot, whose keys live as
    long as it does.  Two tables are equal when they are the same one.
    """

    def __init__(self, core: Any) -> None:
        self._native = KeyTable(core)

    def __getitem__(self, key: Ref) -> Slot:
        value = self._native.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def get(self, key: Ref, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        return self._native.get(key, default)

    def __setitem__(self, key: Ref, value: Slot) -> None:
        self._native.put(key, value, True)

    def setdefault(self, key: Ref, default: Slot = None) -> Slot:       # type: ignore[override]
        """The value of `key`, which becomes `default` if it has none.  Atomic."""
        return self._native.put(key, default, False)

    def __delitem__(self, key: Ref) -> None:
        if self._native.pop(key, _MISSING) is _MISSING:
            raise KeyError(key)

    def pop(self, key: Ref, default: Any = _MISSING) -> Any:
        """Removes `key` and returns its value, or `default`; KeyError without one.  Atomic."""
        value = self._native.pop(key, default)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def popitem(self) -> tuple[Ref, Slot]:
        """Removes some entry and returns it; KeyError when there is none."""
        for key in self:
            value = self._native.pop(key, _MISSING)
            if value is not _MISSING:
                return key, value
        raise KeyError("popitem: the weak-key table is empty")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, Ref) and self._native.get(key, _MISSING) is not _MISSING

    def __len__(self) -> int:
        """Entries that no cycle has removed; of those a cycle may find some dead."""
        return len(self._native)

    def __iter__(self) -> Iterator[Ref]:
        return iter([key for key, _ in self._native.items()])

    def keys(self) -> list[Ref]:                    # type: ignore[override]
        """A list of the keys."""
        return list(self)

    def values(self) -> list[Slot]:                 # type: ignore[override]
        """A list of the values."""
        return [value for _, value in self._native.items()]

    def items(self) -> list[tuple[Ref, Slot]]:      # type: ignore[override]
        """A list of (key, value) pairs."""
        return self._native.items()

    def clear(self) -> None:
        """Removes what was in the table when the call began."""
        self._native.clear()

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<gcheap.WeakKeyTable of {len(self)}>"


class WeakValueTable(MutableMapping[Any, Ref]):
    """A mapping from str, bytes or int to weakly held objects; made by `Heap.weak_value_table`.

    An entry is gone as soon as its object has died: looking it up never finds a dead object.
    For interning: `table.setdefault(text, make)` returns the object of `text`, made by
    make() if there is none.  Single operations are atomic.  Iteration, keys(), values() and
    items() go over a snapshot of the entries whose objects are alive.  Two tables are equal
    when they are the same one.
    """

    def __init__(self, core: Any) -> None:
        self._core = core
        self._cells: dict[Any, WeakRef] = {}
        self._lock = threading.RLock()      # reentrant: make() may use the table
        self._sweep_at = 64                 # entries at which dead ones are looked for
        _value_tables.add(self)

    @staticmethod
    def _check(key: Any) -> Any:
        if type(key) not in (str, bytes, int):
            raise TypeError(f"weak-value table: a key is a str, bytes or int, not {shown(key)}")
        return key

    def get(self, key: Any, default: Any = None) -> Any:
        """The object of `key`, or `default`."""
        cell = self._cells.get(self._check(key))
        ref = None if cell is None else cell()
        return default if ref is None else ref

    def __getitem__(self, key: Any) -> Ref:
        ref = self.get(key)
        if ref is None:
            raise KeyError(key)
        return ref

    def __setitem__(self, key: Any, value: Ref) -> None:
        cell = weak(self._core, value)
        self._check(key)
        with self._lock:
            self._sweep()
            self._cells[key] = cell

    def setdefault(self, key: Any, default: Ref | Callable[[], Ref]) -> Ref:  # type: ignore[override]
        """The object of `key`; if there is none, it becomes `default`: a Ref, or a callable
        that returns one.  Of several threads that ask at once one calls it."""
        ref = self.get(key)
        if ref is not None:
            return ref
        with self._lock:
            ref = self.get(key)
            if ref is None:
                ref = default if isinstance(default, Ref) else default()
                self[key] = ref
            return ref

    def __delitem__(self, key: Any) -> None:
        self.pop(key)

    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        """Removes `key` and returns its object, or `default`; KeyError without one."""
        with self._lock:
            ref = self.get(key)
            self._cells.pop(key, None)
        if ref is None:
            if default is _MISSING:
                raise KeyError(key)
            return default
        return ref

    def __contains__(self, key: object) -> bool:
        return type(key) in (str, bytes, int) and self.get(key) is not None

    def __len__(self) -> int:
        """Entries whose objects no cycle has found dead."""
        return sum(not cell.cleared for cell in list(self._cells.values()))

    def __iter__(self) -> Iterator[Any]:
        return iter([key for key, cell in list(self._cells.items()) if not cell.cleared])

    def keys(self) -> list[Any]:                    # type: ignore[override]
        """A list of the keys."""
        return list(self)

    def values(self) -> list[Ref]:                  # type: ignore[override]
        """A list of the objects."""
        return [ref for _, ref in self.items()]

    def items(self) -> list[tuple[Any, Ref]]:       # type: ignore[override]
        """A list of (key, object) pairs."""
        found = [(key, cell()) for key, cell in list(self._cells.items())]
        return [(key, ref) for key, ref in found if ref is not None]

    def clear(self) -> None:
        """Removes every entry."""
        with self._lock:
            self._cells.clear()

    def _sweep(self) -> None:
        """Drops the entries of dead objects once the table has doubled: constant per entry."""
        if len(self._cells) >= self._sweep_at:
            for key, cell in list(self._cells.items()):
                if cell.cleared:
                    del self._cells[key]
            self._sweep_at = max(64, 2 * len(self._cells))

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<gcheap.WeakValueTable of {len(self._cells)}>"


def _in_child() -> None:
    """In a forked child: another thread, which it does not have, may have held a lock."""
    for table in list(_value_tables):
        table._lock = threading.RLock()


os.register_at_fork(after_in_child=_in_child)
