"""One query's scoring: claim, score, cache, reply. Knows a scorer only by its contract, and nothing of Celery."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from es_rerank import wire
from es_rerank.cache.scores import CutJudgment
from es_rerank.outage import REDIS_ERRORS
from es_rerank.wire import Arrival, Outcome, WireError
from workers import metrics
from workers.scorers.protocol import ScoreJob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from redis.asyncio import Redis

    from es_rerank.cache.scores import ScoreCache
    from es_rerank.judgment import Judgment
    from es_rerank.outage import Outage
    from es_rerank.wire import Claim
    from workers.scorers.protocol import DocumentScore, Scorer

LOG = logging.getLogger(__name__)
CLAIMS, REPLIES = "taking a query", "sending scores"


class _UnreachableError(Exception):
    """Redis does not take replies, so the proxy can't be told of any score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the task message says: which query to serve, and which proxy waits for it."""

    query_id: str
    proxy_id: str


class InFlight:
    """What this process is scoring now, by cache key, so that a popular new query is scored once.

    Only within one process: two workers may still score the same document at the same time.
    """

    def __init__(self) -> None:
        self._judgments: dict[str, asyncio.Future[Judgment | None]] = {}

    def begin(self, key: str) -> asyncio.Future[Judgment | None] | None:
        """The judgment that another job is working on; or None, and then the caller must `end` the key."""
        if key in self._judgments:
            return self._judgments[key]
        self._judgments[key] = asyncio.get_running_loop().create_future()
        return None

    def end(self, key: str, judgment: Judgment | None) -> None:
        """Give the judgment, or None, to the jobs that wait. Does nothing for a key that has ended already."""
        waiting = self._judgments.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(judgment)


