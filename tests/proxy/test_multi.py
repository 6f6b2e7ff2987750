"""Many searches in one request: each is decided alone, and what befalls one of them touches no other."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.cache.keys import score_keys
from es_rerank.cache.scores import MemoryScoreCache
from es_rerank.errors import CallerError, UpstreamError
from es_rerank.fusion.rank import rank
from es_rerank.memory import MemoryBudget
from es_rerank.proxy.field_types import FieldTypes
from es_rerank.proxy.multi import answer_many
from es_rerank.proxy.offload import LONG_BYTES
from es_rerank.proxy.search.decide import decide, with_types
from es_rerank.proxy.search.large_windows import IN_A_ROW
from es_rerank.proxy.search.many import read_many
from es_rerank.proxy.search.render import render_answer
from es_rerank.proxy.search.source_filter import SourceFilter
from es_rerank.proxy.search.window import plan_plain, read_answer, read_texts
from es_rerank.proxy.search.write import start_body
from es_rerank.proxy.steps import scored
from es_rerank.rawjson import open_object
from es_rerank.records import Reply, Request
from es_rerank.upstream import AnswerTooLargeError, UnreachableError
from tests.proxy.events.test_recorder import recorder_with
from tests.proxy.test_pipeline import (
    BOOK,
    BROKEN_BOOK,
    DEADLINE_S,
    SEARCH,
    TEXTS,
    BrokenSource,
    FakeEngine,
    Late,
    LengthWorkers,
    hits_of,
    parts_with,
    reply,
)
from tests.virtual import VirtualClock, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from es_rerank.proxy.outcome import Outcome
    from es_rerank.proxy.parts import Parts

ORDER = ["1", "2", "0"]
FOUND = {**hits_of(*TEXTS), "status": 200}
REFUSED = {"error": {"type": "index_not_found_exception", "reason": "no such index [x]"}, "status": 404}
OTHER = {"index": "other"}
FILMS = {"index": "films"}


def many(*lines: Any, target: bytes = b"/_msearch", headers: tuple[tuple[bytes, bytes], ...] = ()) -> Request:
    """An `_msearch` with these lines."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return Request(method="POST", target=target, headers=((b"content-type", b"application/json"), *headers), body=body)


def answers(*responses: Any, took: int = 3) -> Reply:
    """An engine's answer to many searches."""
    return reply(200, {"took": took, "responses": [*responses]})


async def answered(request: Request, parts: Parts) -> Outcome:
    """The outcome, with a share of the memory that ends with it."""
    with parts.memory.share() as share:
        return await answer_many(request, "", parts.rules.book, parts, share)


def shown(outcome: Outcome) -> list[Any]:
    """The answers of an outcome."""
    assert outcome.reply is not None
    responses: list[Any] = json.loads(outcome.reply.body)["responses"]
    return responses


def ids(answer: Any) -> list[str]:
    """The ids of the hits of one answer."""
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def reasons(outcome: Outcome) -> list[tuple[str, str | None]]:
    """What became of each search."""
    return [(one.status.status, one.status.reason) for one in outcome.searches]


def asked_of(request: Request) -> list[Any]:
    """The lines that the engine got."""
    assert isinstance(request.body, bytes)
    return [json.loads(line) for line in request.body.splitlines()]


def with_wish(**wish: Any) -> dict[str, Any]:
    """A search that asks something of es-rerank."""
    return {**SEARCH, "ext": {"es_rerank": wish}}


async def test_each_search_is_decided_alone_and_all_windows_are_one_request() -> None:
    """Those of a rule are reranked, in their places; the others are sent and answered as they are."""
    engine = FakeEngine(answers(FOUND, FOUND, REFUSED, FOUND))
    request = many(FILMS, SEARCH, OTHER, SEARCH, FILMS, {**SEARCH, "sort": ["x"]}, FILMS, {**SEARCH, "size": 2})
    outcome = await answered(request, parts_with(engine))
    first, second, third, last = shown(outcome)
    assert (ids(first), ids(last)) == (ORDER, ORDER[:2])
    assert (second, third) == (FOUND, REFUSED)
    assert reasons(outcome) == [("full", None), ("skipped", "no_rule"), ("skipped", "sort"), ("full", None)]
    assert [one.expression for one in outcome.searches] == ["films", "other", "films", "films"]
    [sent] = engine.requests
    window = {"from": 0, "size": 100}
    assert asked_of(sent)[1::2] == [
        {**SEARCH, **window},
        SEARCH,
        {**SEARCH, "sort": ["x"]},
        {**SEARCH, **window},
    ]


