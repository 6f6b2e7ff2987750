"""The path of a search, top to bottom: read, decide, fetch the window, score, fuse, answer.

The one place that degrades. Deciding, planning, fusing and rendering are pure and live in files of their own; the
awaits are the engine (`upstream`) and the scores (`score`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from es_rerank.clock import Deadline
from es_rerank.errors import CallerError, UpstreamError
from es_rerank.fusion.fuse import fuse
from es_rerank.proxy.call import read_call
from es_rerank.proxy.classify import Relay, classify, matching_rule
from es_rerank.proxy.coding import UnreadableBodyError, decode_body, encode_body
from es_rerank.proxy.control import HEADER, ControlLimits, check_controls, take_controls
from es_rerank.proxy.laps import Laps
from es_rerank.proxy.reason import find_reasoning
from es_rerank.proxy.render import RankedWindow, finish_body, open_object, page_of, render_answer
from es_rerank.proxy.score import score_window
from es_rerank.proxy.status import SearchStatus, outcome_of
from es_rerank.proxy.window import plan_plain, plan_window, read_answer, read_texts
from es_rerank.records import Reply, first_header, without_headers
from es_rerank.settings import MinilmSettings
from es_rerank.upstream import AnswerTooLargeError

if TYPE_CHECKING:
    from es_rerank.proxy.call import SearchCall
    from es_rerank.proxy.classify import Rerank
    from es_rerank.proxy.control import Controls
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.window import EngineAnswer
    from es_rerank.records import Request
    from es_rerank.settings import LimitSettings, RuleSettings, ScorerSettings

LOG = logging.getLogger(__name__)
BUSY_STATUSES = (429, 503)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of a search: a complete `reply`, or a request to `forward`, whose answer goes through as it comes.

    Exactly one of the two is set.
    """

    status: SearchStatus
    reply: Reply | None = None
    forward: Request | None = None


async def answer(request: Request, expression: str, parts: Parts) -> Outcome:
    """Answer a search for an index expression ('' for none). `request.body` was read, or is too large to be.

    Raises CallerError where the request asks es-rerank for something that isn't allowed, UpstreamError where no
    engine host answers. Nothing else fails a search.
    """
    laps = Laps(parts.clock)
    try:
        return await _answer(request, expression, parts, laps)
    except (CallerError, UpstreamError):
        raise
    except Exception:  # whatever is wrong with us, the search is answered
        LOG.exception("a search could not be read; it goes through")
        plain = replace(request, headers=without_headers(request.headers, HEADER))
        return Outcome(forward=plain, status=SearchStatus(status="failed", reason="internal_error"))


async def _answer(request: Request, expression: str, parts: Parts, laps: Laps) -> Outcome:
    """Read, decide, and rerank or pass on."""
    limits = parts.settings.limits
    call = read_call(request, expression, max_bytes=limits.max_request_bytes)
    asked, call = take_controls(call)
    rule = matching_rule(expression, parts.settings.rules)
    known = parts.settings.known_scorers()
    scorer = known["minilm" if isinstance(rule, Relay) else rule.scorer]
    controls = check_controls(asked, _control_limits(rule, scorer, limits))
    decision = classify(call, controls, rule, scorer)
    if isinstance(decision, Relay):
        status = _skipped(decision.reason, None if isinstance(rule, Relay) else rule.name)
        return await _pass_on(call, controls, status, parts, laps)
    try:
        return await _rerank(call, decision, controls, parts, laps)
    except UpstreamError:
        raise
    except Exception:  # as above, and by now nothing of ours is in the request
        LOG.exception("reranking broke; the search goes through")
        return await _pass_on(call, controls, _failed(decision, "internal_error"), parts, laps)


