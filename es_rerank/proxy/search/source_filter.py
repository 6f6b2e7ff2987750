"""What a search wants to see of `_source`, what is asked for so that the text is in it, and the way back. Pure.

The text of a document is read from `_source` alone. So where a search hides some of it, the engine is asked for what
the client sees and for the rule's fields, and each hit is then cut back to what the client sees. The engines write
`_source` anew as soon as it is filtered (`1E10` as `1.0E10`), and so they do for the wider filter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.proxy.search.carrier import SOURCE_PARAMETERS
from es_rerank.rawjson import RAW_LIST, RAW_OBJECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.rawjson import RawObject

EVERYTHING = "*"
# Matches nothing. With a star among the patterns for leaving out, Elasticsearch writes an object's members in another
# order, so a star is sent where the client sent one.
NO_FIELD = "_es_rerank_no_field*"
# By the key of an object under `_source`: which list it sets. The engines know both spellings; the last one counts.
LISTS = {"includes": "includes", "include": "includes", "excludes": "excludes", "exclude": "excludes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFilter:
    """What is shown of `_source`: nothing, or what the patterns leave. No includes mean everything."""

    shown: bool = True
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, str]:
        """The URL parameters that ask for this; they win over the body.

        A comma divides their lists, so in a name a star stands for it, which asks for more.
        """
        if not self.shown:
            return {"_source": "false"}
        includes = ",".join(pattern.replace(",", "*") for pattern in self.includes if pattern)
        lists = {"_source_includes": includes, "_source_excludes": ",".join(self.excludes)}
        return {name: value for name, value in lists.items() if value} or {"_source_includes": EVERYTHING}


def asked_source(call: SearchCall) -> SourceFilter | None:
    """What the client wants to see of `_source`; None where only the engine can judge that, and will refuse it."""
    search = call.search or {}
    asked = _from_url(call) if SOURCE_PARAMETERS & call.parameters.keys() else _from_body(search)
    if "_source" in _stored_fields(call):  # it turns `_source` on, whatever else is said
        return None if asked is None else SourceFilter(includes=asked.includes, excludes=asked.excludes)
    explicit = "_source" in search or SOURCE_PARAMETERS & call.parameters.keys()
    hiding = "stored_fields" in search or "stored_fields" in call.parameters or search.get("script_fields")
    return SourceFilter(shown=False) if hiding and not explicit else asked


def widened(asked: SourceFilter, names: Sequence[str]) -> SourceFilter:
    """The filter that shows these fields too; the same filter where it shows them already.

    A pattern for leaving out stays only if it leaves no named field out. One that begins with a star may still reach
    inside a named field that is an object; it stays, since it is mostly there for vectors, which are large.
    """
    if not asked.shown:
        return SourceFilter(includes=tuple(names))
    added = [name for name in names if asked.includes and not any(_covers(one, name) for one in asked.includes)]
    hiding = [one for one in asked.excludes if any(_reaches(one, name) for name in names)]
    if not added and not hiding:
        return asked
    excludes = [one for one in asked.excludes if one and "," not in one and one not in hiding]
    if any("*" in one for one in asked.excludes) and not any("*" in one for one in excludes):
        excludes.append(NO_FIELD)
    includes = (*asked.includes, *added)
    return SourceFilter(includes=includes if includes or excludes else (EVERYTHING,), excludes=tuple(excludes))


def left_to_cut(asked: SourceFilter, sent: SourceFilter) -> SourceFilter:
    """What has to be done to the answer of a wider filter: all but what the engine has left out itself.

    So as little as possible is left to rules of ours, since engines differ in what they do with empty objects in lists.
    """
    excludes = tuple(pattern for pattern in asked.excludes if pattern not in sent.excludes)
    return SourceFilter(shown=asked.shown, includes=asked.includes, excludes=excludes)


def cut_source(source: msgspec.Raw, asked: SourceFilter) -> msgspec.Raw | None:
    """A hit's `_source` as the filter leaves it, by the engines' own rules; None where none is shown.

    Raises ValueError and RecursionError for JSON that can't be read.
    """
    if not asked.shown:
        return None
    if not asked.includes and not asked.excludes:
        return source
    shown = _Walk.along(asked.includes or (EVERYTHING,))
    return msgspec.Raw(msgspec.json.encode(_cut_object(RAW_OBJECT.decode(source), shown, _Walk.along(asked.excludes))))


def _from_url(call: SearchCall) -> SourceFilter:
    """As the engines read their three parameters; any of them makes the body's `_source` void."""
    said = call.parameters.get("_source")
    named = {None: "", "true": "", "false": ""}.get(said, said or "")
    includes = call.parameters.get("_source_includes", named)
    return SourceFilter(
        shown=said != "false",
        includes=_listed(includes),
        excludes=_listed(call.parameters.get("_source_excludes", "")),
    )


