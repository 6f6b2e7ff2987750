"""The engines' `filter_path` parameter, applied to an answer that we wrote. Pure; every value keeps its bytes.

Comma-separated paths of field names; `*` stands for any part of a name, `**` for one level or more; a leading `-`
excludes. A path leads through lists to each of their items. What a filter empties is left out; what was empty before
stays, as in Elasticsearch (OpenSearch drops that too if an excluding path leads through it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.rawjson import RAW_LIST, RAW_OBJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Path = tuple[str, ...]
# Of the filters that callers send, how many are kept ready.
KEPT_FILTERS = 256
# Of the names in one answer, how many are remembered. The hits of a search share theirs.
KEPT_NAMES = 10_000
# A second or so. Only an answer with ten thousands of different names reaches it, by a filter of hundreds of patterns.
MAX_COMPARISONS = 10_000_000
# Comparing a longer name counts as several.
NAME_CHARACTERS = 1_000


class _TooManyNamesError(Exception):
    """More names have to be compared with more patterns than is allowed."""


def filter_answer(body: bytes, filter_path: str) -> bytes:
    """The JSON object `body` as the filter leaves it: `{}` if it leaves nothing.

    A body that is nested too deep to be filtered stays as it is, and so does one with so many different names that
    comparing them with the filter's patterns would take more than MAX_COMPARISONS.
    """
    includes, excludes = _read_filter(filter_path)
    kept: Any = msgspec.Raw(body)
    try:
        if includes is not None:
            kept = _include(kept, includes.start, _Walk(includes))
        if excludes is not None and kept is not None:
            kept = _exclude(msgspec.Raw(msgspec.json.encode(kept)), excludes.start, _Walk(excludes))
    except (RecursionError, _TooManyNamesError):
        return body
    return b"{}" if kept is None else msgspec.json.encode(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paths:
    """Paths as one automaton, whose states are sets of places in the paths, each set the bits of one int.

    (Shift-and: Baeza-Yates and Gonnet, CACM 1992.) A path of n names has n + 1 places in a row: before its first name,
    behind each one. So a step of all paths at once is one shift of the bits whose next name fits.

    `start` has the first place of each path, `ends` the last. `deep` has the places before a `**`, `any_name` those
    before a name of nothing but stars. `literals` has the places before a name without stars, by that name.
    `patterns` has the other names, by the lengths of what stands before their first star and behind their last, and by
    these two texts: so only patterns that begin and end as a name does are compared with it. `comparisons` counts them
    all.
    """

    start: int
    ends: int
    deep: int
    any_name: int
    literals: Mapping[str, int]
    patterns: Mapping[tuple[int, int], Mapping[tuple[str, str], Sequence[tuple[tuple[str, ...], int]]]]
    comparisons: int

    def places_before(self, name: str) -> int:
        """The places whose next name fits this one, those before a `**` included."""
        places = self.deep | self.any_name | self.literals.get(name, 0)
        size = len(name)
        for (before, behind), patterns in self.patterns.items():
            if before + behind <= size:
                for inner, place in patterns.get((name[:before], name[size - behind :]), ()):
                    if not inner or _in_order(inner, name, before, size - behind):
                        places |= place
        return places


@dataclass(eq=False, slots=True)
class _Walk:
    """One walk of the paths through one value. It remembers which places fit a name, since hits share their names."""

    paths: _Paths
    _places: dict[str, int] = field(default_factory=dict)
    _compared: int = 0

    def step(self, state: int, name: str) -> int:
        """The state behind a field of this name. Raises _TooManyNamesError."""
        places = self._places.get(name)
        if places is None:
            self._compared += self.paths.comparisons * (1 + len(name) // NAME_CHARACTERS)
            if self._compared > MAX_COMPARISONS:
                raise _TooManyNamesError
            if len(self._places) >= KEPT_NAMES:
                self._places.clear()
            places = self._places[name] = self.paths.places_before(name)
        return ((state & places) << 1) | (state & self.paths.deep)


@lru_cache(maxsize=KEPT_FILTERS)
def _read_filter(filter_path: str) -> tuple[_Paths | None, _Paths | None]:
    """The including and the excluding paths of a filter, None where it has none."""
    includes: list[Path] = []
    excludes: list[Path] = []
    for pattern in filter(None, (part.strip() for part in filter_path.split(","))):
        (excludes if pattern.startswith("-") else includes).append(_path(pattern.removeprefix("-")))
    return _compile(includes) if includes else None, _compile(excludes) if excludes else None


def _path(pattern: str) -> Path:
    """The names in a pattern; a dot after a backslash is part of a name."""
    return tuple(name.replace("\\.", ".") for name in re.split(r"(?<!\\)\.", pattern))


def _compile(paths: Sequence[Path]) -> _Paths:
    start = ends = deep = any_name = comparisons = 0
    literals: dict[str, int] = {}
    patterns: dict[tuple[int, int], dict[tuple[str, str], list[tuple[tuple[str, ...], int]]]] = {}
    place = 1
    for path in dict.fromkeys(paths):
        start |= place
        for name in path:
            first, *inner, last = name.split("*") if "*" in name else (name, name)
            if name == "**":
                deep |= place
            elif "*" not in name:
                literals[name] = literals.get(name, 0) | place
            elif not name.strip("*"):
                any_name |= place
            else:
                alike = patterns.setdefault((len(first), len(last)), {}).setdefault((first, last), [])
                alike.append((tuple(filter(None, inner)), place))
                comparisons += 1
            place <<= 1
        ends |= place
        place <<= 1
    return _Paths(
        start=start,
        ends=ends,
        deep=deep,
        any_name=any_name,
        literals=literals,
        patterns=patterns,
        comparisons=comparisons,
    )


def _in_order(parts: Sequence[str], name: str, start: int, end: int) -> bool:
    """Whether the parts come one behind the other in `name[start:end]`."""
    for part in parts:
        found = name.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return True


def _include(raw: msgspec.Raw, state: int, walk: _Walk) -> Any:
    """The part of a value that the paths lead into; None where there is none."""
    kind = bytes(raw)[:1]
    if kind == b"{":
        members = {}
        for name, value in RAW_OBJECT.decode(raw).items():
            rest = walk.step(state, name)
            part = value if rest & walk.paths.ends else _include(value, rest, walk) if rest else None
            if part is not None:
                members[name] = part
        return members or None
    if kind == b"[":
        parts = (_include(item, state, walk) for item in RAW_LIST.decode(raw))
        return [part for part in parts if part is not None] or None
    return None


def _exclude(raw: msgspec.Raw, state: int, walk: _Walk) -> Any:
    """The part of a value that the paths don't lead to; None where that leaves nothing."""
    kind = bytes(raw)[:1]
    if kind == b"{":
        members = RAW_OBJECT.decode(raw)
        kept: dict[str, Any] = {}
        for name, value in members.items():
            rest = walk.step(state, name)
            part = None if rest & walk.paths.ends else _exclude(value, rest, walk) if rest else value
            if part is not None:
                kept[name] = part
        return None if members and not kept else kept
    if kind == b"[":
        items = RAW_LIST.decode(raw)
        parts = [part for part in (_exclude(item, state, walk) for item in items) if part is not None]
        return None if items and not parts else parts
    return raw