class Job:
    """Serves tasks with one scorer, its cache and its connection. Any number at a time."""

    def __init__(self, scorer: Scorer, redis: Redis, cache: ScoreCache, outage: Outage) -> None:
        self._scorer = scorer
        self._redis = redis
        self._cache = cache
        self._outage = outage
        self._in_flight = InFlight()

    async def serve(self, task: Task) -> None:
        """Score the task's claim. Scores go to the cache first, then to the proxy, whether it still waits or not.

        The proxy is told how the task ended, unless it was cancelled. Raises what the scorer raised. A cancelled task
        drops its work; other tasks that wait for one of its documents score that document themselves. Where Redis does
        not take a score into the cache, the proxy is still told; where Redis does not take the reply either, the task
        ends quietly and drops its work. The outage has the errors.
        """
        end = "cancelled"
        try:
            with metrics.RUNNING.track_inprogress():
                end = await self._serve(task)
                await self._reply(task, end="done" if end == "done" else "error", reason="" if end == "done" else end)
        except _UnreachableError:
            end = "redis_failed"
        except Exception:
            end = "scorer_failed"
            with suppress(_UnreachableError):
                await self._reply(task, end="error", reason=end)
            raise
        finally:
            metrics.QUERIES.labels(end).inc()

    async def _serve(self, task: Task) -> str:
        """How the task ended: `done`, or the word for what is wrong with its claim."""
        key = wire.claim_key(task.query_id)
        try:
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.pttl(key)
                pipeline.getdel(key)
                left_ms, data = await pipeline.execute()
        except REDIS_ERRORS as error:
            self._outage.failed(CLAIMS, error)
            return "redis_refuses"
        self._outage.well(CLAIMS)
        if not isinstance(data, bytes):
            return "claim_lost"
        try:
            claim = wire.decode_claim(data)
        except WireError as error:
            LOG.warning("a claim is passed over: %s", error)
            return "claim_unreadable"
        if claim.fingerprint != self._scorer.fingerprint:
            # Its scores would be kept under the keys of another scorer.
            LOG.warning("a claim is passed over: it is for the scorer %r", claim.fingerprint)
            return "claim_unreadable"
        began_s = asyncio.get_running_loop().time()
        metrics.QUEUE_WAIT.observe(max(0.0, (claim.lifetime_ms - left_ms) / 1000))
        await self._serve_claim(task, claim, began_s + left_ms / 1000)
        metrics.SCORING.observe(asyncio.get_running_loop().time() - began_s)
        return "done"

    async def _serve_claim(self, task: Task, claim: Claim, due_s: float) -> None:
        """Send the scores that the cache has by now, score the documents that no other job scores, wait for the rest.

        A document that another job did not finish in full is begun here, if this job's deadline has not passed.
        """
        told = await self._from_cache(claim)
        await self._tell(task, told)
        missing = [index for index in range(len(claim.keys)) if index not in told]
        while missing:
            own = []
            others: dict[int, asyncio.Future[Judgment | None]] = {}
            for index in missing:
                theirs = self._in_flight.begin(_flight(claim, index))
                if theirs is None:
                    own.append(index)
                else:
                    others[index] = theirs
            telling = asyncio.create_task(self._tell_others(task, others, due_s))
            try:
                await self._score(task, claim, own, due_s)
                missing = await telling
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
                for index in own:
                    self._in_flight.end(_flight(claim, index), None)

    async def _tell_others(
        self, task: Task, others: Mapping[int, asyncio.Future[Judgment | None]], due_s: float
    ) -> list[int]:
        """Hand out what other jobs make of these documents, each as it comes; the indexes that are left to this job.

        The futures belong to all jobs that wait for them, so this one never cancels them.
        """
        waiting = {theirs: index for index, theirs in others.items()}
        left: list[int] = []
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            in_time = asyncio.get_running_loop().time() < due_s
            told: dict[int, Judgment | None] = {}
            for theirs in done:
                index = waiting.pop(theirs)
                if in_time and not _is_full(theirs.result()):
                    left.append(index)
                else:
                    told[index] = theirs.result()
            await self._tell(task, told)
            metrics.DOCUMENTS.labels("other").inc(len(told))
        return left

    async def _from_cache(self, claim: Claim) -> dict[int, Judgment | None]:
        """The judgments in the cache by now. Where reasoning is wanted, a judgment without it counts as missing."""
        try:
            cached = await self._cache.get_many(claim.keys)
            wanted = [index for index, judgment in enumerate(cached) if judgment is not None]
            if _keeps_reasoning(claim):
                kept = await self._cache.get_reasoning([claim.keys[index] for index in wanted])
                wanted = [index for index, reasoning in zip(wanted, kept, strict=True) if reasoning is not None]
        except REDIS_ERRORS:
            return {}
        metrics.DOCUMENTS.labels("cache").inc(len(wanted))
        return {index: cached[index] for index in wanted}

    async def _begun(self, claim: Claim, own: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """The thinking that earlier deadlines cut, by place in `own`."""
        if not claim.budget_tokens:
            return {}
        try:
            begun = await self._cache.get_cut([claim.keys[index] for index in own])
        except REDIS_ERRORS:
            return {}
        return {place: cut.thought for place, cut in enumerate(begun) if cut is not None and cut.thought}

    async def _score(self, task: Task, claim: Claim, own: Sequence[int], due_s: float) -> None:
        """Have the documents with these indexes scored, and hand out each batch as it comes."""
        if not own:
            return
        job = ScoreJob(
            query=claim.query,
            instruction=claim.instruction,
            texts=tuple(claim.texts[index] for index in own),
            due_s=due_s,
            budget_tokens=claim.budget_tokens,
            thought=await self._begun(claim, own),
        )
        # Whatever ends this loop early, the scorer drops the rest of the job at once.
        batches = cast("AsyncGenerator[Sequence[DocumentScore], None]", self._scorer.score(job))
        async with aclosing(batches):
            async for batch in batches:
                scored = {own[one.index]: one for one in batch}
                await self._keep(claim, scored)
                await self._tell(task, {index: one.judgment for index, one in scored.items()})
                for index, one in scored.items():
                    self._in_flight.end(_flight(claim, index), one.judgment)

    async def _keep(self, claim: Claim, scored: Mapping[int, DocumentScore]) -> None:
        """Put judgments into the cache, and keep those that a deadline cut apart from full ones."""
        full: dict[str, Judgment] = {}
        cut: dict[str, CutJudgment] = {}
        for index, one in scored.items():
            metrics.DOCUMENTS.labels("failed" if one.judgment is None else "scored").inc()
            if one.judgment is None:
                LOG.info("a document has no score: %s", one.reason)
                continue
            metrics.note_judgment(one.judgment)
            if one.judgment.cut == "deadline":
                cut[claim.keys[index]] = CutJudgment(judgment=one.judgment, thought=one.thought)
            else:
                full[claim.keys[index]] = one.judgment
        # Where Redis does not take them, the proxy is told all the same.
        with suppress(*REDIS_ERRORS):
            await self._cache.put_many(full)
            await self._cache.put_cut(cut)
            if _keeps_reasoning(claim):
                await self._cache.put_reasoning(
                    {claim.keys[index]: one.reasoning for index, one in scored.items() if claim.keys[index] in full}
                )

    async def _tell(self, task: Task, judgments: Mapping[int, Judgment | None]) -> None:
        if judgments:
            await self._reply(task, [Outcome(index=index, judgment=one) for index, one in judgments.items()])

    async def _reply(
        self, task: Task, outcomes: Sequence[Outcome] = (), *, end: wire.End = "", reason: str = ""
    ) -> None:
        arrival = Arrival(query_id=task.query_id, outcomes=list(outcomes), end=end, reason=reason)
        stream = wire.reply_key(task.proxy_id)
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.xadd(
                    stream,
                    {wire.REPLY_FIELD: wire.encode_arrival(arrival)},
                    maxlen=wire.REPLY_STREAM_LENGTH,
                    approximate=True,
                )
                pipeline.expire(stream, wire.REPLY_STREAM_TTL_S)  # the stream expires once its proxy is gone
                await pipeline.execute()
        except REDIS_ERRORS as error:
            self._outage.failed(REPLIES, error)
            raise _UnreachableError from error
        self._outage.well(REPLIES)


def _flight(claim: Claim, index: int) -> str:
    """The name of work that jobs can share: a score with its reasoning is other work than one without."""
    return f"{claim.keys[index]}+reasoning" if _keeps_reasoning(claim) else claim.keys[index]


def _keeps_reasoning(claim: Claim) -> bool:
    """Whether reasoning is wanted, of a model that thinks: a direct judgment has none."""
    return claim.keep_reasoning and claim.budget_tokens > 0


def _is_full(judgment: Judgment | None) -> bool:
    return judgment is not None and judgment.cut != "deadline"
