"""The path of a search, top to bottom: read, decide, plan, fetch the window, judge it, finish.

Only this file decides what a search falls back to when something fails. Deciding, planning, ranking and rendering are
pure and have files of their own; what this file waits for is the engine and the scores.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from es_rerank.clock import Deadline
from es_rerank.errors import CallerError, UpstreamError
from es_rerank.fusion.rank import Window, rank
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body, inflated_bytes
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.offload import compute
from es_rerank.proxy.scoring.ask import ScoreRequest
from es_rerank.proxy.search.call import read_call
from es_rerank.proxy.search.control import HEADER, take_controls
from es_rerank.proxy.search.decide import Relay, decide
from es_rerank.proxy.search.render import Verdict, page_of, render_answer
from es_rerank.proxy.search.status import SearchStatus, outcome_of
from es_rerank.proxy.search.window import plan_plain, plan_window, read_answer, read_texts
from es_rerank.proxy.search.write import finish_body, start_body, writing_cost
from es_rerank.rawjson import open_object
from es_rerank.records import Reply, first_header, without_headers
from es_rerank.upstream import AnswerTooLargeError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.scoring.ask import WindowScores
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.decide import Rerank
    from es_rerank.proxy.search.window import EngineAnswer
    from es_rerank.reasons import Reason
    from es_rerank.records import Headers, Request
    from es_rerank.rules.book import RuleBook

LOG = logging.getLogger(__name__)
# A request is read into Python's own objects, which takes so much longer than opening an answer as long.
READING_COST = 4
# No filter makes writing an answer take much longer than this times opening it.
MOST_WRITING_COST = 10
BUSY_STATUSES = (429, 503)


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
        max_bytes = parts.limits.max_request_bytes
        call = await compute(_reading_cost(request), read_call, request, expression, max_bytes=max_bytes)
        cost = READING_COST * len(call.body)
        asked, call = await compute(cost, take_controls, call)
        plain = call.carrier.request  # from here on the request holds nothing that is meant for es-rerank
        decision = await compute(cost, decide, call, asked, book)
        if isinstance(decision, Relay):
            return await _pass_on(call, decision.include, _skipped(decision.reason, decision.rule), parts, laps)
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
    plan = await compute(READING_COST * len(call.body), plan_window, call, decision)
    try:
        reply, body = await _fetch(plan.request, parts)
    except AnswerTooLargeError:
        return await _pass_on(call, decision.include, _failed(decision, "answer_too_large"), parts, laps)
    except UnreadableBodyError:
        return await _pass_on(call, decision.include, _failed(decision, "unreadable_answer"), parts, laps)
    laps.lap("engine")
    if reply.status in BUSY_STATUSES:
        return Outcome(reply=reply, status=_skipped("engine_refused", decision.rule))
    found = await compute(len(body), read_answer, body) if reply.status == 200 else None
    unfit = _why_unfit(reply, found, decision)
    if found is None or unfit is not None:
        return await _pass_on(call, decision.include, unfit or _failed(decision, "unreadable_answer"), parts, laps)
    cost = len(body)
    texts = await compute(cost, read_texts, found, plan, decision)
    request = ScoreRequest(scoring=decision.scoring, texts=texts)
    deadline = deadline.before(_writing_s(laps.lap("read"), call, reply))
    [scores] = await parts.scores.judge([request], deadline, laps)
    window = Window(
        ids=found.ids[: len(request.texts)],
        engine_scores=found.scores[: len(request.texts)],
        judgments=scores.judgments,
    )
    ranked = await compute(cost, rank, window.engine_scores, window.judgments, decision.recipe)
    verdict = Verdict(ranked=ranked, judgments=window.judgments)
    if "reasoning" in decision.include:
        places = [index for _, index in page_of(found, decision.page, verdict.ranked.ranking)]
        shown = [index for index in places if index < len(request.texts)]
        verdict = replace(verdict, reasoning=await parts.scores.find_reasoning(shown, request, scores, deadline))
        laps.lap("reasoning")
    members = await compute(cost, render_answer, found, plan, decision, verdict)
    laps.lap("fuse")
    outcome = await _write(reply, cost, members, call, _status_of(decision, scores), decision.include, laps)
    return replace(outcome, window=window)


async def _pass_on(
    call: SearchCall, include: AbstractSet[str], status: SearchStatus, parts: Parts, laps: Laps
) -> Outcome:
    """The engine's own answer as it comes; if the status was asked for, with the status in it."""
    forwarded = Outcome(forward=call.carrier.request, status=replace(status, took_ms=laps.took_ms()))
    if "status" not in include or not call.held:
        return forwarded
    try:
        reply, body = await _fetch(plan_plain(call), parts)
    except (AnswerTooLargeError, UnreadableBodyError):
        return forwarded
    laps.lap("engine")
    members = await compute(len(body), open_object, body) if reply.status == 200 else None
    if members is None:
        return replace(forwarded, status=replace(status, took_ms=laps.took_ms()))
    return await _write(reply, len(body), members, call, status, include, laps)


