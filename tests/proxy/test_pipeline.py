"""The path of a search where something in it breaks or stalls: the search is answered all the same."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.cache.scores import MemoryScoreCache
from es_rerank.errors import UpstreamError
from es_rerank.fusion.rank import Recipe, rank
from es_rerank.judgment import Judgment
from es_rerank.memory import MemoryBudget
from es_rerank.proxy import pipeline, steps
from es_rerank.proxy.field_types import FieldTypes
from es_rerank.proxy.http.coding import decode_body, packer_for
from es_rerank.proxy.parts import Parts
from es_rerank.proxy.scoring.ask import Condition
from es_rerank.proxy.scoring.source import ScoreSource
from es_rerank.proxy.scoring.workers import RENDER_MARGIN_S, Answered
from es_rerank.records import Reply, Request
from es_rerank.rules.book import RuleBook, make_book
from es_rerank.rules.source import FileRules
from es_rerank.settings import Settings
from es_rerank.upstream import AnswerTooLargeError, NoRoomError, UnreachableError
from tests.proxy.events.test_recorder import recorder_with
from tests.proxy.search.calls import call_of
from tests.virtual import VirtualClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from es_rerank.clock import Deadline
    from es_rerank.proxy.events.recorder import EventRecorder
    from es_rerank.proxy.laps import Laps
    from es_rerank.proxy.outcome import SearchOutcome
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


class Late:
    """A reply that comes when the test says so."""

    def __init__(self, reply: Reply | UpstreamError) -> None:
        self.reply = reply
        self.comes = asyncio.Event()


class FakeEngine:
    """Answers each request that is fetched with the next of some replies, and keeps the requests.

    None among the replies is an answer that never comes. The contract is `Engine`; `Upstream` is held to it in
    tests/relay.
    """

    product: bytes | None = None

    def __init__(self, *replies: Reply | UpstreamError | Late | None) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []
        self.on_new_connections = 0
        self.dropped = 0

    async def fetch(
        self,
        request: Request,
        *,
        max_bytes: int,
        hold: Callable[[int], bool],
        due_s: float | None = None,
        new_connection: bool = False,
    ) -> Reply:
        """See `Engine`."""
        assert max_bytes > 0
        self.requests.append(request)
        self.on_new_connections += new_connection
        answered = self.replies.pop(0)
        try:
            if isinstance(answered, Late):
                await answered.comes.wait()
                answered = answered.reply
            if answered is None:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        if isinstance(answered, UpstreamError):
            raise answered
        assert answered is not None
        if not hold(len(answered.body)):
            raise NoRoomError("no room")
        return answered

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[StreamedReply]:
        """See `Engine`. The pipeline leaves streaming to its caller."""
        raise AssertionError(request)
        yield


class LengthWorkers:
    """Judge a text by its length, into a cache if there is one. `stalls` never answer before the deadline.

    The contract is `Workers`.
    """

    def __init__(self, *, stalls: bool = False, cache: MemoryScoreCache | None = None) -> None:
        self.stalls = stalls
        self.cache = cache

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
        judgments = [Judgment(rank_score=float(min(10, len(text)))) for text in texts]
        if self.cache is not None:
            await self.cache.put_many(dict(zip(keys, judgments, strict=True)))
        return Answered(judgments=judgments, reason=None)

    async def check(self, fingerprints: Sequence[str]) -> Condition:
        """See `Workers`."""
        return Condition(reachable=True, writable=True, readable=True, error=None, workers=(1,) * len(fingerprints))


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
    events: EventRecorder | None = None,
    field_types: FieldTypes | None = None,
) -> Parts:
    """The parts of a proxy in front of this engine. Field types, if there are any, ask an engine of their own."""
    return Parts(
        clock=clock or VirtualClock(),
        field_types=field_types,
        engine=engine,
        rules=FileRules(BOOK),
        scores=scores or ScoreSource(MemoryScoreCache(), workers or LengthWorkers()),
        limits=SETTINGS.limits,
        memory=MemoryBudget(SETTINGS.limits.max_held_bytes),
        events=events,
    )


async def answer_by(request: Request, expression: str, book: RuleBook, parts: Parts) -> SearchOutcome:
    """The pipeline's outcome, with a share of the memory that ends with it."""
    with parts.memory.share() as share:
        return await pipeline.answer(request, expression, book, parts, share)


