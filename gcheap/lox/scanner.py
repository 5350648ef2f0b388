"""Tokens of Lox source, which is bytes: text in any encoding, of which the grammar needs ASCII."""
from __future__ import annotations

import re
from typing import NamedTuple

KEYWORDS = frozenset((
    b"and", b"class", b"else", b"false", b"for", b"fun", b"if", b"nil", b"or", b"print", b"return",
    b"super", b"this", b"true", b"var", b"while"))

_BLANK = re.compile(rb"(?:[ \t\r\n]+|//[^\n]*)+")
_TOKEN = re.compile(
    rb"(?P<identifier>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9]+(?:\.[0-9]+)?)"
    rb'|(?P<string>"[^"]*")|(?P<sign>[!=<>]=|[!=<>(){};,.+*/-])')


class Token(NamedTuple):
    """`kind` is the text of a keyword or sign, or identifier, number, string, error, end.

    `text` is the source, of an error its message; `line` is that of its last character.
    """

    kind: str
    text: bytes
    line: int


def tokens(source: bytes):
    """Yields the tokens of `source`, the last of kind "end"."""
    at, end, line = 0, len(source), 1
    token, blank = _TOKEN.match, _BLANK.match
    while True:
        space = blank(source, at)
        if space is not None:
            line += source.count(b"\n", at, space.end())
            at = space.end()
        if at == end:
            break
        match = token(source, at)
        if match is None:
            if source[at] == ord('"'):
                line += source.count(b"\n", at)
                yield Token("error", b"Unterminated string.", line)
                break
            yield Token("error", b"Unexpected character.", line)
            at += 1
            continue
        kind, text = match.lastgroup, match.group()
        at = match.end()
        if kind == "sign" or (kind == "identifier" and text in KEYWORDS):
            kind = text.decode()
        elif kind == "string":
            line += text.count(b"\n")
        yield Token(kind, text, line)
    while True:
        yield Token("end", b"", line)
