"""Reads hit rows and clicks as the caller, counted by the engine, and joins them on `query_id`. Its memory is bounded.

The engine counts impressions by pair and position, and clicks by search and document, in pages of an aggregation. A
click counts where the search's own hit rows have its document: rows are a sample, and clicks are not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from es_rerank.errors import CallerError
from es_rerank.store.indices import HITS
from es_rerank.tuning.clicks import ShownPair, click_grade, click_shares

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.tuning.judged import Grade

PAGE_BUCKETS = 10_000
PAGE_CLICKS = 4000
MAX_POSITIONS = 10_000
# What is held in memory: clicked pairs, and grades.
MAX_PAIRS = 100_000
HITS_TARGET = f"/{HITS.pattern}/_search?ignore_unavailable=true"
WORDS = "user_query.keyword"
HASH = "user_query_hash"
OBJECT = "event_attributes.object.object_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickGrades:
    """What the clicks say, and what was counted: rows, pairs, clicks that rows have, pairs shown too few times."""

    grades: tuple[Grade, ...]
    rows: int
    pairs: int
    clicks: int
    too_few: int
    warnings: tuple[str, ...]


class _Pair(NamedTuple):
    """A query, by its words or their hash, and a hit of it."""

    query: str
    hit_index: str
    object_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Which hit rows count: those that `filters` find. `query_field` has the query's words or their hash."""

    filters: Sequence[Mapping[str, Any]]
    query_field: str
    impressions: Mapping[int, int]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clicks:
    """How many searches had a click, by pair and by position."""

    by_pair: Mapping[_Pair, int]
    by_position: Mapping[int, int]


async def read_click_grades(
    call: OwnCall, *, events: str, action: str, index: str | None, since: str | None, min_impressions: int
) -> ClickGrades:
    """The grades that clicks give to the hits that were shown.

    `index` is an index expression that was searched, or the index of a hit; `since` is a time as the engine reads it,
    such as `now-30d`. Raises CallerError: 404 where there are no rows or no events, 400 where there are too many.
    """
    rows = await _usable_rows(call, index, since)
    clicks = await _clicks(call, rows, events, action, since)
    shares = click_shares(rows.impressions, clicks.by_position)
    grades: list[Grade] = []
    pairs = too_few = 0
    async for pair, impressions in _shown(call, rows):
        pairs += 1
        shown = ShownPair(
            query_id=pair.query,
            user_query=pair.query if rows.query_field == WORDS else "",
            index=pair.hit_index,
            object_id=pair.object_id,
            impressions=impressions,
            clicks=clicks.by_pair.get(pair, 0),
        )
        too_few += sum(impressions.values()) < min_impressions
        grade = click_grade(shown, shares, min_impressions=min_impressions)
        if grade is not None:
            grades.append(grade)
            _check_room(len(grades))
    return ClickGrades(
        grades=tuple(grades),
        rows=sum(rows.impressions.values()),
        pairs=pairs,
        clicks=sum(clicks.by_position.values()),
        too_few=too_few,
        warnings=rows.warnings,
    )


async def _usable_rows(call: OwnCall, index: str | None, since: str | None) -> _Rows:
    """The rows that can be counted by query: those with its words, or, where none has words, with their hash."""
    filters = _since(since)
    if index is not None:
        filters.append({"bool": {"should": [{"term": {"index": index}}, {"term": {"hit_index": index}}]}})
    positions = {"positions": {"terms": {"field": "position", "size": MAX_POSITIONS}}}
    kinds = {field: {"filter": {"exists": {"field": field}}, "aggs": positions} for field in (WORDS, HASH)}
    body = {"size": 0, "track_total_hits": True, "query": {"bool": {"filter": filters}}, "aggs": kinds}
    answer = await call.ask_engine("POST", HITS_TARGET, body)
    found = answer.get("aggregations") or {}
    query_field = next((field for field in (WORDS, HASH) if found.get(field, {}).get("doc_count")), None)
    total = answer["hits"]["total"]["value"]
    if query_field is None:
        hint = "it has rows, but none with a query: set events.query_text" if total else "it has no such row"
        raise CallerError(f"[{HITS.pattern}] tells nothing of what was shown: {hint}", status=404)
    buckets = found[query_field]["positions"]["buckets"]
    unused = total - found[query_field]["doc_count"]
    warnings = [f"{unused} hit rows have no words of their query and were not counted"] if unused else []
    if query_field == HASH:
        warnings.append("the hit rows hold hashes and no words: such a list can be compared, but not replayed")
    return _Rows(
        filters=[*filters, {"exists": {"field": query_field}}],
        query_field=query_field,
        impressions={int(bucket["key"]): bucket["doc_count"] for bucket in buckets},
        warnings=tuple(warnings),
    )


