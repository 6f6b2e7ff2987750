"""The path of a search, top to bottom: read, decide, plan, fetch the window, judge it, finish.

Only this file decides what a search falls back to when something fails. Deciding, planning, ranking and rendering are
pure and have files of their own; what this file waits for is the engine and the scores.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from es_rerank.clock import Deadline
from es_rerank.errors import CallerError, UpstreamError
from es_rerank.fusion.rank import Window, rank
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body, encode_body
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.scoring.ask import ScoreRequest
from es_rerank.proxy.search.call import read_call
from es_rerank.proxy.search.control import HEADER, take_controls
from es_rerank.proxy.search.decide import Relay, decide
from es_rerank.proxy.search.render import Verdict, finish_body, page_of, render_answer
from es_rerank.proxy.search.status import SearchStatus, outcome_of
from es_rerank.proxy.search.window import plan_plain, plan_window, read_answer, read_texts
from es_rerank.rawjson import open_object
from es_rerank.records import Reply, first_header, without_headers
from es_rerank.upstream import AnswerTooLargeError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.scoring.ask import WindowScores
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.decide import Rerank
    from es_rerank.proxy.search.window import EngineAnswer, WindowPlan
    from es_rerank.reasons import Reason
    from es_rerank.records import Headers, Request
    from es_rerank.rules.book import RuleBook
    from es_rerank.texts import Texts

    WindowAnswer = tuple[Reply, EngineAnswer]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of a search: a complete `reply`, or a request to `forward`, whose answer goes through as it comes.

    Exactly one of the two is set. `window` is what was ranked, None where nothing was.
    """

    status: SearchStatus
    reply: Reply | None = None
    forward: Request | None = None
    window: Window | None = None


async def answer(request: Request, expression: str, book: RuleBook, parts: Parts) -> Outcome:
    """Answer a search for an index expression ('' for none) by the rules of this book.

    `request.body` is a stream only if it is too large to hold.
    Raises CallerError if the request asks es-rerank for something that isn't allowed, and UpstreamError if no engine
    host answers. Nothing else makes a search fail.
    """
    laps = Laps(parts.clock)
    plain = replace(request, headers=without_headers(request.headers, HEADER))
    try:
        call = read_call(request, expression, max_bytes=parts.limits.max_request_bytes)
        asked, call = take_controls(call)
        plain = call.carrier.request  # from here on the request holds nothing that is meant for es-rerank
        decision = decide(call, asked, book)
        if isinstance(decision, Relay):
            return await _pass_on(call, decision.include, _relayed(decision), parts, laps)
        try:
            return await _rerank(call, decision, parts, laps)
        except UpstreamError:
            raise
        except Exception:
            LOG.exception("reranking broke; the search goes through")
            return await _pass_on(call, decision.include, _failed(decision, "internal_error"), parts, laps)
    except (CallerError, UpstreamError):
        raise
    except Exception:  # whatever is wrong with us, the search is answered
        LOG.exception("a search broke; it goes through")
        status = SearchStatus(status="failed", reason="internal_error", took_ms=laps.took_ms())
        return Outcome(forward=plain, status=status)


async def _rerank(call: SearchCall, decision: Rerank, parts: Parts, laps: Laps) -> Outcome:
    """The search, reranked as far as the deadline allows."""
    deadline = Deadline(parts.clock, laps.started_s + decision.deadline_s)
    plan = plan_window(call, decision)
    if parts.large_windows.knows(plan.shape, parts.clock.monotonic_s()):
        return await _pass_on(call, decision.include, _failed(decision, "answer_too_large"), parts, laps)
    fetched = await _fetch_window(call, plan, decision, deadline, parts, laps)
    laps.lap("engine")
    if isinstance(fetched, Outcome):
        return fetched
    if isinstance(fetched, SearchStatus):
        return await _pass_on(call, decision.include, fetched, parts, laps)
    reply, found = fetched
    unfit = _why_unfit(found, decision)
    if unfit is not None:
        return _answer_unranked(call, plan, decision, reply, found, _skipped(unfit, decision.rule), laps)
    read = read_texts(found, decision)
    _note_absent_fields(decision, read, parts)
    request = ScoreRequest(scoring=decision.scoring, texts=read.texts)
    [scores] = await parts.scores.judge([request], deadline, laps)
    window = Window(
        ids=found.ids[: len(request.texts)],
        engine_scores=found.scores[: len(request.texts)],
        judgments=scores.judgments,
    )
    verdict = Verdict(ranked=rank(window.engine_scores, window.judgments, decision.recipe), judgments=window.judgments)
    if "reasoning" in decision.include:
        places = [index for _, index in page_of(found, decision.page, verdict.ranked.ranking)]
        shown = [index for index in places if index < len(request.texts)]
        verdict = replace(verdict, reasoning=await parts.scores.find_reasoning(shown, request, scores, deadline))
        laps.lap("reasoning")
    members = render_answer(found, plan, decision, verdict)
    laps.lap("fuse")
    status = _status_of(decision, scores, read.missing_fields, laps)
    answered = finish_body(members, call, status, decision.include)
    return Outcome(reply=_write(reply, answered, status), status=status, window=window)


