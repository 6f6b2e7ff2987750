"""The path of a search where something in it breaks or stalls: the search is answered all the same."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.cache.scores import MemoryScoreCache
from es_rerank.errors import UpstreamError
from es_rerank.fusion.rank import Recipe, rank
from es_rerank.judgment import Judgment
from es_rerank.proxy import pipeline
from es_rerank.proxy.http.coding import decode_body, packer_for
from es_rerank.proxy.parts import Parts
from es_rerank.proxy.scoring.source import ScoreSource
from es_rerank.proxy.scoring.workers import RENDER_MARGIN_S, Answered
from es_rerank.records import Reply, Request
from es_rerank.rules.book import RuleBook
from es_rerank.rules.source import FileRules
from es_rerank.settings import Settings
from tests.proxy.search.calls import call_of
from tests.virtual import VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from es_rerank.clock import Deadline
    from es_rerank.proxy.laps import Laps
    from es_rerank.proxy.scoring.ask import ScoreRequest, Scoring, Stage, WindowScores
    from es_rerank.reasons import NoRule
    from es_rerank.rules.book import BoundRule
    from es_rerank.upstream import StreamedReply

DEADLINE_S = 3.0
SETTINGS = Settings.model_validate(
    {
        "upstream": {"urls": ["http://127.0.0.1:1"]},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "rules": [{"name": "films", "indices": ["films"], "fields": ["text"], "deadline_s": DEADLINE_S}],
    }
)
BOOK = SETTINGS.book()
SEARCH = {"query": {"match": {"text": "x"}}}
TEXTS = ("no", "the longest", "longer")


def hits_of(*texts: str) -> dict[str, Any]:
    """An engine's answer: hits with these texts, best first."""
    hits = [
        {"_id": str(place), "_index": "films", "_score": float(9 - place), "_source": {"text": text}}
        for place, text in enumerate(texts)
    ]
    return {"took": 1, "timed_out": False, "hits": {"max_score": 9.0, "hits": hits}}


class FakeEngine:
    """Answers each request that is fetched with the next of some replies, and keeps the requests.

    None among the replies is an answer that never comes. The contract is `Engine`; `Upstream` is held to it in
    tests/relay.
    """

    product: bytes | None = None

    def __init__(self, *replies: Reply | UpstreamError | None) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []

    async def fetch(self, request: Request, *, max_bytes: int) -> Reply:
        """See `Engine`."""
        assert max_bytes > 0
        self.requests.append(request)
        answered = self.replies.pop(0)
        if answered is None:
            await asyncio.Event().wait()
        if isinstance(answered, UpstreamError):
            raise answered
        assert answered is not None
        return answered

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[StreamedReply]:
        """See `Engine`. The pipeline leaves streaming to its caller."""
        raise AssertionError(request)
        yield


class LengthWorkers:
    """Judge a text by its length. `stalls` never answer before the deadline. The contract is `Workers`."""

    def __init__(self, *, stalls: bool = False) -> None:
        self.stalls = stalls

    async def ask(
        self, scoring: Scoring, stage: Stage, texts: Sequence[str], keys: Sequence[str], deadline: Deadline
    ) -> Answered:
        """See `Workers`."""
        if self.stalls:
            try:
                async with deadline.limit(RENDER_MARGIN_S):
                    await asyncio.Event().wait()
            except TimeoutError:
                return Answered(judgments=[None] * len(texts), reason="deadline")
        return Answered(judgments=[Judgment(rank_score=float(min(10, len(text)))) for text in texts], reason=None)

    async def count(self, fingerprints: Sequence[str]) -> list[int]:
        """See `Workers`."""
        return [1] * len(fingerprints)


class BrokenSource(ScoreSource):
    """A source with a bug."""

    async def judge(self, requests: Sequence[ScoreRequest], deadline: Deadline, laps: Laps) -> list[WindowScores]:
        """See `ScoreSource`."""
        raise ZeroDivisionError


class BrokenBook(RuleBook):
    """A book with a bug."""

    def find(self, expression: str) -> BoundRule | NoRule:
        """See `RuleBook`."""
        raise ZeroDivisionError


BROKEN_BOOK = BrokenBook(version="0", rules=(), limits=SETTINGS.limits)


def parts_with(
    engine: FakeEngine,
    *,
    clock: VirtualClock | None = None,
    workers: LengthWorkers | None = None,
    scores: ScoreSource | None = None,
) -> Parts:
    """The parts of a proxy in front of this engine."""
    return Parts(
        clock=clock or VirtualClock(),
        engine=engine,
        rules=FileRules(BOOK),
        scores=scores or ScoreSource(MemoryScoreCache(), workers or LengthWorkers()),
        limits=SETTINGS.limits,
    )


def asked(body: Any) -> Request:
    """A search for films."""
    headers = ((b"content-type", b"application/json"), (b"es-rerank", b"include=status"))
    return Request(method="POST", target=b"/films/_search", headers=headers, body=json.dumps(body).encode())


