"""One query's scoring on a real Redis, with a scorer that does what the test says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from es_rerank import wire
from es_rerank.broker import make_redis
from es_rerank.cache.scores import CutJudgment, MemoryScoreCache, RedisScoreCache
from es_rerank.judgment import Judgment
from es_rerank.outage import Outage, words_of
from es_rerank.tables import RedisSettings
from es_rerank.wire import Arrival, Claim
from workers import metrics
from workers.job import REPLIES, InFlight, Job, Task
from workers.scorers.protocol import DocumentScore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from es_rerank.judgment import Cut
    from workers.scorers.protocol import ScoreJob

TEXTS = ["zero", "one", "two", "three"]
KEYS = [f"key-{text}" for text in TEXTS]


class ScriptedScorer:
    """Keeps the scorer's contract: yields the batches that it was given, once `go` is set."""

    fingerprint = "scripted"
    identity = ""

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

    async def broken(self) -> str:
        """Never."""
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

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
    return DocumentScore(index=index, status="ok", judgment=Judgment(rank_score=score))


def thought(index: int, *, cut: Cut = "", tokens: int = 3, reasoning: str = "hm") -> DocumentScore:
    """A document that was thought about."""
    judgment = Judgment(distribution=(0.0,) * 9 + (0.5, 0.25), think_tokens=tokens, cut=cut)
    ids = tuple(range(tokens))
    return DocumentScore(index=index, status="ok", judgment=judgment, thought=ids, reasoning=reasoning)