async def _fetch_window(  # noqa: PLR0917
    call: SearchCall, plan: WindowPlan, decision: Rerank, deadline: Deadline, parts: Parts, laps: Laps
) -> WindowAnswer | SearchStatus | Outcome:
    """The engine's answer for the window; or why it is of no use; or the outcome of the client's own search.

    At the deadline the window is not given up: the client's own search is sent beside it, and the first of the two that
    is answered well counts. So a window that takes much longer than the search costs no more than the deadline, and
    where the whole engine is slow, scores that are in the cache still count. Raises UpstreamError if no answer came.
    """
    fetching = asyncio.create_task(_read_window(plan, decision, deadline, parts))
    try:
        async with deadline.limit():
            return await asyncio.shield(fetching)
    except TimeoutError:
        late = _failed(decision, "deadline")
        own = asyncio.create_task(_pass_on(call, decision.include, late, parts, laps, held=True, new_connection=True))
        try:
            return await _first_useful(fetching, own)
        finally:
            _drop(own)
    finally:
        _drop(fetching)


async def _read_window(
    plan: WindowPlan, decision: Rerank, deadline: Deadline, parts: Parts
) -> WindowAnswer | SearchStatus:
    """The engine's answer for the window, or the status of the search if that is of no use to it.

    Raises UnreachableError, since the client's own search would not be answered either.
    """
    try:
        reply, body = await _fetch(plan.request, parts, due_s=deadline.due_s)
    except UnreachableError:
        raise
    except (UpstreamError, UnreadableBodyError) as error:
        LOG.warning("the answer for a window is of no use: %s", error)
        if isinstance(error, AnswerTooLargeError):
            parts.large_windows.note_too_large(plan.shape, parts.clock.monotonic_s())
        return _failed(decision, _why_lost(error))
    parts.large_windows.note_fit(plan.shape)
    if reply.status != 200:  # the engine may refuse only our window; if not, the client must get its own refusal
        return _failed(decision, "engine_refused")
    found = read_answer(body)
    if found is None:
        return _failed(decision, "unreadable_answer")
    # A shard may have failed on our window alone. An answer that is incomplete otherwise serves if its page is full.
    if found.shards_failed or not (found.complete or len(found.hits) >= decision.page.end):
        return _skipped("partial_answer", decision.rule)
    return reply, found


def _why_lost(error: Exception) -> Reason:
    if isinstance(error, AnswerTooLargeError):
        return "answer_too_large"
    return "unreadable_answer" if isinstance(error, UnreadableBodyError) else "window_lost"


