"""One query's scoring: claim, score, cache, reply. Knows a scorer only by its contract, and nothing of Celery."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from es_rerank import wire
from es_rerank.wire import Arrival, Outcome, WireError
from workers.scorers.protocol import ScoreJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from es_rerank.cache.scores import ScoreCache
    from workers.scorers.protocol import DocumentScore, Scorer

LOG = logging.getLogger(__name__)
LARGEST_RANK_SCORE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the task message says: whose query, who waits for it, and until when (seconds since 1970)."""

    query_id: str
    proxy_id: str
    deadline_s: float


async def serve(task: Task, scorer: Scorer, redis: Redis, cache: ScoreCache) -> None:
    """Score the task's claim. Scores go to the cache first, then to the proxy, whether it still waits or not.

    The proxy is told of every end. Raises what the scorer raised, and redis.RedisError.
    """
    data = await redis.getdel(wire.claim_key(task.query_id))
    if data is None:
        await _reply(redis, task, end="error", reason="claim_lost")
        return
    try:
        claim = wire.decode_claim(data)
    except WireError as error:
        LOG.warning("a claim is passed over: %s", error)
        await _reply(redis, task, end="error", reason="claim_unreadable")
        return
    job = ScoreJob(
        query=claim.query, instruction=claim.instruction, texts=tuple(claim.texts), deadline_s=task.deadline_s
    )
    try:
        async for scores in scorer.score(job):
            outcomes = [_checked(score) for score in scores]
            await cache.put_many(
                {claim.keys[one.index]: one.rank_score for one in outcomes if one.rank_score is not None}
            )
            await _reply(redis, task, outcomes)
    except Exception:
        await _reply(redis, task, end="error", reason="scorer_failed")
        raise
    await _reply(redis, task, end="done")


def _checked(score: DocumentScore) -> Outcome:
    """The outcome as it travels. A score out of its range is a fault of the scorer, not a score."""
    if score.rank_score is None:
        return Outcome(index=score.index, rank_score=None, reason=score.reason)
    if math.isfinite(score.rank_score) and 0 <= score.rank_score <= LARGEST_RANK_SCORE:
        return Outcome(index=score.index, rank_score=score.rank_score)
    return Outcome(index=score.index, rank_score=None, reason=f"the scorer gave {score.rank_score}")


async def _reply(
    redis: Redis, task: Task, outcomes: Sequence[Outcome] = (), *, end: wire.End = "", reason: str = ""
) -> None:
    arrival = Arrival(query_id=task.query_id, outcomes=list(outcomes), end=end, reason=reason)
    stream = wire.reply_key(task.proxy_id)
    async with redis.pipeline(transaction=False) as pipeline:
        record = {wire.REPLY_FIELD: wire.encode_arrival(arrival)}
        pipeline.xadd(stream, record, maxlen=wire.REPLY_STREAM_LENGTH, approximate=True)
        pipeline.expire(stream, wire.REPLY_STREAM_TTL_S)  # the stream of a proxy that is gone goes too
        await pipeline.execute()
