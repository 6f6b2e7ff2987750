"""The path of many searches in one request (`_msearch`): each is decided alone, all are fetched and judged together.

One request asks the engine for all windows, and at most one more for the searches whose window was of no use. Only this
file decides what searches among many fall back to; what it shares with pipeline.py is in steps.py.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from es_rerank.clock import Deadline
from es_rerank.errors import CallerError, UpstreamError
from es_rerank.proxy.http.coding import UnreadableBodyError
from es_rerank.proxy.http.own import UPSTREAM_KIND, error_body
from es_rerank.proxy.items import (
    Answered,
    Item,
    answered_of,
    ask_plainly,
    ask_windows,
    choose,
    decide_items,
    given_up,
    in_doubt_of,
    in_order,
    judged_of,
    open_responses,
    open_windows,
    passed,
    requests_of,
    sent_of,
    shape_of,
    useless_of,
    with_answers,
    with_known,
)
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.offload import compute
from es_rerank.proxy.outcome import OneSearch, Outcome
from es_rerank.proxy.search.control import HEADER
from es_rerank.proxy.search.decide import Relay, Rerank
from es_rerank.proxy.search.many import joined, read_many
from es_rerank.proxy.search.question import NOTHING_KNOWN
from es_rerank.proxy.search.status import SearchStatus, warning_of_all
from es_rerank.proxy.search.write import end_body, start_body, writing_cost
from es_rerank.proxy.steps import (
    MOST_WAIT_S,
    READING_COST,
    drop,
    fetch,
    holds,
    note_absent_fields,
    reading_cost,
    settle,
    texts_cost,
    types_of,
    useful_by,
    why_lost,
    with_pipelines,
    with_reasoning,
    with_warning,
    writing_s,
    written,
)
from es_rerank.proxy.templates import render_items
from es_rerank.rawjson import open_object
from es_rerank.reasons import Failure
from es_rerank.records import Reply, first_header, without_headers
from es_rerank.upstream import AnswerTooLargeError, NoRoomError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from es_rerank.memory import Share
    from es_rerank.proxy.events.searched import Searched
    from es_rerank.proxy.items import Chosen, Entry, Judged, Windows
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.window import WindowShape
    from es_rerank.rawjson import RawObject
    from es_rerank.reasons import Reason
    from es_rerank.records import Request
    from es_rerank.rules.book import RuleBook

FAILURES = get_args(Failure)
LOG = logging.getLogger(__name__)
NO_ANSWER = error_body(502, UPSTREAM_KIND, "the engine answered the other searches, but not this one")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What every step has at hand: the process's parts, a stopwatch for all searches, what the request may hold.

    `plain` is the client's own request without what is meant for es-rerank in its headers, and `body` its lines.
    `reading_cost` is how much there is to compute for a step that looks at what all searches ask.
    """

    parts: Parts
    laps: Laps
    share: Share
    plain: Request
    body: bytes
    reading_cost: int


async def answer_many(
    request: Request, expression: str, book: RuleBook, parts: Parts, share: Share, *, template: bool = False
) -> Outcome:
    """Answer an `_msearch`, or one of templates, by the rules of this book.

    `expression` is the index expression of its path, '' for none.
    `request.body` is a stream only if it can't be held. Answers that have to be held are taken from `share`.
    A search that asks es-rerank for something that isn't allowed gets that as its own answer; CallerError is raised
    only where all do, or where the answers can't be written into. Raises UpstreamError if no engine host answers.
    """
    laps = Laps(parts.clock)
    plain = replace(request, headers=without_headers(request.headers, HEADER))
    try:
        max_bytes = parts.limits.max_request_bytes
        read = await compute(
            reading_cost(request), read_many, request, expression, max_bytes=max_bytes, template=template
        )
        if not isinstance(read, tuple):
            return _unread(plain, expression, read, laps)
        body, calls = read
        if not holds(share, body, request.body):
            return _unread(plain, expression, "memory_full", laps)
        run = _Run(parts=parts, laps=laps, share=share, plain=plain, body=body, reading_cost=READING_COST * len(body))
        calls = await with_pipelines(calls, book, parts, run.reading_cost)
        known = [NOTHING_KNOWN] * len(calls)
        entries = await compute(run.reading_cost, decide_items, calls, book, parts, known)
        if template:
            entries, calls = await render_items(entries, calls, book, parts, share, laps)
            run = replace(run, reading_cost=READING_COST * sum(len(call.body) for call in calls))
        entries = await _decide_doubtful(entries, calls, book, run)
        if entries and not sent_of(entries):
            return _forward(entries, [], run)
        try:
            return await _rerank(entries, run)
        except (CallerError, UpstreamError):
            raise
        except Exception:
            LOG.exception("reranking many searches broke; they go through")
            items = [given_up(item, "internal_error") for item in sent_of(entries)]
            return _forward(entries, items, run)
    except (CallerError, UpstreamError):
        raise
    except Exception:  # whatever is wrong with us, the searches are answered
        LOG.exception("many searches broke; they go through")
        return _unread(plain, expression, "internal_error", laps)