def reply(status: int, body: Any) -> Reply:
    """An engine's answer."""
    return Reply(status=status, headers=((b"content-type", b"application/json"),), body=json.dumps(body).encode())


def answered_by(outcome: pipeline.Outcome) -> tuple[list[str], dict[str, Any]]:
    """The ids of the answer's hits, in order, and its status."""
    assert outcome.reply is not None
    answer = json.loads(outcome.reply.body)
    return [hit["_id"] for hit in answer["hits"]["hits"]], answer["_es_rerank"]


async def test_a_search_is_reranked() -> None:
    """The window is fetched with one request, judged and ranked, and the answer says so."""
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    outcome = await pipeline.answer(asked(SEARCH), "films", BOOK, parts_with(engine))
    hits, status = answered_by(outcome)
    assert hits == ["1", "2", "0"]
    assert (status["status"], status["scored"], status["rule"]) == ("full", 3, "films")
    assert [request.target for request in engine.requests] == [b"/films/_search?from=0&size=100"]


async def test_the_window_can_be_kept_and_ranked_again() -> None:
    """The outcome holds the ranked window: the same recipe gives the same order again, another recipe another order."""
    outcome = await pipeline.answer(asked(SEARCH), "films", BOOK, parts_with(FakeEngine(reply(200, hits_of(*TEXTS)))))
    window = outcome.window
    assert window is not None
    assert window.ids == (("films", "0"), ("films", "1"), ("films", "2"))
    hits, _ = answered_by(outcome)
    for alpha, order in ((0.2, hits), (1.0, ["0", "1", "2"])):
        recipe = Recipe(method="zscore", alpha=alpha, score="paper")
        ranked = rank(window.engine_scores, window.judgments, recipe)
        assert [window.ids[index][1] for index in ranked.ranking.order] == order


@pytest.mark.parametrize("coding", [None, b"gzip"])
async def test_others_have_their_turn_while_a_long_answer_is_computed(coding: bytes | None) -> None:
    """A long answer, packed, printed and filtered by 480 patterns: the event loop turns on and on meanwhile.

    With each step in the loop it would turn a few times, however long that takes.
    """
    body = json.dumps({"hits": {"max_score": 9.0, "hits": hits_of(*["x" * 300] * 2_000)["hits"]["hits"]}}).encode()
    packer = packer_for(coding)
    packed = packer.compress(body) + packer.flush()
    headers = ((b"content-type", b"application/json"), *([(b"content-encoding", coding)] if coding else ()))
    engine = FakeEngine(Reply(status=200, headers=headers, body=packed))
    filter_path = ",".join(["hits.hits._id", "_es_rerank", *(f"**.x{number}*" for number in range(480))])
    target = f"/films/_search?size=2000&pretty&filter_path={filter_path}".encode()
    answering = asyncio.ensure_future(
        pipeline.answer(replace(asked(SEARCH), target=target), "films", BOOK, parts_with(engine))
    )
    turns = 0
    while not answering.done():
        await asyncio.sleep(0)
        turns += 1
    outcome = await answering
    assert turns > 100
    assert outcome.reply is not None
    answered = json.loads(decode_body(outcome.reply.body, coding, max_bytes=len(body)))
    assert len(answered["hits"]["hits"]) == 2_000
    assert answered["_es_rerank"]["status"] == "full"


@pytest.mark.parametrize(
    ("query", "coding", "times"), [("", None, 1), ("pretty", None, 5), ("pretty", b"gzip", 9), ("q=*", b"gzip", 5)]
)
def test_what_takes_long_to_write_gets_its_time_before_the_deadline(
    query: str, coding: bytes | None, times: int
) -> None:
    """The wait for scores ends sooner by about what writing takes, as reading took; never by much more."""
    engine = replace(reply(200, {}), headers=((b"content-encoding", coding),) if coding else ())
    assert pipeline._writing_s(0.5, call_of({}, query), engine) == 0.5 * times
    longest = call_of({}, query + "&filter_path=" + "a*," * 1_000)
    assert pipeline._writing_s(0.5, longest, engine) == 0.5 * pipeline.MOST_WRITING_COST


async def test_a_long_request_is_read_beside_the_loop() -> None:
    """A search of megabytes, too, leaves the loop to others while it is read and decided about."""
    search = {"query": {"bool": {"should": [{"match": {"text": f"word {number}"}} for number in range(50_000)]}}}
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    answering = asyncio.ensure_future(pipeline.answer(asked(search), "films", BOOK, parts_with(engine)))
    turns = 0
    while not answering.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100
    assert answered_by(await answering)[1]["status"] == "full"


async def test_the_status_knows_the_time_of_every_step() -> None:
    """`took_ms` has the writing of the answer too, and the log is told the same as the caller."""
    outcome = await pipeline.answer(asked(SEARCH), "films", BOOK, parts_with(FakeEngine(reply(200, hits_of(*TEXTS)))))
    took_ms = answered_by(outcome)[1]["took_ms"]
    assert list(took_ms) == ["engine", "read", "cache", "score", "fuse", "write", "total"]
    assert outcome.status.took_ms == took_ms


