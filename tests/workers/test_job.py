"""One query's scoring on a real Redis, with a scorer that does what the test says."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, cast

import pytest

from es_rerank import wire
from es_rerank.broker import make_redis
from es_rerank.cache.scores import MemoryScoreCache
from es_rerank.settings import RedisSettings
from es_rerank.wire import Arrival, Claim
from workers.job import InFlight, Job, Task
from workers.scorers.protocol import DocumentScore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from workers.scorers.protocol import ScoreJob

TEXTS = ["zero", "one", "two", "three"]
KEYS = [f"key-{text}" for text in TEXTS]


class ScriptedScorer:
    """Keeps the scorer's contract: yields the batches that it was given, once `go` is set."""

    fingerprint = "scripted"

    def __init__(self, *batches: Sequence[DocumentScore], error: Exception | None = None) -> None:
        self.batches = batches
        self.error = error
        self.jobs: list[ScoreJob] = []
        self.called, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def asked(self, times: int) -> None:
        """Wait until so many jobs have begun."""
        while len(self.jobs) < times:
            self.called.clear()
            await self.called.wait()

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to free."""

    async def score(self, job: ScoreJob) -> AsyncIterator[Sequence[DocumentScore]]:
        """See `Scorer`."""
        self.jobs.append(job)
        self.called.set()
        await self.go.wait()
        for batch in self.batches:
            yield batch
        if self.error is not None:
            raise self.error


def ok(index: int, score: float) -> DocumentScore:
    """A document that was scored."""
    return DocumentScore(index=index, status="ok", rank_score=score)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A connection, to an emptied database of its own."""
    redis = make_redis(RedisSettings.model_validate({"url": redis_url.replace("/0", "/5")}))
    await redis.flushdb()
    yield redis
    await redis.aclose()


async def put_claim(redis: Redis, query_id: str, keys: Sequence[str] = KEYS) -> Task:
    """A claim as a proxy leaves it, and the task for it."""
    claim = Claim(query="q", instruction="i", texts=[key.removeprefix("key-") for key in keys], keys=list(keys))
    await redis.set(wire.claim_key(query_id), wire.encode_claim(claim))
    return Task(query_id=query_id, proxy_id="p", deadline_s=5.0)


async def arrivals(redis: Redis, query_id: str) -> list[Arrival]:
    """What the proxy was told of a query, in order."""
    records = cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(wire.reply_key("p")))
    read = [wire.decode_arrival(fields[wire.REPLY_FIELD]) for _, fields in records]
    return [arrival for arrival in read if arrival.query_id == query_id]


def scores_in(told: Sequence[Arrival]) -> dict[int, float | None]:
    """All outcomes by index."""
    return {outcome.index: outcome.rank_score for arrival in told for outcome in arrival.outcomes}


async def test_scores_reach_the_cache_and_the_proxy_batch_by_batch(redis: Redis) -> None:
    """Each batch is cached and told as it comes, a failed document without a score, and then the end."""
    failed = DocumentScore(index=2, status="failed", reason="no words")
    scorer, cache = ScriptedScorer([ok(3, 3.0), ok(0, 0.5)], [ok(1, 10.0), failed]), MemoryScoreCache()
    await Job(scorer, redis, cache).serve(await put_claim(redis, "a"))
    told = await arrivals(redis, "a")
    assert [len(arrival.outcomes) for arrival in told] == [2, 2, 0]
    assert scores_in(told) == {0: 0.5, 1: 10.0, 2: None, 3: 3.0}
    assert [arrival.end for arrival in told] == ["", "", "done"]
    assert await cache.get_many(KEYS) == [0.5, 10.0, None, 3.0]
    assert (scorer.jobs[0].query, scorer.jobs[0].instruction, scorer.jobs[0].deadline_s) == ("q", "i", 5.0)


async def test_the_claim_is_taken_once(redis: Redis) -> None:
    """A task delivered twice finds no claim the second time, says so, and scores nothing."""
    scorer = ScriptedScorer([ok(index, 1.0) for index in range(4)])
    job = Job(scorer, redis, MemoryScoreCache())
    task = await put_claim(redis, "a")
    await job.serve(task)
    await job.serve(task)
    last = (await arrivals(redis, "a"))[-1]
    assert (last.end, last.reason) == ("error", "claim_lost")
    assert len(scorer.jobs) == 1