async def test_what_is_not_ours_keeps_its_bytes() -> None:
    """The numbers and blanks of other answers and of what stands beside the answers too."""
    raw = b'{ "x": 1.50, "status":200, "hits": {"hits": [] } }'
    body = b'{"took":1.0,"responses":[%b,%b],"more": [1e3]}' % (json.dumps(FOUND).encode(), raw)
    engine = FakeEngine(replace(answers(), body=body))
    outcome = await answered(many(FILMS, SEARCH, OTHER, SEARCH), parts_with(engine))
    assert outcome.reply is not None
    assert raw in outcome.reply.body
    assert outcome.reply.body.startswith(b'{"took":1.0,')
    assert outcome.reply.body.endswith(b'"more":[1e3]}')


async def test_all_texts_are_judged_together() -> None:
    """One call of the source of scores, with each window once, under the latest of the deadlines."""
    calls: list[tuple[int, float]] = []

    class Counting(BrokenSource):
        async def judge(self, requests: Any, deadline: Any, laps: Any) -> Any:
            calls.append((len(requests), deadline.remaining_s()))
            return await super(BrokenSource, self).judge(requests, deadline, laps)

    engine = FakeEngine(answers(FOUND, FOUND, {**hits_of("another", "one")}))
    parts = parts_with(engine, scores=Counting(MemoryScoreCache(), LengthWorkers()))
    request = many(FILMS, with_wish(deadline_s=1), FILMS, with_wish(deadline_s=2), FILMS, with_wish(deadline_s=1.5))
    assert reasons(await answered(request, parts)) == [("full", None)] * 3
    assert calls == [(2, 2.0)]


async def test_where_nothing_is_ours_the_request_goes_through_as_it_came() -> None:
    """No answer is held, and not a byte of the request is changed."""
    request = many(OTHER, SEARCH, FILMS, {"size": 0})
    outcome = await answered(request, parts_with(FakeEngine()))
    assert outcome.forward == request
    assert reasons(outcome) == [("skipped", "no_rule"), ("skipped", "size_zero")]


async def test_a_wish_is_taken_out_of_its_search() -> None:
    """Where all searches go through, the engine sees nothing of what was asked of es-rerank."""
    outcome = await answered(many(FILMS, with_wish(rerank=False)), parts_with(FakeEngine()))
    assert outcome.forward is not None
    assert asked_of(outcome.forward) == [FILMS, SEARCH]


async def test_the_status_is_the_last_member_of_an_answer_that_was_asked_to_have_it() -> None:
    """Of that one alone, reranked or not, and never of a refusal."""
    wish = with_wish(include=["status"])
    engine = FakeEngine(answers(FOUND, FOUND, FOUND, REFUSED))
    request = many(FILMS, wish, FILMS, SEARCH, OTHER, wish, OTHER, wish)
    first, second, third, last = shown(await answered(request, parts_with(engine)))
    assert [*first][-1] == "_es_rerank"
    assert first["_es_rerank"]["status"] == "full"
    assert "_es_rerank" not in second
    assert third.pop("_es_rerank")["reason"] == "no_rule"
    assert (third, last) == (FOUND, REFUSED)


async def test_the_header_holds_for_all_searches() -> None:
    """`off` passes all, `include=status` writes the status of each; the engine does not see it."""
    off = many(FILMS, SEARCH, FILMS, SEARCH, headers=((b"ES-Rerank", b"off"),))
    outcome = await answered(off, parts_with(FakeEngine()))
    assert reasons(outcome) == [("skipped", "asked_off")] * 2
    assert outcome.forward == many(FILMS, SEARCH, FILMS, SEARCH)
    engine = FakeEngine(answers(FOUND, FOUND))
    status = many(FILMS, SEARCH, OTHER, SEARCH, headers=((b"es-rerank", b"include=status"),))
    first, second = shown(await answered(status, parts_with(engine)))
    assert (first["_es_rerank"]["status"], second["_es_rerank"]["reason"]) == ("full", "no_rule")
    assert engine.requests[0].headers == ((b"content-type", b"application/json"),)