def asked(body: Any) -> Request:
    """A search for films."""
    headers = ((b"content-type", b"application/json"), (b"es-rerank", b"include=status"))
    return Request(method="POST", target=b"/films/_search", headers=headers, body=json.dumps(body).encode())


def reply(status: int, body: Any) -> Reply:
    """An engine's answer."""
    return Reply(status=status, headers=((b"content-type", b"application/json"),), body=json.dumps(body).encode())


def answered_by(outcome: SearchOutcome) -> tuple[list[str], dict[str, Any]]:
    """The ids of the answer's hits, in order, and its status."""
    assert outcome.reply is not None
    answer = json.loads(outcome.reply.body)
    return [hit["_id"] for hit in answer["hits"]["hits"]], answer["_es_rerank"]


async def test_a_search_is_reranked() -> None:
    """The window is fetched with one request, judged and ranked, and the answer says so."""
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    outcome = await answer_by(asked(SEARCH), "films", BOOK, parts_with(engine))
    hits, status = answered_by(outcome)
    assert hits == ["1", "2", "0"]
    assert (status["status"], status["scored"], status["rule"]) == ("full", 3, "films")
    assert [request.target for request in engine.requests] == [b"/films/_search?from=0&size=100"]


GERMAN = tuple(
    f"Der {bird} sitzt auf dem Dach und singt ein Lied, während der Regen fällt und niemand mehr zuhört."
    for bird in ("Vogel", "rote Vogel", "kleine blaue Vogel")
)


async def test_a_window_in_a_language_that_the_scorer_cant_read_keeps_its_order() -> None:
    """The window's own answer is given in the engine's order, with no second request, and the status says why."""
    hits = hits_of(*GERMAN)
    engine = FakeEngine(reply(200, hits))
    outcome = await answer_by(asked({"query": {"match": {"text": "Vogel"}}}), "films", BOOK, parts_with(engine))
    assert outcome.reply is not None
    answered = json.loads(outcome.reply.body)
    status = answered.pop("_es_rerank")
    assert answered == hits
    assert (status["status"], status["reason"], status["rule"]) == ("skipped", "language", "films")
    assert (status["scorer"], status["window"], status["scored"]) == (None, 0, 0)
    assert len(engine.requests) == 1
    assert not any(name == b"warning" for name, _ in outcome.reply.headers)


async def test_nothing_is_asked_of_workers_about_such_a_window() -> None:
    """A source of scores that would break is not asked."""
    broken = BrokenSource(MemoryScoreCache(), LengthWorkers())
    parts = parts_with(FakeEngine(reply(200, hits_of(*GERMAN))), scores=broken)
    outcome = await answer_by(asked(SEARCH), "films", BOOK, parts)
    assert outcome.status.reason == "language"


async def test_a_rule_may_have_windows_in_any_language_scored() -> None:
    """With `any_language` the same window is reranked."""
    rule = SETTINGS.rules[0].model_copy(update={"any_language": True})
    book = make_book([rule], SETTINGS.known_scorers(), SETTINGS.limits)
    outcome = await answer_by(asked(SEARCH), "films", book, parts_with(FakeEngine(reply(200, hits_of(*GERMAN)))))
    hits, status = answered_by(outcome)
    assert (status["status"], status["scored"]) == ("full", 3)
    assert hits == ["0", "1", "2"]  # all are as long as counts


async def test_every_page_of_a_search_decides_alike_about_its_language() -> None:
    """The first ten hits decide, so a page of later hits in English is skipped too, and is cut from the same window."""
    foreign = GERMAN * 4
    window = hits_of(*foreign, *("That is what the owl said to the mouse." for _ in range(30)))
    for start in (0, 5, 20):
        engine = FakeEngine(reply(200, window))
        outcome = await answer_by(asked({**SEARCH, "from": start}), "films", BOOK, parts_with(engine))
        hits, status = answered_by(outcome)
        assert status["reason"] == "language"
        assert hits == [str(place) for place in range(start, start + 10)]


