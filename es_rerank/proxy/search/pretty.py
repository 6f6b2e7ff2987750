"""Prints JSON in the engines' `?pretty` layout. Pure; every token keeps its bytes.

With `?pretty`, engines also rewrite numbers and escapes of `_source` (`1E10` as `1.0E10`). They have done so in what is
printed here, since the client's own `pretty` is sent to them too.
"""

from __future__ import annotations

import re

TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]++')


def pretty_print(body: bytes) -> bytes:
    """`body` with two blanks for each level, ` : ` after names, `{ }` and `[ ]` if empty, and a line end at the end."""
    pieces: list[bytes] = []
    depth, opened = 0, False
    for token in TOKEN.findall(body):
        if token in b"}]":
            depth -= 1
            pieces += [b" ", token] if opened else [_line(depth), token]
            opened = False
            continue
        if opened:
            pieces.append(_line(depth))
            opened = False
        if token in b"{[":
            depth += 1
            opened = True
            pieces.append(token)
        elif token == b",":
            pieces += [token, _line(depth)]
        else:
            pieces.append(b" : " if token == b":" else token)
    return b"".join(pieces) + b"\n"


def _line(depth: int) -> bytes:
    return b"\n" + b"  " * depth