async def test_a_wrong_wish_is_answered_in_its_place() -> None:
    """The engine is asked for the other searches alone, and that one's answer is an error in the engines' shape."""
    engine = FakeEngine(answers(FOUND, FOUND))
    outcome = await answered(many(OTHER, SEARCH, FILMS, with_wish(alpha=7), FILMS, SEARCH), parts_with(engine))
    first, second, third = shown(outcome)
    assert (first, ids(third)) == (FOUND, ORDER)
    assert second["status"] == 400
    assert second["error"]["type"] == "illegal_argument_exception"
    assert second["error"]["root_cause"][0]["reason"] == second["error"]["reason"]
    assert "[ext.es_rerank.alpha]" in second["error"]["reason"]
    assert len(asked_of(engine.requests[0])) == 4


async def test_a_wrong_wish_is_answered_where_nothing_else_is_ours() -> None:
    """Beside searches that only pass, and beside an engine's refusal of all."""
    request = many(OTHER, SEARCH, FILMS, with_wish(alpha=7))
    first, second = shown(await answered(request, parts_with(FakeEngine(answers(FOUND)))))
    assert (first, second["status"]) == (FOUND, 400)
    denied = reply(401, {"error": "who?", "status": 401})
    outcome = await answered(request, parts_with(FakeEngine(denied)))
    assert outcome.reply == denied
    with pytest.raises(CallerError):  # an answer that can't be written into
        await answered(request, parts_with(FakeEngine(reply(200, {"odd": 1}))))


@pytest.mark.parametrize("headers", [(), ((b"es-rerank", b"wrong"),)])
async def test_wishes_that_are_all_wrong_are_one_error(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    """The engine is not asked; a wrong header is wrong for all searches."""
    search = SEARCH if headers else with_wish(alpha=7)
    engine = FakeEngine()
    with pytest.raises(CallerError):
        await answered(many(FILMS, search, FILMS, search, headers=headers), parts_with(engine))
    assert not engine.requests


async def test_searches_whose_windows_are_refused_are_asked_again_together() -> None:
    """In one more request with the client's own searches, while the others are judged."""
    window_refused = {"error": {"type": "illegal_argument_exception", "reason": "Result window"}, "status": 400}
    cut = {**FOUND, "_shards": {"failed": 1}}
    engine = FakeEngine(answers(FOUND, window_refused, REFUSED, cut), answers(FOUND, REFUSED, FOUND))
    request = many(FILMS, SEARCH, FILMS, {**SEARCH, "size": 3}, FILMS, {**SEARCH, "size": 4}, FILMS, SEARCH)
    outcome = await answered(request, parts_with(engine))
    first, second, third, last = shown(outcome)
    assert (ids(first), second, third, last) == (ORDER, FOUND, REFUSED, FOUND)
    assert reasons(outcome) == [
        ("full", None),
        ("failed", "engine_refused"),
        ("skipped", "engine_refused"),
        ("skipped", "partial_answer"),
    ]
    assert asked_of(engine.requests[1])[1::2] == [{**SEARCH, "size": 3}, {**SEARCH, "size": 4}, SEARCH]
    assert outcome.reply is not None
    warning = b'299 es-rerank "reranking failed or was partial for 1 of 4 searches (engine_refused)"'
    assert [value for name, value in outcome.reply.headers if name == b"warning"] == [warning]


@pytest.mark.parametrize("second", [UpstreamError("gone"), reply(200, {"odd": 1}), reply(200, {"responses": []})])
async def test_a_second_request_without_an_answer_touches_no_other_search(second: Any) -> None:
    """Its searches get an error each, and are not asked a third time."""
    engine = FakeEngine(answers(FOUND, REFUSED), second)
    first, last = shown(await answered(many(FILMS, SEARCH, FILMS, SEARCH), parts_with(engine)))
    assert (ids(first), last["status"]) == (ORDER, 502)
    assert len(engine.requests) == 2


async def test_a_second_request_that_is_refused_says_why() -> None:
    """The refusal is the answer of each of its searches."""
    engine = FakeEngine(answers(FOUND, REFUSED), reply(429, {"error": "busy", "status": 429}))
    first, last = shown(await answered(many(FILMS, SEARCH, FILMS, SEARCH), parts_with(engine)))
    assert (ids(first), last) == (ORDER, {"error": "busy", "status": 429})


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (reply(400, {"error": "x", "status": 400}), "engine_refused"),
        (reply(200, {"responses": [FOUND]}), "unreadable_answer"),
        (reply(200, []), "unreadable_answer"),
        (AnswerTooLargeError("long"), "answer_too_large"),
        (UpstreamError("broke"), "window_lost"),
    ],
)
async def test_if_no_window_is_of_use_the_clients_own_request_goes_through(window: Any, reason: str) -> None:
    """As it came, whatever became of the windows."""
    request = many(FILMS, SEARCH, OTHER, SEARCH)
    outcome = await answered(request, parts_with(FakeEngine(window)))
    assert outcome.forward == request
    assert reasons(outcome) == [("failed", reason), ("skipped", "no_rule")]