async def _fetch(request: Request, parts: Parts) -> tuple[Reply, bytes]:
    """The engine's answer, and its body without its coding. Raises AnswerTooLargeError, UnreadableBodyError."""
    max_bytes = parts.limits.max_answer_bytes
    reply = await parts.engine.fetch(request, max_bytes=max_bytes)
    coding = first_header(reply.headers, b"content-encoding")
    cost = min(inflated_bytes(reply.body, coding), max_bytes)
    return reply, await compute(cost, decode_body, reply.body, coding, max_bytes=max_bytes)


def _writing_s(read_s: float, call: SearchCall, engine: Reply) -> float:
    """About how long the answer takes to write, if opening it took `read_s`: so much sooner the wait for scores ends.

    A long answer takes longer than the margin that is always kept, and everything does on a busy machine.
    """
    return read_s * min(MOST_WRITING_COST, writing_cost(1, call, first_header(engine.headers, b"content-encoding")))


def _reading_cost(request: Request) -> int:
    """How much there is to compute for reading a request, 0 where its body is not held."""
    body = request.body if isinstance(request.body, bytes) else b""
    return READING_COST * (len(body) + inflated_bytes(body, request.header(b"content-encoding")))


def _why_unfit(reply: Reply, found: EngineAnswer | None, decision: Rerank) -> SearchStatus | None:
    """Why the client's own request has to be sent instead, or None if the window can be reranked."""
    if reply.status != 200:
        # The engine may refuse only our window. If not, the client must get the refusal of its own request.
        return _failed(decision, "engine_refused")
    if found is None:
        return _failed(decision, "unreadable_answer")
    if not found.complete:
        # A shard may have failed on our window alone; then the client's own request finds more.
        return _skipped("partial_answer", decision.rule)
    return _skipped("system_index", decision.rule) if found.has_system_hits else None


def _status_of(decision: Rerank, scores: WindowScores) -> SearchStatus:
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
        mode=decision.mode,
        cut=scores.cut,
        low_mass=scores.low_mass,
        truncated=scores.truncated,
    )


def _skipped(reason: Reason, rule: str | None) -> SearchStatus:
    return SearchStatus(status="skipped", reason=reason, rule=rule)


def _failed(decision: Rerank, reason: Reason) -> SearchStatus:
    return SearchStatus(status="failed", reason=reason, rule=decision.rule, scorer=decision.scorer)


async def _write(  # noqa: PLR0917
    engine: Reply,
    body_bytes: int,
    members: dict[str, Any],
    call: SearchCall,
    status: SearchStatus,
    include: AbstractSet[str],
    laps: Laps,
) -> Outcome:
    """The engine's answer with these members, about `body_bytes` long, in the coding that the engine used for its own.

    The status is made when everything else is written, and so has the time of all steps.
    """
    coding = first_header(engine.headers, b"content-encoding")
    started = await compute(writing_cost(body_bytes, call, coding), start_body, members, call, coding)
    laps.lap("write")
    status = replace(status, took_ms=laps.took_ms())
    body = finish_body(started, call, status, include)
    headers = (*without_headers(engine.headers, b"content-length"), (b"content-length", b"%d" % len(body)))
    return Outcome(reply=Reply(status=engine.status, headers=with_warning(headers, status), body=body), status=status)


def with_warning(headers: Headers, status: SearchStatus) -> Headers:
    """The headers of an answer, and the Warning where reranking was partial or failed."""
    warning = status.warning()
    return headers if warning is None else (*headers, (b"warning", warning))