async def test_a_window_without_text_says_so_whatever_the_language_of_the_question() -> None:
    """The wrong field is the fault to find first."""
    search = {"query": {"match": {"text": "мост через реку"}}}
    outcome = await answer_by(asked(search), "films", BOOK, parts_with(FakeEngine(reply(200, hits_of("", "")))))
    assert (outcome.status.status, outcome.status.reason) == ("failed", "missing_text")


async def test_the_window_can_be_kept_and_ranked_again() -> None:
    """The outcome holds the ranked window: the same recipe gives the same order again, another recipe another order."""
    outcome = await answer_by(asked(SEARCH), "films", BOOK, parts_with(FakeEngine(reply(200, hits_of(*TEXTS)))))
    window = outcome.window
    assert window is not None
    assert window.ids == (("films", "0"), ("films", "1"), ("films", "2"))
    hits, _ = answered_by(outcome)
    for alpha, order in ((0.2, hits), (1.0, ["0", "1", "2"])):
        recipe = Recipe(method="zscore", alpha=alpha, score="paper")
        ranked = rank(window.engine_scores, window.judgments, recipe)
        assert [window.ids[index][1] for index in ranked.ranking.order] == order


async def test_a_search_that_is_reranked_can_leave_an_event() -> None:
    """Where events are on, the outcome has what the event tells, and the answer the id of the event."""
    recorder, _ = recorder_with()
    ext = {"ext": {"es_rerank": {"query_id": "q-1", "application": "shop"}}}
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    outcome = await answer_by(asked({**SEARCH, **ext}), "films", BOOK, parts_with(engine, events=recorder))
    hits, status = answered_by(outcome)
    assert status["query_id"] == "q-1"
    searched = outcome.searched
    assert searched is not None
    assert (searched.names.query_id, searched.names.application, searched.user_query) == ("q-1", "shop", "x")
    assert searched.rules_version == BOOK.version
    assert searched.found is not None
    assert searched.verdict is not None
    order = searched.verdict.ranked.ranking.order
    assert [searched.found.ids[index][1] for index in order] == hits


async def test_an_id_that_the_engines_plug_in_makes_names_the_search() -> None:
    """The caller finds it in the engine's answer, so its clicks have it, and the event and the status too."""
    recorder, _ = recorder_with()
    named = {**hits_of(*TEXTS), "ext": {"ubi": {"query_id": "theirs"}}}
    search = {**SEARCH, "ext": {"ubi": {"user_query": "y"}}}
    outcome = await answer_by(asked(search), "films", BOOK, parts_with(FakeEngine(reply(200, named)), events=recorder))
    assert answered_by(outcome)[1]["query_id"] == "theirs"
    assert outcome.searched is not None
    assert (outcome.searched.names.query_id, outcome.searched.user_query) == ("theirs", "y")


async def test_a_search_without_a_page_of_ours_leaves_an_event_without_hits() -> None:
    """The window is refused and the client's own search is answered: the event has an id, and no hits."""
    recorder, _ = recorder_with()
    engine = FakeEngine(reply(400, {"error": "window"}), reply(200, hits_of("x")))
    outcome = await answer_by(asked(SEARCH), "films", BOOK, parts_with(engine, events=recorder))
    assert outcome.status.reason == "engine_refused"
    assert outcome.searched is not None
    assert outcome.searched.found is None
    assert len(outcome.searched.names.query_id) == 32
    assert outcome.status.query_id == outcome.searched.names.query_id