async def cached_scores(cache: MemoryScoreCache, keys: Sequence[str]) -> list[float | None]:
    """The full scores in the cache, parallel to the keys."""
    return [None if one is None else one.score("paper") for one in await cache.get_many(keys)]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A connection, to an emptied database of its own."""
    redis = make_redis(RedisSettings.model_validate({"url": redis_url.replace("/0", "/5")}))
    await redis.flushdb()
    yield redis
    await redis.aclose()


async def put_claim(
    redis: Redis, query_id: str, keys: Sequence[str] = KEYS, *, within_s: float = 60.0, **more: Any
) -> Task:
    """A claim as a proxy leaves it, and the task for it."""
    lifetime_ms = int(within_s * 1000)
    texts = [key.removeprefix("key-") for key in keys]
    claim = Claim(
        fingerprint="scripted",
        query="q",
        instruction="i",
        texts=texts,
        keys=list(keys),
        lifetime_ms=lifetime_ms,
        **more,
    )
    await redis.set(wire.claim_key(query_id), wire.encode_claim(claim), px=lifetime_ms)
    return Task(query_id=query_id, proxy_id="p")


async def arrivals(redis: Redis, query_id: str) -> list[Arrival]:
    """What the proxy was told of a query, in order."""
    records = cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(wire.reply_key("p")))
    read = [wire.decode_arrival(fields[wire.REPLY_FIELD]) for _, fields in records]
    return [arrival for arrival in read if arrival.query_id == query_id]


def scores_in(told: Sequence[Arrival]) -> dict[int, float | None]:
    """All outcomes by index."""
    return {
        outcome.index: None if outcome.judgment is None else outcome.judgment.score("paper")
        for arrival in told
        for outcome in arrival.outcomes
    }


async def test_scores_reach_the_cache_and_the_proxy_batch_by_batch(redis: Redis) -> None:
    """Each batch is cached and sent as it comes, a failed document without a score, and then the end."""
    failed = DocumentScore(index=2, status="failed", reason="no words")
    scorer, cache = ScriptedScorer([ok(3, 3.0), ok(0, 0.5)], [ok(1, 10.0), failed]), MemoryScoreCache()
    await Job(scorer, redis, cache, Outage()).serve(await put_claim(redis, "a"))
    told = await arrivals(redis, "a")
    assert [len(arrival.outcomes) for arrival in told] == [2, 2, 0]
    assert scores_in(told) == {0: 0.5, 1: 10.0, 2: None, 3: 3.0}
    assert [arrival.end for arrival in told] == ["", "", "done"]
    assert await cached_scores(cache, KEYS) == [0.5, 10.0, None, 3.0]
    assert (scorer.jobs[0].query, scorer.jobs[0].instruction) == ("q", "i")
    assert 0 < scorer.jobs[0].due_s - asyncio.get_running_loop().time() <= 60


async def test_the_claim_is_taken_once(redis: Redis) -> None:
    """A task delivered twice finds no claim the second time, says so, and scores nothing."""
    scorer = ScriptedScorer([ok(index, 1.0) for index in range(4)])
    job = Job(scorer, redis, MemoryScoreCache(), Outage())
    task = await put_claim(redis, "a")
    await job.serve(task)
    await job.serve(task)
    last = (await arrivals(redis, "a"))[-1]
    assert (last.end, last.reason) == ("error", "claim_lost")
    assert len(scorer.jobs) == 1


async def test_an_unreadable_claim_is_told_and_is_no_fault_of_the_worker(redis: Redis) -> None:
    """A claim of another version, or no claim at all, ends its query alone."""
    await redis.set(wire.claim_key("a"), b"garbage")
    await Job(ScriptedScorer(), redis, MemoryScoreCache(), Outage()).serve(Task(query_id="a", proxy_id="p"))
    [told] = await arrivals(redis, "a")
    assert (told.end, told.reason) == ("error", "claim_unreadable")


async def test_a_broken_scorer_is_told_and_raised(redis: Redis) -> None:
    """When the scorer breaks half-way, what it gave stays, the proxy learns the end, and the error goes up."""
    cache = MemoryScoreCache()
    job = Job(ScriptedScorer([ok(0, 1.0)], error=RuntimeError("the GPU fell off")), redis, cache, Outage())
    with pytest.raises(RuntimeError, match="fell off"):
        await job.serve(await put_claim(redis, "a"))
    told = await arrivals(redis, "a")
    assert (told[-1].end, told[-1].reason) == ("error", "scorer_failed")
    assert (await cached_scores(cache, KEYS))[0] == 1.0


async def test_what_was_cached_in_the_meantime_is_not_scored_again(redis: Redis) -> None:
    """A task that waited in the queue takes from the cache what another one has put there."""
    cache = MemoryScoreCache()
    await cache.put_many({KEYS[1]: Judgment(rank_score=7.0)})
    scorer = ScriptedScorer([ok(0, 1.0), ok(1, 2.0), ok(2, 3.0)])
    await Job(scorer, redis, cache, Outage()).serve(await put_claim(redis, "a"))
    assert scorer.jobs[0].texts == ("zero", "two", "three")
    assert scores_in(await arrivals(redis, "a")) == {0: 1.0, 1: 7.0, 2: 2.0, 3: 3.0}


async def test_a_popular_new_query_is_scored_once(redis: Redis) -> None:
    """Of two jobs at once, each document is scored by one, and both proxies are told."""
    scorer = ScriptedScorer([ok(0, 1.0), ok(1, 2.0)])
    scorer.go.clear()
    job = Job(scorer, redis, MemoryScoreCache(), Outage())
    first = asyncio.create_task(job.serve(await put_claim(redis, "a", KEYS[:2])))
    await scorer.asked(1)
    second = asyncio.create_task(job.serve(await put_claim(redis, "b", KEYS[1:3])))
    await scorer.asked(2)
    assert [scored.texts for scored in scorer.jobs] == [("zero", "one"), ("two",)]
    scorer.batches = ([ok(0, 1.0)],)
    scorer.go.set()
    await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 30)
    assert scores_in(await arrivals(redis, "a")) == {0: 1.0}
    # The first job's scorer left `one` out, so the second one had it scored itself.
    assert scores_in(await arrivals(redis, "b")) == {0: 1.0, 1: 1.0}
    assert scorer.jobs[2].texts == ("one",)


async def test_a_key_that_ended_can_begin_again() -> None:
    """Ending a key gives its score to the jobs that wait, and the next job that begins it owns it."""
    in_flight = InFlight()
    assert in_flight.begin("k") is None
    waiting = in_flight.begin("k")
    assert waiting is not None
    in_flight.end("k", Judgment(rank_score=4.0))
    in_flight.end("k", None)
    assert await waiting == Judgment(rank_score=4.0)
    assert in_flight.begin("k") is None


async def test_the_depth_of_a_claim_reaches_the_scorer(redis: Redis) -> None:
    """The budget is the claim's, and the deadline is when the claim would have ended, by Redis's clock."""
    scorer = ScriptedScorer([ok(0, 1.0)])
    task = await put_claim(redis, "a", KEYS[:1], within_s=5.0, budget_tokens=256)
    await asyncio.sleep(0.3)
    await Job(scorer, redis, MemoryScoreCache(), Outage()).serve(task)
    assert scorer.jobs[0].budget_tokens == 256
    assert scorer.jobs[0].due_s - asyncio.get_running_loop().time() < 4.8


async def test_a_judgment_that_a_deadline_cut_is_told_and_kept_apart(redis: Redis) -> None:
    """It reaches the proxy with its mark and is not kept among full judgments; one that a budget cut is."""
    cache = MemoryScoreCache()
    scorer = ScriptedScorer([thought(0, cut="deadline"), thought(1, cut="budget")])
    await Job(scorer, redis, cache, Outage()).serve(await put_claim(redis, "a", KEYS[:2], budget_tokens=9))
    [told, _] = await arrivals(redis, "a")
    assert [outcome.judgment.cut for outcome in told.outcomes if outcome.judgment] == ["deadline", "budget"]
    assert [one is None for one in await cache.get_many(KEYS[:2])] == [True, False]
    cut, none = await cache.get_cut(KEYS[:2])
    assert (cut.thought if cut else None, none) == ((0, 1, 2), None)


async def test_what_a_deadline_cut_is_gone_on_with(redis: Redis) -> None:
    """The next query for it hands the scorer the thinking so far, at the document's place in the job."""
    cache = MemoryScoreCache()
    before = thought(0, cut="deadline")
    assert before.judgment is not None
    await cache.put_cut({KEYS[2]: CutJudgment(judgment=before.judgment, thought=before.thought)})
    await cache.put_many({KEYS[0]: Judgment(rank_score=1.0)})
    scorer = ScriptedScorer([thought(0), thought(1)])
    await Job(scorer, redis, cache, Outage()).serve(await put_claim(redis, "a", KEYS[:3], budget_tokens=9))
    assert scorer.jobs[0].thought == {1: (0, 1, 2)}
    assert None not in await cache.get_many(KEYS[:3])


