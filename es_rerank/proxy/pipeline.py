"""The path of a search, top to bottom: read, decide, plan, fetch the window, judge it, finish.

Only this file decides what a search falls back to when something fails. Deciding, planning, ranking and rendering are
pure and have files of their own; what this file waits for is the engine and the scores.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from es_rerank.clock import Deadline
from es_rerank.errors import CallerError, UpstreamError
from es_rerank.fusion.rank import Window, rank
from es_rerank.language import may_be_in
from es_rerank.proxy.events.searched import searched_of
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body, inflated_bytes
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.offload import compute
from es_rerank.proxy.scoring.ask import ScoreRequest
from es_rerank.proxy.search.call import read_call
from es_rerank.proxy.search.control import HEADER, take_controls
from es_rerank.proxy.search.decide import Relay, decide, with_types
from es_rerank.proxy.search.render import Verdict, page_of, render_answer
from es_rerank.proxy.search.status import SearchStatus, outcome_of
from es_rerank.proxy.search.window import plan_plain, plan_window, read_answer, read_texts
from es_rerank.proxy.search.write import finish_body, start_body, writing_cost
from es_rerank.rawjson import open_object
from es_rerank.records import Reply, first_header, without_headers
from es_rerank.upstream import AnswerTooLargeError, NoRoomError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from es_rerank.memory import Share
    from es_rerank.proxy.events.searched import Searched
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.scoring.ask import WindowScores
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.decide import Rerank
    from es_rerank.proxy.search.window import EngineAnswer, WindowPlan
    from es_rerank.reasons import Reason
    from es_rerank.records import Headers, Request
    from es_rerank.rules.book import RuleBook
    from es_rerank.texts import Texts

LOG = logging.getLogger(__name__)
# A request is read into Python's own objects, which takes so much longer than opening an answer as long.
READING_COST = 4
# How long a search waits for the types of its fields, once it needs nothing else to go on.
TYPES_WAIT_S = 0.5
# No filter makes writing an answer take much longer than this times opening it.
MOST_WRITING_COST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of a search: a complete `reply`, or a request to `forward`, whose answer goes through as it comes.

    Exactly one of the two is set. `window` is what was ranked, None where nothing was. `searched` is what an event
    tells of the search, None where it leaves none.
    """

    status: SearchStatus
    reply: Reply | None = None
    forward: Request | None = None
    window: Window | None = None
    searched: Searched | None = None


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


async def answer(  # noqa: PLR0917
    request: Request, expression: str, book: RuleBook, parts: Parts, share: Share, trace: Trace | None = None
) -> Outcome:
    """Answer a search for an index expression ('' for none) by the rules of this book.

    `request.body` is a stream only if it can't be held. Answers that have to be held are taken from `share`. What the
    search meets is noted in `trace`.
    Raises CallerError if the request asks es-rerank for something that isn't allowed, and UpstreamError if no engine
    host answers. Nothing else makes a search fail.
    """
    run = _Run(parts=parts, laps=Laps(parts.clock), share=share, trace=trace or Trace())
    plain = replace(request, headers=without_headers(request.headers, HEADER))
    try:
        max_bytes = parts.limits.max_request_bytes
        call = await compute(_reading_cost(request), read_call, request, expression, max_bytes=max_bytes)
        has_room = _holds(share, call.body, request.body)
        cost = READING_COST * len(call.body)
        asked, call = await compute(cost, take_controls, call)
        plain = call.carrier.request  # from here on the request holds nothing that is meant for es-rerank
        run.trace.call = call
        if not has_room:
            status = SearchStatus(status="failed", reason="memory_full", took_ms=run.laps.took_ms())
            return Outcome(forward=plain, status=status)
        decision = await compute(cost, decide, call, asked, book)
        if isinstance(decision, Relay) and decision.in_doubt:
            is_text = await _types_of(call, decision.in_doubt, run, parts.clock.monotonic_s() + TYPES_WAIT_S)
            decision = await compute(cost, decide, call, asked, book, is_text)
        run.trace.decision = decision
        if isinstance(decision, Relay):
            return await _pass_on(call, decision.include, _relayed(decision), run)
        if parts.events is not None:
            searched = searched_of(call, asked, decision, rules_version=book.version, new_id=uuid4().hex)
            run = replace(run, searched=searched)
        try:
            return await _rerank(call, decision, run)
        except UpstreamError:
            raise
        except Exception:
            LOG.exception("reranking broke; the search goes through")
            return await _pass_on(call, decision.include, _failed(decision, "internal_error"), run)
    except (CallerError, UpstreamError):
        raise
    except Exception:  # whatever is wrong with us, the search is answered
        LOG.exception("a search broke; it goes through")
        status = SearchStatus(status="failed", reason="internal_error", took_ms=run.laps.took_ms())
        return Outcome(forward=plain, status=status)


