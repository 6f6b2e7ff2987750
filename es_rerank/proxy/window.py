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
from es_rerank.records import without_headers
from es_rerank.settings import TEMPLATE_FIELD

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def plan_window(call: SearchCall, decision: Rerank) -> WindowPlan:
    """The upstream request for a reranked search.

    `filter_path` and `pretty` come off: the first could hide what we need, and both are applied to our answer.
    """
    size = max(decision.window, decision.page_from + decision.page_size)
    hidden = not _whole_source(call)
    added: frozenset[str] = frozenset()
    if hidden:
        asked = _asked_fields(call)
        wanted = decision.rule.text_fields()
        added = frozenset(name for name in wanted if not any(fnmatchcase(name, pattern) for pattern in asked))
        call = call.with_body(edit_object(call.body, {"fields": [*_raw_fields(call), *sorted(added)]}))
    target = edit_query(
        call.request.target, drop={"from", "size", "filter_path", "pretty"}, add={"from": "0", "size": str(size)}
    )
    codings = readable_codings(call.request.header(b"accept-encoding"))
    headers = without_headers(call.request.headers, b"accept-encoding")
    if codings is not None:
        headers = (*headers, (b"accept-encoding", codings))
    return WindowPlan(
        request=replace(call.request, target=target, headers=headers), text_in_fields=hidden, added_fields=added
    )


def read_answer(body: bytes) -> EngineAnswer | None:
    """The engine's answer, opened; None where it is no search answer with a score on every hit."""
    try:
        top = RAW_OBJECT.decode(body)
        hits_object = RAW_OBJECT.decode(top["hits"])
        hits = tuple(RAW_OBJECT.decode(hit) for hit in RAW_LIST.decode(hits_object["hits"]))
        scores = tuple(msgspec.json.decode(hit["_score"], type=float) for hit in hits)
        shards = msgspec.json.decode(top["_shards"], type=dict[str, Any]) if "_shards" in top else {}
        complete = not shards.get("failed") and msgspec.json.decode(top.get("timed_out", b"false")) is False
    except (KeyError, msgspec.DecodeError):
        return None
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
        except msgspec.DecodeError:  # text that isn't Unicode: this hit alone goes unscored
            values = {}
        texts.append(_compose(values, decision) if any(value.strip() for value in values.values()) else None)
    return texts


def _compose(values: dict[str, str], decision: Rerank) -> str:
    if decision.rule.fields:
        return "\n".join(values[name] for name in decision.rule.fields if values[name].strip())
    return TEMPLATE_FIELD.sub(lambda field: values[field[1]], decision.rule.template)


def _find(members: RawObject, name: str) -> Any:
    """A field's value, by its whole name or along its dots, through lists of objects too. None where it is missing."""
    if name in members:
        return msgspec.json.decode(members[name])
    head, dot, rest = name.partition(".")
    while dot:
        if head in members:
            return _descend(msgspec.json.decode(members[head]), rest)
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return None


def _descend(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_descend(item, name) for item in value]
    if not isinstance(value, dict):
        return None
    if name in value:
        return value[name]
    head, _, rest = name.partition(".")
    return _descend(value.get(head), rest) if rest else None


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
        return call.parameters.get("_source") in ("true", "*") and len(set(names) & set(call.parameters)) == 1
    if "_source" in search:
        return search["_source"] in (True, "*", ["*"])
    return "stored_fields" not in call.parameters and "stored_fields" not in search


def _raw_fields(call: SearchCall) -> list[msgspec.Raw]:
    """The entries of the body's own `fields`, one by one."""
    if "fields" not in (call.search or {}):
        return []
    raw = RAW_OBJECT.decode(call.body)["fields"]
    return RAW_LIST.decode(raw) if isinstance((call.search or {})["fields"], list) else [raw]


def _asked_fields(call: SearchCall) -> Sequence[str]:
    """The patterns under which the client itself fills the answer's `fields`."""
    search = call.search or {}
    patterns: list[str] = []
    for key in ("fields", "docvalue_fields", "stored_fields"):
        entries = search.get(key, [])
        for entry in entries if isinstance(entries, list) else [entries]:
            name = entry.get("field") if isinstance(entry, dict) else entry
            patterns += [name] if isinstance(name, str) else []
    for key in ("docvalue_fields", "stored_fields"):
        patterns += call.parameters.get(key, "").split(",")
    return [*patterns, *(search.get("script_fields") or {})]
