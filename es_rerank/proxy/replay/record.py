"""Records one query: its search goes the way of every search, and its window is kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from es_rerank.errors import EsRerankError, UpstreamError
from es_rerank.fusion.rank import Window
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.pipeline import answer
from es_rerank.proxy.search.window import read_answer
from es_rerank.proxy.steps import settle
from es_rerank.records import Request, first_header
from es_rerank.tuning.recording import RecordedQuery

if TYPE_CHECKING:
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.replay.plan import ReplayPlan
    from es_rerank.reasons import Reason
    from es_rerank.records import Headers
    from es_rerank.tuning.judged import JudgedQuery

ATTEMPTS = 3
AGAIN_S = 1.0
NO_WINDOW = Window(ids=(), engine_scores=(), judgments=())
# What may go better at once: scores that came too late are in the cache by then.
PASSING: frozenset[Reason] = frozenset(
    ("deadline", "overloaded", "claim_lost", "window_lost", "memory_full", "partial_answer", "engine_refused")
)
# What fails every query until somebody has seen to it.
OUTAGES: dict[Reason, str] = {
    "no_worker": "no worker serves the scorer",
    "no_redis": "Redis can't be reached",
    "redis_refuses": "Redis refuses what it is asked",
}
BUSY = (429, 502, 503, 504)


class OutageError(EsRerankError):
    """The engine, Redis or the workers are not there: the same query can be tried again later."""


class RefusedError(EsRerankError):
    """The engine does not know the caller, or not any more, so no query of the replay can be recorded."""


async def record_query(query: JudgedQuery, plan: ReplayPlan, headers: Headers, parts: Parts) -> RecordedQuery:
    """The query with its window and the status of its search, asked with these headers of the caller.

    A search that may go better at once is sent up to three times; then it is recorded as it went. A search that was not
    reranked is recorded in the engine's order, without judgments. Raises OutageError and RefusedError.
    """
    request = request_of(query.user_query, plan, headers)
    for attempt in range(1, ATTEMPTS + 1):
        recorded = await _record_once(query, request, plan, parts)
        if recorded.reason in OUTAGES:
            raise OutageError(f"{OUTAGES[recorded.reason]} {plan.head.scorer!r}".rstrip())
        refused = recorded.reason == "engine_refused" and recorded.status == "skipped"
        if recorded.reason not in PASSING or refused or attempt == ATTEMPTS:
            break
        await asyncio.sleep(AGAIN_S)
    return recorded


def request_of(words: str, plan: ReplayPlan, headers: Headers) -> Request:
    """The search of one query's words, as it would come to the proxy."""
    target = f"/{quote(plan.head.index, safe=',*')}/_search".encode()
    return Request(method="POST", target=target, headers=headers, body=msgspec.json.encode(plan.search(words)))


async def _record_once(query: JudgedQuery, request: Request, plan: ReplayPlan, parts: Parts) -> RecordedQuery:
    try:
        with parts.memory.share() as share:
            outcome = await answer(request, plan.head.index, plan.book, parts, share)
        window, status = outcome.window, outcome.status
        if window is None:
            window, engine_status = await _engines_order(query, request, plan, parts)
            status = settle(status, engine_status)
    except UpstreamError as error:
        raise OutageError(str(error)) from error
    return RecordedQuery(
        query_id=query.query_id,
        user_query=query.user_query,
        group=query.group,
        status=status.status,
        reason=status.reason,
        ids=window.ids,
        engine_scores=window.engine_scores,
        judgments=window.judgments,
    )


async def _engines_order(query: JudgedQuery, request: Request, plan: ReplayPlan, parts: Parts) -> tuple[Window, int]:
    """The window as the engine orders it, without judgments, and the status of the engine's answer.

    The window is empty where the engine refuses the search, or orders it by something else than a score.
    """
    size = plan.rule.window
    asked = Request(
        method="POST",
        target=request.target + b"?from=0&size=%d&_source=false" % size,
        headers=request.headers,
        body=msgspec.json.encode(plan.plain_search(query.user_query)),
    )
    limit = parts.limits.max_answer_bytes
    with parts.memory.share() as share:
        reply = await parts.engine.fetch(asked, max_bytes=limit, hold=share.take)
        if reply.status in (401, 403):
            raise RefusedError(f"the engine refuses the caller ({reply.status})")
        if reply.status in BUSY:
            raise OutageError(f"the engine is busy or gone ({reply.status})")
        try:
            text = decode_body(reply.body, first_header(reply.headers, b"content-encoding"), max_bytes=limit)
        except UnreadableBodyError:
            return NO_WINDOW, reply.status
        found = read_answer(text) if reply.status == 200 else None
    if found is None or found.has_system_hits:
        return NO_WINDOW, reply.status
    scores = found.scores[:size]
    return Window(ids=found.ids[:size], engine_scores=scores, judgments=(None,) * len(scores)), reply.status
