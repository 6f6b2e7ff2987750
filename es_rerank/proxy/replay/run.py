"""Runs a replay: its queries one after the other, a few at a time, and never faster than is asked."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from es_rerank.errors import EsRerankError
from es_rerank.proxy.replay.record import OutageError, record_query
from es_rerank.supervised import end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.replay.plan import ReplayPlan
    from es_rerank.records import Headers
    from es_rerank.tuning.judged import JudgedQuery
    from es_rerank.tuning.recording import RecordedQuery

DEFAULT_CONCURRENCY = 2
MAX_CONCURRENCY = 16
# How long each query waits for an engine, a Redis or a worker that is gone before it is tried again.
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# A page of Kibana or OpenSearch Dashboards may have asked for the replay, but its searches are not a page's.
NOT_PASSED_ON = (
    b"x-elastic-product-origin", b"x-opensearch-product-origin", b"content-type", b"content-length",
    b"content-encoding", b"transfer-encoding", b"expect", b"accept", b"accept-encoding", b"es-rerank",
)  # fmt: skip


class InterruptedReplayError(EsRerankError):
    """What the replay needs stayed away for longer than it waits; it can be resumed."""


def headers_of(caller: Headers) -> Headers:
    """The headers of a replay's searches, which are the caller's own, so that the engine decides what is found."""
    kept = tuple((name, value) for name, value in caller if name.lower() not in NOT_PASSED_ON)
    return (*kept, (b"content-type", b"application/json"), (b"accept", b"application/json"))


async def replay(
    plan: ReplayPlan,
    queries: Sequence[JudgedQuery],
    caller: Headers,
    parts: Parts,
    *,
    concurrency: int,
    pauses_s: Sequence[float] = PAUSES_S,
) -> AsyncGenerator[RecordedQuery, None]:
    """Each query as it was recorded: parallel to `queries`, in their order, up to `concurrency` of them at a time.

    Close the iterator where it is not read to its end. Raises InterruptedReplayError where a query met an outage that
    was longer than all pauses, and RefusedError where the engine does not know the caller.
    """
    headers = headers_of(caller)
    parts = parts.without_events()
    running: deque[asyncio.Task[RecordedQuery]] = deque()
    try:
        for query in queries:
            if len(running) >= concurrency:
                yield await running.popleft()
            running.append(asyncio.create_task(_record_patiently(query, plan, headers, parts, pauses_s)))
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            await end(task)
            task.cancelled() or task.exception()  # the first error is the one that counts


async def _record_patiently(
    query: JudgedQuery, plan: ReplayPlan, headers: Headers, parts: Parts, pauses_s: Sequence[float]
) -> RecordedQuery:
    for pause_s in pauses_s:
        try:
            return await record_query(query, plan, headers, parts)
        except OutageError:
            await asyncio.sleep(pause_s)
    try:
        return await record_query(query, plan, headers, parts)
    except OutageError as error:
        raise InterruptedReplayError(str(error)) from error
