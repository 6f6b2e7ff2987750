"""JSON that is edited, not rebuilt: what isn't changed keeps its bytes, so numbers keep digits and keys their place."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

RawObject = dict[str, msgspec.Raw]
RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])
# How many levels of nesting are kept in reserve: a later reading of a body runs deeper on the stack than the first.
SPARE_LEVELS = 200
OPENING, CLOSING = "[" * SPARE_LEVELS, "]" * SPARE_LEVELS
SURELY_FINITE_DIGITS = 300
HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def read_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a body; None for anything else.

    Stricter than most parsers, since an engine reads again what is edited here. It refuses a key that comes twice, as
    the engines do (an edit would drop one of the two), NaN, numbers beyond a 64-bit float, half a surrogate pair, and
    nesting that leaves no room for a second reading.
    """
    try:
        text = body.decode()
        parsed = json.loads(
            OPENING + text + CLOSING,
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_whole,
        )
        for _ in range(SPARE_LEVELS):
            [parsed] = parsed
        if HALF_PAIR.search(text):
            msgspec.json.decode(body)  # msgspec knows which pairs are whole
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors, as is text that isn't Unicode
        return None
    return parsed if isinstance(parsed, dict) else None


def open_object(body: bytes) -> dict[str, Any] | None:
    """The members of a JSON object, each as its own bytes; None for anything else."""
    try:
        return dict(RAW_OBJECT.decode(body))
    except (ValueError, RecursionError):
        return None


def edit_object(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """A JSON object with some keys set (or, by None, dropped); every other value keeps its bytes and its place."""
    members: dict[str, Any] = dict(RAW_OBJECT.decode(body)) if body.strip() else {}
    for key, value in changes.items():
        if value is None:
            members.pop(key, None)
        else:
            members[key] = value
    return msgspec.json.encode(members)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a key comes twice")
    return members


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        _refuse(number)
    return value


def _whole(number: str) -> int:
    if len(number) > SURELY_FINITE_DIGITS:
        _finite(number)
    return int(number)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
