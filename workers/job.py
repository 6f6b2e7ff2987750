"""One query's scoring: claim, score, cache, reply. Knows a scorer only by its contract, and nothing of Celery."""

from __future__ import annotations

import asyncio
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
    from es_rerank.wire import Claim
    from workers.scorers.protocol import DocumentScore, Scorer

LOG = logging.getLogger(__name__)
LARGEST_RANK_SCORE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the task message says: whose query, who waits for it, and until when (seconds since 1970)."""

    query_id: str
    proxy_id: str
    deadline_s: float


class InFlight:
    """What this process is scoring now, by cache key, so that a popular new query is scored once.

    Only within one process: two workers may still score the same document at the same time.
    """

    def __init__(self) -> None:
        self._scores: dict[str, asyncio.Future[float | None]] = {}

    def begin(self, key: str) -> asyncio.Future[float | None] | None:
        """The score that another job is working on; or None, and the key is the caller's to `end`."""
        if key in self._scores:
            return self._scores[key]
        self._scores[key] = asyncio.get_running_loop().create_future()
        return None

    def end(self, key: str, score: float | None) -> None:
        """Give those who wait the score, or None for none. A key that has ended already stays so."""
        waiting = self._scores.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(score)


class Job:
    """Serves tasks with one scorer, its cache and its connection. Any number at a time."""

    def __init__(self, scorer: Scorer, redis: Redis, cache: ScoreCache) -> None:
        self._scorer = scorer
        self._redis = redis
        self._cache = cache
        self._in_flight = InFlight()

    async def serve(self, task: Task) -> None:
        """Score the task's claim. Scores go to the cache first, then to the proxy, whether it still waits or not.

        The proxy is told of every end. Raises what the scorer raised, and redis.RedisError.
        """
        data = await self._redis.getdel(wire.claim_key(task.query_id))
        if not isinstance(data, bytes):
            await self._reply(task, end="error", reason="claim_lost")
            return
        try:
            claim = wire.decode_claim(data)
        except WireError as error:
            LOG.warning("a claim is passed over: %s", error)
            await self._reply(task, end="error", reason="claim_unreadable")
            return
        try:
            await self._serve_claim(task, claim)
        except Exception:
            await self._reply(task, end="error", reason="scorer_failed")
            raise
        await self._reply(task, end="done")

    async def _serve_claim(self, task: Task, claim: Claim) -> None:
        """Give what the cache has by now, score what nobody is scoring, wait for the rest."""
        cached = await self._cache.get_many(claim.keys)
        await self._reply_scores(task, [(index, score) for index, score in enumerate(cached) if score is not None])
        others: dict[int, asyncio.Future[float | None]] = {}
        own: list[int] = []
        for index, key in enumerate(claim.keys):
            if cached[index] is None:
                theirs = self._in_flight.begin(key)
                if theirs is None:
                    own.append(index)
                else:
                    others[index] = theirs
        try:
            await self._score(task, claim, own)
        finally:
            for index in own:
                self._in_flight.end(claim.keys[index], None)
        await self._reply_scores(task, [(index, await theirs) for index, theirs in others.items()])

    async def _score(self, task: Task, claim: Claim, own: Sequence[int]) -> None:
        """Have the documents with these indexes scored, and hand out each batch as it comes."""
        if not own:
            return
        job = ScoreJob(
            query=claim.query,
            instruction=claim.instruction,
            texts=tuple(claim.texts[index] for index in own),
            deadline_s=task.deadline_s,
        )
        async for batch in self._scorer.score(job):
            scores = {own[scored.index]: _checked(scored) for scored in batch}
            await self._cache.put_many(
                {claim.keys[index]: score for index, score in scores.items() if score is not None}
            )
            await self._reply_scores(task, list(scores.items()))
            for index, score in scores.items():
                self._in_flight.end(claim.keys[index], score)

    async def _reply_scores(self, task: Task, scores: Sequence[tuple[int, float | None]]) -> None:
        if scores:
            await self._reply(task, [Outcome(index=index, rank_score=score) for index, score in scores])

    async def _reply(
        self, task: Task, outcomes: Sequence[Outcome] = (), *, end: wire.End = "", reason: str = ""
    ) -> None:
        arrival = Arrival(query_id=task.query_id, outcomes=list(outcomes), end=end, reason=reason)
        stream = wire.reply_key(task.proxy_id)
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xadd(
                stream,
                {wire.REPLY_FIELD: wire.encode_arrival(arrival)},
                maxlen=wire.REPLY_STREAM_LENGTH,
                approximate=True,
            )
            pipeline.expire(stream, wire.REPLY_STREAM_TTL_S)  # the stream of a proxy that is gone goes too
            await pipeline.execute()


def _checked(scored: DocumentScore) -> float | None:
    """The score, or None for none. One out of its range is a fault of the scorer, not a score."""
    score = scored.rank_score
    if score is None:
        LOG.info("a document has no score: %s", scored.reason)
        return None
    if not (math.isfinite(score) and 0 <= score <= LARGEST_RANK_SCORE):
        LOG.warning("the scorer gave %s, allowed are 0 to %s: taken for no score", score, LARGEST_RANK_SCORE)
        return None
    return score
