"""OpenSearch's own requests to rerank, and what search pipelines do, from what stands in them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.proxy.search.decide import Relay, Rerank, decide
from es_rerank.proxy.search.many import ItemCarrier
from es_rerank.proxy.search.search_pipeline import (
    asks_to_rerank,
    named_pipeline,
    past_pipeline,
    rerank_text,
    taken_over,
    work_of,
)
from es_rerank.records import Request
from tests.proxy.search.calls import call_of
from tests.proxy.search.test_decide import BOOK, RULE, book_of

if TYPE_CHECKING:
    from es_rerank.proxy.search.call import PipelineWork

FOX: dict[str, Any] = {"match": {"text": "red fox"}}
RERANK: dict[str, Any] = {"rerank": {"ml_opensearch": {"model_id": "m"}, "context": {"document_fields": ["text"]}}}
NORMAL: dict[str, Any] = {"normalization-processor": {}}
ANY = book_of(RULE.model_copy(update={"first_stage": "any"}))


def asking(context: Any, **search: Any) -> dict[str, Any]:
    """A search for a fox that asks OpenSearch to rerank with this context."""
    return {"query": FOX, **search, "ext": {"rerank": {"query_context": context}, "other": {"a": 1.0}}}


@pytest.mark.parametrize(
    ("definition", "work"),
    [
        ({}, "none"),
        ({"description": "nothing", "request_processors": []}, "none"),
        ({"response_processors": [RERANK]}, "rerank"),
        ({"response_processors": [RERANK, RERANK]}, "other"),
        ({"response_processors": [RERANK, {"truncate_hits": {}}]}, "other"),
        ({"response_processors": [{"rename_field": {}}]}, "other"),
        ({"response_processors": [RERANK], "phase_results_processors": [NORMAL]}, "other"),
        ({"response_processors": [RERANK], "request_processors": [{"filter_query": {}}]}, "other"),
        ({"phase_results_processors": [NORMAL]}, "first_stage"),
        ({"request_processors": [{"filter_query": {}}]}, "first_stage"),
        ({"request_processors": [{"oversample": {}}]}, "other"),
        ({"request_processors": [{"script": {}}]}, "other"),
        ({"response_processors": "rerank"}, "other"),
        ({"response_processors": ["rerank"]}, "other"),
        ([], "other"),
        (None, "other"),
    ],
    ids=str,
)
def test_a_pipeline_is_told_by_its_processors(definition: Any, work: PipelineWork) -> None:
    """Only a pipeline of nothing but `rerank` is taken over, and only one that changes no answer is a first stage."""
    assert work_of(definition) == work


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ({"query_text": " red   fox "}, "red fox"),
        ({"query_text_path": "query.match.text.query"}, "red fox"),
        ({"query_text_path": "query.match.text"}, "red fox"),
        ({"query_text_path": "other.0.words"}, "fast"),
        ({"query_text_path": r"other.0.a\.b"}, "dotted"),
        ({"query_text_path": "other.1.words"}, ""),
        ({"query_text_path": "query.match.text.query.more"}, ""),
        ({"query_text_path": "query.match"}, ""),
        ({"query_text_path": "size"}, ""),
        ({"query_text_path": ""}, ""),
        ({"query_text_path": "query." * 200}, ""),
        ({"query_text_path": 3}, ""),
        ({"query_text": 3}, ""),
        ({"query_text": ""}, ""),
        ({"query_text": "a", "query_text_path": "query.match.text.query"}, ""),
        ({}, ""),
        (None, ""),
    ],
    ids=str,
)
def test_the_text_is_found_as_opensearch_finds_it(context: Any, text: str) -> None:
    """A text, or one at a path of the search, short forms written out; whatever OpenSearch refuses has no text."""
    call = call_of(asking(context, size=3, other=[{"words": "fast", "a.b": "dotted"}]))
    assert asks_to_rerank(call)
    assert rerank_text(call) == text


def test_a_single_clause_is_the_first_of_its_list() -> None:
    """OpenSearch writes a clause that stands alone as a list of one."""
    path = {"query_text_path": "query.bool.must.0.match.text.query"}
    assert rerank_text(call_of({**asking(path), "query": {"bool": {"must": FOX}}})) == "red fox"


@pytest.mark.parametrize(
    ("work", "named", "reason"),
    [
        (None, "p", "search_pipeline"),
        ("none", None, None),
        ("none", "_none", None),
        ("first_stage", None, None),
        ("first_stage", "p", "search_pipeline"),
        ("rerank", None, None),
        ("rerank", "p", None),
        ("other", None, "search_pipeline"),
        ("other", "p", "search_pipeline"),
    ],
)
def test_who_reranks_is_decided_by_the_pipeline(
    work: PipelineWork | None, named: str | None, reason: str | None
) -> None:
    """A search whose pipeline does nothing but rerank is ours; one that goes through anything else is the engine's."""
    search = asking({"query_text": "my words"}, **({} if named is None else {"search_pipeline": named}))
    decision = decide(replace(call_of(search), pipeline=work), {}, BOOK)
    assert (decision.reason if isinstance(decision, Relay) else None) == reason
    if isinstance(decision, Rerank):
        assert decision.scoring.question == "my words"