async def test_no_event_is_prepared_without_need() -> None:
    """A search that only passes through leaves none, and no search does where events are off."""
    recorder, _ = recorder_with()
    relayed = parts_with(FakeEngine(reply(200, hits_of("x"))), events=recorder)
    off = parts_with(FakeEngine(reply(200, hits_of(*TEXTS))))
    for search, parts in (({**SEARCH, "sort": ["_doc"]}, relayed), (SEARCH, off)):
        outcome = await answer_by(asked(search), "films", BOOK, parts)
        assert outcome.searched is None
        assert "query_id" not in answered_by(outcome)[1]


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
        answer_by(replace(asked(SEARCH), target=target), "films", BOOK, parts_with(engine))
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
    assert steps.writing_s(0.5, call_of({}, query), engine) == 0.5 * times
    longest = call_of({}, query + "&filter_path=" + "a*," * 1_000)
    assert steps.writing_s(0.5, longest, engine) == 0.5 * steps.MOST_WRITING_COST


async def test_a_long_request_is_read_beside_the_loop() -> None:
    """A search of megabytes, too, leaves the loop to others while it is read and decided about."""
    search = {"query": {"bool": {"should": [{"match": {"text": f"the word {number}"}} for number in range(50_000)]}}}
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    answering = asyncio.ensure_future(answer_by(asked(search), "films", BOOK, parts_with(engine)))
    turns = 0
    while not answering.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100
    assert answered_by(await answering)[1]["status"] == "full"


async def test_the_status_knows_the_time_of_every_step() -> None:
    """`took_ms` has the writing of the answer too, and the log is told the same as the caller."""
    outcome = await answer_by(asked(SEARCH), "films", BOOK, parts_with(FakeEngine(reply(200, hits_of(*TEXTS)))))
    took_ms = answered_by(outcome)[1]["took_ms"]
    assert list(took_ms) == ["engine", "read", "cache", "score", "fuse", "write", "total"]
    assert outcome.status.took_ms == took_ms


async def test_a_bug_before_the_decision_forwards_the_search() -> None:
    """When reading or deciding breaks, the client's request goes to the engine as it came, without our header."""
    outcome = await answer_by(asked(SEARCH), "films", BROKEN_BOOK, parts_with(FakeEngine()))
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
    outcome = await answer_by(asked({**SEARCH, **ext}), "films", BOOK, parts_with(engine, scores=broken))
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
    outcome = await answer_by(asked(search), "films", BOOK, parts_with(FakeEngine(broken, broken)))
    assert (outcome.status.status, outcome.status.reason) == ("failed", "internal_error")
    assert outcome.forward is not None
    assert outcome.forward.body == asked(search).body
    assert outcome.forward.header(b"es-rerank") is None


async def test_workers_that_stall_cost_the_deadline_and_no_hit() -> None:
    """Just before the deadline, the hits are answered in the engine's order, and the answer says why."""
    clock = VirtualClock(1000.0)
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    parts = parts_with(engine, clock=clock, workers=LengthWorkers(stalls=True))
    answering = asyncio.ensure_future(answer_by(asked(SEARCH), "films", BOOK, parts))
    await clock.advance(DEADLINE_S - 2 * RENDER_MARGIN_S)
    assert not answering.done()
    await clock.advance(RENDER_MARGIN_S)
    hits, status = answered_by(await answering)
    assert hits == ["0", "1", "2"]
    assert (status["status"], status["reason"], status["scored"]) == ("failed", "deadline", 0)


def own(body: Any = SEARCH) -> Request:
    """The same search without a wish to be told the status."""
    return replace(asked(body), headers=((b"content-type", b"application/json"),))


async def test_a_window_that_stalls_costs_no_more_than_the_deadline() -> None:
    """At the deadline, the client's own search is sent on a new connection, and its answer does not wait any more."""
    clock = VirtualClock()
    engine = FakeEngine(None, reply(200, hits_of(*TEXTS)))
    answering = asyncio.ensure_future(answer_by(own(), "films", BOOK, parts_with(engine, clock=clock)))
    await clock.advance(DEADLINE_S - 0.01)
    assert len(engine.requests) == 1
    await clock.advance(0.01)
    outcome = await answering
    assert outcome.reply is not None
    assert json.loads(outcome.reply.body) == hits_of(*TEXTS)
    assert (outcome.status.status, outcome.status.reason) == ("failed", "deadline")
    assert any(name == b"warning" for name, _ in outcome.reply.headers)
    assert (engine.requests[1].target, engine.requests[1].body) == (b"/films/_search", asked(SEARCH).body)
    await settle()
    assert (engine.on_new_connections, engine.dropped) == (1, 1)