async def test_a_bug_before_the_decision_forwards_the_search() -> None:
    """When reading or deciding breaks, the client's request goes to the engine as it came, without our header."""
    outcome = await pipeline.answer(asked(SEARCH), "films", BROKEN_BOOK, parts_with(FakeEngine()))
    assert (outcome.status.status, outcome.status.reason) == ("failed", "internal_error")
    assert outcome.forward is not None
    assert outcome.forward.body == asked(SEARCH).body
    assert outcome.forward.header(b"es-rerank") is None


async def test_a_bug_after_the_window_answers_with_the_engines_hits() -> None:
    """When reranking breaks, the client's own search is sent without our key in it, and the answer says so."""
    hits = hits_of("x")
    engine = FakeEngine(reply(200, hits), reply(200, hits))
    ext = {"ext": {"es_rerank": {"alpha": 0.5}, "other": 1}}
    broken = BrokenSource(MemoryScoreCache(), LengthWorkers())
    outcome = await pipeline.answer(asked({**SEARCH, **ext}), "films", BOOK, parts_with(engine, scores=broken))
    assert outcome.reply is not None
    answered = json.loads(outcome.reply.body)
    assert answered.pop("_es_rerank")["reason"] == "internal_error"
    assert answered == hits
    body = engine.requests[1].body
    assert isinstance(body, bytes)
    assert json.loads(body) == {**SEARCH, "ext": {"other": 1}}
    assert any(name == b"warning" for name, _ in outcome.reply.headers)


@pytest.mark.parametrize("search", [SEARCH, {"query": {"match_all": {}}}])
async def test_a_bug_in_passing_on_forwards_the_search(search: dict[str, Any]) -> None:
    """Where even the plain answer can't be read or written, the client's request goes to the engine as it came."""
    broken = replace(reply(200, hits_of("x")), headers=None)  # type: ignore[arg-type]
    outcome = await pipeline.answer(asked(search), "films", BOOK, parts_with(FakeEngine(broken, broken)))
    assert (outcome.status.status, outcome.status.reason) == ("failed", "internal_error")
    assert outcome.forward is not None
    assert outcome.forward.body == asked(search).body
    assert outcome.forward.header(b"es-rerank") is None


async def test_workers_that_stall_cost_the_deadline_and_no_hit() -> None:
    """Just before the deadline, the hits are answered in the engine's order, and the answer says why."""
    clock = VirtualClock(1000.0)
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    parts = parts_with(engine, clock=clock, workers=LengthWorkers(stalls=True))
    answering = asyncio.ensure_future(pipeline.answer(asked(SEARCH), "films", BOOK, parts))
    await clock.advance(DEADLINE_S - 2 * RENDER_MARGIN_S)
    assert not answering.done()
    await clock.advance(RENDER_MARGIN_S)
    hits, status = answered_by(await answering)
    assert hits == ["0", "1", "2"]
    assert (status["status"], status["reason"], status["scored"]) == ("failed", "deadline", 0)


async def test_an_engine_that_stalls_is_waited_for() -> None:
    """No deadline of ours cuts the engine short: it has its own time-out, in the upstream."""
    clock = VirtualClock()
    answering = asyncio.ensure_future(
        pipeline.answer(asked(SEARCH), "films", BOOK, parts_with(FakeEngine(None), clock=clock))
    )
    await clock.advance(100 * DEADLINE_S)
    assert not answering.done()
    assert clock.next_due_s() is None
    answering.cancel()


async def test_an_engine_that_stalls_at_the_clients_own_search_is_waited_for() -> None:
    """When the window can't be reranked and the client's own search is sent, that has all the time it needs."""
    clock = VirtualClock()
    engine = FakeEngine(reply(400, {"error": "window"}), None)
    answering = asyncio.ensure_future(pipeline.answer(asked(SEARCH), "films", BOOK, parts_with(engine, clock=clock)))
    await clock.advance(100 * DEADLINE_S)
    assert not answering.done()
    assert len(engine.requests) == 2
    answering.cancel()


async def test_a_busy_engine_is_not_asked_again() -> None:
    """429 and 503 are relayed as they came: no second request makes a busy engine busier."""
    engine = FakeEngine(reply(429, {"error": "busy"}))
    outcome = await pipeline.answer(asked(SEARCH), "films", BOOK, parts_with(engine))
    assert outcome.reply is not None
    assert outcome.reply.status == 429
    assert (outcome.status.status, outcome.status.reason) == ("skipped", "engine_refused")
    assert len(engine.requests) == 1


@pytest.mark.parametrize("at", [0, 1])
async def test_no_engine_is_the_callers_to_know(at: int) -> None:
    """If no engine host answers, for the window or for the client's own search, UpstreamError is raised."""
    replies: list[Reply | UpstreamError] = [reply(400, {"error": "window"}), UpstreamError("nobody")]
    with pytest.raises(UpstreamError):
        await pipeline.answer(asked(SEARCH), "films", BOOK, parts_with(FakeEngine(*replies[1 - at :])))