async def test_a_window_that_is_known_to_be_too_large_is_not_asked_for() -> None:
    """That search is the client's own among the windows of the others."""
    engine = FakeEngine(answers(FOUND, FOUND))
    parts = parts_with(engine)
    for _ in range(IN_A_ROW):
        parts.large_windows.note_too_large(("films", 100, SourceFilter()), 0.0)
    outcome = await answered(many(FILMS, SEARCH, FILMS, with_wish(window=50)), parts)
    assert reasons(outcome) == [("failed", "answer_too_large"), ("full", None)]
    assert (shown(outcome)[0], ids(shown(outcome)[1])) == (FOUND, ORDER)
    [sent] = engine.requests
    assert asked_of(sent) == [FILMS, SEARCH, FILMS, {**SEARCH, "from": 0, "size": 50}]


async def test_windows_that_are_too_large_together_are_not_asked_for_again_and_again() -> None:
    """After three such answers in a row, the client's own request goes through at once."""
    engine = FakeEngine(*[AnswerTooLargeError("long")] * IN_A_ROW)
    parts = parts_with(engine)
    for _ in range(IN_A_ROW + 1):
        outcome = await answered(many(FILMS, SEARCH, OTHER, SEARCH), parts)
        assert reasons(outcome) == [("failed", "answer_too_large"), ("skipped", "no_rule")]
    assert len(engine.requests) == IN_A_ROW


async def test_an_engine_that_cant_be_reached_is_not_asked_again() -> None:
    """Its absence is the answer."""
    engine = FakeEngine(UnreachableError("gone"))
    with pytest.raises(UpstreamError):
        await answered(many(FILMS, SEARCH), parts_with(engine))
    assert len(engine.requests) == 1


async def test_at_the_deadline_the_clients_own_searches_are_sent_beside_the_windows() -> None:
    """Their answer is given as it is, and the windows are given up."""
    clock = VirtualClock()
    engine = FakeEngine(None, answers(FOUND, FOUND))
    task = asyncio.create_task(answered(many(FILMS, SEARCH, OTHER, SEARCH), parts_with(engine, clock=clock)))
    await clock.advance(DEADLINE_S)
    outcome = await task
    assert shown(outcome) == [FOUND, FOUND]
    assert reasons(outcome) == [("failed", "deadline"), ("skipped", "no_rule")]
    assert asked_of(engine.requests[1]) == [FILMS, SEARCH, OTHER, SEARCH]
    assert (engine.dropped, engine.on_new_connections) == (1, 1)


async def test_late_windows_count_if_they_come_first() -> None:
    """Then the client's own searches are given up; without time for workers, the order is the engine's."""
    clock = VirtualClock()
    late = Late(answers(FOUND, FOUND))
    engine = FakeEngine(late, None)
    parts = parts_with(engine, clock=clock, workers=LengthWorkers(stalls=True))
    task = asyncio.create_task(answered(many(FILMS, SEARCH, OTHER, SEARCH), parts))
    await clock.advance(DEADLINE_S)
    late.comes.set()
    await settle()
    outcome = await task
    assert ids(shown(outcome)[0]) == ["0", "1", "2"]
    assert reasons(outcome)[0] == ("failed", "deadline")
    assert engine.dropped == 1


