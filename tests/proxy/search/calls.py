"""Searches and decisions for tests: a call from its body and its URL, and a decision from the values that matter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from es_rerank.fusion.rank import Recipe
from es_rerank.proxy.scoring.ask import Scoring, Stage
from es_rerank.proxy.search.call import SearchCall, read_call
from es_rerank.proxy.search.clauses import read_query
from es_rerank.proxy.search.decide import Page, Rerank
from es_rerank.proxy.search.question import Question, question_of_reading
from es_rerank.proxy.search.write import finish_body as finish_started
from es_rerank.proxy.search.write import start_body
from es_rerank.records import Request
from es_rerank.texts import TextSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from collections.abc import Set as AbstractSet

    from es_rerank.proxy.search.control import Include
    from es_rerank.proxy.search.status import SearchStatus
    from es_rerank.reasons import Reason

JSON_HEADER = (b"content-type", b"application/json")
MAX_BYTES = 10_000


def template_call(body: Any, *, target: bytes = b"/notes/_search/template") -> SearchCall:
    """The call of a search template with this body."""
    request = Request(method="POST", target=target, headers=(JSON_HEADER,), body=json.dumps(body).encode())
    return read_call(request, "notes", max_bytes=1_000_000, template=True)


def raw_call(body: Any = None, *headers: tuple[bytes, bytes], target: bytes = b"/notes/_search") -> SearchCall:
    """The call of a POST with this raw body of at most MAX_BYTES, which is JSON unless the headers say otherwise."""
    request = Request(method="POST", target=target, headers=headers or (JSON_HEADER,), body=body)
    return read_call(request, "notes", max_bytes=MAX_BYTES)


def call_of(
    search: Any = None,
    query: str = "",
    *headers: tuple[bytes, bytes],
    target: bytes | None = None,
    expression: str = "notes",
) -> SearchCall:
    """The call of a search with this body (None for none) and this raw query string."""
    request = Request(
        method="POST",
        target=target or b"/notes/_search" + (b"?" + query.encode() if query else b""),
        headers=(JSON_HEADER, *headers),
        body=None if search is None else json.dumps(search).encode(),
    )
    return read_call(request, expression, max_bytes=1_000_000)


def decision_of(
    *fields: str,
    template: str = "",
    window: int = 100,
    start: int = 0,
    size: int = 10,
    include: tuple[Include, ...] = (),
) -> Rerank:
    """A decision to rerank on the text of these fields or this template, and to answer this page."""
    return Rerank(
        rule="notes",
        scorer="minilm",
        text=TextSpec(fields=fields, template=template),
        window=window,
        page=Page(start=start, size=size),
        question=Question(),
        scoring=Scoring(
            fingerprint="minilm-test",
            question="fox",
            instruction="",
            stages=(Stage(budget_tokens=0),),
            score="paper",
        ),
        recipe=Recipe(method="zscore", alpha=0.2, score="paper"),
        language=None,
        mode=None,
        deadline_s=2.0,
        include=frozenset(include),
    )


def finish_body(members: Mapping[str, Any], call: SearchCall, status: SearchStatus, include: AbstractSet[str]) -> bytes:
    """The body of an answer with these members, without a content coding."""
    return finish_started(start_body(members, call, None), call, status, include)


async def endless() -> AsyncIterator[bytes]:
    """A body that comes in parts."""
    yield b"{}"


def _streamed() -> SearchCall:
    """A call whose body is too large to hold."""
    request = Request(method="POST", target=b"/notes/_search", headers=(JSON_HEADER,), body=endless())
    return read_call(request, "notes", max_bytes=MAX_BYTES)


FOX: dict[str, Any] = {"match": {"text": "quick fox"}}
NOT_OURS: dict[Reason, Callable[[], SearchCall]] = {
    "no_rule": lambda: call_of({"query": FOX}, expression="other"),
    "several_rules": lambda: call_of({"query": FOX}, expression="notes,logs"),
    "system_index": lambda: call_of({"query": FOX}, expression=".kibana"),
    "scroll": lambda: call_of({"query": FOX}, "scroll=1m"),
    "search_after": lambda: call_of({"query": FOX, "search_after": [1]}),
    "slice": lambda: call_of({"query": FOX, "slice": {"id": 0, "max": 2}}),
    "pit": lambda: call_of({"query": FOX, "pit": {"id": "x"}}),
    "retriever": lambda: call_of({"retriever": {"standard": {"query": FOX}}}),
    "knn": lambda: call_of({"query": FOX, "knn": {"field": "v"}}),
    "rank": lambda: call_of({"query": FOX, "rank": {"rrf": {}}}),
    "sub_searches": lambda: call_of({"sub_searches": [{"query": FOX}]}),
    "rescore": lambda: call_of({"query": FOX, "rescore": {"query": {}}}),
    "terminate_after": lambda: call_of({"query": FOX}, "terminate_after=5"),
    "search_pipeline": lambda: call_of({"query": FOX}, "search_pipeline=mine"),
    "product_origin": lambda: call_of({"query": FOX}, "", (b"X-Elastic-Product-Origin", b"kibana")),
    "asked_off": lambda: call_of({"query": FOX}, "", (b"ES-Rerank", b"off")),
    "template": lambda: template_call({"source": {"query": FOX}}),
    "no_text_query": lambda: call_of({"query": {"match_all": {}}}),
    "not_bm25": lambda: call_of({"query": {"hybrid": {"queries": [FOX]}}}),
    "sort": lambda: call_of({"query": FOX, "sort": "year"}),
    "past_window": lambda: call_of({"query": FOX, "from": 1_000}),
    "size_zero": lambda: call_of({"query": FOX, "size": 0}),
    "unreadable_page": lambda: call_of({"query": FOX, "size": -1}),
    "stored_fields": lambda: call_of({"query": FOX, "stored_fields": "_none_"}),
    "format": lambda: call_of({"query": FOX}, "format=yaml"),
    "body_too_large": _streamed,
    "unreadable_body": lambda: call_of([{"query": FOX}]),
}
"""Of each reason for which a search isn't ours, one search, under a book of rules for `notes` and for `logs`."""


def find_question(query: Any) -> Question:
    """The question of a parsed `query`."""
    return question_of_reading(read_query(query))
