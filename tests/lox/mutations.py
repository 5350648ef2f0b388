"""Programs of programs/ with a few tokens or bytes changed: strategies of hypothesis.

Most do not compile; what does is run only if the evaluator sees it end.
"""
from __future__ import annotations

import re

from hypothesis import strategies as st

from lox.expectations import source_of
from lox.syntax import KEYWORDS

_PIECES = re.compile(r'\s+|//[^\n]*|[A-Za-z_]\w*|[0-9]+(?:\.[0-9]+)?|"[^"]*"|[!=<>]=|.', re.DOTALL)
VOCABULARY = [*sorted(KEYWORDS), "init", "x", "y", "a", "clock", "array(3)", "gc()", ".get(0)",
              ".set(1,a)", ".len()", "spawn(f)", "spawn", "join(t)", "join", "args()", "heapUsed()",
              'readFile("/dev/null")', 'readFile("/dev/zero")', "0", "1", "2.5", "1e9",
              "999999999999", '""', '"s"', '"', "//", *"(){},.-+;/*!=><@", "!=", "==", ">=", "<="]
_DRAW = [st.integers(0, n) for n in range(4)]


@st.composite
def token_mutations(draw, names: list[str]) -> str:
    """A program whose tokens were replaced, dropped, doubled or exchanged in one to four places."""
    pieces = _PIECES.findall(source_of(draw(st.sampled_from(names))))
    for _ in range(1 + draw(_DRAW[3])):
        at = draw(st.integers(0, len(pieces) - 1))
        other = draw(st.integers(0, len(pieces) - 1))
        how = draw(_DRAW[3])
        if how == 0:
            pieces[at] = f" {draw(st.sampled_from(VOCABULARY))} "
        elif how == 1:
            pieces[at] = " "
        elif how == 2:
            pieces.insert(at, pieces[other])
        else:
            pieces[at], pieces[other] = pieces[other], pieces[at]
    return "".join(pieces)


@st.composite
def byte_mutations(draw, names: list[str]) -> bytes:
    """A program whose bytes were changed, or of which a part is missing or there twice."""
    data = bytearray(source_of(draw(st.sampled_from(names))).encode())
    for _ in range(1 + draw(_DRAW[3])):
        at = draw(st.integers(0, len(data) - 1))
        how = draw(_DRAW[3])
        if how == 0:
            data[at] = draw(st.integers(0, 255))
        elif how == 1:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == 2:
            data[at:at] = data[at:at + draw(st.integers(0, 80))]
        else:
            del data[at:at + draw(st.integers(1, 20))]
        if not data:
            data += b"\n"
    return bytes(data)