def _unread(plain: Request, expression: str, reason: Reason, laps: Laps) -> Outcome:
    """The outcome of a request whose searches are not told apart: it goes through as a whole, and counts as one."""
    outcome: Literal["failed", "skipped"] = "failed" if reason in FAILURES else "skipped"
    status = SearchStatus(status=outcome, reason=reason, took_ms=laps.took_ms())
    return Outcome(forward=plain, searches=(OneSearch(expression=expression, status=status),))


async def _decide_doubtful(entries: list[Entry], calls: Sequence[SearchCall], book: RuleBook, run: _Run) -> list[Entry]:
    """The searches that may have a question after all, once the types of their fields are known, decided again."""
    parts = run.parts
    doubtful = {
        place: (entry.call, entry.decision)
        for place, entry in enumerate(entries)
        if isinstance(entry, Item) and isinstance(entry.decision, Relay) and entry.decision.in_doubt
    }
    if not doubtful:
        return entries
    wait_s = min(MOST_WAIT_S, max(relay.wait_s for _, relay in doubtful.values()))
    due_s = parts.clock.monotonic_s() + wait_s
    known = await asyncio.gather(*[types_of(call, relay.in_doubt, parts, due_s) for call, relay in doubtful.values()])
    again = [calls[place] for place in doubtful]
    decided = await compute(run.reading_cost, decide_items, again, book, parts, known)
    by_place = dict(zip(doubtful, decided, strict=True))
    return [by_place.get(place, entry) for place, entry in enumerate(entries)]


async def _with_known_types(items: Sequence[Item], deadline: Deadline, run: _Run) -> list[Item]:
    """The items, with the questions that they have once the types of their fields are known."""
    parts = run.parts
    if not any(in_doubt_of(item) for item in items):
        return [*items]
    due_s = parts.clock.monotonic_s() + min(MOST_WAIT_S, deadline.remaining_s() / 2)
    known = await asyncio.gather(*[types_of(item.call, in_doubt_of(item), parts, due_s) for item in items])
    run.laps.lap("engine")
    return await compute(run.reading_cost, with_known, items, known)


async def _rerank(entries: Sequence[Entry], run: _Run) -> Outcome:
    """The searches, reranked as far as the deadline allows. That is the latest one of theirs: all are answered at once.

    At the deadline, the client's own searches are sent beside the windows, as for one search.
    """
    items = sent_of(entries)
    deadlines = [item.decision.deadline_s for item in items if item.plan and isinstance(item.decision, Rerank)]
    shape = shape_of(items)
    # Where none is to be reranked, the reason is given to none.
    if not deadlines or run.parts.large_windows.knows(shape, run.parts.clock.monotonic_s()):
        return await _pass_on(entries, "answer_too_large", run)
    deadline = Deadline(run.parts.clock, run.laps.started_s + max(deadlines))

    def pass_on() -> Coroutine[Any, Any, Outcome]:
        return _pass_on(entries, "deadline", run, held=True, new_connection=True)

    for item in items:
        if in_doubt_of(item) and run.parts.field_types is not None:
            run.parts.field_types.begin(item.call, in_doubt_of(item))  # beside the windows, which need no question
    fetching = asyncio.create_task(_read_windows(items, shape, deadline, run))
    fetched = await useful_by(deadline, fetching, pass_on)
    if isinstance(fetched, Outcome):
        return fetched
    if isinstance(fetched, SearchStatus):
        return await _pass_on(entries, fetched.reason or "window_lost", run)
    return await _finish(entries, fetched, deadline, run)


