"""Values that go through numpy on their way into the heap, with nothing lost on it.

numpy cuts strings, wraps integers and turns what is too large into infinity, mostly without a word.
Here the converted value is compared with the given one, piece by piece.  A float may lose digits,
as it does everywhere; everything else is kept as it was, or refused.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcheap.text import shown

if TYPE_CHECKING:
    import numpy as np
else:
    from gcheap.late import np

# What numpy raises for values that it cannot convert; the last for a date that becomes text.
REFUSALS = (TypeError, ValueError, OverflowError, RuntimeError)


def to_bytes(value: Any, dtype: np.dtype[Any], where: str) -> bytes:
    """The bytes of one value of `dtype`.  OverflowError, TypeError or ValueError, naming `where`,
    for one that does not fit."""
    box = np.zeros(1, dtype)
    try:
        with np.errstate(all="ignore"):
            box[0] = value
        kept = _kept(value, box[0])
    except REFUSALS as error:
        raise _refusal(error, f"{where}: {shown(value)} does not fit dtype {dtype}: {error}"
                       ) from None
    if not kept:
        raise OverflowError(f"{where}: {shown(value)} does not fit dtype {dtype}")
    return box.tobytes()


def to_array(values: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """`values` as a contiguous array of `dtype`, which may be a view of theirs; raises as
    `to_bytes` for what would be cut."""
    given = np.asarray(values)
    if given.dtype == dtype:
        return np.ascontiguousarray(given)
    if given.dtype.kind == "c" and dtype.kind in "fiub" and not np.any(given.imag):
        values = given = given.real         # numpy would warn
    try:
        if given.dtype.kind == "c" and dtype.kind in "fiub":
            raise OverflowError("they have imaginary parts")
        with np.errstate(all="ignore"):
            cast = np.asarray(values, dtype=dtype)
        kept = _kept_array(given, cast)
    except REFUSALS as error:
        raise _refusal(error, f"values of {given.dtype} do not fit {dtype}: {error}") from None
    if not kept:
        raise OverflowError(f"values of {given.dtype} do not fit {dtype}")
    return np.ascontiguousarray(cast)


def _refusal(error: Exception, message: str) -> Exception:
    """Of a plain type: some of numpy's and Python's own cannot be made from a message."""
    for kind in (OverflowError, TypeError):
        if isinstance(error, kind):
            return kind(message)
    return ValueError(message)


def _kept(value: Any, found: Any) -> bool:
    """Whether `found`, a numpy scalar or an array, is `value`."""
    if found.dtype.names is None or not isinstance(value, (tuple, np.void)):
        return _kept_array(np.asarray(value), np.asarray(found))
    fields = value if isinstance(value, tuple) else tuple(
        value[name] for name in value.dtype.names or ())
    return len(fields) == len(found.dtype.names) and all(
        _kept(field, found[name]) for field, name in zip(fields, found.dtype.names, strict=True))


def _kept_array(given: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> bool:
    """Whether `found` has all that is in `given`, perhaps repeated to fill its shape."""
    of, to = given.dtype, found.dtype
    if to.names is not None:
        if of.names is None:                # one value for every field
            return all(_kept_array(given, found[name]) for name in to.names)
        return len(of.names) == len(to.names) and all(      # by position, as numpy does
            _kept_array(given[a], found[b]) for a, b in zip(of.names, to.names, strict=True))
    if of.names is not None:
        return False
    if to.kind in "fc" and of.kind in "biufc":
        if of.kind == "c" and to.kind == "f" and np.any(given.imag):
            return False
        return not np.any(np.isfinite(given) & ~np.isfinite(found))
    if to.kind in "mM":
        return _kept_dates(given, found)
    if to.kind == "V":
        return of.kind in "VS" and of.itemsize <= to.itemsize
    if of.kind == "V" or (to.kind in "SU") != (of.kind in "SU"):
        return False
    if to.kind in "iub" and of.kind in "fc" and not np.all(np.isfinite(given)):
        return False
    return bool(np.all(_as_kind(given, to.kind) == found))


def _as_kind(given: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """Text of bytes and bytes of text compare with neither."""
    return given.astype(kind) if kind in "SU" and given.dtype.kind != kind else given


def _kept_dates(given: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> bool:
    if given.dtype.kind in "iub":
        return bool(np.all(found.astype("i8") == given))
    if given.dtype.kind in "fc":
        return False
    if given.dtype.kind not in "mM":        # text, or Python's own dates: as exact as they are
        given = given.astype(found.dtype.kind + "8" + ("[us]" if given.dtype.kind == "O" else ""))
    return bool(np.all((given == found) | (np.isnat(given) & np.isnat(found))))
