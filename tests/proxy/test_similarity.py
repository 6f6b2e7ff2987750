"""The path of a search with a `text_similarity_reranker` of ours: the engine never hears of the endpoint."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.proxy.multi import answer_many
from es_rerank.records import Request
from es_rerank.settings import Settings
from tests.proxy.test_pipeline import (
    FakeEngine,
    LengthWorkers,
    answer_by,
    answered_by,
    asked,
    hits_of,
    parts_with,
    reply,
)
from tests.virtual import VirtualClock

if TYPE_CHECKING:
    from es_rerank.records import Reply

BOOK = Settings.model_validate(
    {
        "upstream": {"urls": ["http://127.0.0.1:1"]},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "inference": {"scorers": {"ours": "minilm"}, "any_language": True, "deadline_s": 3.0},
    }
).book()
STANDARD = {"standard": {"query": {"match": {"text": "x"}}}}
# Judged by their length: 2, 10 and 6.
TEXTS = ("no", "the longest", "longer")


def search_of(**changes: Any) -> dict[str, Any]:
    """A search with a reranker of ours."""
    asked_of_us = {"retriever": STANDARD, "inference_id": "ours", "inference_text": "fox", "field": "text", **changes}
    return {"retriever": {"text_similarity_reranker": asked_of_us}}


def found(*texts: str | None) -> Reply:
    """What the inner retriever finds: hits with these texts, sorted by something, best first; None is one without."""
    answer = hits_of(*(text or "" for text in texts))
    answer["hits"]["total"] = {"value": 1000, "relation": "gte"}
    for hit in answer["hits"]["hits"]:
        hit["sort"] = [hit["_id"]]
        hit["_source"] = {name: text for name, text in hit["_source"].items() if text}
    return reply(200, answer)


def bodies(engine: FakeEngine) -> list[dict[str, Any]]:
    """The bodies that the engine was sent."""
    return [json.loads(request.body) for request in engine.requests if isinstance(request.body, bytes)]


async def test_the_order_and_the_scores_are_those_of_relevance_alone() -> None:
    """The hits are those of the inner retriever, each with 1 + its relevance, and without a sort that is no more."""
    engine = FakeEngine(found(*TEXTS))
    outcome = await answer_by(asked(search_of()), "any", BOOK, parts_with(engine))
    assert outcome.reply is not None
    hits = json.loads(outcome.reply.body)["hits"]
    assert [(hit["_id"], hit["_score"]) for hit in hits["hits"]] == [("1", 2.0), ("2", 1.6), ("0", 1.2)]
    assert (hits["max_score"], hits["total"]["value"]) == (2.0, 1000)
    assert not any("sort" in hit for hit in hits["hits"])
    assert (outcome.status.status, outcome.status.rule, outcome.status.scorer) == ("full", "ours", "minilm")
    assert [request.target for request in engine.requests] == [b"/films/_search?from=0&size=10"]
    assert bodies(engine) == [{"retriever": STANDARD}]


@pytest.mark.parametrize(
    ("page", "min_score", "ids", "total"),
    [
        ({}, 0.5, ["1", "2"], 2),
        ({}, 0.6, ["1", "2"], 2),
        ({}, 0.99, ["1"], 1),
        ({}, 5, [], 0),
        ({}, 0, ["1", "2", "0"], 1000),
        ({"size": 1, "from": 1}, 0.5, ["2"], 2),
        ({"size": 5, "from": 2}, 0.5, [], 2),
    ],
)
async def test_hits_below_min_score_are_left_out(page: Any, min_score: float, ids: list[str], total: int) -> None:
    """They are on no page, and the total counts what is left of the window."""
    engine = FakeEngine(found(*TEXTS))
    search = {**search_of(min_score=min_score), **page}
    outcome = await answer_by(asked(search), "any", BOOK, parts_with(engine))
    assert outcome.reply is not None
    hits = json.loads(outcome.reply.body)["hits"]
    assert [hit["_id"] for hit in hits["hits"]] == ids
    assert hits["total"]["value"] == total
    assert hits["max_score"] == (2.0 if total else None)


async def test_scorers_that_fail_drop_no_hit() -> None:
    """Whatever `min_score` says, the inner retriever's page comes with its own scores, and the status says why."""
    engine = FakeEngine(found(*TEXTS))
    clock = VirtualClock()
    parts = parts_with(engine, workers=LengthWorkers(stalls=True), clock=clock)
    answering = asyncio.ensure_future(answer_by(asked(search_of(min_score=0.9)), "any", BOOK, parts))
    await clock.advance(3.0)
    outcome = await answering
    hits, status = answered_by(outcome)
    assert hits == ["0", "1", "2"]
    assert (status["status"], status["reason"]) == ("failed", "deadline")
    assert outcome.reply is not None
    assert [hit["_score"] for hit in json.loads(outcome.reply.body)["hits"]["hits"]] == [9.0, 8.0, 7.0]