async def test_an_unreadable_claim_is_told_and_is_no_fault_of_the_worker(redis: Redis) -> None:
    """A claim of another version, or no claim at all, ends its query alone."""
    await redis.set(wire.claim_key("a"), b"garbage")
    await Job(ScriptedScorer(), redis, MemoryScoreCache()).serve(Task(query_id="a", proxy_id="p", deadline_s=5.0))
    [told] = await arrivals(redis, "a")
    assert (told.end, told.reason) == ("error", "claim_unreadable")


async def test_a_broken_scorer_is_told_and_raised(redis: Redis) -> None:
    """When the scorer breaks half-way, what it gave stays, the proxy learns the end, and the error goes up."""
    cache = MemoryScoreCache()
    job = Job(ScriptedScorer([ok(0, 1.0)], error=RuntimeError("the GPU fell off")), redis, cache)
    with pytest.raises(RuntimeError, match="fell off"):
        await job.serve(await put_claim(redis, "a"))
    told = await arrivals(redis, "a")
    assert (told[-1].end, told[-1].reason) == ("error", "scorer_failed")
    assert (await cache.get_many(KEYS))[0] == 1.0


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 10.1])
async def test_a_score_out_of_range_is_no_score(redis: Redis, score: float) -> None:
    """What isn't finite or not in 0..10 is neither cached nor told as a score."""
    cache = MemoryScoreCache()
    await Job(ScriptedScorer([ok(0, score)]), redis, cache).serve(await put_claim(redis, "a", KEYS[:1]))
    assert scores_in(await arrivals(redis, "a")) == {0: None}
    assert await cache.get_many(KEYS[:1]) == [None]


async def test_what_was_cached_in_the_meantime_is_not_scored_again(redis: Redis) -> None:
    """A task that waited in the queue takes from the cache what another one has put there."""
    cache = MemoryScoreCache()
    await cache.put_many({KEYS[1]: 7.0})
    scorer = ScriptedScorer([ok(0, 1.0), ok(1, 2.0), ok(2, 3.0)])
    await Job(scorer, redis, cache).serve(await put_claim(redis, "a"))
    assert scorer.jobs[0].texts == ("zero", "two", "three")
    assert scores_in(await arrivals(redis, "a")) == {0: 1.0, 1: 7.0, 2: 2.0, 3: 3.0}


async def test_a_popular_new_query_is_scored_once(redis: Redis) -> None:
    """Of two jobs at once, each document is scored by one, and both proxies are told."""
    scorer = ScriptedScorer([ok(0, 1.0), ok(1, 2.0)])
    scorer.go.clear()
    job = Job(scorer, redis, MemoryScoreCache())
    first = asyncio.create_task(job.serve(await put_claim(redis, "a", KEYS[:2])))
    await scorer.asked(1)
    second = asyncio.create_task(job.serve(await put_claim(redis, "b", KEYS[1:3])))
    await scorer.asked(2)
    assert [scored.texts for scored in scorer.jobs] == [("zero", "one"), ("two",)]
    scorer.batches = ([ok(0, 1.0)],)
    scorer.go.set()
    await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 30)
    assert scores_in(await arrivals(redis, "a")) == {0: 1.0}
    # The first job's scorer left `one` out: whoever waited for it is told that there is no score.
    assert scores_in(await arrivals(redis, "b")) == {0: None, 1: 1.0}


async def test_a_key_that_ended_can_begin_again() -> None:
    """Ending a key wakes those who wait with its score, and the next to begin it owns it."""
    in_flight = InFlight()
    assert in_flight.begin("k") is None
    waiting = in_flight.begin("k")
    assert waiting is not None
    in_flight.end("k", 4.0)
    in_flight.end("k", None)
    assert await waiting == 4.0
    assert in_flight.begin("k") is None


async def test_the_reply_stream_goes_when_its_proxy_is_gone(redis: Redis) -> None:
    """The stream has a time to live and a bounded length, so nothing piles up for a proxy that never reads."""
    await Job(ScriptedScorer([ok(0, 1.0)]), redis, MemoryScoreCache()).serve(await put_claim(redis, "a", KEYS[:1]))
    assert 0 < await redis.ttl(wire.reply_key("p")) <= wire.REPLY_STREAM_TTL_S
