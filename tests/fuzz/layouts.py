"""The layouts of objects that the fuzzer makes, with sizes and contents computed here.

Nothing is asked of gcheap: sizes follow from "one header word, the slots, the raw part, rounded up
to words, at least two words", and contents from numpy alone.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WORD = 8
DEFAULT_TAG = (7, 0)


def rounded(nbytes: int, to: int = WORD) -> int:
    return (nbytes + to - 1) // to * to


def refers(tag: tuple[int, int], word: int) -> bool:
    """Whether `word` in a slot is a reference under the tag rule (mask, bits)."""
    mask, bits = tag
    return word & mask == bits and word & ~mask & (2**64 - 1) != 0


@dataclass(frozen=True)
class Fixed:
    """A shape: `refs` slots, then the raw part, whose first field is the object's number."""

    name: str
    refs: tuple[str, ...]
    more: tuple[tuple, ...] = ()
    tag: tuple[int, int] = DEFAULT_TAG

    @property
    def raw(self) -> np.dtype:
        return np.dtype([("uid", "u8"), *self.more])

    @property
    def nbytes(self) -> int:
        return max(2 * WORD, rounded(WORD + WORD * len(self.refs) + self.raw.itemsize))


def _slots(letter: str, count: int) -> tuple[str, ...]:
    return tuple(f"{letter}{i}" for i in range(count))


FIXED = {layout.name: layout for layout in (
    Fixed("Leaf", ()),
    Fixed("Pair", ("a", "b")),
    Fixed("Wide", _slots("w", 12), (("pad", "V44"),)),
    # NaN boxing: what has these high bits and a low one is a reference, all else is data.
    Fixed("Boxed", _slots("x", 3), (), (0xFFFF000000000007, 0x7FF8000000000001)),
    Fixed("Odd", _slots("o", 2), (), (1, 1)),
    Fixed("Mixed", ("next",), (("half", "f2"), ("swapped", ">i4"), ("text", "S7"),
                               ("when", "M8[s]"), ("grid", "u2", (3, 2)), ("yes", "?"))),
    Fixed("Fat", _slots("f", 300)),                         # a large object if units are a page
    Fixed("Bulk", ("left", "right"), (("body", "V6001"),)),
)}

DTYPES = ("u1", "i2", "u4", "f8", "c16", "S3", "V5", ">i4", "?", "M8[s]", "f2", "U2",
          "u1,<f4", "u8,(3,)i2")


def array_bytes(item: int, length: int) -> int:
    return 2 * WORD + rounded(item * length)


def pattern(dtype: np.dtype, count: int, seed: int) -> np.ndarray:
    """`count` elements that depend on `seed`, each a value that `dtype` can hold."""
    if dtype.subdtype is not None:
        base, dims = dtype.subdtype
        flat = pattern(base, count * int(np.prod(dims)), seed)
        return flat.reshape(count, *dims)
    if dtype.names is not None:
        out = np.zeros(count, dtype)
        for i, name in enumerate(dtype.names):
            out[name] = pattern(dtype.fields[name][0], count, seed + i + 1)
        return out
    numbers = (np.arange(count, dtype="u8") + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    if dtype.kind == "V":
        return np.frombuffer(
            np.resize(numbers, count * dtype.itemsize // 8 + 1).tobytes()[:count * dtype.itemsize],
            dtype)
    small = (numbers >> np.uint64(50)).astype("i8")
    if dtype.kind == "b":
        return small % 2 == 1
    if dtype.kind in "iu":
        return numbers.astype(dtype)
    if dtype.kind == "c":
        return (small + 1j * small[::-1]).astype(dtype)
    if dtype.kind in "SU":
        return (small % 1000).astype("U").astype(dtype)
    if dtype.kind == "M":
        return small.astype(dtype)
    return ((small - 500) / 8).astype(dtype)