async def test_hits_without_the_field_come_last() -> None:
    """They are the least relevant; where no hit has the field, the order stays."""
    outcome = await answer_by(
        asked(search_of()), "any", BOOK, parts_with(FakeEngine(found(None, "no", None, "longer")))
    )
    hits, status = answered_by(outcome)
    assert hits == ["3", "1", "0", "2"]
    assert (status["status"], status["missing_text"], status["scored"]) == ("full", 2, 2)
    outcome = await answer_by(asked(search_of(min_score=1)), "any", BOOK, parts_with(FakeEngine(found(None, None))))
    hits, status = answered_by(outcome)
    assert (hits, status["reason"]) == (["0", "1"], "missing_text")


async def test_a_refused_window_ends_in_the_inner_retrievers_own_page() -> None:
    """The engine is asked for the client's page of the inner retriever, never for an endpoint that it lacks."""
    engine = FakeEngine(reply(400, {"error": {}, "status": 400}), found(*TEXTS))
    search = {**search_of(rank_window_size=50), "size": 2}
    hits, status = answered_by(await answer_by(asked(search), "any", BOOK, parts_with(engine)))
    assert hits == ["0", "1", "2"]
    assert status["reason"] == "engine_refused"
    assert [request.target.partition(b"?")[2] for request in engine.requests] == [b"from=0&size=50", b"from=0&size=2"]
    assert bodies(engine) == [{"retriever": STANDARD, "size": 2}] * 2


async def test_a_request_may_have_both_scores_fused() -> None:
    """With `alpha`, `_score` is the fused one on the engine's scale, as for any search."""
    engine = FakeEngine(found(*TEXTS))
    search = {**search_of(), "ext": {"es_rerank": {"alpha": 1, "include": ["scores"]}}}
    outcome = await answer_by(asked(search), "any", BOOK, parts_with(engine))
    assert outcome.reply is not None
    hits = json.loads(outcome.reply.body)["hits"]["hits"]
    assert [(hit["_id"], hit["_score"]) for hit in hits] == [("0", 9.0), ("1", 8.0), ("2", 7.0)]
    assert [hit["_es_rerank"]["rank_score"] for hit in hits] == [2.0, 10.0, 6.0]


async def test_among_many_searches_each_is_answered_alone() -> None:
    """One is reranked by relevance, one is refused in Elasticsearch's words, and one is the engine's."""
    answer = json.loads(found(*TEXTS).body)
    engine = FakeEngine(reply(200, {"took": 1, "responses": [{**answer, "status": 200}, {**answer, "status": 200}]}))
    lines = [{}, search_of(), {}, search_of(field=3), {}, {"query": {"match_all": {}}}]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    request = Request(
        method="POST", target=b"/any/_msearch", headers=((b"content-type", b"application/json"),), body=body
    )
    parts = parts_with(engine)
    with parts.memory.share() as share:
        outcome = await answer_many(request, "any", BOOK, parts, share)
    assert outcome.reply is not None
    first, second, third = json.loads(outcome.reply.body)["responses"]
    assert [hit["_id"] for hit in first["hits"]["hits"]] == ["1", "2", "0"]
    assert second["error"]["type"] == "parsing_exception"
    assert second["error"]["reason"].startswith("[text_similarity_reranker] field doesn't support")
    assert [hit["_id"] for hit in third["hits"]["hits"]] == ["0", "1", "2"]
    assert isinstance(engine.requests[0].body, bytes)
    assert json.loads(engine.requests[0].body.split(b"\n")[1]) == {"retriever": STANDARD, "from": 0, "size": 10}


async def test_an_explained_hit_says_what_its_score_is() -> None:
    """The rank score and the inner retriever's own explanation are the details, under the endpoint and the field."""
    answer = json.loads(found(*TEXTS).body)
    for hit in answer["hits"]["hits"]:
        hit["_explanation"] = {"value": hit["_score"], "description": "its own", "details": []}
    engine = FakeEngine(reply(200, answer))
    outcome = await answer_by(asked({**search_of(), "explain": True}), "any", BOOK, parts_with(engine))
    assert outcome.reply is not None
    told = json.loads(outcome.reply.body)["hits"]["hits"][0]["_explanation"]
    assert told["value"] == 2.0
    assert "inference endpoint: [ours] on document field: [text]" in told["description"]
    assert [detail["value"] for detail in told["details"]] == [10.0, 8.0]
