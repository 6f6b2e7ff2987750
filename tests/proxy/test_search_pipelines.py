"""What is asked about search pipelines, of whom and how often, and what becomes of searches then.

No engine at hand can have a `rerank` processor, so one that answers in the published shapes stands in for OpenSearch.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.errors import UpstreamError
from es_rerank.memory import MemoryBudget
from es_rerank.proxy.caller import KEPT_S, KEPT_UNKNOWN_S
from es_rerank.proxy.multi import answer_many
from es_rerank.proxy.search_pipelines import SearchPipelines, default_of
from es_rerank.records import Request
from es_rerank.rules.indices import MAX_EXPRESSION_CHARACTERS
from tests.proxy.search.calls import call_of
from tests.proxy.test_pipeline import (
    BOOK,
    SEARCH,
    TEXTS,
    FakeEngine,
    Late,
    answer_by,
    answered_by,
    asked,
    hits_of,
    parts_with,
    reply,
    sent,
)
from tests.virtual import VirtualClock, settle

if TYPE_CHECKING:
    from es_rerank.proxy.parts import Parts
    from es_rerank.records import Reply

EXT: dict[str, Any] = {"ext": {"rerank": {"query_context": {"query_text": "x y"}}}}
RERANK: dict[str, Any] = {"response_processors": [{"rerank": {"ml_opensearch": {"model_id": "m"}}}]}
DEFAULT: dict[str, Any] = {"films": {"settings": {"index.search.default_pipeline": "p"}}}
NO_DEFAULT: dict[str, Any] = {}


class OpenSearch:
    """Parts of a proxy in front of an engine that has pipelines; what is asked about those is kept apart."""

    def __init__(self, *about_pipelines: Reply | UpstreamError | Late) -> None:
        self.clock = VirtualClock()
        self.about = FakeEngine(*about_pipelines)
        self.pipelines = SearchPipelines(self.about, MemoryBudget(1_000_000), self.clock)

    def parts(self, engine: FakeEngine) -> Parts:
        """The parts with this engine for searches."""
        return replace(parts_with(engine, clock=self.clock), search_pipelines=self.pipelines)

    async def status_of(self, search: dict[str, Any], *headers: tuple[bytes, bytes]) -> tuple[dict[str, Any], Request]:
        """The status of a search, and the request that the engine got for it."""
        engine = FakeEngine(reply(200, hits_of(*TEXTS)))
        request = asked(search)
        request = replace(request, headers=(*request.headers, *headers))
        _, status = answered_by(await answer_by(request, "films", BOOK, self.parts(engine)))
        [first] = engine.requests
        return status, first

    @property
    def asked_about(self) -> list[bytes]:
        """The paths that were asked for about pipelines."""
        return [request.target.partition(b"?")[0] for request in self.about.requests]


async def test_without_a_pipeline_we_rerank_by_the_text_that_is_asked() -> None:
    """The engine gets no `ext.rerank`, which it may not know, and the question is its text."""
    opensearch = OpenSearch(reply(200, NO_DEFAULT))
    search = {**SEARCH, "ext": {**EXT["ext"], "es_rerank": {"include": ["question"]}}}
    status, request = await opensearch.status_of(search)
    assert (status["status"], status["question"]) == ("full", "x y")
    assert json.loads(sent(request)) == SEARCH
    assert opensearch.asked_about == [b"/films/_settings/index.search.default_pipeline"]


@pytest.mark.parametrize("named", [{}, {"search_pipeline": "p"}])
async def test_a_pipeline_that_only_reranks_is_passed_by(named: dict[str, Any]) -> None:
    """Whether it is named or the index's default, the window is asked for past it: nothing is reranked twice."""
    about = [reply(200, {"p": RERANK})] if named else [reply(200, DEFAULT), reply(200, {"p": RERANK})]
    opensearch = OpenSearch(*about)
    status, request = await opensearch.status_of({**SEARCH, **named, **EXT})
    assert status["status"] == "full"
    assert json.loads(sent(request)) == {**SEARCH, "search_pipeline": "_none"}


async def test_if_we_fail_the_engine_reranks_itself() -> None:
    """The client's own search keeps its pipeline and its `ext.rerank`."""
    opensearch = OpenSearch(reply(200, {"p": RERANK}))
    engine = FakeEngine(reply(503, {"error": "busy"}), reply(200, hits_of(*TEXTS)))
    search = {**SEARCH, "search_pipeline": "p", **EXT}
    hits, status = answered_by(await answer_by(asked(search), "films", BOOK, opensearch.parts(engine)))
    assert (hits, status["reason"]) == (["0", "1", "2"], "engine_refused")
    assert json.loads(sent(engine.requests[1])) == search


@pytest.mark.parametrize(
    "about",
    [
        [reply(200, {"p": {"response_processors": [*RERANK["response_processors"], {"truncate_hits": {}}]}})],
        [reply(404, {})],
        [reply(403, {"error": "forbidden"})],
        [reply(200, {})],
        [reply(200, [])],
        [UpstreamError("gone")],
    ],
    ids=str,
)
async def test_whatever_else_a_pipeline_does_is_the_engines(about: list[Reply | UpstreamError]) -> None:
    """A pipeline with other processors, and one of which we know nothing, gets the client's own search."""
    search = {**SEARCH, "search_pipeline": "p", **EXT}
    status, request = await OpenSearch(*about).status_of(search)
    assert (status["status"], status["reason"]) == ("skipped", "search_pipeline")
    assert json.loads(sent(request)) == search


