"""Reads the fields of a request's body; each error names the field, what it was and what is allowed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CHARACTERS = 512


def text_in(body: Mapping[str, Any], name: str, *, default: str | None = None, longest: int = MAX_CHARACTERS) -> str:
    """A text; it must be there and hold something where there is no default."""
    value = body.get(name, default)
    if not isinstance(value, str) or len(value) > longest or (default is None and not value.strip()):
        least = "0" if default is not None else "1"
        raise wrong(name, f"must be a text of {least} to {longest} characters", value)
    return value


def whole_in(body: Mapping[str, Any], name: str, low: int, high: int, *, default: int) -> int:
    """A whole number from `low` to `high`."""
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise wrong(name, f"must be a whole number from {low} to {high}", value)
    return value


def object_in(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object, {} where it is not there."""
    value = body.get(name, {})
    if not isinstance(value, dict):
        raise wrong(name, "must be an object", value)
    return value


def wrong(name: str, problem: str, value: Any) -> CallerError:
    """The error for a field."""
    if value is None:
        return CallerError(f"[{name}] is missing: it {problem}")
    shown = msgspec.json.encode(value).decode()
    return CallerError(f"[{name}] {problem}, was [{shown if len(shown) <= 80 else shown[:77] + '...'}]")