async def test_a_late_window_that_comes_first_still_counts() -> None:
    """Where the whole engine is slow, the window is not thrown away: scores in the cache count, so that pages agree."""
    clock = VirtualClock()
    cache = MemoryScoreCache()
    scores = ScoreSource(cache, LengthWorkers(cache=cache))
    parts = parts_with(FakeEngine(reply(200, hits_of(*TEXTS))), clock=clock, scores=scores)
    await answer_by(own(), "films", BOOK, parts)
    late = Late(reply(200, hits_of(*TEXTS)))
    engine = FakeEngine(late, None)
    parts = replace(parts, engine=engine)
    answering = asyncio.ensure_future(answer_by(asked(SEARCH), "films", BOOK, parts))
    await clock.advance(2 * DEADLINE_S)
    assert len(engine.requests) == 2
    late.comes.set()
    hits, status = answered_by(await answering)
    assert hits == ["1", "2", "0"]
    assert (status["status"], status["cached"]) == ("full", 3)
    await settle()
    assert engine.dropped == 1


async def test_an_engine_that_stalls_is_waited_for() -> None:
    """No deadline of ours cuts the client's own search short: the engine has its own time-out, in the upstream."""
    clock = VirtualClock()
    engine = FakeEngine(None, None)
    answering = asyncio.ensure_future(answer_by(asked(SEARCH), "films", BOOK, parts_with(engine, clock=clock)))
    await clock.advance(DEADLINE_S)
    await clock.advance(100 * DEADLINE_S)
    assert not answering.done()
    assert clock.next_due_s() is None
    answering.cancel()
    await settle()
    assert engine.dropped == 2


@pytest.mark.parametrize("window", [reply(200, hits_of(*TEXTS)), reply(503, {"error": "busy"})])
async def test_if_the_own_search_fails_a_late_window_is_better_than_an_error(window: Reply) -> None:
    """When the client's own search gets no answer, the window is waited for; if that is no answer either, it is 502."""
    clock = VirtualClock()
    late = Late(window)
    engine = FakeEngine(late, UpstreamError("broke off"))
    answering = asyncio.ensure_future(answer_by(asked(SEARCH), "films", BOOK, parts_with(engine, clock=clock)))
    await clock.advance(DEADLINE_S)
    assert not answering.done()
    late.comes.set()
    if window.status == 200:
        hits, _ = answered_by(await answering)
        assert sorted(hits) == ["0", "1", "2"]
    else:
        with pytest.raises(UpstreamError):
            await answering


async def test_an_engine_that_stalls_at_the_clients_own_search_is_waited_for() -> None:
    """When the window can't be reranked and the client's own search is sent, that has all the time it needs."""
    clock = VirtualClock()
    engine = FakeEngine(reply(400, {"error": "window"}), None)
    answering = asyncio.ensure_future(answer_by(asked(SEARCH), "films", BOOK, parts_with(engine, clock=clock)))
    await clock.advance(100 * DEADLINE_S)
    assert not answering.done()
    assert len(engine.requests) == 2
    answering.cancel()