async def _read_windows(
    items: Sequence[Item], shape: WindowShape, deadline: Deadline, run: _Run
) -> Windows | SearchStatus:
    """The engine's answer for all windows, or the status of each search if it is of no use to any.

    Raises UnreachableError, since the client's own searches would not be answered either.
    """
    parts = run.parts
    request = await compute(run.reading_cost, ask_windows, items)
    try:
        reply, body = await fetch(request, parts, run.share, due_s=deadline.due_s)
    except UnreachableError:
        raise
    except (UpstreamError, UnreadableBodyError) as error:
        LOG.warning("the answer for the windows of many searches is of no use: %s", error)
        if isinstance(error, AnswerTooLargeError):
            parts.large_windows.note_too_large(shape, parts.clock.monotonic_s())
        return SearchStatus(status="failed", reason=why_lost(error))
    parts.large_windows.note_fit(shape)
    run.laps.lap("engine")
    if reply.status != 200:
        return SearchStatus(status="failed", reason="engine_refused")
    windows = await compute(len(body), open_windows, reply, body, items)
    if windows is None:
        return SearchStatus(status="failed", reason="unreadable_answer")
    for item, found in zip(items, windows.found, strict=True):
        if found is not None:
            parts.points.follow(item.call, found.top)
    return windows


async def _finish(entries: Sequence[Entry], windows: Windows, deadline: Deadline, run: _Run) -> Outcome:
    """The answer to all searches, once the windows are there."""
    cost = windows.body_bytes
    items = sent_of(entries)
    useless = await compute(cost, useless_of, items, windows)
    again = asyncio.create_task(_ask_again([item for item, why in zip(items, useless, strict=True) if why], run))
    try:
        items = await _with_known_types(items, deadline, run)
        texts = texts_cost(cost, [item.decision for item in items])
        chosen = await compute(texts, choose, items, windows, useless)
        judged = await _judge(chosen, windows, items[0].call, deadline, run)
        own = await again
    finally:
        drop(again)
    own_bytes = sum(map(len, own))
    answered = await compute(cost + own_bytes, answered_of, items, windows, useless, own, judged)
    run.laps.lap("fuse")
    return await _write(windows.reply, cost, windows.top, in_order(entries, answered), run)


async def _judge(
    chosen: Mapping[int, Chosen], windows: Windows, call: SearchCall, deadline: Deadline, run: _Run
) -> dict[int, Judged]:
    """By place in the request, what came of each window. `call` is any of the searches."""
    parts, laps, cost = run.parts, run.laps, windows.body_bytes
    for one in chosen.values():
        note_absent_fields(one.decision, one.read, parts)
    deadline = deadline.before(writing_s(laps.lap("read"), call, windows.reply))
    requests = await compute(cost, requests_of, chosen)
    scores = await parts.scores.judge(requests, deadline, laps) if requests else []
    judged = await compute(cost, judged_of, chosen, requests, scores)
    thinking = {place: one for place, one in chosen.items() if "reasoning" in one.decision.include}
    if thinking:
        reasoned = [
            with_reasoning(
                judged[place].verdict, one.found, one.decision, one.request, judged[place].scores, deadline, parts
            )
            for place, one in thinking.items()
        ]
        for place, verdict in zip(thinking, await asyncio.gather(*reasoned), strict=True):
            judged[place] = replace(judged[place], verdict=verdict)
        laps.lap("reasoning")
    return judged