async def _rerank(call: SearchCall, decision: Rerank, controls: Controls, parts: Parts, laps: Laps) -> Outcome:
    """The search, reranked as far as the deadline allows."""
    deadline_s = controls.deadline_s or parts.settings.deadline_of(decision.rule)
    deadline = Deadline(parts.clock, laps.started_s, deadline_s)
    plan = plan_window(call, decision)
    try:
        reply, body = await _fetch(plan.request, parts)
    except AnswerTooLargeError:
        return await _pass_on(call, controls, _failed(decision, "answer_too_large"), parts, laps)
    except UnreadableBodyError:
        return await _pass_on(call, controls, _failed(decision, "unreadable_answer"), parts, laps)
    laps.lap("engine")
    if reply.status in BUSY_STATUSES:
        return Outcome(reply=reply, status=_skipped("engine_refused", decision.rule.name))
    window = read_answer(body) if reply.status == 200 else None
    unfit = _why_unfit(reply, window, decision)
    if window is None or unfit is not None:
        return await _pass_on(call, controls, unfit or _failed(decision, "unreadable_answer"), parts, laps)
    texts = read_texts(window, plan, decision)
    scores = await score_window(texts, decision, deadline, parts, laps)
    ranking = fuse(window.scores[: len(texts)], scores.rank_scores, method=decision.method, alpha=decision.alpha)
    reasoning: dict[int, str] = {}
    if "reasoning" in controls.include:
        places = [index for _, index in page_of(window, decision, ranking) if index < len(texts)]
        reasoning = await find_reasoning(places, texts, scores, decision, deadline, parts)
        laps.lap("reasoning")
    ranked = RankedWindow(
        rank_scores=scores.rank_scores, ranking=ranking, judgments=scores.judgments, reasoning=reasoning
    )
    members = render_answer(window, plan, decision, ranked, controls)
    laps.lap("fuse")
    # A hit without text is nothing to score; a window without any points to a rule with the wrong fields.
    expected = len(texts) - scores.missing_text or len(texts)
    outcome, reason = outcome_of(window=expected, scored=scores.scored, reason=scores.reason)
    status = SearchStatus(
        status=outcome,
        reason=reason,
        rule=decision.rule.name,
        scorer=decision.rule.scorer,
        window=len(texts),
        scored=scores.scored,
        cached=scores.cached,
        missing_text=scores.missing_text,
        mode=decision.mode,
        cut=scores.cut,
        low_mass=scores.low_mass,
        truncated=scores.truncated,
        took_ms=laps.took_ms(),
    )
    return Outcome(reply=_write(reply, finish_body(members, call, status, controls), status), status=status)


async def _pass_on(call: SearchCall, controls: Controls, status: SearchStatus, parts: Parts, laps: Laps) -> Outcome:
    """The engine's own answer: as it comes, or, where the status was asked for, with it inside."""
    if "status" not in controls.include or not isinstance(call.request.body, bytes | None):
        return Outcome(forward=call.request, status=replace(status, took_ms=laps.took_ms()))
    try:
        reply, body = await _fetch(plan_plain(call), parts)
    except (AnswerTooLargeError, UnreadableBodyError):
        return Outcome(forward=call.request, status=replace(status, took_ms=laps.took_ms()))
    laps.lap("engine")
    status = replace(status, took_ms=laps.took_ms())
    members = open_object(body) if reply.status == 200 else None
    if members is None:
        return Outcome(forward=call.request, status=status)
    return Outcome(reply=_write(reply, finish_body(members, call, status, controls), status), status=status)


async def _fetch(request: Request, parts: Parts) -> tuple[Reply, bytes]:
    """The engine's answer, and its body without its coding. Raises AnswerTooLargeError, UnreadableBodyError."""
    max_bytes = parts.settings.limits.max_answer_bytes
    reply = await parts.upstream.fetch(request, max_bytes=max_bytes)
    return reply, decode_body(reply.body, first_header(reply.headers, b"content-encoding"), max_bytes=max_bytes)


def _control_limits(
    rule: RuleSettings | Relay,
    scorer: ScorerSettings,
    limits: LimitSettings,
) -> ControlLimits:
    """How far this request may go."""
    bounds = ControlLimits(max_window=limits.max_window, max_deadline_s=limits.max_deadline_s)
    if isinstance(rule, Relay):
        return bounds
    if isinstance(scorer, MinilmSettings):
        return replace(bounds, scorer=f"{rule.scorer}, of kind {scorer.kind}")
    return replace(bounds, max_think_tokens=scorer.max_think_tokens, mode=rule.mode)


def _why_unfit(reply: Reply, window: EngineAnswer | None, decision: Rerank) -> SearchStatus | None:
    """Why the client's own request has to be asked instead, or None where the window can be reranked."""
    if reply.status != 200:
        # It may be our window that the engine won't have; and if not, the refusal must be the one to their request.
        return _failed(decision, "engine_refused")
    if window is None:
        return _failed(decision, "unreadable_answer")
    if not window.complete:
        # Some shard may have failed on our window alone, and then their own request finds more.
        return _skipped("partial_answer", decision.rule.name)
    return _skipped("system_index", decision.rule.name) if window.has_system_hits else None


def _skipped(reason: str, rule: str | None) -> SearchStatus:
    return SearchStatus(status="skipped", reason=reason, rule=rule)


def _failed(decision: Rerank, reason: str) -> SearchStatus:
    return SearchStatus(status="failed", reason=reason, rule=decision.rule.name, scorer=decision.rule.scorer)


def _write(engine: Reply, body: bytes, status: SearchStatus) -> Reply:
    """The engine's answer with another body, in the coding that the engine used for its own."""
    encoded = encode_body(body, first_header(engine.headers, b"content-encoding"))
    headers = (*without_headers(engine.headers, b"content-length"), (b"content-length", b"%d" % len(encoded)))
    return Reply(status=engine.status, headers=with_warning(headers, status), body=encoded)


def with_warning(headers: tuple[tuple[bytes, bytes], ...], status: SearchStatus) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of an answer, and the Warning where reranking was partial or failed."""
    warning = status.warning()
    return headers if warning is None else (*headers, (b"warning", warning))