async def test_reasoning_is_kept_where_it_was_asked_for(redis: Redis) -> None:
    """Only a claim that asks keeps it, and for such a claim a judgment without its reasoning is made again."""
    cache = MemoryScoreCache()
    scorer = ScriptedScorer([thought(0, reasoning="because")])
    job = Job(scorer, redis, cache, Outage())
    await job.serve(await put_claim(redis, "a", KEYS[:1], budget_tokens=9))
    assert await cache.get_reasoning(KEYS[:1]) == [None]
    for query_id in ("b", "c"):
        await job.serve(await put_claim(redis, query_id, KEYS[:1], budget_tokens=9, keep_reasoning=True))
    assert await cache.get_reasoning(KEYS[:1]) == ["because"]
    assert len(scorer.jobs) == 2


async def test_who_waits_for_a_cancelled_query_scores_it_itself(redis: Redis) -> None:
    """A query dropped because its caller left takes nothing from another that waited for its documents."""
    scorer = ScriptedScorer([ok(0, 1.0)])
    scorer.go.clear()
    job = Job(scorer, redis, MemoryScoreCache(), Outage())
    first = asyncio.create_task(job.serve(await put_claim(redis, "a", KEYS[:1])))
    await scorer.asked(1)
    second = asyncio.create_task(job.serve(await put_claim(redis, "b", KEYS[:1])))
    await asyncio.sleep(0.1)
    first.cancel()
    await scorer.asked(2)
    scorer.go.set()
    await asyncio.wait_for(second, 30)
    assert scores_in(await arrivals(redis, "b")) == {0: 1.0}
    assert first.cancelled()


