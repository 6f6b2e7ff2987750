"""The path of many searches in one request (`_msearch`): each is decided alone, all are fetched and judged together.

One request asks the engine for all windows, and at most one more for the searches whose window was of no use. Only this
file decides what searches among many fall back to; what it shares with pipeline.py is in steps.py.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import uuid4

import msgspec

from es_rerank.clock import Deadline
from es_rerank.errors import CallerError, UpstreamError
from es_rerank.proxy.events.searched import searched_of
from es_rerank.proxy.http.coding import UnreadableBodyError
from es_rerank.proxy.http.own import UPSTREAM_KIND, caller_kind, error_body
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.offload import compute
from es_rerank.proxy.scoring.ask import ScoreRequest
from es_rerank.proxy.search.control import HEADER, take_controls
from es_rerank.proxy.search.decide import Relay, Rerank, decide
from es_rerank.proxy.search.many import joined, read_many, read_responses
from es_rerank.proxy.search.render import BLOCK, render_answer
from es_rerank.proxy.search.status import SearchStatus, warning_of_all
from es_rerank.proxy.search.window import plan_plain, plan_window, read_answer, read_texts
from es_rerank.proxy.search.write import end_body, start_body, writing_cost
from es_rerank.proxy.steps import (
    READING_COST,
    can_read,
    drop,
    failed,
    fetch,
    holds,
    lacks_page,
    note_absent_fields,
    reading_cost,
    relayed,
    scored,
    settle,
    skipped,
    unranked,
    useful_by,
    verdict_of,
    why_lost,
    why_unfit,
    window_of,
    with_reasoning,
    with_warning,
    writing_s,
)
from es_rerank.rawjson import open_object
from es_rerank.reasons import Failure
from es_rerank.records import Reply, first_header, without_headers
from es_rerank.upstream import AnswerTooLargeError, NoRoomError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from es_rerank.memory import Share
    from es_rerank.proxy.events.searched import Searched
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.render import Verdict
    from es_rerank.proxy.search.window import EngineAnswer, WindowPlan, WindowShape
    from es_rerank.rawjson import RawObject
    from es_rerank.reasons import Reason
    from es_rerank.records import Request
    from es_rerank.rules.book import RuleBook
    from es_rerank.texts import Texts

FAILURES = get_args(Failure)
LOG = logging.getLogger(__name__)
NO_ANSWER = error_body(502, UPSTREAM_KIND, "the engine answered the other searches, but not this one")


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOfMany:
    """What became of one search among many. `searched` is what its event tells of it, None where it leaves none."""

    expression: str
    status: SearchStatus
    searched: Searched | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyOutcome:
    """What becomes of an `_msearch`: a complete `reply`, or a request to `forward`, whose answer goes through.

    Exactly one of the two is set. `searches` are in order; those that asked us for what isn't allowed are left out.
    """

    searches: tuple[OneOfMany, ...]
    reply: Reply | None = None
    forward: Request | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """One search, decided. `plan` is None where it is not reranked; `status` says why, or why not if nothing comes."""

    call: SearchCall
    decision: Rerank | Relay
    status: SearchStatus
    plan: WindowPlan | None = None
    searched: Searched | None = None


_Entry = _Item | CallerError
"""A search, or what it asked of us that isn't allowed: such a search is not sent to the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What every step has at hand: the process's parts, a stopwatch for all searches, what the request may hold.

    `plain` is the client's own request without what is meant for es-rerank in its headers, and `body` its lines.
    """

    parts: Parts
    laps: Laps
    share: Share
    plain: Request
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """The engine's answer for all windows. `answers` and `found` are parallel to the searches that were sent.

    `found` is an answer opened: None for a search that is not reranked, and for an answer that has no hits.
    """

    reply: Reply
    body_bytes: int
    top: RawObject
    answers: Sequence[msgspec.Raw]
    found: Sequence[EngineAnswer | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """A window that is ranked: its texts, and which of the requests for scores is its own."""

    item: _Item
    decision: Rerank
    plan: WindowPlan
    found: EngineAnswer
    read: Texts
    request: ScoreRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """A search's answer, as members or as raw JSON, and what became of it."""

    item: _Item
    answer: Any
    status: SearchStatus
    searched: Searched | None