async def _first_useful(
    fetching: asyncio.Task[WindowAnswer | SearchStatus], own: asyncio.Task[Outcome]
) -> WindowAnswer | Outcome:
    """The window if it comes first and is of use, else the client's own search; if that fails, what is left."""
    await asyncio.wait({fetching, own}, return_when=asyncio.FIRST_COMPLETED)
    if fetching.done() and fetching.exception() is None and isinstance(window := fetching.result(), tuple):
        return window
    try:
        return await own
    except UpstreamError:
        window = await fetching
        if isinstance(window, tuple):
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
    parts: Parts,
    laps: Laps,
    *,
    held: bool = False,
    new_connection: bool = False,
) -> Outcome:
    """The engine's own answer as it comes; held only if `held` asks for that, or the status is written into it."""
    written = "status" in include
    forwarded = Outcome(forward=call.carrier.request, status=replace(status, took_ms=laps.took_ms()))
    if not call.held or not (written or held):
        return forwarded
    request = plan_plain(call) if written else call.carrier.request
    try:
        reply, body = await _fetch(request, parts, new_connection=new_connection)
    except (AnswerTooLargeError, UnreadableBodyError):
        return forwarded
    laps.lap("engine")
    status = replace(settle(status, reply.status), took_ms=laps.took_ms())
    members = open_object(body) if written else None
    if members is not None and (reply.status == 200 or call.filter_path):
        shown = include if reply.status == 200 else frozenset[str]()
        return Outcome(reply=_write(reply, finish_body(members, call, status, shown), status), status=status)
    if written and call.filter_path:  # what we asked for was not filtered, and can't be filtered here
        return replace(forwarded, status=status)
    return Outcome(reply=replace(reply, headers=with_warning(reply.headers, status)), status=status)


def settle(status: SearchStatus, engine_status: int) -> SearchStatus:
    """The status of a search that passed on, once the engine's answer is known: its refusal is not our failure."""
    if engine_status == 200 or status.status != "failed":
        return status
    return replace(status, status="skipped", reason="engine_refused")


def _answer_unranked(  # noqa: PLR0917
    call: SearchCall,
    plan: WindowPlan,
    decision: Rerank,
    reply: Reply,
    found: EngineAnswer,
    status: SearchStatus,
    laps: Laps,
) -> Outcome:
    """The client's page in the engine's order, out of the window's answer: the engine is not asked again."""
    scores = found.scores[: decision.window]
    gaps = (None,) * len(scores)
    verdict = Verdict(ranked=rank(scores, gaps, decision.recipe), judgments=gaps)
    members = render_answer(found, plan, replace(decision, include=frozenset()), verdict)
    status = replace(status, took_ms=laps.took_ms())
    return Outcome(reply=_write(reply, finish_body(members, call, status, decision.include), status), status=status)


async def _fetch(
    request: Request, parts: Parts, *, due_s: float | None = None, new_connection: bool = False
) -> tuple[Reply, bytes]:
    """The engine's answer, and its body without its coding. Raises AnswerTooLargeError, UnreadableBodyError."""
    max_bytes = parts.limits.max_answer_bytes
    reply = await parts.engine.fetch(request, max_bytes=max_bytes, due_s=due_s, new_connection=new_connection)
    return reply, decode_body(reply.body, first_header(reply.headers, b"content-encoding"), max_bytes=max_bytes)


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


def _status_of(decision: Rerank, scores: WindowScores, missing_fields: Mapping[str, int], laps: Laps) -> SearchStatus:
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
        cut=scores.cut,
        low_mass=scores.low_mass,
        truncated=scores.truncated,
        took_ms=laps.took_ms(),
    )


def _relayed(relay: Relay) -> SearchStatus:
    """The status of a search that was never begun. Only where memory is full would it have been reranked."""
    outcome: Literal["failed", "skipped"] = "failed" if relay.reason == "memory_full" else "skipped"
    return SearchStatus(status=outcome, reason=relay.reason, rule=relay.rule)


def _skipped(reason: Reason, rule: str | None) -> SearchStatus:
    return SearchStatus(status="skipped", reason=reason, rule=rule)


def _failed(decision: Rerank, reason: Reason) -> SearchStatus:
    return SearchStatus(status="failed", reason=reason, rule=decision.rule, scorer=decision.scorer)


def _write(engine: Reply, body: bytes, status: SearchStatus) -> Reply:
    """The engine's answer with another body, in the coding that the engine used for its own."""
    encoded = encode_body(body, first_header(engine.headers, b"content-encoding"))
    headers = (*without_headers(engine.headers, b"content-length"), (b"content-length", b"%d" % len(encoded)))
    return Reply(status=engine.status, headers=with_warning(headers, status), body=encoded)


def with_warning(headers: Headers, status: SearchStatus) -> Headers:
    """The headers of an answer, and the Warning where reranking was partial or failed."""
    warning = status.warning()
    return headers if warning is None else (*headers, (b"warning", warning))
