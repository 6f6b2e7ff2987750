"""The path of an async search where something in it breaks or stalls: the engine's own answer goes out."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from es_rerank.errors import UpstreamError
from es_rerank.proxy.asynchronous import answer_result, answer_submitted
from es_rerank.records import Reply, Request
from es_rerank.rules.book import make_book
from es_rerank.upstream import AnswerTooLargeError
from tests.proxy.events.test_recorder import recorder_with
from tests.proxy.test_pipeline import (
    DEADLINE_S,
    SEARCH,
    SETTINGS,
    TEXTS,
    FakeEngine,
    Late,
    LengthWorkers,
    hits_of,
    parts_with,
    reply,
)
from tests.virtual import VirtualClock, settle

if TYPE_CHECKING:
    from es_rerank.proxy.outcome import Outcome
    from es_rerank.proxy.parts import Parts

BOOK = make_book(
    [SETTINGS.rules[0].model_copy(update={"async_search": True})], SETTINGS.known_scorers(), SETTINGS.limits
)
RESPONSE = hits_of(*TEXTS)
COMPLETE = {"id": "x==", "is_partial": False, "is_running": False, "response": RESPONSE}
RUNNING = {"id": "x==", "is_partial": True, "is_running": True, "response": {**RESPONSE, "hits": {"hits": []}}}


async def submit(parts: Parts, body: Any = SEARCH) -> Outcome:
    """The outcome of a submit."""
    headers = ((b"content-type", b"application/json"), (b"authorization", b"ApiKey ann"))
    request = Request(method="POST", target=b"/films/_async_search", headers=headers, body=json.dumps(body).encode())
    with parts.memory.share() as share:
        return await answer_submitted(request, "films", BOOK, parts, share)


async def poll(parts: Parts) -> Outcome:
    """The outcome of a request for the result."""
    request = Request(method="GET", target=b"/_async_search/x%3D%3D", headers=((b"authorization", b"ApiKey bob"),))
    with parts.memory.share() as share:
        return await answer_result(request, "", BOOK, parts, share)


def order_of(outcome: Outcome) -> list[str]:
    """The ids of the hits."""
    assert outcome.reply is not None
    return [hit["_id"] for hit in json.loads(outcome.reply.body)["response"]["hits"]["hits"]]


def warning_of(outcome: Outcome) -> bytes:
    """The Warning, b'' for none."""
    assert outcome.reply is not None
    return dict(outcome.reply.headers).get(b"warning", b"")


async def test_two_requests_answer_a_search_and_nobody_else_is_asked_for_it() -> None:
    """The submit as it came, and the window as whoever asks for the result."""
    engine = FakeEngine(reply(200, RUNNING), reply(200, COMPLETE), reply(200, RESPONSE))
    parts = parts_with(engine)
    assert (await submit(parts)).searches == ()
    outcome = await poll(parts)
    assert order_of(outcome) == ["1", "2", "0"]
    assert [one.status.status for one in outcome.searches] == ["full"]
    begun, _, window = engine.requests
    assert (begun.target, begun.body) == (b"/films/_async_search", json.dumps(SEARCH).encode())
    assert window.target == b"/films/_search?track_total_hits=false&from=0&size=100"
    assert window.header(b"authorization") == b"ApiKey bob"


async def test_a_search_is_told_and_leaves_an_event_once() -> None:
    """A result that is asked for again is reranked again, and that is all."""
    recorder, _ = recorder_with()
    answers = [reply(200, COMPLETE), reply(200, RESPONSE)]
    parts = parts_with(FakeEngine(*answers, *answers, *answers), events=recorder)
    [told] = (await submit(parts)).searches
    assert told.searched is not None
    assert told.searched.found is not None
    assert told.searched.names.query_id == told.status.query_id
    for _ in range(2):
        outcome = await poll(parts)
        assert (order_of(outcome), outcome.searches) == (["1", "2", "0"], ())


async def test_at_the_deadline_the_engines_own_answer_goes_out() -> None:
    """While the window does not come, and no other search is begun for it."""
    clock = VirtualClock()
    engine = FakeEngine(reply(200, COMPLETE), None, None)
    answering = asyncio.create_task(submit(parts_with(engine, clock=clock)))
    await clock.advance(DEADLINE_S - 0.1)
    assert not answering.done()
    await clock.advance(0.2)
    outcome = await answering
    assert outcome.reply is not None
    assert outcome.reply.body == reply(200, COMPLETE).body
    assert b"(deadline)" in warning_of(outcome)
    assert engine.dropped == len(engine.requests) - 1


async def test_scores_that_stall_cost_the_deadline_and_the_order_alone() -> None:
    """As in a plain search."""
    clock = VirtualClock()
    parts = parts_with(
        FakeEngine(reply(200, COMPLETE), reply(200, RESPONSE)), clock=clock, workers=LengthWorkers(stalls=True)
    )
    answering = asyncio.create_task(submit(parts))
    await clock.advance(DEADLINE_S)
    outcome = await answering
    assert order_of(outcome) == ["0", "1", "2"]
    assert [(one.status.status, one.status.reason) for one in outcome.searches] == [("failed", "deadline")]


async def test_a_poll_whose_client_leaves_is_dropped_and_the_next_one_tells() -> None:
    """The window is given up, and the search is not told by who did not hear of it."""
    engine = FakeEngine(reply(200, RUNNING), reply(200, COMPLETE), None, reply(200, COMPLETE), reply(200, RESPONSE))
    parts = parts_with(engine)
    await submit(parts)
    polling = asyncio.create_task(poll(parts))
    await settle()
    polling.cancel()
    with suppress(asyncio.CancelledError):
        await polling
    await settle()
    assert engine.dropped == 1
    assert len((await poll(parts)).searches) == 1


async def test_a_poll_that_still_waits_does_not_keep_another_one_from_telling() -> None:
    """Of two polls at a time, the one that gets the result tells it."""
    waiting = Late(reply(200, RUNNING))
    engine = FakeEngine(reply(200, RUNNING), waiting, reply(200, COMPLETE), reply(200, RESPONSE))
    parts = parts_with(engine)
    await submit(parts)
    slow = asyncio.create_task(poll(parts))
    await settle()
    assert len((await poll(parts)).searches) == 1
    waiting.comes.set()
    assert (await slow).searches == ()


async def test_a_window_that_is_lost_leaves_the_engines_answer() -> None:
    """The engine breaks off, or is gone, after it answered the submit."""
    for lost in (UpstreamError("gone"), Reply(status=200, headers=(), body=b"{")):
        outcome = await submit(parts_with(FakeEngine(reply(200, COMPLETE), lost)))
        assert outcome.reply is not None
        assert outcome.reply.body == reply(200, COMPLETE).body
        assert [one.status.status for one in outcome.searches] == ["failed"]
        assert warning_of(outcome)


async def test_an_answer_that_can_not_be_held_is_asked_for_again_and_passes() -> None:
    """At submit and at a poll, with a reason."""
    parts = parts_with(FakeEngine(AnswerTooLargeError("too large")))
    outcome = await submit(parts)
    assert outcome.forward is not None
    assert outcome.forward.target == b"/films/_async_search"
    assert [one.status.reason for one in outcome.searches] == ["answer_too_large"]
    parts = parts_with(FakeEngine(reply(200, RUNNING), AnswerTooLargeError("too large")))
    await submit(parts)
    outcome = await poll(parts)
    assert outcome.forward is not None
    assert outcome.forward.target == b"/_async_search/x%3D%3D"


async def test_a_result_that_is_not_found_for_one_caller_is_still_there_for_another() -> None:
    """Engines say that of a search of another caller; it tells nothing of how the search ended."""
    missing = reply(404, {"error": {"type": "resource_not_found_exception"}, "status": 404})
    engine = FakeEngine(reply(200, RUNNING), missing, reply(200, COMPLETE), reply(200, RESPONSE))
    parts = parts_with(engine)
    await submit(parts)
    outcome = await poll(parts)
    assert (outcome.reply, outcome.searches) == (missing, ())
    assert order_of(await poll(parts)) == ["1", "2", "0"]


async def test_hits_without_scores_are_not_reranked() -> None:
    """The answer goes out as it is."""
    hits = {"hits": [{"_index": "films", "_id": "0", "_score": None}]}
    answer = reply(200, {**COMPLETE, "response": {**RESPONSE, "hits": hits}})
    outcome = await submit(parts_with(FakeEngine(answer)))
    assert outcome.reply is not None
    assert outcome.reply.body == answer.body
    assert [one.status.reason for one in outcome.searches] == ["unreadable_answer"]


async def test_a_result_of_a_search_that_nobody_remembers_passes() -> None:
    """The request for it goes on as it came."""
    outcome = await poll(parts_with(FakeEngine()))
    assert outcome.searches == ()
    assert outcome.forward is not None
