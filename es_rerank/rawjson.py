"""JSON that is edited, not rebuilt: what isn't changed keeps its bytes, so numbers keep digits and keys their place."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RawObject = dict[str, msgspec.Raw]
STRICT_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
STRICT_LIST = msgspec.json.Decoder(list[msgspec.Raw])
STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# What shapes JSON, and strings and comments, in which it shapes nothing.
SHAPE = re.compile(STRING + rb"|[{}\[\],:]|/\*.*?(?:\*/|\Z)|//[^\n]*", re.DOTALL)
JSON_BLANKS = b" \t\r\n"
# How many levels of nesting are kept in reserve: a later reading of a body runs deeper on the stack than the first.
SPARE_LEVELS = 200
OPENING, CLOSING = "[" * SPARE_LEVELS, "]" * SPARE_LEVELS
SURELY_FINITE_DIGITS = 300
OPENINGS, CLOSINGS = (b"{", b"["), (b"}", b"]")
Opened = TypeVar("Opened")
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


class _Opener(Generic[Opened]):
    """Opens one level of JSON, and leaves what lies deeper as it is.

    What the strict decoder refuses because of something deeper (half a surrogate pair, a thousand levels) is split by
    its shape alone. Engines store and answer such documents.
    """

    def __init__(self, strict: msgspec.json.Decoder[Opened], split: Callable[[bytes], Opened]) -> None:
        self._strict = strict
        self._split = split

    def decode(self, raw: bytes) -> Opened:
        """Each part with its own bytes, in order. Raises ValueError for anything of another shape."""
        try:
            return self._strict.decode(raw)
        except (ValueError, RecursionError):
            return self._split(bytes(raw))


def _split_object(raw: bytes) -> RawObject:
    members: RawObject = {}
    for part, colon in _parts(raw, b"{", b"}"):
        if colon is None:
            raise ValueError("a member of an object has no colon")
        name = msgspec.json.decode(part[:colon], type=str)
        members[name] = msgspec.Raw(_filled(part[colon + 1 :]))
    return members


def _split_list(raw: bytes) -> list[msgspec.Raw]:
    return [msgspec.Raw(_filled(part)) for part, _ in _parts(raw, b"[", b"]")]


def _filled(value: bytes) -> bytes:
    stripped = value.strip(JSON_BLANKS)
    if not stripped:
        raise ValueError("a value is missing")
    return stripped


def _parts(raw: bytes, opening: bytes, closing: bytes) -> Iterator[tuple[bytes, int | None]]:
    """What stands between the commas of one level, each part with the place of its first colon in it."""
    whole = raw.strip(JSON_BLANKS)
    if whole[:1] != opening or whole[-1:] != closing:
        raise ValueError("the JSON value has another shape")
    depth, start, colon = 0, 1, None
    for token in SHAPE.finditer(whole):
        kind = token[0]
        if kind in OPENINGS:
            depth += 1
        elif kind in CLOSINGS:
            depth -= 1
            if not depth and token.end() != len(whole):
                raise ValueError("the JSON value ends early")
        elif depth == 1 and kind == b",":
            yield whole[start : token.start()], colon
            start, colon = token.end(), None
        elif depth == 1 and kind == b":" and colon is None:
            colon = token.start() - start
    if depth:
        raise ValueError("the JSON value does not end")
    if start > 1 or whole[1:-1].strip(JSON_BLANKS):
        yield whole[start:-1], colon


RAW_OBJECT = _Opener(STRICT_OBJECT, _split_object)
RAW_LIST = _Opener(STRICT_LIST, _split_list)


def has_member(body: bytes, *path: str) -> bool:
    """Whether an object has a member under these names, one inside the other.

    It is found in JSON with comments, half surrogate pairs or repeated keys, and in the beginning of a longer body.
    """
    names: list[str | None] = []
    said = b""
    for token in SHAPE.finditer(body):
        kind = token[0]
        if kind[:1] == b'"':
            said = kind
        elif kind in OPENINGS:
            names.append(None)
        elif kind in CLOSINGS:
            del names[-1:]
        elif kind == b":" and names:
            names[-1] = _name(said)
            if names == [*path]:
                return True
        elif kind == b"," and names:
            names[-1] = None
    return False


def _name(string: bytes) -> str | None:
    try:
        return str(json.loads(string, strict=False))
    except ValueError:
        return None


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