FAILED_SHARD = {"_shards": {"total": 2, "successful": 1, "failed": 1}}
LOST: dict[str, tuple[Reply | UpstreamError, str]] = {
    "broke off": (UpstreamError("broke off"), "window_lost"),
    "too large": (AnswerTooLargeError("too large"), "answer_too_large"),
    "compressed by something": (
        replace(reply(200, {}), headers=((b"content-encoding", b"br"),)),
        "unreadable_answer",
    ),
    "no search answer": (reply(200, {"no": "hits"}), "unreadable_answer"),
    "refused": (reply(400, {"error": "window"}), "engine_refused"),
    "busy": (reply(429, {"error": "busy"}), "engine_refused"),
    "down": (reply(503, {"error": "down"}), "engine_refused"),
    "a shard failed": (reply(200, {**hits_of(*TEXTS), **FAILED_SHARD}), "partial_answer"),
    "timed out with less than a page": (reply(200, {**hits_of(*TEXTS), "timed_out": True}), "partial_answer"),
}


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("status", [200, 404, 429])
@pytest.mark.parametrize("tell", [False, True])
async def test_whatever_becomes_of_the_window_the_engine_is_asked_once_more(
    lost: str, status: int, *, tell: bool
) -> None:
    """A window of no use costs one more request: the client's own, whose answer the client gets, good or bad."""
    window, reason = LOST[lost]
    body: dict[str, Any] = hits_of(*TEXTS) if status == 200 else {"error": "own", "status": status}
    engine = FakeEngine(window, reply(status, body))
    outcome = await answer_by(asked(SEARCH) if tell else own(), "films", BOOK, parts_with(engine))
    assert len(engine.requests) == (2 if tell else 1)
    if not tell:
        assert outcome.forward is not None
        assert outcome.forward.target == b"/films/_search"
        assert outcome.status.reason == reason
        return
    assert outcome.reply is not None
    answered = json.loads(outcome.reply.body)
    said = answered.pop("_es_rerank", None)
    assert answered == body
    assert outcome.reply.status == status
    assert said is None if status != 200 else said["reason"] == reason
    partial = reason == "partial_answer"
    assert outcome.status.status == ("failed" if status == 200 and not partial else "skipped")


@pytest.mark.parametrize(
    "answer",
    [
        {"timed_out": True},
        {"_clusters": {"total": 2, "successful": 1, "skipped": 1}},
    ],
)
async def test_an_incomplete_answer_that_has_the_page_is_used(answer: dict[str, Any]) -> None:
    """Where time ran out, but the page is full, the page is cut out of the window: nothing is asked again."""
    engine = FakeEngine(reply(200, {**hits_of(*TEXTS), **answer}))
    search = {**SEARCH, "from": 1, "size": 2}
    outcome = await answer_by(asked(search), "films", BOOK, parts_with(engine))
    hits, status = answered_by(outcome)
    assert hits == ["1", "2"]
    assert (status["status"], status["reason"]) == ("skipped", "partial_answer")
    assert len(engine.requests) == 1


async def test_if_no_host_can_be_reached_nothing_more_is_tried() -> None:
    """If no host could even be reached, UpstreamError is raised: the client's own search would reach none either."""
    engine = FakeEngine(UnreachableError("nobody"))
    with pytest.raises(UnreachableError):
        await answer_by(asked(SEARCH), "films", BOOK, parts_with(engine))
    assert len(engine.requests) == 1


async def test_an_own_search_without_an_answer_is_the_callers_to_know() -> None:
    """If the client's own search gets no answer, UpstreamError is raised."""
    with pytest.raises(UpstreamError):
        await answer_by(
            asked(SEARCH), "films", BOOK, parts_with(FakeEngine(reply(400, {"error": "window"}), UpstreamError("gone")))
        )


async def test_what_is_inflated_takes_room_too() -> None:
    """A small body that was compressed, of a request or of an answer, counts with all that it holds."""
    search = {**SEARCH, "ignored": "x" * 10_000}
    packed = replace(asked(search), body=gzip.compress(json.dumps(search).encode()))
    packed = replace(packed, headers=(*packed.headers, (b"content-encoding", b"gzip")))
    answer = reply(200, {**hits_of(*TEXTS), "ignored": "x" * 10_000})
    small = replace(answer, body=gzip.compress(answer.body), headers=(*answer.headers, (b"content-encoding", b"gzip")))
    for request, engine in ((packed, FakeEngine()), (asked(SEARCH), FakeEngine(small))):
        outcome = await answer_by(request, "films", BOOK, replace(parts_with(engine), memory=MemoryBudget(5_000)))
        assert outcome.forward is not None
        assert outcome.status.reason == "memory_full"