async def test_stalled_workers_cost_no_more_than_the_deadline() -> None:
    """Every search keeps all its hits, in the engine's order, and no request is left behind."""
    clock = VirtualClock()
    parts = parts_with(FakeEngine(answers(FOUND, FOUND)), clock=clock, workers=LengthWorkers(stalls=True))
    task = asyncio.create_task(answered(many(FILMS, SEARCH, OTHER, SEARCH), parts))
    await clock.advance(DEADLINE_S)
    assert task.done()
    assert [ids(one) for one in shown(await task)] == [["0", "1", "2"]] * 2


async def test_a_caller_who_leaves_ends_all_that_was_begun() -> None:
    """The windows, and the searches that are asked again beside the judging."""
    for first in (None, answers(FOUND, REFUSED)):
        engine = FakeEngine(first, None)
        parts = parts_with(engine, workers=LengthWorkers(stalls=True))
        task = asyncio.create_task(answered(many(FILMS, SEARCH, FILMS, SEARCH), parts))
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await settle()
        assert engine.dropped == 1
        assert parts.memory.held_bytes == 0


@pytest.mark.parametrize("where", ["source", "book"])
async def test_a_bug_of_ours_lets_all_searches_through(where: str) -> None:
    """Whatever breaks, the client gets its own answer."""
    parts = parts_with(FakeEngine(answers(FOUND)), scores=BrokenSource(MemoryScoreCache(), LengthWorkers()))
    request = many(FILMS, SEARCH)
    with parts.memory.share() as share:
        outcome = await answer_many(request, "", BOOK if where == "source" else BROKEN_BOOK, parts, share)
    assert outcome.forward == request
    assert reasons(outcome) == [("failed", "internal_error")]


async def test_lines_that_cant_be_told_apart_go_through_as_they_are() -> None:
    """The request counts as one search, with the reason."""
    request = replace(many(), body=b"{}\n{}")
    outcome = await answered(request, parts_with(FakeEngine()))
    assert outcome.forward == request
    assert reasons(outcome) == [("skipped", "unreadable_body")]


async def test_filter_and_print_hold_for_the_whole_answer() -> None:
    """The engine is asked for everything, and the paths begin at the top."""
    target = b"/_msearch?filter_path=responses.hits.hits._id,responses._es_rerank.status&pretty"
    engine = FakeEngine(answers(FOUND, FOUND))
    outcome = await answered(
        many(FILMS, with_wish(include=["status"]), OTHER, SEARCH, target=target), parts_with(engine)
    )
    first, second = shown(outcome)
    assert first == {"hits": {"hits": [{"_id": one} for one in ORDER]}, "_es_rerank": {"status": "full"}}
    assert second == {"hits": {"hits": [{"_id": one} for one in "012"]}}
    assert outcome.reply is not None
    assert outcome.reply.body.startswith(b'{\n  "responses" : [\n')
    assert engine.requests[0].target == b"/_msearch?pretty&filter_path=%2A%2A"


async def test_every_search_leaves_an_event_of_its_own() -> None:
    """With its own question and id, which its status names; one that no rule covers leaves none."""
    parts = parts_with(FakeEngine(answers(FOUND, FOUND, FOUND)), events=recorder_with()[0])
    wish = with_wish(include=["status"])
    outcome = await answered(many(FILMS, wish, OTHER, SEARCH, FILMS, wish), parts)
    searched = [one.searched for one in outcome.searches]
    assert searched[1] is None
    found = [one.names.query_id for one in searched if one is not None and one.found is not None]
    assert len(set(found)) == 2
    assert [shown(outcome)[place]["_es_rerank"]["query_id"] for place in (0, 2)] == found