async def _rerank(call: SearchCall, decision: Rerank, run: _Run) -> Outcome:
    """The search, reranked as far as the deadline allows."""
    parts, laps, trace = run.parts, run.laps, run.trace
    deadline = Deadline(parts.clock, laps.started_s + decision.deadline_s)
    if decision.in_doubt and parts.field_types is not None:
        parts.field_types.begin(call, decision.in_doubt)  # beside the window, which needs no question
    plan = trace.plan = await compute(READING_COST * len(call.body), plan_window, call, decision)
    fetched = await _fetch_window(call, plan, decision, deadline, run)
    if isinstance(fetched, Outcome):
        return fetched
    if isinstance(fetched, SearchStatus):
        return await _pass_on(call, decision.include, fetched, run)
    found, cost = fetched.found, fetched.body_bytes
    trace.found = found
    if run.searched is not None:
        run = replace(run, searched=run.searched.named_by(found))
    unfit = _why_unfit(found, decision)
    if unfit is not None:
        return await _answer_unranked(call, plan, decision, fetched, _skipped(unfit, decision), run)
    if decision.in_doubt:
        wait_s = min(TYPES_WAIT_S, deadline.remaining_s() / 2)
        is_text = await _types_of(call, decision.in_doubt, run, parts.clock.monotonic_s() + wait_s)
        decision = trace.decision = await compute(READING_COST * len(call.body), with_types, decision, is_text)
        laps.lap("engine")
    read = trace.texts = await compute(cost, read_texts, found, decision)
    _note_absent_fields(decision, read, parts)
    if not _reads(decision, read):
        return await _answer_unranked(call, plan, decision, fetched, _skipped("language", decision), run)
    request = ScoreRequest(scoring=decision.scoring, texts=read.texts)
    deadline = deadline.before(_writing_s(laps.lap("read"), call, fetched.reply))
    [scores] = await parts.scores.judge([request], deadline, laps)
    trace.scores = scores
    window = Window(
        ids=found.ids[: len(request.texts)],
        engine_scores=found.scores[: len(request.texts)],
        judgments=scores.judgments,
    )
    ranked = await compute(cost, rank, window.engine_scores, window.judgments, decision.recipe)
    verdict = trace.verdict = Verdict(ranked=ranked, judgments=window.judgments, from_cache=scores.from_cache)
    if "reasoning" in decision.include:
        places = [index for _, index in page_of(found, decision.page, verdict.ranked.ranking)]
        shown = [index for index in places if index < len(request.texts)]
        verdict = replace(verdict, reasoning=await parts.scores.find_reasoning(shown, request, scores, deadline))
        laps.lap("reasoning")
    members = await compute(cost, render_answer, found, plan, decision, verdict)
    laps.lap("fuse")
    status = _status_of(decision, scores, read.missing_fields)
    run = _with_hits(run, found, verdict)
    outcome = await _write(fetched.reply, cost, members, call, status, decision.include, run)
    return replace(outcome, window=window)


def _with_hits(run: _Run, found: EngineAnswer, verdict: Verdict) -> _Run:
    """With the hits and their new order, for the event."""
    if run.searched is None:
        return run
    return replace(run, searched=run.searched.with_hits(found, verdict))


async def _fetch_window(
    call: SearchCall, plan: WindowPlan, decision: Rerank, deadline: Deadline, run: _Run
) -> _WindowAnswer | SearchStatus | Outcome:
    """The engine's answer for the window; or why it is of no use; or the outcome of the client's own search.

    At the deadline the window is not given up: the client's own search is sent beside it, and the first of the two that
    is answered well counts. So a window that takes much longer than the search costs no more than the deadline, and
    where the whole engine is slow, scores that are in the cache still count. Raises UpstreamError if no answer came.
    """
    if run.parts.large_windows.knows(plan.shape, run.parts.clock.monotonic_s()):
        return _failed(decision, "answer_too_large")
    fetching = asyncio.create_task(_read_window(plan, decision, deadline, run))
    try:
        async with deadline.limit():
            return await asyncio.shield(fetching)
    except TimeoutError:
        late = _failed(decision, "deadline")
        own = asyncio.create_task(_pass_on(call, decision.include, late, run, held=True, new_connection=True))
        try:
            return await _first_useful(fetching, own)
        finally:
            _drop(own)
    finally:
        _drop(fetching)


