"""The path of a search, top to bottom: read, decide, plan, fetch the window, judge it, finish.

Only this file decides what a search falls back to when something fails. Deciding, planning, ranking and rendering are
pure and have files of their own; what this file waits for is the engine and the scores.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from es_rerank.clock import Deadline
from es_rerank.errors import CallerError, UpstreamError
from es_rerank.proxy.events.searched import searched_of
from es_rerank.proxy.http.coding import UnreadableBodyError
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.offload import compute
from es_rerank.proxy.outcome import SearchOutcome
from es_rerank.proxy.scoring.ask import ScoreRequest
from es_rerank.proxy.search.call import read_call
from es_rerank.proxy.search.control import HEADER
from es_rerank.proxy.search.decide import Relay, decide, with_types
from es_rerank.proxy.search.render import Verdict, render_answer, turned
from es_rerank.proxy.search.search_pipeline import taken_over
from es_rerank.proxy.search.status import SearchStatus
from es_rerank.proxy.search.window import plan_plain, plan_window, read_answer, read_texts
from es_rerank.proxy.search.write import finish_body, start_body, writing_cost
from es_rerank.proxy.steps import (
    MOST_WAIT_S,
    READING_COST,
    can_read,
    failed,
    fetch,
    holds,
    note_absent_fields,
    opened,
    reading_cost,
    relayed,
    scored,
    settle,
    skipped,
    texts_cost,
    types_of,
    unranked,
    useful_by,
    verdict_of,
    why_lost,
    why_unfit,
    why_useless,
    window_of,
    with_pipelines,
    with_reasoning,
    with_warning,
    writing_s,
    written,
)
from es_rerank.proxy.templates import Template, render
from es_rerank.rawjson import open_object
from es_rerank.records import Reply, first_header, without_headers
from es_rerank.upstream import AnswerTooLargeError, NoRoomError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from collections.abc import Set as AbstractSet

    from es_rerank.memory import Share
    from es_rerank.proxy.events.searched import Searched
    from es_rerank.proxy.outcome import Outcome
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.scoring.ask import WindowScores
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.decide import Rerank
    from es_rerank.proxy.search.window import EngineAnswer, WindowPlan
    from es_rerank.records import Request
    from es_rerank.rules.book import RuleBook
    from es_rerank.texts import Texts

LOG = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Trace:
    """What a search met on its way, for who wants to tell about it. What it did not come to stays None.

    `call` is the search without what it asked of us. `texts` and `scores` are parallel to the window. `verdict` is set
    only where the window was judged.
    """

    call: SearchCall | None = None
    decision: Rerank | Relay | None = None
    plan: WindowPlan | None = None
    found: EngineAnswer | None = None
    texts: Texts | None = None
    scores: WindowScores | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What every step of one search has at hand: the process's parts, its stopwatch, what it may hold, its trace.

    `searched` is what its event tells of it so far, None where it leaves none.
    """

    parts: Parts
    laps: Laps
    share: Share
    trace: Trace
    searched: Searched | None = None

    def finished(self, status: SearchStatus) -> SearchStatus:
        """The status with what is known last: the time of all steps, and the id of the search's event."""
        query_id = None if self.searched is None else self.searched.names.query_id
        return replace(status, took_ms=self.laps.took_ms(), query_id=query_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WindowAnswer:
    """The engine's answer for a window: its status and headers, how long its body is, and what was found in it."""

    reply: Reply
    body_bytes: int
    found: EngineAnswer


async def answer_one(
    request: Request, expression: str, book: RuleBook, parts: Parts, share: Share, *, template: bool = False
) -> Outcome:
    """See `answer`: the outcome of a request that is one search."""
    trace = Trace()
    outcome = await answer(request, expression, book, parts, share, trace, template=template)
    return outcome.as_request(expression if trace.call is None else trace.call.expression)


async def answer(  # noqa: PLR0917
    request: Request,
    expression: str,
    book: RuleBook,
    parts: Parts,
    share: Share,
    trace: Trace | None = None,
    *,
    template: bool = False,
) -> SearchOutcome:
    """Answer a search, or a search template, for an index expression ('' for none) by the rules of this book.

    `request.body` is a stream only if it can't be held. Answers that have to be held are taken from `share`. What the
    search meets is noted in `trace`.
    Raises CallerError if the request asks es-rerank for something that isn't allowed, and UpstreamError if no engine
    host answers. Nothing else makes a search fail.
    """
    run = _Run(parts=parts, laps=Laps(parts.clock), share=share, trace=trace or Trace())
    plain = replace(request, headers=without_headers(request.headers, HEADER))
    try:
        max_bytes = parts.limits.max_request_bytes
        call = await compute(
            reading_cost(request), read_call, request, expression, max_bytes=max_bytes, template=template
        )
        has_room = holds(share, call.body, request.body)
        cost = READING_COST * len(call.body)
        asked, call = await compute(cost, opened, call, book, parts.points)
        plain = call.carrier.request  # from here on the request holds nothing that is meant for es-rerank
        run.trace.call = call
        if not has_room:
            status = SearchStatus(status="failed", reason="memory_full", took_ms=run.laps.took_ms())
            return SearchOutcome(forward=plain, status=status)
        call, decision = await decided(call, asked, book, parts)
        if isinstance(decision, Relay) and decision.rendering_s is not None:
            made = await _make(Template(call=call, asked=asked, rule=decision.rule), decision.rendering_s, run)
            if isinstance(made, SearchStatus):
                return await _pass_on(call, decision.include, made, run)
            cost = READING_COST * len(made.body)
            asked, call = await compute(cost, opened, made, book, parts.points)
            plain = call.carrier.request
            run.trace.call = call
            call, decision = await decided(call, asked, book, parts)
        run.trace.decision = decision
        if isinstance(decision, Relay):
            return await _pass_on(call, decision.include, relayed(decision), run)
        call = run.trace.call = await compute(cost, taken_over, call)
        if parts.events is not None:
            searched = searched_of(call, asked, decision, rules_version=book.version, new_id=uuid4().hex)
            run = replace(run, searched=searched)
        try:
            return await _rerank(call, decision, run)
        except UpstreamError:
            raise
        except Exception:
            LOG.exception("reranking broke; the search goes through")
            return await _pass_on(call, decision.include, failed(decision, "internal_error"), run)
    except (CallerError, UpstreamError):
        raise
    except Exception:  # whatever is wrong with us, the search is answered
        LOG.exception("a search broke; it goes through")
        status = SearchStatus(status="failed", reason="internal_error", took_ms=run.laps.took_ms())
        return SearchOutcome(forward=plain, status=status)


async def rerank(  # noqa: PLR0917
    call: SearchCall, decision: Rerank, searched: Searched | None, parts: Parts, share: Share, trace: Trace
) -> SearchOutcome:
    """The outcome of a search for which it is decided already that it is reranked; see `answer`.

    `searched` is what its event tells of it so far. Whatever breaks is raised here.
    """
    return await _rerank(
        call, decision, _Run(parts=parts, laps=Laps(parts.clock), share=share, trace=trace, searched=searched)
    )


async def decided(
    call: SearchCall, asked: dict[str, Any], book: RuleBook, parts: Parts
) -> tuple[SearchCall, Rerank | Relay]:
    """The call, with what its search pipeline does if that matters, and what is decided of it, see `decide`.

    A search that may have a question after all is decided again once its fields are known.
    """
    cost = READING_COST * len(call.body)
    [call] = await with_pipelines([call], book, parts, cost)
    decision = await compute(cost, decide, call, asked, book)
    if isinstance(decision, Relay) and decision.in_doubt:
        due_s = parts.clock.monotonic_s() + min(MOST_WAIT_S, decision.wait_s)
        is_text = await types_of(call, decision.in_doubt, parts, due_s)
        decision = await compute(cost, decide, call, asked, book, is_text)
    return call, decision


async def _make(template: Template, limit_s: float, run: _Run) -> SearchCall | SearchStatus:
    """The search that the engine makes of a template, or why it did not so long after the search has come."""
    [made] = await render([template], run.laps.started_s + limit_s, run.parts, run.share)
    run.laps.lap("engine")
    return made


async def _rerank(call: SearchCall, decision: Rerank, run: _Run) -> SearchOutcome:
    """The search, reranked as far as the deadline allows."""
    parts, laps, trace = run.parts, run.laps, run.trace
    deadline = Deadline(parts.clock, laps.started_s + decision.deadline_s)
    if decision.in_doubt and parts.field_types is not None:
        parts.field_types.begin(call, decision.in_doubt)  # beside the window, which needs no question
    plan = trace.plan = await compute(READING_COST * len(call.body), plan_window, call, decision)
    fetched = await _fetch_window(call, plan, decision, deadline, run)
    if isinstance(fetched, SearchOutcome):
        return fetched
    if isinstance(fetched, SearchStatus):
        return await _pass_on(call, decision.include, fetched, run)
    found, cost = fetched.found, fetched.body_bytes
    trace.found = found
    parts.points.follow(call, found.top)
    unfit = why_unfit(found, decision)
    if unfit is not None:
        return await _answer_unranked(call, plan, decision, fetched, skipped(unfit, decision), run)
    if decision.in_doubt:
        wait_s = min(MOST_WAIT_S, deadline.remaining_s() / 2)
        is_text = await types_of(call, decision.in_doubt, parts, parts.clock.monotonic_s() + wait_s)
        decision = trace.decision = await compute(READING_COST * len(call.body), with_types, decision, is_text)
        laps.lap("engine")
    read = trace.texts = await compute(texts_cost(cost, [decision]), read_texts, found, decision)
    note_absent_fields(decision, read, parts)
    if not can_read(decision, read):
        return await _answer_unranked(call, plan, decision, fetched, skipped("language", decision), run)
    request = ScoreRequest(scoring=decision.scoring, texts=read.texts)
    deadline = deadline.before(writing_s(laps.lap("read"), call, fetched.reply))
    [scores] = await parts.scores.judge([request], deadline, laps)
    trace.scores = scores
    window = window_of(found, scores, decision, read.texts)
    verdict = trace.verdict = await compute(cost, verdict_of, window, scores, decision)
    if decision.cursor is not None:
        decision = trace.decision = await compute(cost, turned, found, decision, verdict)
    if "reasoning" in decision.include:
        verdict = await with_reasoning(verdict, found, decision, request, scores, deadline, parts)
        laps.lap("reasoning")
    members = await compute(cost, render_answer, found, plan, decision, verdict)
    laps.lap("fuse")
    status = scored(decision, scores, read.missing_fields)
    run = _with_hits(run, found, verdict, decision)
    outcome = await _write(fetched.reply, cost, members, call, status, decision.include, run)
    return replace(outcome, window=window)


def _with_hits(run: _Run, found: EngineAnswer, verdict: Verdict, decision: Rerank) -> _Run:
    """With the hits, their new order and the decision by which they have it, for the event."""
    if run.searched is None:
        return run
    return replace(run, searched=run.searched.with_hits(found, verdict, decision))


async def _fetch_window(
    call: SearchCall, plan: WindowPlan, decision: Rerank, deadline: Deadline, run: _Run
) -> _WindowAnswer | SearchStatus | SearchOutcome:
    """The engine's answer for the window; or why it is of no use; or the outcome of the client's own search.

    See `useful_by` for what happens at the deadline. Raises UpstreamError if no answer came.
    """
    if run.parts.large_windows.knows(plan.shape, run.parts.clock.monotonic_s()):
        return failed(decision, "answer_too_large")

    def pass_on() -> Coroutine[Any, Any, SearchOutcome]:
        late = failed(decision, "deadline")
        return _pass_on(call, decision.include, late, run, held=True, new_connection=True)

    return await useful_by(deadline, asyncio.create_task(_read_window(plan, decision, deadline, run)), pass_on)


async def _read_window(
    plan: WindowPlan, decision: Rerank, deadline: Deadline, run: _Run
) -> _WindowAnswer | SearchStatus:
    """The engine's answer for the window, or the status of the search if that is of no use to it.

    Raises UnreachableError, since the client's own search would not be answered either.
    """
    large_windows = run.parts.large_windows
    try:
        reply, body = await fetch(plan.request, run.parts, run.share, due_s=deadline.due_s)
    except UnreachableError:
        raise
    except (UpstreamError, UnreadableBodyError) as error:
        LOG.warning("the answer for a window is of no use: %s", error)
        if isinstance(error, AnswerTooLargeError):
            large_windows.note_too_large(plan.shape, run.parts.clock.monotonic_s())
        return failed(decision, why_lost(error))
    large_windows.note_fit(plan.shape)
    run.laps.lap("engine")
    if reply.status != 200:  # the engine may refuse only our window; if not, the client must get its own refusal
        return failed(decision, "engine_refused")
    found = await compute(len(body), read_answer, body)
    if found is None:
        return failed(decision, "unreadable_answer")
    useless = why_useless(found, decision)
    if useless is not None:
        return skipped(useless, decision)
    return _WindowAnswer(reply=reply, body_bytes=len(body), found=found)


async def _pass_on(
    call: SearchCall,
    include: AbstractSet[str],
    status: SearchStatus,
    run: _Run,
    *,
    held: bool = False,
    new_connection: bool = False,
) -> SearchOutcome:
    """The engine's own answer as it comes; held only if `held` asks for that, or the status is written into it."""
    written = "status" in include
    forwarded = SearchOutcome(forward=call.carrier.request, status=run.finished(status), searched=run.searched)
    if not call.held or not (written or held) or status.reason == "memory_full":
        return forwarded
    request = plan_plain(call) if written else call.carrier.request
    try:
        reply, body = await fetch(request, run.parts, run.share, new_connection=new_connection)
    except (AnswerTooLargeError, NoRoomError, UnreadableBodyError):
        return forwarded
    run.laps.lap("engine")
    status = run.finished(settle(status, reply.status))
    members = await compute(len(body), open_object, body) if written else None
    if members is not None and (reply.status == 200 or call.filter_path):
        shown = include if reply.status == 200 else frozenset[str]()
        return await _write(reply, len(body), members, call, status, shown, run)
    if written and call.filter_path:  # what we asked for was not filtered, and can't be filtered here
        return replace(forwarded, status=status)
    headers = with_warning(reply.headers, status.warning())
    return SearchOutcome(reply=replace(reply, headers=headers), status=status, searched=run.searched)


async def _answer_unranked(  # noqa: PLR0917
    call: SearchCall, plan: WindowPlan, decision: Rerank, window: _WindowAnswer, status: SearchStatus, run: _Run
) -> SearchOutcome:
    """The client's page in the engine's order, out of the window's answer: the engine is not asked again."""
    found, cost = window.found, window.body_bytes
    verdict = unranked(found, decision)
    if decision.cursor is not None:
        decision = run.trace.decision = await compute(cost, turned, found, decision, verdict)
    bare = replace(decision, include=frozenset())
    members = await compute(cost, render_answer, found, plan, bare, verdict)
    run = _with_hits(run, found, verdict, decision)
    return await _write(window.reply, cost, members, call, status, decision.include, run)


async def _write(  # noqa: PLR0917
    engine: Reply,
    body_bytes: int,
    members: dict[str, Any],
    call: SearchCall,
    status: SearchStatus,
    include: AbstractSet[str],
    run: _Run,
) -> SearchOutcome:
    """The engine's answer with these members, about `body_bytes` long, in the coding that the engine used for its own.

    The status is made when everything else is written, and so has the time of all steps.
    """
    coding = first_header(engine.headers, b"content-encoding")
    started = await compute(writing_cost(body_bytes, call, coding), start_body, members, call, coding)
    run.laps.lap("write")
    status = run.finished(status)
    body = finish_body(started, call, status, include)
    return SearchOutcome(reply=written(engine, body, status.warning()), status=status, searched=run.searched)