async def _ask_again(items: Sequence[Item], run: _Run) -> list[msgspec.Raw]:
    """The engine's answers to the client's own searches, parallel to the items, in one request."""
    if not items:
        return []
    lost = [msgspec.Raw(NO_ANSWER)] * len(items)
    request = await compute(run.reading_cost, ask_plainly, items)
    try:
        reply, body = await fetch(request, run.parts, run.share)
    except (UpstreamError, UnreadableBodyError) as error:
        LOG.warning("no answer to searches that were asked again: %s", error)
        return lost
    if reply.status != 200:  # what the engine says of all of them, it says of each
        readable = await compute(len(body), open_object, body) is not None
        return [msgspec.Raw(body)] * len(items) if readable else lost
    responses = await compute(len(body), open_responses, body, len(items))
    return lost if responses is None else responses[1]


async def _pass_on(
    entries: Sequence[Entry], reason: Reason, run: _Run, *, held: bool = False, new_connection: bool = False
) -> Outcome:
    """The engine's own answers as they come; held only where `held` asks for that, or something is written into them.

    `reason` says why the searches that were to be reranked are not.
    """
    items = [given_up(item, reason) for item in sent_of(entries)]
    written = len(items) < len(entries) or any("status" in item.decision.include for item in items)
    if not (written or held):
        return _forward(entries, items, run)
    request = await compute(run.reading_cost, ask_plainly, items) if written else _own_request(items, run)
    try:
        reply, body = await fetch(request, run.parts, run.share, new_connection=new_connection)
    except (AnswerTooLargeError, NoRoomError, UnreadableBodyError):
        return _forward(entries, items, run)
    run.laps.lap("engine")
    if reply.status == 200:
        responses = await compute(len(body), open_responses, body, len(items))
        if responses is not None:
            top, answers = responses
            answered = await compute(len(body), passed, items, answers)
            return await _write(reply, len(body), top, in_order(entries, answered), run)
    if written and (reply.status == 200 or items[0].call.filter_path):
        return _forward(entries, items, run)  # what we asked for can't be written into, or was not filtered
    searches = [_ended(item, settle(item.status, reply.status), item.searched, run) for item in items]
    warning = warning_of_all([one.status for one in searches])
    return Outcome(reply=replace(reply, headers=with_warning(reply.headers, warning)), searches=tuple(searches))


def _forward(entries: Sequence[Entry], items: Sequence[Item], run: _Run) -> Outcome:
    """The client's own searches, whose answer is not read.

    Raises CallerError where one of them asked us for what isn't allowed: nothing can be written into that answer.
    """
    for entry in entries:
        if isinstance(entry, CallerError):
            raise entry
    searches = [_ended(item, item.status, item.searched, run) for item in items]
    return Outcome(forward=_own_request(items, run), searches=tuple(searches))


def _own_request(items: Sequence[Item], run: _Run) -> Request:
    """The client's own searches: its request as it came, if nothing had to be taken out of its body."""
    request = joined([item.call.carrier.request for item in items]) if items else run.plain
    return run.plain if request.body == run.body else request


def _ended(item: Item, status: SearchStatus, searched: Searched | None, run: _Run) -> OneSearch:
    """With what is known last: the time of all steps, which is one for all searches, and the id of the event."""
    query_id = None if searched is None else searched.names.query_id
    status = replace(status, took_ms=run.laps.took_ms(), query_id=query_id)
    return OneSearch(expression=item.call.expression, status=status, searched=searched)


async def _write(
    engine: Reply, body_bytes: int, top: RawObject, answers: Sequence[Answered | CallerError], run: _Run
) -> Outcome:
    """The engine's answer with these answers in it, about `body_bytes` long, in the coding that the engine used.

    The time of a search ends where the writing begins, since its status is written too.
    """
    answered = [one for one in answers if isinstance(one, Answered)]
    searches = tuple([_ended(one.item, one.status, one.searched, run) for one in answered])
    members = await compute(body_bytes, with_answers, top, answers, [one.status for one in searches])
    call = answered[0].item.call  # how an answer is written is said for all searches
    coding = first_header(engine.headers, b"content-encoding")
    cost = writing_cost(body_bytes, call, coding)
    body = end_body(await compute(cost, start_body, members, call, coding))
    run.laps.lap("write")
    warning = warning_of_all([one.status for one in searches])
    return Outcome(reply=written(engine, body, warning), searches=searches)