async def _read_window(
    plan: WindowPlan, decision: Rerank, deadline: Deadline, run: _Run
) -> _WindowAnswer | SearchStatus:
    """The engine's answer for the window, or the status of the search if that is of no use to it.

    Raises UnreachableError, since the client's own search would not be answered either.
    """
    large_windows = run.parts.large_windows
    try:
        reply, body = await _fetch(plan.request, run, due_s=deadline.due_s)
    except UnreachableError:
        raise
    except (UpstreamError, UnreadableBodyError) as error:
        LOG.warning("the answer for a window is of no use: %s", error)
        if isinstance(error, AnswerTooLargeError):
            large_windows.note_too_large(plan.shape, run.parts.clock.monotonic_s())
        return _failed(decision, _why_lost(error))
    large_windows.note_fit(plan.shape)
    run.laps.lap("engine")
    if reply.status != 200:  # the engine may refuse only our window; if not, the client must get its own refusal
        return _failed(decision, "engine_refused")
    found = await compute(len(body), read_answer, body)
    if found is None:
        return _failed(decision, "unreadable_answer")
    # A shard may have failed on our window alone. An answer that is incomplete otherwise serves if its page is full.
    if found.shards_failed or not (found.complete or len(found.hits) >= decision.page.end):
        return _skipped("partial_answer", decision)
    return _WindowAnswer(reply=reply, body_bytes=len(body), found=found)


def _why_lost(error: Exception) -> Reason:
    if isinstance(error, AnswerTooLargeError):
        return "answer_too_large"
    if isinstance(error, NoRoomError):
        return "memory_full"
    return "unreadable_answer" if isinstance(error, UnreadableBodyError) else "window_lost"


async def _first_useful(
    fetching: asyncio.Task[_WindowAnswer | SearchStatus], own: asyncio.Task[Outcome]
) -> _WindowAnswer | Outcome:
    """The window if it comes first and is of use, else the client's own search; if that fails, what is left."""
    await asyncio.wait({fetching, own}, return_when=asyncio.FIRST_COMPLETED)
    if fetching.done() and fetching.exception() is None and isinstance(window := fetching.result(), _WindowAnswer):
        return window
    try:
        return await own
    except UpstreamError:
        window = await fetching
        if isinstance(window, _WindowAnswer):
            return window
        raise


def _drop(task: asyncio.Task[Any]) -> None:
    """Cancel a task whose result nobody needs any more, if it still runs."""
    task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


async def _pass_on(
    call: SearchCall,
    include: AbstractSet[str],
    status: SearchStatus,
    run: _Run,
    *,
    held: bool = False,
    new_connection: bool = False,
) -> Outcome:
    """The engine's own answer as it comes; held only if `held` asks for that, or the status is written into it."""
    written = "status" in include
    forwarded = Outcome(forward=call.carrier.request, status=run.finished(status), searched=run.searched)
    if not call.held or not (written or held) or status.reason == "memory_full":
        return forwarded
    request = plan_plain(call) if written else call.carrier.request
    try:
        reply, body = await _fetch(request, run, new_connection=new_connection)
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
    headers = with_warning(reply.headers, status)
    return Outcome(reply=replace(reply, headers=headers), status=status, searched=run.searched)


def settle(status: SearchStatus, engine_status: int) -> SearchStatus:
    """The status of a search that passed on, once the engine's answer is known: its refusal is not our failure."""
    if engine_status == 200 or status.status != "failed":
        return status
    return replace(status, status="skipped", reason="engine_refused")


async def _answer_unranked(  # noqa: PLR0917
    call: SearchCall, plan: WindowPlan, decision: Rerank, window: _WindowAnswer, status: SearchStatus, run: _Run
) -> Outcome:
    """The client's page in the engine's order, out of the window's answer: the engine is not asked again."""
    found, cost = window.found, window.body_bytes
    scores = found.scores[: decision.window]
    gaps = (None,) * len(scores)
    verdict = Verdict(ranked=rank(scores, gaps, decision.recipe), judgments=gaps)
    bare = replace(decision, include=frozenset())
    members = await compute(cost, render_answer, found, plan, bare, verdict)
    run = _with_hits(run, found, verdict)
    return await _write(window.reply, cost, members, call, status, decision.include, run)


async def _fetch(
    request: Request, run: _Run, *, due_s: float | None = None, new_connection: bool = False
) -> tuple[Reply, bytes]:
    """The engine's answer, and its body without its coding.

    Raises AnswerTooLargeError, NoRoomError, UnreadableBodyError.
    """
    max_bytes = run.parts.limits.max_answer_bytes
    reply = await run.parts.engine.fetch(
        request, max_bytes=max_bytes, hold=run.share.take, due_s=due_s, new_connection=new_connection
    )
    coding = first_header(reply.headers, b"content-encoding")
    cost = min(inflated_bytes(reply.body, coding), max_bytes)
    body = await compute(cost, decode_body, reply.body, coding, max_bytes=max_bytes)
    if not _holds(run.share, body, reply.body):
        raise NoRoomError("the engine's answer can't be inflated now: limits.max_held_bytes are held")
    return reply, body