async def test_an_answer_is_kept_for_each_caller() -> None:
    """What one caller was told is not told to another one, and is asked again after minutes; a refusal sooner."""
    forbidden = reply(403, {})
    opensearch = OpenSearch(reply(200, NO_DEFAULT), forbidden, reply(200, NO_DEFAULT), forbidden)
    ann, bob = (b"authorization", b"ann"), (b"authorization", b"bob")
    for _ in range(2):
        assert (await opensearch.status_of({**SEARCH, **EXT}, ann))[0]["status"] == "full"
        assert (await opensearch.status_of({**SEARCH, **EXT}, bob))[0]["reason"] == "search_pipeline"
    assert [request.header(b"authorization") for request in opensearch.about.requests] == [b"ann", b"bob"]
    opensearch.clock.now_s += KEPT_UNKNOWN_S
    assert (await opensearch.status_of({**SEARCH, **EXT}, bob))[0]["status"] == "full"
    opensearch.clock.now_s += KEPT_S
    assert (await opensearch.status_of({**SEARCH, **EXT}, ann))[0]["reason"] == "search_pipeline"


async def test_nobody_is_asked_where_it_does_not_matter() -> None:
    """A search that asks for no reranking costs the engine nothing more, and Elasticsearch has no pipelines."""
    opensearch = OpenSearch()
    assert (await opensearch.status_of(SEARCH))[0]["status"] == "full"
    assert (await opensearch.status_of({**SEARCH, "search_pipeline": "p"}))[0]["reason"] == "search_pipeline"
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    engine.product = b"Elasticsearch"
    await answer_by(asked({**SEARCH, **EXT}), "films", BOOK, opensearch.parts(engine))
    assert json.loads(sent(engine.requests[0])) == {**SEARCH, **EXT}
    assert opensearch.asked_about == []


async def test_no_search_waits_longer_than_it_wants_to() -> None:
    """At its instant a search goes on with its pipeline unknown; the answer is kept when it comes."""
    late = Late(reply(200, {"p": RERANK}))
    opensearch = OpenSearch(late)
    call = call_of({"search_pipeline": "p", **EXT})
    search = asyncio.create_task(opensearch.pipelines.find(call, 0.1))
    await opensearch.clock.advance(0.1)
    assert await search == "other"
    late.comes.set()
    await settle()
    assert await opensearch.pipelines.find(call, 0.1) == "rerank"


@pytest.mark.parametrize(("name", "expression"), [("n", ""), ("", "films,")])
async def test_nobody_is_asked_with_a_long_name(name: str, expression: str) -> None:
    """Names come from bodies of megabytes too, and each that is kept would take as much memory: it is the engine's."""
    opensearch = OpenSearch()
    longer = MAX_EXPRESSION_CHARACTERS + 1
    call = call_of({"search_pipeline": name * longer, **EXT}, expression=expression * longer)
    assert await opensearch.pipelines.find(call, 1.0) == "other"
    assert opensearch.asked_about == []


async def test_among_many_searches_each_has_its_own_pipeline() -> None:
    """Of many searches, those that ask for reranking are looked at, each once, and the others keep their bytes."""
    opensearch = OpenSearch(reply(200, {"p": RERANK}), reply(404, {}))
    engine = FakeEngine(reply(200, {"took": 1, "responses": [hits_of(*TEXTS)] * 4}))
    searches = [{**SEARCH, **EXT, "search_pipeline": name} for name in ("p", "q", "p")] + [SEARCH]
    lines = [line for search in searches for line in ({"index": "films"}, search)]
    request = Request(
        method="POST",
        target=b"/_msearch",
        headers=((b"content-type", b"application/x-ndjson"),),
        body="".join(json.dumps(line) + "\n" for line in lines).encode(),
    )
    parts = opensearch.parts(engine)
    with parts.memory.share() as share:
        outcome = await answer_many(request, "", BOOK, parts, share)
    reasons = [(one.status.status, one.status.reason) for one in outcome.searches]
    assert reasons == [("full", None), ("skipped", "search_pipeline"), ("full", None), ("full", None)]
    asked_for = [json.loads(line) for line in sent(engine.requests[0]).splitlines()[1::2]]
    window = {"from": 0, "size": 100}
    past = {**SEARCH, "search_pipeline": "_none", **window}
    assert asked_for == [past, searches[1], past, {**SEARCH, **window}]
    assert sorted(opensearch.asked_about) == [b"/_search/pipeline/p", b"/_search/pipeline/q"]


@pytest.mark.parametrize(
    ("defaults", "default"),
    [
        ([], None),
        (["p"], "p"),
        (["p", "p"], "p"),
        (["p", None], "p"),
        (["p", "q"], None),
        (["_none"], None),
        (["_none", "p"], "p"),
    ],
    ids=str,
)
def test_the_default_of_several_indices_is_the_one_that_all_have(
    defaults: list[str | None], default: str | None
) -> None:
    """Two that differ cancel each other, and indices without one don't count."""
    settings = {
        f"films-{place}": {"settings": {} if name is None else {"index.search.default_pipeline": name}}
        for place, name in enumerate(defaults)
    }
    assert default_of(settings) == default