async def test_a_caller_who_disconnects_takes_no_document_from_others(redis: Redis) -> None:
    """Of three queries for one document, the second is dropped while it waits: the third and a fourth get the score."""
    scorer = ScriptedScorer([ok(0, 1.0)])
    scorer.go.clear()
    job = Job(scorer, redis, MemoryScoreCache(), Outage())
    tasks = []
    for query_id in ("a", "b", "c"):
        tasks.append(asyncio.create_task(job.serve(await put_claim(redis, query_id, KEYS[:1]))))
        await asyncio.sleep(0.05)
    tasks[1].cancel()
    await asyncio.sleep(0.05)
    tasks.append(asyncio.create_task(job.serve(await put_claim(redis, "d", KEYS[:1]))))
    await asyncio.sleep(0.05)
    scorer.go.set()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert len(scorer.jobs) == 1
    assert [scores_in(await arrivals(redis, query_id)) for query_id in "acd"] == [{0: 1.0}] * 3
    assert tasks[1].cancelled()


async def test_documents_of_another_job_are_told_as_they_come(redis: Redis) -> None:
    """A query that is still waiting for its own document has been told what another query had scored meanwhile."""
    release = asyncio.Event()

    class Slow(ScriptedScorer):
        async def score(self, job: ScoreJob) -> AsyncIterator[Sequence[DocumentScore]]:
            self.jobs.append(job)
            if "two" in job.texts:
                await release.wait()
                yield [ok(0, 2.0)]
            else:
                await self.go.wait()
                yield [ok(0, 1.0)]

    scorer = Slow()
    scorer.go.clear()
    job = Job(scorer, redis, MemoryScoreCache(), Outage())
    first = asyncio.create_task(job.serve(await put_claim(redis, "a", KEYS[1:2])))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(job.serve(await put_claim(redis, "b", KEYS[1:3])))
    await asyncio.sleep(0.05)
    scorer.go.set()
    await asyncio.wait_for(first, 30)
    async with asyncio.timeout(30):
        while scores_in(await arrivals(redis, "b")) != {0: 1.0}:  # noqa: ASYNC110  Redis tells no event
            await asyncio.sleep(0.01)
    assert not second.done()
    release.set()
    await asyncio.wait_for(second, 30)
    assert scores_in(await arrivals(redis, "b")) == {0: 1.0, 1: 2.0}


async def test_the_reply_stream_goes_when_its_proxy_is_gone(redis: Redis) -> None:
    """The stream has a time to live and a bounded length, so nothing piles up for a proxy that never reads."""
    await Job(ScriptedScorer([ok(0, 1.0)]), redis, MemoryScoreCache(), Outage()).serve(
        await put_claim(redis, "a", KEYS[:1])
    )
    assert 0 < await redis.ttl(wire.reply_key("p")) <= wire.REPLY_STREAM_TTL_S