async def answer_many(request: Request, expression: str, book: RuleBook, parts: Parts, share: Share) -> ManyOutcome:
    """Answer an `_msearch` by the rules of this book. `expression` is the index expression of its path, '' for none.

    `request.body` is a stream only if it can't be held. Answers that have to be held are taken from `share`.
    A search that asks es-rerank for something that isn't allowed gets that as its own answer; CallerError is raised
    only where all do, or where the answers can't be written into. Raises UpstreamError if no engine host answers.
    """
    laps = Laps(parts.clock)
    plain = replace(request, headers=without_headers(request.headers, HEADER))
    try:
        max_bytes = parts.limits.max_request_bytes
        read = await compute(reading_cost(request), read_many, request, expression, max_bytes=max_bytes)
        if not isinstance(read, tuple):
            return _unread(plain, expression, read, laps)
        body, calls = read
        if not holds(share, body, request.body):
            return _unread(plain, expression, "memory_full", laps)
        run = _Run(parts=parts, laps=laps, share=share, plain=plain, body=body)
        entries = await compute(READING_COST * len(body), _decide_all, calls, book, parts)
        if entries and not _sent(entries):
            return _forward(entries, [], run)
        try:
            return await _rerank(entries, run)
        except (CallerError, UpstreamError):
            raise
        except Exception:
            LOG.exception("reranking many searches broke; they go through")
            items = [_given_up(item, "internal_error") for item in _sent(entries)]
            return _forward(entries, items, run)
    except (CallerError, UpstreamError):
        raise
    except Exception:  # whatever is wrong with us, the searches are answered
        LOG.exception("many searches broke; they go through")
        return _unread(plain, expression, "internal_error", laps)


def _unread(plain: Request, expression: str, reason: Reason, laps: Laps) -> ManyOutcome:
    """The outcome of a request whose searches are not told apart: it goes through as a whole, and counts as one."""
    outcome: Literal["failed", "skipped"] = "failed" if reason in FAILURES else "skipped"
    status = SearchStatus(status=outcome, reason=reason, took_ms=laps.took_ms())
    return ManyOutcome(forward=plain, searches=(OneOfMany(expression=expression, status=status),))


def _decide_all(calls: Sequence[SearchCall], book: RuleBook, parts: Parts) -> list[_Entry]:
    return [_decide(call, book, parts) for call in calls]


def _decide(call: SearchCall, book: RuleBook, parts: Parts) -> _Entry:
    """What is done with one search, whatever the others are."""
    try:
        asked, call = take_controls(call)
        decision = decide(call, asked, book)
    except CallerError as error:
        return error
    if isinstance(decision, Relay):
        return _Item(call=call, decision=decision, status=relayed(decision))
    searched = None
    if parts.events is not None:
        searched = searched_of(call, asked, decision, rules_version=book.version, new_id=uuid4().hex)
    plan = plan_window(call, decision)
    if parts.large_windows.knows(plan.shape, parts.clock.monotonic_s()):
        return _Item(call=call, decision=decision, status=failed(decision, "answer_too_large"), searched=searched)
    broken = failed(decision, "internal_error")
    return _Item(call=call, decision=decision, status=broken, plan=plan, searched=searched)


def _sent(entries: Sequence[_Entry]) -> list[_Item]:
    """The searches that the engine is asked for, in order."""
    return [entry for entry in entries if isinstance(entry, _Item)]


async def _rerank(entries: Sequence[_Entry], run: _Run) -> ManyOutcome:
    """The searches, reranked as far as the deadline allows. That is the latest one of theirs: all are answered at once.

    At the deadline, the client's own searches are sent beside the windows, as for one search.
    """
    items = _sent(entries)
    deadlines = [item.decision.deadline_s for item in items if item.plan and isinstance(item.decision, Rerank)]
    shape = _shape_of(items)
    if not deadlines or run.parts.large_windows.knows(shape, run.parts.clock.monotonic_s()):
        return await _pass_on(entries, "answer_too_large", run)
    deadline = Deadline(run.parts.clock, run.laps.started_s + max(deadlines))

    def pass_on() -> Coroutine[Any, Any, ManyOutcome]:
        return _pass_on(entries, "deadline", run, held=True, new_connection=True)

    fetching = asyncio.create_task(_read_windows(items, shape, deadline, run))
    fetched = await useful_by(deadline, fetching, pass_on)
    if isinstance(fetched, ManyOutcome):
        return fetched
    if isinstance(fetched, SearchStatus):
        return await _pass_on(entries, fetched.reason or "window_lost", run)
    return await _finish(entries, fetched, deadline, run)


