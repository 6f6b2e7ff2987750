"""Plans the one request that fetches the window, and reads the engine's answer to it. Pure.

The page is asked for in the URL, where it wins over the body: so the body's bytes stay the client's own, and with
them the engine's request cache. Only a search that hides `_source` has its body changed: the text is then asked
for through `fields`, and taken out of the answer again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.proxy.call import RAW_OBJECT, edit_object, edit_query
from es_rerank.proxy.coding import readable_codings
from es_rerank.proxy.filter_path import star_pattern
from es_rerank.records import without_headers
from es_rerank.settings import TEMPLATE_FIELD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from es_rerank.proxy.call import SearchCall
    from es_rerank.proxy.classify import Rerank
    from es_rerank.records import Request

RawObject = dict[str, msgspec.Raw]
RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])


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

    `scores` is parallel to `hits`, in engine order. `complete` is False when some shard failed or ran out of time.
    """

    top: RawObject
    hits_object: RawObject
    hits: tuple[RawObject, ...]
    scores: tuple[float, ...]
    complete: bool

    @property
    def has_system_hits(self) -> bool:
        """Whether some hit is of a system index, on a remote cluster too; those are nobody's to rerank."""
        names = (bytes(hit.get("_index", b"")).strip(b'"').rpartition(b":")[2] for hit in self.hits)
        return any(name.startswith(b".") for name in names)


def plan_window(call: SearchCall, decision: Rerank) -> WindowPlan:
    """The upstream request for a reranked search.

    `filter_path` is applied to our answer, since it could hide what we need; see `_unfiltered`.
    """
    size = max(decision.window, decision.page_from + decision.page_size)
    hidden = not _whole_source(call)
    added: frozenset[str] = frozenset()
    if hidden:
        asked = [star_pattern(pattern) for pattern in _asked_fields(call)]
        wanted = decision.rule.text_fields()
        added = frozenset(name for name in wanted if not any(fnmatchcase(name, pattern) for pattern in asked))
    if added:
        call = call.with_body(edit_object(call.body, {"fields": [*_raw_fields(call), *sorted(added)]}))
    target = edit_query(_unfiltered(call), drop={"from", "size"}, add={"from": "0", "size": str(size)})
    request = _readable(replace(call.request, target=target))
    return WindowPlan(request=request, text_in_fields=hidden, added_fields=added)


def plan_plain(call: SearchCall) -> Request:
    """The client's own search, such that we can read the answer and write into it."""
    return _readable(replace(call.request, target=_unfiltered(call)))


def _unfiltered(call: SearchCall) -> bytes:
    """The target with a filter that keeps everything in place of the client's own.

    For any filter, as for `pretty`, the engine rewrites the numbers and escapes of `_source`; only it knows how.
    """
    everything = {"filter_path": "**"} if call.parameters.get("filter_path", "").strip(" ,") else {}
    return edit_query(call.request.target, drop={"filter_path"}, add=everything)


def _readable(request: Request) -> Request:
    """The request, accepting only those content codings that we can read and write."""
    codings = readable_codings(request.header(b"accept-encoding"))
    headers = without_headers(request.headers, b"accept-encoding")
    return replace(request, headers=headers if codings is None else (*headers, (b"accept-encoding", codings)))


def read_answer(body: bytes) -> EngineAnswer | None:
    """The engine's answer, opened; None where it is no search answer with a score on every hit.

    None too where it holds half a surrogate pair or is nested very deep: such JSON can't be read here.
    """
    try:
        top = RAW_OBJECT.decode(body)
        hits_object = RAW_OBJECT.decode(top["hits"])
        hits = tuple(RAW_OBJECT.decode(hit) for hit in RAW_LIST.decode(hits_object["hits"]))
        scores = tuple(msgspec.json.decode(hit["_score"], type=float) for hit in hits)
        shards = msgspec.json.decode(top.get("_shards", b"{}"), type=dict[str, Any])
        clusters = msgspec.json.decode(top.get("_clusters", b"{}"), type=dict[str, Any])
        timed_out = msgspec.json.decode(top.get("timed_out", b"false"))
    except (KeyError, ValueError, RecursionError):
        return None
    answered = clusters.get("successful") == clusters.get("total")  # without those that were skipped
    complete = not shards.get("failed") and answered and timed_out is False
    return EngineAnswer(top=top, hits_object=hits_object, hits=hits, scores=scores, complete=complete)


def read_texts(answer: EngineAnswer, plan: WindowPlan, decision: Rerank) -> list[str | None]:
    """What is to be scored of each hit of the window: parallel to it, None where a hit has no text.

    With `fields` of a rule, their texts are joined by line ends; with a template, put into it. Values of a list are
    joined by a blank, objects give their values in order, null and missing are equal.
    """
    texts: list[str | None] = []
    for hit in answer.hits[: decision.window]:
        holder = hit.get("fields" if plan.text_in_fields else "_source")
        values = {}
        try:
            members = RAW_OBJECT.decode(holder) if holder is not None else {}
            for name in decision.rule.text_fields():
                values[name] = " ".join(_leaves(_find(members, name)))
        except (ValueError, RecursionError):  # not Unicode, or too deep to walk: this hit alone goes unscored
            values = {}
        texts.append(_compose(values, decision) if any(value.strip() for value in values.values()) else None)
    return texts


def _compose(values: dict[str, str], decision: Rerank) -> str:
    if decision.rule.fields:
        return "\n".join(values[name] for name in decision.rule.fields if values[name].strip())
    return TEMPLATE_FIELD.sub(lambda field: values[field[1]], decision.rule.template)


def _find(members: RawObject, name: str) -> Any:
    """A field's value, by its whole name or along its dots, through lists of objects too; None if it is missing."""
    if name in members:
        return msgspec.json.decode(members[name])
    for head, rest in _splits(name):
        if head in members:
            return _descend(msgspec.json.decode(members[head]), rest)
    return None


def _descend(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_descend(item, name) for item in value]
    if not isinstance(value, dict):
        return None
    if name in value:
        return value[name]
    return next((_descend(value[head], rest) for head, rest in _splits(name) if head in value), None)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """A dotted name in two, at each of its dots."""
    parts = name.split(".")
    return ((".".join(parts[:end]), ".".join(parts[end:])) for end in range(1, len(parts)))


def _leaves(value: Any) -> list[str]:
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if value is None or value == "":
        return []
    return [value if isinstance(value, str) else msgspec.json.encode(value).decode()]


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
    """The patterns under which the client itself fills the answer's `fields`."""
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