async def test_every_event_has_the_question_that_was_scored() -> None:
    """Also where a window was of no use, once the types of the fields are known."""
    clock = VirtualClock()
    caps: dict[str, Any] = {"fields": {"text": {"text": {}}, "genre": {"keyword": {}}}}
    types = FieldTypes(FakeEngine(reply(200, caps)), MemoryBudget(1 << 20), clock)
    engine = FakeEngine(answers(FOUND, REFUSED), answers(FOUND))
    parts = parts_with(engine, clock=clock, field_types=types, events=recorder_with()[0])
    search = {"query": {"bool": {"must": [{"match": {"genre": "drama"}}, {"match": {"text": "x"}}]}}}
    outcome = await answered(many(FILMS, search, FILMS, search), parts)
    assert reasons(outcome) == [("full", None), ("failed", "engine_refused")]
    assert [one.searched.user_query for one in outcome.searches if one.searched is not None] == ["x", "x"]


async def test_hundreds_of_searches_keep_their_order() -> None:
    """Each answer is that of its own search, reranked ones among others."""
    count = 300
    lines = [line for place in range(count) for line in (FILMS if place % 3 else OTHER, {**SEARCH, "from": place % 2})]
    found = [{**FOUND, "place": place} for place in range(count)]
    engine = FakeEngine(answers(*found))
    told = shown(await answered(many(*lines), parts_with(engine)))
    assert [one["place"] for one in told] == [*range(count)]
    for place, one in enumerate(told):
        assert ids(one) == (ORDER[place % 2 :] if place % 3 else ["0", "1", "2"])


async def test_a_window_in_a_language_that_the_scorer_cant_read_keeps_its_page() -> None:
    """In the engine's order, and the others are reranked all the same."""
    text = "Der Vogel sitzt auf dem Dach und singt ein Lied, während der Regen fällt und niemand mehr zuhört."
    german = {**hits_of(text, text + " " + text), "status": 200}
    engine = FakeEngine(answers(german, FOUND))
    outcome = await answered(many(FILMS, SEARCH, FILMS, SEARCH), parts_with(engine))
    assert [ids(one) for one in shown(outcome)] == [["0", "1"], ORDER]
    assert reasons(outcome) == [("skipped", "language"), ("full", None)]


@contextmanager
def called_here() -> Iterator[set[str]]:
    """The names of all functions that this thread calls meanwhile."""
    names: set[str] = set()
    sys.setprofile(lambda frame, event, _: names.add(frame.f_code.co_qualname) if event == "call" else None)
    try:
        yield names
    finally:
        sys.setprofile(None)


async def test_what_is_short_for_each_search_is_not_done_for_hundreds_in_the_event_loop() -> None:
    """No step that opens, decides, ranks or writes them runs there, though each search and its answer are short."""
    padding, texts = "y" * 1024, ("z" * 2048, "z" * 2100, "z" * 2200)
    doubtful = {"bool": {"must": [{"match": {"text": padding}}, {"match": {"code": "x"}}]}}
    terms = [{"term": {"title": word}} for word in ("red", "fox", padding)]
    kinds: list[tuple[Any, Any]] = [
        ({"query": doubtful}, None),
        ({"query": {"bool": {"should": terms}}, "ext": {"es_rerank": {"include": ["status"]}}}, None),
        ({"query": doubtful}, {**REFUSED, "padding": padding}),
    ]
    asked = [kinds[place % 3] for place in range(300)]
    windows = [answer or hits_of(*[f"{place} {text}" for text in texts]) for place, (_, answer) in enumerate(asked)]
    assert max(len(json.dumps(one)) for one in windows) < LONG_BYTES // 10
    again = [{**FOUND, "padding": padding * 4}] * 100
    clock = VirtualClock()
    caps: dict[str, Any] = {"fields": {"text": {"text": {}}, "title": {"text": {}}, "code": {"keyword": {}}}}
    types = FieldTypes(FakeEngine(reply(200, caps), reply(200, caps)), MemoryBudget(1 << 20), clock)
    parts = parts_with(FakeEngine(answers(*windows), answers(*again)), clock=clock, field_types=types)
    request = many(*[line for search, _ in asked for line in (FILMS, search)])
    with called_here() as called:
        outcome = await answered(request, parts)
    assert reasons(outcome) == [("full", None), ("full", None), ("failed", "engine_refused")] * 100
    steps = (
        read_many, decide, with_types, plan_plain, read_answer, open_object, read_texts, score_keys, rank, scored,
        render_answer, start_body,
    )  # fmt: skip
    assert called.isdisjoint(step.__qualname__ for step in steps), called & {step.__qualname__ for step in steps}
