"""The engines' `filter_path` parameter, applied to an answer that we wrote. Pure; every value keeps its bytes.

Comma-separated paths of field names; `*` stands for any part of a name, `**` for one level or more; a leading `-`
excludes. A path leads through lists to each of their items. What a filter empties is left out; what was empty before
stays, as in Elasticsearch (OpenSearch drops that too if an excluding path leads through it).
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.rawjson import RAW_LIST, RAW_OBJECT

if TYPE_CHECKING:
    from collections.abc import Iterable

Path = tuple[str, ...]


def filter_answer(body: bytes, filter_path: str) -> bytes:
    """The JSON object `body` as the filter leaves it: `{}` if it leaves nothing.

    A body that is nested too deep to be filtered stays as it is.
    """
    includes: list[Path] = []
    excludes: list[Path] = []
    for pattern in filter(None, (part.strip() for part in filter_path.split(","))):
        (excludes if pattern.startswith("-") else includes).append(_path(pattern.removeprefix("-")))
    kept: Any = msgspec.Raw(body)
    try:
        if includes:
            kept = _include(kept, includes)
        if excludes and kept is not None:
            kept = without_paths(msgspec.Raw(msgspec.json.encode(kept)), excludes)
    except RecursionError:
        return body
    return b"{}" if kept is None else msgspec.json.encode(kept)


def without_paths(raw: msgspec.Raw, paths: Iterable[Path]) -> Any:
    """A value without what the paths lead to; None where that leaves nothing."""
    kind = bytes(raw)[:1]
    if kind == b"{":
        members = RAW_OBJECT.decode(raw)
        kept: dict[str, Any] = {}
        for name, value in members.items():
            rest = _step(paths, name)
            part = None if () in rest else without_paths(value, rest) if rest else value
            if part is not None:
                kept[name] = part
        return None if members and not kept else kept
    if kind == b"[":
        items = RAW_LIST.decode(raw)
        parts = [part for part in (without_paths(item, paths) for item in items) if part is not None]
        return None if items and not parts else parts
    return raw


def _path(pattern: str) -> Path:
    """The names in a pattern; a dot after a backslash is part of a name."""
    names = re.split(r"(?<!\\)\.", pattern)
    return tuple(star_pattern(name.replace("\\.", ".")) for name in names)


def star_pattern(pattern: str) -> str:
    """The pattern for fnmatch, in which only the star keeps a special meaning, as in the engines."""
    return re.sub(r"[?\[]", r"[\g<0>]", pattern)


def _include(raw: msgspec.Raw, paths: Iterable[Path]) -> Any:
    """The part of a value that the paths lead into; None where there is none."""
    kind = bytes(raw)[:1]
    if kind == b"{":
        members = {}
        for name, value in RAW_OBJECT.decode(raw).items():
            rest = _step(paths, name)
            part = value if () in rest else _include(value, rest) if rest else None
            if part is not None:
                members[name] = part
        return members or None
    if kind == b"[":
        parts = (_include(item, paths) for item in RAW_LIST.decode(raw))
        return [part for part in parts if part is not None] or None
    return None


def _step(paths: Iterable[Path], name: str) -> set[Path]:
    """What is left of each path whose next name this field matches; `()` for a path that ends here."""
    rest: set[Path] = set()
    for path in paths:
        if path[0] == "**":
            rest |= {path, path[1:]}
        elif fnmatchcase(name, path[0]):
            rest.add(path[1:])
    return rest