class Refusing:
    """The user of a connection, who may do less and less: a real Redis refuses."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    async def may(self, rules: str) -> None:
        """Set what the user may do."""
        await self.redis.execute_command("ACL", "SETUSER", "job", "on", "nopass", "~*", "&*", "+@all", *rules.split())  # type: ignore[no-untyped-call]


@pytest.fixture
async def refusing(redis: Redis) -> AsyncIterator[Refusing]:
    """The rights of the user `job`."""
    refusing = Refusing(redis)
    await refusing.may("")
    yield refusing
    await redis.execute_command("ACL", "DELUSER", "job")  # type: ignore[no-untyped-call]


@pytest.fixture
async def limited(redis_url: str, refusing: Refusing) -> AsyncIterator[Redis]:
    """A connection of the user `job`."""
    url = redis_url.replace("/0", "/5").replace("redis://", "redis://job:any@")
    redis = make_redis(RedisSettings.model_validate({"url": url}))
    yield redis
    await redis.aclose()


def redis_cache(redis: Redis) -> RedisScoreCache:
    """The real cache."""
    return RedisScoreCache(redis, ttl_s=60, reasoning_ttl_s=60, outage=Outage())


async def test_scores_that_the_cache_does_not_take_are_told(redis: Redis, limited: Redis, refusing: Refusing) -> None:
    """Where Redis refuses the cache, reading and writing, the proxy gets every score and the end of the query."""
    await refusing.may("-set -mget")
    scorer = ScriptedScorer([ok(0, 1.0)], [ok(1, 2.0)])
    await Job(scorer, limited, redis_cache(limited), Outage()).serve(await put_claim(redis, "a", KEYS[:2]))
    told = await arrivals(redis, "a")
    assert scores_in(told) == {0: 1.0, 1: 2.0}
    assert told[-1].end == "done"


async def test_a_job_whose_replies_are_refused_drops_its_work(redis: Redis, limited: Redis, refusing: Refusing) -> None:
    """It ends quietly, is counted apart, and the scorer's iterator is closed before its next batch."""
    await refusing.may("-xadd")
    closed = []

    class Watched(ScriptedScorer):
        async def score(self, job: ScoreJob) -> AsyncIterator[Sequence[DocumentScore]]:
            try:
                yield [ok(0, 1.0)]
                closed.append("went on")
            finally:
                closed.append("closed")

    before = metrics.QUERIES.labels("redis_failed")._value.get()
    outage = Outage()
    task = await put_claim(redis, "a", KEYS[:2])
    await Job(Watched(), limited, redis_cache(limited), outage).serve(task)
    assert closed == ["closed"]
    assert metrics.QUERIES.labels("redis_failed")._value.get() == before + 1
    error = outage.error(REPLIES)
    assert error is not None
    assert "xadd" in words_of(error)


async def test_a_claim_that_redis_does_not_give_is_told_as_such(
    redis: Redis, limited: Redis, refusing: Refusing
) -> None:
    """Nothing is scored, and where a reply is possible, it says that Redis refuses."""
    await refusing.may("-getdel")
    scorer = ScriptedScorer()
    await Job(scorer, limited, redis_cache(limited), Outage()).serve(await put_claim(redis, "a"))
    [told] = await arrivals(redis, "a")
    assert (told.end, told.reason, scorer.jobs) == ("error", "redis_refuses", [])


async def test_a_claim_for_another_scorer_is_not_scored(redis: Redis) -> None:
    """Its scores would be kept under the other scorer's keys."""
    scorer = ScriptedScorer([ok(0, 1.0)])
    task = await put_claim(redis, "a", KEYS[:1])
    scorer.fingerprint = "another"
    await Job(scorer, redis, MemoryScoreCache(), Outage()).serve(task)
    [told] = await arrivals(redis, "a")
    assert (told.end, told.reason, scorer.jobs) == ("error", "claim_unreadable", [])


async def test_a_direct_judgment_leaves_no_reasoning(redis: Redis) -> None:
    """Where nothing is thought, no entry for reasoning is written, whatever the rule keeps."""
    scorer = ScriptedScorer([ok(0, 1.0)])
    task = await put_claim(redis, "a", KEYS[:1], keep_reasoning=True)
    await Job(scorer, redis, redis_cache(redis), Outage()).serve(task)
    assert scores_in(await arrivals(redis, "a")) == {0: 1.0}
    assert await redis.keys("es-rerank:reasoning:*") == []