def _shape_of(items: Sequence[_Item]) -> WindowShape:
    """What makes the answer for all windows large."""
    shapes = [item.plan.shape for item in items if item.plan is not None]
    return ",".join(shape[0] for shape in shapes), sum(shape[1] for shape in shapes), None


async def _read_windows(
    items: Sequence[_Item], shape: WindowShape, deadline: Deadline, run: _Run
) -> _Windows | SearchStatus:
    """The engine's answer for all windows, or the status of each search if it is of no use to any.

    Raises UnreachableError, since the client's own searches would not be answered either.
    """
    parts = run.parts
    request = joined([plan_plain(item.call) if item.plan is None else item.plan.request for item in items])
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
    windows = await compute(len(body), _open_windows, reply, body, items)
    return windows or SearchStatus(status="failed", reason="unreadable_answer")


def _open_windows(reply: Reply, body: bytes, items: Sequence[_Item]) -> _Windows | None:
    """The answer opened as deep as it is read; None if it does not have one answer for each search."""
    responses = _open_responses(body, len(items))
    if responses is None:
        return None
    top, answers = responses
    found = [
        None if item.plan is None else read_answer(bytes(answer)) for item, answer in zip(items, answers, strict=True)
    ]
    return _Windows(reply=reply, body_bytes=len(body), top=top, answers=answers, found=found)


def _open_responses(body: bytes, count: int) -> tuple[RawObject, list[msgspec.Raw]] | None:
    """See `read_responses`; None too where there are more answers than `count`, or fewer."""
    responses = read_responses(body)
    return responses if responses is not None and len(responses[1]) == count else None


