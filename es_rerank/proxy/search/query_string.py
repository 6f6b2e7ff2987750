"""Raw query strings, read and edited as the engines read them. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping

# The engines end a parameter at a semicolon too.
PARAMETER = re.compile(rb"([^&;]*)([&;]?)")


def parse_query(query_string: bytes) -> dict[str, str]:
    """The decoded parameters of a raw query string; of a repeated one the last."""
    parameters = {}
    for piece, _ in PARAMETER.findall(query_string):
        if piece:
            name, _, value = piece.partition(b"=")
            parameters[_decoded(name)] = _decoded(value)
    return parameters


def edit_query(target: bytes, *, drop: set[str], add: Mapping[str, str]) -> bytes:
    """The target without some parameters and with others at its end; every other byte stays as it was."""
    path, _, query_string = target.partition(b"?")
    kept = b"".join(
        piece + end for piece, end in PARAMETER.findall(query_string) if _decoded(piece.partition(b"=")[0]) not in drop
    )
    added = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in add.items()).encode()
    joint = b"&" if kept and added and kept[-1:] not in b"&;" else b""
    return path + (b"?" + kept + joint + added if kept or added else b"")


def _decoded(text: bytes) -> str:
    return unquote_plus(text.decode("latin-1"), encoding="utf-8", errors="replace")
