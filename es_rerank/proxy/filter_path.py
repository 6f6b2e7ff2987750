"""The engines' `filter_path` parameter, applied to an answer that we wrote. Pure; numbers and text keep their bytes.

Comma-separated paths of field names; `*` stands for any part of a name, `**` for any number of levels; a leading
`-` excludes. Lists are transparent. What an including filter leaves empty is left out.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.proxy.call import RAW_OBJECT

if TYPE_CHECKING:
    from collections.abc import Iterable

Path = tuple[str, ...]
RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def filter_answer(body: bytes, filter_path: str) -> bytes:
    """The JSON object `body` as the filter leaves it: `{}` where it leaves nothing."""
    includes, excludes = [], []
    for pattern in filter(None, (part.strip() for part in filter_path.split(","))):
        (excludes if pattern.startswith("-") else includes).append(tuple(pattern.lstrip("-").split(".")))
    kept: Any = msgspec.Raw(body)
    if includes:
        kept = _include(kept, includes)
    if excludes and kept is not None:
        kept = _exclude(msgspec.Raw(msgspec.json.encode(kept)), excludes)
    return b"{}" if kept is None else msgspec.json.encode(kept)


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


def _exclude(raw: msgspec.Raw, paths: Iterable[Path]) -> Any:
    """A value without what the paths lead to."""
    kind = bytes(raw)[:1]
    if kind == b"{":
        members: dict[str, Any] = {}
        for name, value in RAW_OBJECT.decode(raw).items():
            rest = _step(paths, name)
            if () not in rest:
                members[name] = _exclude(value, rest) if rest else value
        return members
    return [_exclude(item, paths) for item in RAW_LIST.decode(raw)] if kind == b"[" else raw


def _step(paths: Iterable[Path], name: str) -> set[Path]:
    """What is left of each path that a field name continues; `()` for one that ends in it."""
    rest: set[Path] = set()
    for path in paths:
        if path[0] == "**":
            rest |= {path} | (_step([path[1:]], name) if path[1:] else {()})
        elif fnmatchcase(name, path[0]):
            rest.add(path[1:])
    return rest