async def _clicks(call: OwnCall, rows: _Rows, events: str, action: str, since: str | None) -> _Clicks:
    """The clicks that hit rows have. However often a hit is clicked in one search, it is one click."""
    fields = await _event_fields(call, events)
    sources = {"query_id": fields["query_id"], "object_id": fields[OBJECT]}
    filters = [{"term": {fields["action_name"]: action}}, *_since(since)]
    target = f"/{quote(events, safe='*,')}/_search"
    by_pair: Counter[_Pair] = Counter()
    by_position: Counter[int] = Counter()
    async for page in _pages(call, target, filters, sources, size=PAGE_CLICKS):
        clicked = {(bucket["key"]["query_id"], bucket["key"]["object_id"]) for bucket in page}
        places = await _places(call, rows, clicked)
        by_pair.update(pair for pair, _ in places)
        by_position.update(position for _, position in places)
        _check_room(len(by_pair))
    return _Clicks(by_pair=by_pair, by_position=by_position)


async def _places(call: OwnCall, rows: _Rows, clicked: set[tuple[str, str]]) -> list[tuple[_Pair, int]]:
    """For each click that rows have, the pair and the first position at which its search showed it."""
    query_ids, object_ids = ([*dict.fromkeys(column)] for column in zip(*clicked, strict=True))
    filters = [*rows.filters, {"terms": {"query_id": query_ids}}, {"terms": {"object_id": object_ids}}]
    sources = {
        "query_id": "query_id",
        "object_id": "object_id",
        "query": rows.query_field,
        "hit_index": "hit_index",
        "position": "position",
    }
    found: dict[tuple[str, str], tuple[_Pair, int]] = {}
    async for page in _pages(call, HITS_TARGET, filters, sources):
        for bucket in page:
            key = bucket["key"]
            click, position = (key["query_id"], key["object_id"]), int(key["position"])
            if click in clicked and (click not in found or position < found[click][1]):
                found[click] = _Pair(key["query"], key["hit_index"], key["object_id"]), position
    return list(found.values())


async def _shown(call: OwnCall, rows: _Rows) -> AsyncIterator[tuple[_Pair, Mapping[int, int]]]:
    """Each pair that was shown, once, with its impressions by position. The engine gives them in order."""
    sources = {"query": rows.query_field, "hit_index": "hit_index", "object_id": "object_id", "position": "position"}
    current: _Pair | None = None
    impressions: dict[int, int] = {}
    async for page in _pages(call, HITS_TARGET, rows.filters, sources):
        for bucket in page:
            key = bucket["key"]
            pair = _Pair(key["query"], key["hit_index"], key["object_id"])
            if pair != current:
                if current is not None:
                    yield current, impressions
                current, impressions = pair, {}
            impressions[int(key["position"])] = bucket["doc_count"]
    if current is not None:
        yield current, impressions


async def _pages(
    call: OwnCall,
    target: str,
    filters: Sequence[Mapping[str, Any]],
    sources: Mapping[str, str],
    *,
    size: int = PAGE_BUCKETS,
) -> AsyncIterator[list[dict[str, Any]]]:
    """The buckets of all values of some fields, by name, in order, in pages that are not empty."""
    composite: dict[str, Any] = {
        "size": size,
        "sources": [{name: {"terms": {"field": field}}} for name, field in sources.items()],
    }
    while True:
        body = {
            "size": 0,
            "track_total_hits": False,
            "query": {"bool": {"filter": list(filters)}},
            "aggs": {"page": {"composite": composite}},
        }
        found = (await call.ask_engine("POST", target, body)).get("aggregations", {}).get("page", {})
        if not found.get("buckets"):
            return
        yield found["buckets"]
        if "after_key" not in found:
            return
        composite["after"] = found["after_key"]


async def _event_fields(call: OwnCall, events: str) -> Mapping[str, str]:
    """By the names of User Behavior Insights, the fields that can be counted: some mappings have them as text."""
    names = ("query_id", "action_name", OBJECT)
    asked = ",".join(field for name in names for field in (name, f"{name}.keyword"))
    answer = await call.ask_engine(
        "GET", f"/{quote(events, safe='*,')}/_field_caps?fields={asked}", None, allowed=(404,)
    )
    if answer is None:
        raise CallerError(f"there is no index [{events}], so there are no clicks", status=404)
    found: dict[str, str] = {}
    for name in names:
        for field in (f"{name}.keyword", name):
            kinds = answer["fields"].get(field, {})
            if kinds and all(kind["aggregatable"] for kind in kinds.values()):
                found[name] = field
        if name not in found:
            raise CallerError(f"[{events}] has no field [{name}] of type keyword, so its clicks can't be counted")
    return found


def _since(since: str | None) -> list[dict[str, Any]]:
    return [] if since is None else [{"range": {"timestamp": {"gte": since}}}]


def _check_room(count: int) -> None:
    if count > MAX_PAIRS:
        raise CallerError(f"there are more than {MAX_PAIRS} pairs: choose a later [since] or one [index]")