def _from_body(search: dict[str, Any]) -> SourceFilter | None:
    asked = search.get("_source", True)
    if isinstance(asked, bool):
        return SourceFilter(shown=asked)
    lists = asked if isinstance(asked, dict) else {"includes": asked}
    if not lists.keys() <= LISTS.keys():
        return None
    patterns: dict[str, tuple[str, ...]] = {}
    for key, value in lists.items():
        listed = _names(value)
        if listed is None:
            return None
        patterns[LISTS[key]] = listed
    return SourceFilter(includes=patterns.get("includes", ()), excludes=patterns.get("excludes", ()))


def _stored_fields(call: SearchCall) -> tuple[str, ...]:
    """The names under `stored_fields`, of which the URL's win."""
    if "stored_fields" in call.parameters:
        return _listed(call.parameters["stored_fields"])
    return _names((call.search or {}).get("stored_fields")) or ()


def _names(value: Any) -> tuple[str, ...] | None:
    """A list of names, or one name instead of it; None for anything else. In a list, engines take numbers as names."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(one, str | int | float) for one in listed):
        return None
    return tuple([one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in listed])


def _listed(value: str) -> tuple[str, ...]:
    return tuple(value.split(",")) if value.strip(",") else ()


def star_pattern(pattern: str) -> str:
    """The pattern for fnmatch, in which only the star keeps a special meaning, as in the engines."""
    return re.sub(r"[?\[]", r"[\g<0>]", pattern)


def _covers(pattern: str, name: str) -> bool:
    """Whether a pattern surely matches a field: the whole name, or an object that the field lies in."""
    parts = name.split(".")
    ways = (".".join(parts[: end + 1]) for end in range(len(parts)))
    return any(fnmatchcase(way, star_pattern(pattern)) for way in ways)


def _reaches(pattern: str, name: str) -> bool:
    """Whether a pattern matches a field or an object that it lies in, or names something inside the field."""
    return _covers(pattern, name) or pattern.partition("*")[0].startswith(name + ".")


State = frozenset[tuple[int, int]]


class _Patterns:
    """Patterns that are followed character by character, as the engines' automata are.

    A pattern matches a name and everything inside it: what it matches may go on with a dot and anything. A state holds
    a place in each pattern that still can match; the places behind a pattern's end are for its end and for that rest.
    """

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns
        self._steps: dict[tuple[State, str], State] = {}
        self.start = self._with_stars((number, 0) for number in range(len(patterns)))

    def step(self, state: State, text: str) -> State:
        """The state after some more text."""
        found = self._steps.get((state, text))
        if found is None:
            found = state
            for character in text:
                found = self._with_stars(
                    (number, after) for number, place in found for after in self._after(number, place, character)
                )
            self._steps[(state, text)] = found
        return found

    def accepts(self, state: State) -> bool:
        """Whether some pattern matches what was read."""
        return any(place >= len(self._patterns[number]) for number, place in state)

    def _after(self, number: int, place: int, character: str) -> list[int]:
        pattern = self._patterns[number]
        if place > len(pattern):
            return [place]
        if place == len(pattern):
            return [place + 1] if character == "." else []
        if pattern[place] == "*":
            return [place]
        return [place + 1] if pattern[place] == character else []

    def _with_stars(self, places: Any) -> State:
        """The places, and those behind a star that stands there, since it may stand for nothing."""
        found: set[tuple[int, int]] = set()
        for number, first in places:
            place = first
            found.add((number, place))
            while place < len(self._patterns[number]) and self._patterns[number][place] == "*":
                place += 1
                found.add((number, place))
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Walk:
    """A way into a document, as some patterns see it."""

    patterns: _Patterns
    state: State

    @classmethod
    def along(cls, patterns: tuple[str, ...]) -> _Walk:
        followed = _Patterns(patterns)
        return cls(followed, followed.start)

    def to(self, text: str) -> _Walk:
        return _Walk(self.patterns, self.patterns.step(self.state, text))

    @property
    def possible(self) -> bool:
        """Whether some pattern matches here or deeper."""
        return bool(self.state)

    @property
    def matches(self) -> bool:
        return self.patterns.accepts(self.state)


WHOLE = _Walk.along((EVERYTHING,))


def _cut_object(members: RawObject, include: _Walk, exclude: _Walk) -> dict[str, Any]:
    """An object as the engines' `XContentMapValues.filter` leaves it, with empty objects and lists as it does.

    The order of its members is that of the object. The engines' own may differ, since they put into hash tables what
    they take apart.
    """
    kept: dict[str, Any] = {}
    for name, value in members.items():
        included, excluded = include.to(name), exclude.to(name)
        if not included.possible or excluded.matches:
            continue
        if included.matches and not excluded.to(".").possible:
            kept[name] = value
            continue
        part = _cut_value(value, WHOLE if included.matches else included, excluded)
        if part or included.matches:
            kept[name] = part
    return kept


def _cut_value(value: msgspec.Raw, include: _Walk, exclude: _Walk) -> Any:
    """What is left of a value; what is empty then is kept only by an object whose member was asked for as a whole."""
    kind = bytes(value)[:1]
    if kind == b"{":
        return _cut_object(RAW_OBJECT.decode(value), include.to("."), exclude.to("."))
    if kind == b"[":
        return [part for part in (_cut_value(item, include, exclude) for item in RAW_LIST.decode(value)) if part]
    return value if include.matches else None
