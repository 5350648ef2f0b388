"""Values of all kinds, for what ought to accept some and refuse the rest by one clear error."""
from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

# More digits than int() and str() convert.  Hypothesis cannot show it: for examples alone.
HUGE = 10**4301


class Index:
    """An object with __index__, as numpy's integers are."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __index__(self) -> Any:
        return self.value

    def __repr__(self) -> str:
        return "Index"


NUMBERS = st.one_of(
    st.integers(), st.integers(-3, 20), st.floats(), st.booleans(),
    st.sampled_from([10**400, -10**400, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**65,
                     -1, 0]))
ANYTHING = st.one_of(
    NUMBERS, st.text(max_size=8), st.binary(max_size=8),
    st.integers(-5, 100_000).map(Index), st.just(Index(HUGE)), st.just(Index("no integer")),
    st.sampled_from([
        Decimal("65536"), Decimal("NaN"), Fraction(1, 3), 1j, (), [], {}, [1], (1, 2), object, ...,
        slice(None), np.int8(3), np.uint64(2**63), np.float32(1.5), np.bool_(True),
        np.str_("64MiB"), np.array(5), np.array([1, 2]), np.array([]),
        np.datetime64("2020-01-01"), np.zeros(1, "V3"),
        bytearray(b"64MiB"), "64MiB\0", "\ud800", "٣", "１６", "1_000"]))