@pytest.mark.parametrize("tell", [False, True])
async def test_an_answer_without_room_lets_the_search_go_through(*, tell: bool) -> None:
    """Where memory is full, the client's own search is sent, streamed and not held, and a Warning says why."""
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    parts = replace(parts_with(engine), memory=MemoryBudget(10))
    outcome = await answer_by(asked(SEARCH) if tell else own(), "films", BOOK, parts)
    assert outcome.forward is not None
    assert (outcome.status.status, outcome.status.reason) == ("failed", "memory_full")
    assert len(engine.requests) == 1
    assert parts.memory.held_bytes == 0


KEYWORD_AND_TEXT = {"bool": {"must": [{"match": {"genre": "drama"}}, {"match": {"text": "x"}}]}}
WORD_BY_WORD = {"bool": {"should": [{"term": {"text": "red"}}, {"term": {"text": "fox"}}]}}
CAPS: dict[str, Any] = {"fields": {"genre": {"keyword": {}}, "text": {"text": {}}}}
QUESTION = {"ext": {"es_rerank": {"include": ["question"]}}}


def types_from(clock: VirtualClock, *replies: Reply | UpstreamError | Late | None) -> tuple[FieldTypes, FakeEngine]:
    """Field types that get these replies, and the engine that gives them."""
    engine = FakeEngine(*replies)
    return FieldTypes(engine, MemoryBudget(1_000_000), clock), engine


def sent(request: Request) -> bytes:
    """The body of a request to the engine."""
    assert isinstance(request.body, bytes)
    return request.body


async def test_a_question_is_asked_without_what_is_no_text() -> None:
    """The types are asked for beside the window, once, and the question has no words of keywords."""
    clock = VirtualClock()
    types, asked_of = types_from(clock, reply(200, CAPS))
    for _ in range(2):
        engine = FakeEngine(reply(200, hits_of(*TEXTS)))
        parts = parts_with(engine, clock=clock, field_types=types)
        outcome = await answer_by(asked({"query": KEYWORD_AND_TEXT, **QUESTION}), "films", BOOK, parts)
        hits, status = answered_by(outcome)
        assert hits == ["1", "2", "0"]
        assert (status["status"], status["question"]) == ("full", "x")
        assert [json.loads(sent(request)) for request in engine.requests] == [{"query": KEYWORD_AND_TEXT}]
    [request] = asked_of.requests
    assert request.target.startswith(b"/films/_field_caps?")
    assert request.target.endswith(b"&fields=genre,text")


async def test_a_search_of_one_text_asks_for_no_types() -> None:
    """Most searches have one text, and cost the engine nothing more."""
    clock = VirtualClock()
    types, asked_of = types_from(clock)
    parts = parts_with(FakeEngine(reply(200, hits_of(*TEXTS))), clock=clock, field_types=types)
    _, status = answered_by(await answer_by(asked(SEARCH), "films", BOOK, parts))
    assert status["status"] == "full"
    assert asked_of.requests == []


@pytest.mark.parametrize("refusal", [reply(403, {"error": "forbidden"}), UpstreamError("no answer")])
async def test_a_caller_who_may_not_read_mappings_is_answered_as_before(refusal: Reply | UpstreamError) -> None:
    """Where the types are not told, all clauses count, and the search is reranked all the same."""
    clock = VirtualClock()
    types, _ = types_from(clock, refusal)
    parts = parts_with(FakeEngine(reply(200, hits_of(*TEXTS))), clock=clock, field_types=types)
    _, status = answered_by(await answer_by(asked({"query": KEYWORD_AND_TEXT, **QUESTION}), "films", BOOK, parts))
    assert (status["status"], status["question"]) == ("full", "drama x")


