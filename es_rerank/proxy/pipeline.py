"""The path of a search, top to bottom: read, decide, plan, fetch the window, judge it, finish.

Only this file decides what a search falls back to when something fails. Deciding, planning, ranking and rendering are
pure and have files of their own; what this file waits for is the engine and the scores.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from es_rerank.clock import Deadline
from es_rerank.errors import CallerError, UpstreamError
from es_rerank.fusion.rank import Window, rank
from es_rerank.language import may_be_in
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body, encode_body
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.scoring.ask import ScoreRequest, unscored
from es_rerank.proxy.search.call import read_call
from es_rerank.proxy.search.control import HEADER, take_controls
from es_rerank.proxy.search.decide import Relay, decide
from es_rerank.proxy.search.render import Verdict, finish_body, page_of, render_answer
from es_rerank.proxy.search.status import SearchStatus, outcome_of
from es_rerank.proxy.search.window import plan_plain, plan_window, read_answer, read_texts
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
        call = read_call(request, expression, max_bytes=parts.limits.max_request_bytes)
        asked, call = take_controls(call)
        plain = call.carrier.request  # from here on the request holds nothing that is meant for es-rerank
        decision = decide(call, asked, book)
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
    plan = plan_window(call, decision)
    try:
        reply, body = await _fetch(plan.request, parts)
    except AnswerTooLargeError:
        return await _pass_on(call, decision.include, _failed(decision, "answer_too_large"), parts, laps)
    except UnreadableBodyError:
        return await _pass_on(call, decision.include, _failed(decision, "unreadable_answer"), parts, laps)
    laps.lap("engine")
    if reply.status in BUSY_STATUSES:
        return Outcome(reply=reply, status=_skipped("engine_refused", decision.rule))
    found = read_answer(body) if reply.status == 200 else None
    unfit = _why_unfit(reply, found, decision)
    if found is None or unfit is not None:
        return await _pass_on(call, decision.include, unfit or _failed(decision, "unreadable_answer"), parts, laps)
    request = ScoreRequest(scoring=decision.scoring, texts=read_texts(found, plan, decision))
    foreign = not _reads(decision, request)
    [scores] = [unscored(request)] if foreign else await parts.scores.judge([request], deadline, laps)
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
    status = _status_of(decision, scores, laps)
    if foreign:
        status = replace(_skipped("language", decision.rule), took_ms=status.took_ms)
    answered = finish_body(members, call, status, decision.include)
    return Outcome(reply=_write(reply, answered, status), status=status, window=window)


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
    status = replace(status, took_ms=laps.took_ms())
    members = open_object(body) if reply.status == 200 else None
    if members is None:
        return replace(forwarded, status=status)
    return Outcome(reply=_write(reply, finish_body(members, call, status, include), status), status=status)


async def _fetch(request: Request, parts: Parts) -> tuple[Reply, bytes]:
    """The engine's answer, and its body without its coding. Raises AnswerTooLargeError, UnreadableBodyError."""
    max_bytes = parts.limits.max_answer_bytes
    reply = await parts.engine.fetch(request, max_bytes=max_bytes)
    return reply, decode_body(reply.body, first_header(reply.headers, b"content-encoding"), max_bytes=max_bytes)


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


def _reads(decision: Rerank, request: ScoreRequest) -> bool:
    """Whether the scorer can read the window. Its first hits decide, so that all pages of a search agree.

    A window without any text is left to scoring, which says so.
    """
    language = decision.language
    return language is None or not any(request.texts) or may_be_in(language, decision.scoring.question, request.texts)


def _status_of(decision: Rerank, scores: WindowScores, laps: Laps) -> SearchStatus:
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
        took_ms=laps.took_ms(),
    )


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
