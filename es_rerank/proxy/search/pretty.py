"""Prints JSON in the engines' `?pretty` layout. Pure; every token keeps its bytes.

With `?pretty`, engines also rewrite numbers and escapes of `_source` (`1E10` as `1.0E10`). They have done so in what is
printed here, since the client's own `pretty` is sent to them too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

# A name, in the usual layout: no line end can be within a text, so what follows one begins a line.
NAME = re.compile(rb'(\n *"(?:[^"\\]++|\\.)*+")(?=: )')
# Work on bytes holds the interpreter's lock, so that no other thread runs meanwhile: it is done in parts.
PART_BYTES = 256 * 1024


def pretty_print(body: bytes) -> bytes:
    """`body` with two blanks for each level, ` : ` after names, `{ }` and `[ ]` if empty, and a line end at the end.

    A body that is nested too deep to be printed (about a thousand levels) stays as it is.
    """
    try:
        printed = msgspec.json.format(body, indent=2)
    except RecursionError:
        return body
    return b"\n".join([_spaced(part) for part in _parts(printed)]) + b"\n"


def _parts(printed: bytes) -> Iterator[bytes]:
    """The same in parts, without the line ends between them."""
    start = 0
    while start < len(printed):
        end = printed.find(b"\n", start + PART_BYTES)
        end = len(printed) if end < 0 else end
        yield printed[start:end]
        start = end + 1


def _spaced(part: bytes) -> bytes:
    """Whole lines in the usual layout, with the engines' blanks in them."""
    part = b"\n" + part + b"\n"
    for empty, spaced in ((b"{}", b"{ }"), (b"[]", b"[ ]")):
        for end in (b"\n", b",\n"):
            part = part.replace(empty + end, spaced + end)
    pieces = [piece + b" " if place % 2 else piece for place, piece in enumerate(NAME.split(part))]
    return b"".join(pieces)[1:-1]