def _holds(share: Share, read: bytes, came: object) -> bool:
    """Whether there is room for what was read, beside what came: a body that was compressed is there twice."""
    return read is came or share.take(len(read))


def _writing_s(read_s: float, call: SearchCall, engine: Reply) -> float:
    """About how long the answer takes to write, if opening it took `read_s`: so much sooner the wait for scores ends.

    A long answer takes longer than the margin that is always kept, and everything does on a busy machine.
    """
    return read_s * min(MOST_WRITING_COST, writing_cost(1, call, first_header(engine.headers, b"content-encoding")))


def _reading_cost(request: Request) -> int:
    """How much there is to compute for reading a request, 0 where its body is not held."""
    body = request.body if isinstance(request.body, bytes) else b""
    return READING_COST * (len(body) + inflated_bytes(body, request.header(b"content-encoding")))


async def _types_of(call: SearchCall, fields: Sequence[str], run: _Run, due_s: float) -> Mapping[str, bool]:
    """By field, whether it is a text, as far as that is known at this instant at the latest."""
    types = run.parts.field_types
    return {} if types is None else await types.find(call, fields, due_s)


def _note_absent_fields(decision: Rerank, read: Texts, parts: Parts) -> None:
    """Warn, once, of a field that no hit of many searches has."""
    fields = decision.text.names
    hits = len(read.texts)
    for field in parts.absent_fields.note(decision.rule, fields, hits=hits, missing=read.missing_fields):
        LOG.warning("rule %r: no hit of the last searches has the field %r in its _source", decision.rule, field)


def _why_unfit(found: EngineAnswer, decision: Rerank) -> Reason | None:
    """Why an answer that has the client's page is not reranked, or None."""
    if not found.complete:
        return "partial_answer"
    return "system_index" if decision.may_reach_system and found.has_system_hits else None


def _reads(decision: Rerank, read: Texts) -> bool:
    """Whether the scorer can read the window. Its first hits decide, so that all pages of a search agree.

    A window without any text is left to scoring, which says so.
    """
    language = decision.language
    return language is None or not any(read.texts) or may_be_in(language, decision.scoring.question, read.texts)


def _status_of(decision: Rerank, scores: WindowScores, missing_fields: Mapping[str, int]) -> SearchStatus:
    """What became of a window."""
    size = len(scores.judgments)
    # A hit without text can't be scored. If no hit of a window has text, the rule probably names the wrong fields.
    expected = size - scores.missing_text or size
    outcome, reason = outcome_of(window=expected, scored=scores.scored, reason=scores.reason)
    return SearchStatus(
        status=outcome,
        reason=reason,
        rule=decision.rule,
        scorer=decision.scorer,
        window=size,
        scored=scores.scored,
        cached=scores.cached,
        missing_text=scores.missing_text,
        missing_fields=missing_fields,
        mode=decision.mode,
        question=decision.told_question,
        cut=scores.cut,
        low_mass=scores.low_mass,
        truncated=scores.truncated,
    )


def _relayed(relay: Relay) -> SearchStatus:
    """The status of a search that was never begun. Only where memory is full would it have been reranked."""
    outcome: Literal["failed", "skipped"] = "failed" if relay.reason == "memory_full" else "skipped"
    return SearchStatus(status=outcome, reason=relay.reason, rule=relay.rule)


def _skipped(reason: Reason, decision: Rerank) -> SearchStatus:
    return SearchStatus(status="skipped", reason=reason, rule=decision.rule, question=decision.told_question)


def _failed(decision: Rerank, reason: Reason) -> SearchStatus:
    return SearchStatus(
        status="failed", reason=reason, rule=decision.rule, scorer=decision.scorer, question=decision.told_question
    )


async def _write(  # noqa: PLR0917
    engine: Reply,
    body_bytes: int,
    members: dict[str, Any],
    call: SearchCall,
    status: SearchStatus,
    include: AbstractSet[str],
    run: _Run,
) -> Outcome:
    """The engine's answer with these members, about `body_bytes` long, in the coding that the engine used for its own.

    The status is made when everything else is written, and so has the time of all steps.
    """
    coding = first_header(engine.headers, b"content-encoding")
    started = await compute(writing_cost(body_bytes, call, coding), start_body, members, call, coding)
    run.laps.lap("write")
    status = run.finished(status)
    body = finish_body(started, call, status, include)
    headers = (*without_headers(engine.headers, b"content-length"), (b"content-length", b"%d" % len(body)))
    reply = Reply(status=engine.status, headers=with_warning(headers, status), body=body)
    return Outcome(reply=reply, status=status, searched=run.searched)


def with_warning(headers: Headers, status: SearchStatus) -> Headers:
    """The headers of an answer, and the Warning where reranking was partial or failed."""
    warning = status.warning()
    return headers if warning is None else (*headers, (b"warning", warning))
