"""Raw query strings, read and edited as the engines read them. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

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
            parameters[decode(name, plus=True)] = decode(value, plus=True)
    return parameters


def is_on(parameters: Mapping[str, str], name: str) -> bool:
    """Whether a boolean parameter is on: `?pretty` and `?pretty=true` are."""
    return parameters.get(name, "false") in ("", "true")


def edit_query(target: bytes, *, drop: set[str], add: Mapping[str, str]) -> bytes:
    """The target without some parameters and with others at its end; every other byte stays as it was."""
    path, _, query_string = target.partition(b"?")
    kept = b"".join(
        piece + end
        for piece, end in PARAMETER.findall(query_string)
        if decode(piece.partition(b"=")[0], plus=True) not in drop
    )
    added = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in add.items()).encode()
    joint = b"&" if kept and added and kept[-1:] not in b"&;" else b""
    return path + (b"?" + kept + joint + added if kept or added else b"")


def decode(text: bytes, *, plus: bool) -> str:
    """A part of a target as text. `plus` says whether `+` stands for a blank, as it does behind the question mark.

    The engines read a part with an escape in it as UTF-8, its raw bytes too, and one without any as Latin-1 (measured
    on OpenSearch 2.19 and Elasticsearch 8.19).
    """
    if b"%" in text or (plus and b"+" in text):
        return unquote_to_bytes(text.replace(b"+", b" ") if plus else text).decode("utf-8", "replace")
    return text.decode("latin-1")