async def test_types_that_come_late_cost_a_short_wait() -> None:
    """Behind the window a search waits so long for the types and no longer; the next one knows them."""
    clock = VirtualClock()
    late = Late(reply(200, CAPS))
    types, asked_of = types_from(clock, late)
    request = asked({"query": KEYWORD_AND_TEXT, **QUESTION})
    replies = [reply(200, hits_of(*TEXTS)), reply(200, hits_of(*TEXTS))]
    parts = parts_with(FakeEngine(*replies), clock=clock, field_types=types)
    answering = asyncio.ensure_future(answer_by(request, "films", BOOK, parts))
    await clock.advance(steps.MOST_WAIT_S - 0.01)
    assert not answering.done()
    await clock.advance(0.01)
    _, status = answered_by(await answering)
    assert (status["status"], status["question"]) == ("full", "drama x")
    late.comes.set()
    await settle()
    _, status = answered_by(await answer_by(request, "films", BOOK, parts))
    assert status["question"] == "x"
    assert len(asked_of.requests) == 1


async def test_types_never_cost_more_than_half_of_what_is_left() -> None:
    """A search with a short deadline waits for its types no longer than half of it, and is still scored."""
    clock = VirtualClock()
    types, _ = types_from(clock, None)
    body = {"query": KEYWORD_AND_TEXT, "ext": {"es_rerank": {"include": ["question"], "deadline_s": 0.4}}}
    parts = parts_with(FakeEngine(reply(200, hits_of(*TEXTS))), clock=clock, field_types=types)
    answering = asyncio.ensure_future(answer_by(asked(body), "films", BOOK, parts))
    await clock.advance(0.2)
    _, status = answered_by(await answering)
    assert (status["status"], status["question"]) == ("full", "drama x")


async def test_a_search_of_terms_asks_for_types_first() -> None:
    """A search that may have a question waits a little to know; then it is reranked, or passes through."""
    for kind, outcome in (("text", ("full", "red fox")), ("keyword", ("skipped", None))):
        clock = VirtualClock()
        types, _ = types_from(clock, reply(200, {"fields": {"text": {kind: {}}}}))
        parts = parts_with(FakeEngine(reply(200, hits_of(*TEXTS))), clock=clock, field_types=types)
        _, status = answered_by(await answer_by(asked({"query": WORD_BY_WORD, **QUESTION}), "films", BOOK, parts))
        assert (status["status"], status.get("question")) == outcome


async def test_a_search_of_terms_waits_for_types_no_longer_than_others() -> None:
    """If the types do not come, a search of terms alone passes through unranked."""
    clock = VirtualClock()
    types, _ = types_from(clock, None)
    parts = parts_with(FakeEngine(reply(200, hits_of(*TEXTS))), clock=clock, field_types=types)
    answering = asyncio.ensure_future(answer_by(asked({"query": WORD_BY_WORD}), "films", BOOK, parts))
    await clock.advance(steps.MOST_WAIT_S)
    _, status = answered_by(await answering)
    assert (status["status"], status["reason"]) == ("skipped", "no_text_query")


async def test_a_persons_own_words_are_the_question() -> None:
    """With `query`, a search without a text query is reranked by these words, and no trace of them is sent on."""
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    body = {"query": {"match_all": {}}, "ext": {"es_rerank": {"query": "a long one", "include": ["question"]}}}
    hits, status = answered_by(await answer_by(asked(body), "films", BOOK, parts_with(engine)))
    assert hits == ["1", "2", "0"]
    assert (status["status"], status["question"]) == ("full", "a long one")
    assert json.loads(sent(engine.requests[0])) == {"query": {"match_all": {}}}


async def test_an_event_has_the_question_that_was_scored() -> None:
    """The words of a clause whose field turns out to be no text are not in it."""
    clock = VirtualClock()
    types, _ = types_from(clock, reply(200, CAPS))
    engine = FakeEngine(reply(200, hits_of(*TEXTS)))
    parts = parts_with(engine, clock=clock, field_types=types, events=recorder_with()[0])
    outcome = await answer_by(asked({"query": KEYWORD_AND_TEXT, **QUESTION}), "films", BOOK, parts)
    assert answered_by(outcome)[1]["question"] == "x"
    assert outcome.searched is not None
    assert outcome.searched.user_query == "x"