async def _finish(entries: Sequence[_Entry], windows: _Windows, deadline: Deadline, run: _Run) -> ManyOutcome:
    """The answer to all searches, once the windows are there."""
    parts, laps, cost = run.parts, run.laps, windows.body_bytes
    items = _sent(entries)
    useless = [
        None if item.plan is None else _why_useless(item, answer, found)
        for item, answer, found in zip(items, windows.answers, windows.found, strict=True)
    ]
    again = asyncio.create_task(_ask_again([item for item, why in zip(items, useless, strict=True) if why], run))
    try:
        chosen = await compute(cost, _choose, items, windows, useless)
        for one in chosen.values():
            note_absent_fields(one.decision, one.read, parts)
        deadline = deadline.before(writing_s(laps.lap("read"), items[0].call, windows.reply))
        scores = await parts.scores.judge([one.request for one in chosen.values()], deadline, laps) if chosen else []
        verdicts: dict[int, tuple[Verdict, SearchStatus]] = {}
        for (place, one), score in zip(chosen.items(), scores, strict=True):
            decision = one.decision
            verdict = await compute(cost // len(items), verdict_of, window_of(one.found, score), score, decision)
            if "reasoning" in decision.include:
                verdict = await with_reasoning(verdict, one.found, decision, one.request, score, deadline, parts)
            verdicts[place] = verdict, scored(decision, score, one.read.missing_fields)
        if any("reasoning" in one.decision.include for one in chosen.values()):
            laps.lap("reasoning")
        own = iter(await again)
    finally:
        drop(again)
    answered: list[_Answered] = []
    for place, item in enumerate(items):
        found, why = windows.found[place], useless[place]
        if why is not None:
            answered.append(_passed(item, next(own), why))
        elif found is None or item.plan is None or not isinstance(item.decision, Rerank):
            answered.append(_passed(item, windows.answers[place], item.status))
        else:
            known = verdicts.get(place)
            answered.append(await compute(cost // len(items), _ranked, item, item.plan, item.decision, found, known))
    laps.lap("fuse")
    return await _write(windows.reply, windows.body_bytes, windows.top, _in_order(entries, answered), run)


def _why_useless(item: _Item, answer: msgspec.Raw, found: EngineAnswer | None) -> SearchStatus | None:
    """The status of a search whose window can't stand for the client's own search, None where it can."""
    if not isinstance(item.decision, Rerank):
        return None
    if found is None:
        refused = "error" in (open_object(bytes(answer)) or {})
        return failed(item.decision, "engine_refused" if refused else "unreadable_answer")
    return skipped("partial_answer", item.decision.rule) if lacks_page(found, item.decision) else None


async def _ask_again(items: Sequence[_Item], run: _Run) -> list[msgspec.Raw]:
    """The engine's answers to the client's own searches, parallel to the items, in one request."""
    if not items:
        return []
    lost = [msgspec.Raw(NO_ANSWER)] * len(items)
    try:
        reply, body = await fetch(joined([plan_plain(item.call) for item in items]), run.parts, run.share)
    except (UpstreamError, UnreadableBodyError) as error:
        LOG.warning("no answer to searches that were asked again: %s", error)
        return lost
    if reply.status != 200:  # what the engine says of all of them, it says of each
        return lost if open_object(body) is None else [msgspec.Raw(body)] * len(items)
    responses = await compute(len(body), _open_responses, body, len(items))
    return lost if responses is None else responses[1]


def _choose(items: Sequence[_Item], windows: _Windows, useless: Sequence[SearchStatus | None]) -> dict[int, _Chosen]:
    """By place: the windows that are judged."""
    chosen: dict[int, _Chosen] = {}
    for place, (item, found) in enumerate(zip(items, windows.found, strict=True)):
        decision, plan = item.decision, item.plan
        if found is None or plan is None or not isinstance(decision, Rerank) or useless[place] is not None:
            continue
        if why_unfit(found, decision) is not None:
            continue
        read = read_texts(found, decision)
        if can_read(decision, read):
            request = ScoreRequest(scoring=decision.scoring, texts=read.texts)
            chosen[place] = _Chosen(item=item, decision=decision, plan=plan, found=found, read=read, request=request)
    return chosen


def _ranked(
    item: _Item,
    plan: WindowPlan,
    decision: Rerank,
    found: EngineAnswer,
    known: tuple[Verdict, SearchStatus] | None,
) -> _Answered:
    """The client's page out of the window: in its new order, or in the engine's where the window was not judged."""
    if known is None:
        verdict = unranked(found, decision)
        status = skipped(why_unfit(found, decision) or "language", decision.rule)
        members = render_answer(found, plan, replace(decision, include=frozenset()), verdict)
    else:
        verdict, status = known
        members = render_answer(found, plan, decision, verdict)
    searched = None if item.searched is None else item.searched.named_by(found).with_hits(found, verdict)
    return _Answered(item=item, answer=members, status=status, searched=searched)


def _passed(item: _Item, answer: msgspec.Raw, status: SearchStatus) -> _Answered:
    """A search with the engine's own answer."""
    if status.status == "failed":
        status = settle(status, _http_status(answer))
    return _Answered(item=item, answer=answer, status=status, searched=item.searched)


def _http_status(answer: msgspec.Raw) -> int:
    """The HTTP status that the engine gives one of many searches."""
    members = open_object(bytes(answer)) or {}
    if "error" not in members:
        return 200
    try:
        return msgspec.json.decode(members.get("status", b"500"), type=int)
    except ValueError:
        return 500


def _in_order(entries: Sequence[_Entry], answered: Sequence[_Answered]) -> list[_Answered | CallerError]:
    """The answers in the order of the request, with our refusals in their places."""
    given = iter(answered)
    return [entry if isinstance(entry, CallerError) else next(given) for entry in entries]


async def _pass_on(
    entries: Sequence[_Entry], reason: Reason, run: _Run, *, held: bool = False, new_connection: bool = False
) -> ManyOutcome:
    """The engine's own answers as they come; held only where `held` asks for that, or something is written into them.

    `reason` says why the searches that were to be reranked are not.
    """
    items = [_given_up(item, reason) for item in _sent(entries)]
    written = len(items) < len(entries) or any("status" in item.decision.include for item in items)
    if not (written or held):
        return _forward(entries, items, run)
    request = joined([plan_plain(item.call) for item in items]) if written else _own_request(items, run)
    try:
        reply, body = await fetch(request, run.parts, run.share, new_connection=new_connection)
    except (AnswerTooLargeError, NoRoomError, UnreadableBodyError):
        return _forward(entries, items, run)
    run.laps.lap("engine")
    if reply.status == 200:
        responses = await compute(len(body), _open_responses, body, len(items))
        if responses is not None:
            top, answers = responses
            answered = [_passed(item, answer, item.status) for item, answer in zip(items, answers, strict=True)]
            return await _write(reply, len(body), top, _in_order(entries, answered), run)
    if written and (reply.status == 200 or items[0].call.filter_path):
        return _forward(entries, items, run)  # what we asked for can't be written into, or was not filtered
    searches = [_ended(item, settle(item.status, reply.status), item.searched, run) for item in items]
    warning = warning_of_all([one.status for one in searches])
    return ManyOutcome(reply=replace(reply, headers=with_warning(reply.headers, warning)), searches=tuple(searches))


def _forward(entries: Sequence[_Entry], items: Sequence[_Item], run: _Run) -> ManyOutcome:
    """The client's own searches, whose answer is not read.

    Raises CallerError where one of them asked us for what isn't allowed: nothing can be written into that answer.
    """
    for entry in entries:
        if isinstance(entry, CallerError):
            raise entry
    searches = [_ended(item, item.status, item.searched, run) for item in items]
    return ManyOutcome(forward=_own_request(items, run), searches=tuple(searches))


def _own_request(items: Sequence[_Item], run: _Run) -> Request:
    """The client's own searches: its request as it came, if nothing had to be taken out of its body."""
    request = joined([item.call.carrier.request for item in items]) if items else run.plain
    return run.plain if request.body == run.body else request


def _given_up(item: _Item, reason: Reason) -> _Item:
    """The item as one that is not reranked; for this reason, if it was to be."""
    if item.plan is None or not isinstance(item.decision, Rerank):
        return item
    return replace(item, plan=None, status=failed(item.decision, reason))


def _ended(item: _Item, status: SearchStatus, searched: Searched | None, run: _Run) -> OneOfMany:
    """With what is known last: the time of all steps, which is one for all searches, and the id of the event."""
    query_id = None if searched is None else searched.names.query_id
    status = replace(status, took_ms=run.laps.took_ms(), query_id=query_id)
    return OneOfMany(expression=item.call.expression, status=status, searched=searched)


async def _write(
    engine: Reply, body_bytes: int, top: RawObject, answers: Sequence[_Answered | CallerError], run: _Run
) -> ManyOutcome:
    """The engine's answer with these answers in it, about `body_bytes` long, in the coding that the engine used.

    The time of a search ends where the writing begins, since its status is written too.
    """
    answered = [one for one in answers if isinstance(one, _Answered)]
    searches = tuple([_ended(one.item, one.status, one.searched, run) for one in answered])
    statuses = iter(one.status for one in searches)
    responses = [
        msgspec.Raw(error_body(one.status, caller_kind(one.status), str(one)))
        if isinstance(one, CallerError)
        else _with_status(one, next(statuses))
        for one in answers
    ]
    call = answered[0].item.call  # how an answer is written is said for all searches
    coding = first_header(engine.headers, b"content-encoding")
    cost = writing_cost(body_bytes, call, coding)
    body = end_body(await compute(cost, start_body, {**top, "responses": responses}, call, coding))
    run.laps.lap("write")
    headers = (*without_headers(engine.headers, b"content-length"), (b"content-length", b"%d" % len(body)))
    headers = with_warning(headers, warning_of_all([one.status for one in searches]))
    return ManyOutcome(reply=Reply(status=engine.status, headers=headers, body=body), searches=searches)


def _with_status(one: _Answered, status: SearchStatus) -> Any:
    """The answer, and the status of its search as its last member if that was asked for and the engine did not refuse.

    What is not written into keeps its bytes.
    """
    if "status" not in one.item.decision.include:
        return one.answer
    members = one.answer if isinstance(one.answer, dict) else open_object(bytes(one.answer))
    return one.answer if members is None or "error" in members else {**members, BLOCK: status.block()}