@pytest.mark.parametrize(
    ("work", "reranked"), [("none", True), ("first_stage", True), ("rerank", False), ("other", False)]
)
def test_a_named_pipeline_is_a_first_stage_where_any_is_taken(work: PipelineWork, reranked: bool) -> None:
    """Without `ext.rerank`, a pipeline that reranks is left to the engine, and one that finds hits is not."""
    decision = decide(replace(call_of({"query": FOX}, "search_pipeline=p"), pipeline=work), {}, ANY)
    assert isinstance(decision, Rerank) == reranked
    if isinstance(decision, Rerank):
        assert decision.first_stage == ("pipeline" if work == "first_stage" else "bm25")


def test_a_persons_words_win_and_a_bad_context_is_the_engines() -> None:
    """`ext.es_rerank.query` comes first; but what OpenSearch refuses passes, so that it says why."""
    good, bad = (replace(call_of(asking({"query_text": text})), pipeline="none") for text in ("a fox", 3))
    decision = decide(good, {"query": "mine"}, BOOK)
    assert isinstance(decision, Rerank)
    assert decision.scoring.question == "mine"
    assert decide(bad, {"query": "mine"}, BOOK) == Relay(reason="no_text_query", rule="notes")


def test_where_pipelines_are_not_looked_at_a_rerank_is_the_engines() -> None:
    """Nobody knows then what else would rerank the hits, so the engine judges `ext.rerank` alone."""
    relay = Relay(reason="search_pipeline", rule="notes")
    assert decide(call_of(asking({"query_text": 3})), {}, BOOK) == relay
    assert decide(call_of({"query": FOX}, "search_pipeline=some"), {}, BOOK) == relay
    assert isinstance(decide(call_of({"query": FOX}, "search_pipeline=_none"), {}, BOOK), Rerank)


def test_only_the_window_goes_past_the_pipeline() -> None:
    """The window is asked for without `ext.rerank` and through no pipeline; the client's own search keeps both."""
    search = asking({"query_text": "a fox"}, search_pipeline={"response_processors": [RERANK]})
    call = replace(call_of(search, "search_pipeline=p&size=3"), pipeline="rerank")
    assert taken_over(call) is call
    request = past_pipeline(call).request
    assert request.target == b"/notes/_search?size=3"
    assert isinstance(request.body, bytes)
    assert json.loads(request.body) == {"query": FOX, "ext": {"other": {"a": 1.0}}, "search_pipeline": "_none"}


def test_a_needless_request_to_rerank_is_taken_out() -> None:
    """Where nothing in the engine reranks, our searches have no `ext.rerank`, which an engine may not know."""
    call = replace(call_of(asking({"query_text": "a fox"})), pipeline="none")
    assert taken_over(call).body == b'{"query":{"match": {"text": "red fox"}},"ext":{"other":{"a": 1.0}}}'
    alone = replace(call_of({"query": FOX, "ext": {"rerank": {}}}), pipeline="none")
    assert taken_over(alone).search == {"query": FOX}
    assert not asks_to_rerank(taken_over(alone))


def test_a_pipeline_is_named_in_the_url_the_body_or_a_header_line() -> None:
    """The URL wins over the body, and a line of many searches has its own."""
    assert named_pipeline(call_of({"search_pipeline": "a"}, "search_pipeline=b")) == "b"
    assert named_pipeline(call_of({"search_pipeline": "a"})) == "a"
    assert named_pipeline(call_of({})) is None
    whole = Request(method="POST", target=b"/_msearch", headers=())
    carrier = ItemCarrier(whole, b'{"index":"notes","search_pipeline":"p"}', b"{}")
    assert carrier.without_parameter("search_pipeline").request.body == b'{"index":"notes"}\n{}\n'
    assert ItemCarrier(whole, b"", b"{}").without_parameter("search_pipeline").request.body == b"\n{}\n"
