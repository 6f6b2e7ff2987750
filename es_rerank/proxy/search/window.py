"""Plans the one request that fetches the window, and reads the engine's answer to it. Pure.

Only a search that hides `_source` has its body changed: the text is then asked for through `fields`, and taken out of
the answer again.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.proxy.search.filter_path import star_pattern
from es_rerank.rawjson import RAW_LIST, RAW_OBJECT, RawObject, edit_object
from es_rerank.texts import texts_of

if TYPE_CHECKING:
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.decide import Rerank
    from es_rerank.records import Request

RAW_OBJECTS = msgspec.json.Decoder(list[RawObject])
SCORE = msgspec.json.Decoder(float)
TEXT = msgspec.json.Decoder(str, strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """The request that fetches the window and, where the page goes past it, the hits behind it.

    `added_fields` are the entries that the answer's `fields` holds only because we asked for them.
    `text_in_fields` tells where each hit's text lies: under `fields`, or in `_source`.
    """

    request: Request
    text_in_fields: bool
    added_fields: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAnswer:
    """The engine's answer with its hits opened and everything else as raw JSON, nothing lost or reordered.

    `ids` (`_index` and `_id`, '' for what the engine left out) and `scores` are parallel to `hits`, in engine order.
    `complete` is False when some shard or cluster failed or ran out of time, `shards_failed` tells of the first.
    """

    top: RawObject
    hits_object: RawObject
    hits: tuple[RawObject, ...]
    ids: tuple[tuple[str, str], ...]
    scores: tuple[float, ...]
    complete: bool
    shards_failed: bool

    @property
    def has_system_hits(self) -> bool:
        """Whether some hit is of a system index, on a remote cluster too; such hits are never reranked."""
        return any(index.rpartition(":")[2].startswith(".") for index, _ in self.ids)


def plan_window(call: SearchCall, decision: Rerank) -> WindowPlan:
    """The upstream request for a reranked search. It leaves `filter_path` to us, since that could hide what we need."""
    hidden = not _whole_source(call)
    added: frozenset[str] = frozenset()
    if hidden:
        asked = [star_pattern(pattern) for pattern in _asked_fields(call)]
        wanted = decision.text.names
        added = frozenset(name for name in wanted if not any(fnmatchcase(name, pattern) for pattern in asked))
    if added:
        body = edit_object(call.body, {"fields": [*_raw_fields(call), *sorted(added)]})
        call = call.with_body(body, call.search or {})
    size = max(decision.window, decision.page.end)
    request = call.carrier.asking(first=size, filtered=bool(call.filter_path))
    return WindowPlan(request=request, text_in_fields=hidden, added_fields=added)


def plan_plain(call: SearchCall) -> Request:
    """The client's own search, sent so that we can read the answer and write into it."""
    return call.carrier.asking(first=None, filtered=bool(call.filter_path))


def read_answer(body: bytes) -> EngineAnswer | None:
    """The engine's answer, opened; None if it is not a search answer with a score on every hit.

    It is None too if it holds half a surrogate pair or is nested very deep: such JSON can't be read here.
    """
    try:
        top = RAW_OBJECT.decode(body)
        hits_object = RAW_OBJECT.decode(top["hits"])
        hits = tuple(RAW_OBJECTS.decode(hits_object["hits"]))
        scores = tuple([SCORE.decode(hit["_score"]) for hit in hits])
        shards = msgspec.json.decode(top.get("_shards", b"{}"), type=dict[str, Any])
        clusters = msgspec.json.decode(top.get("_clusters", b"{}"), type=dict[str, Any])
        timed_out = msgspec.json.decode(top.get("timed_out", b"false"))
    except (KeyError, ValueError, RecursionError):
        return None
    answered = clusters.get("successful") == clusters.get("total")  # `successful` does not count skipped clusters
    shards_failed = bool(shards.get("failed"))
    complete = not shards_failed and answered and timed_out is False
    ids = tuple([(_text(hit, "_index"), _text(hit, "_id")) for hit in hits])
    return EngineAnswer(
        top=top,
        hits_object=hits_object,
        hits=hits,
        ids=ids,
        scores=scores,
        complete=complete,
        shards_failed=shards_failed,
    )


def _text(hit: RawObject, key: str) -> str:
    raw = hit.get(key)
    if raw is None:
        return ""
    try:
        return TEXT.decode(raw)
    except ValueError:  # no engine sends anything but a text there
        return bytes(raw).decode("utf-8", "replace")


def read_texts(answer: EngineAnswer, plan: WindowPlan, decision: Rerank) -> tuple[str | None, ...]:
    """The text to score of each hit of the window: parallel to it, None for a hit without text."""
    holder = "fields" if plan.text_in_fields else "_source"
    return texts_of((hit.get(holder) for hit in answer.hits[: decision.window]), decision.text)


def _whole_source(call: SearchCall) -> bool:
    """Whether each hit comes with all of `_source`."""
    search = call.search or {}
    names = ("_source", "_source_includes", "_source_excludes", "_source_include", "_source_exclude")
    if any(name in call.parameters for name in names):
        return call.parameters.get("_source") in ("", "true", "*") and len(set(names) & set(call.parameters)) == 1
    if "_source" in search:
        return search["_source"] in (True, "*", ["*"], [], {})
    hiding = {"stored_fields", "script_fields"} & search.keys()
    return not hiding and "stored_fields" not in call.parameters


def _raw_fields(call: SearchCall) -> list[msgspec.Raw]:
    """The entries of the body's own `fields`, one by one."""
    if "fields" not in (call.search or {}):
        return []
    raw = RAW_OBJECT.decode(call.body)["fields"]
    return RAW_LIST.decode(raw) if isinstance((call.search or {})["fields"], list) else [raw]


def _asked_fields(call: SearchCall) -> list[str]:
    """The patterns by which the client itself asks for entries of the answer's `fields`."""
    search = call.search or {}
    entries: list[Any] = [search.get("collapse")]
    for key in ("fields", "docvalue_fields", "stored_fields"):
        asked = search.get(key)
        entries += asked if isinstance(asked, list) else [asked]
    named = [entry.get("field") if isinstance(entry, dict) else entry for entry in entries]
    for key in ("docvalue_fields", "stored_fields"):
        named += call.parameters.get(key, "").split(",")
    scripted = search.get("script_fields")
    return [*(name for name in named if isinstance(name, str)), *(scripted if isinstance(scripted, dict) else ())]
