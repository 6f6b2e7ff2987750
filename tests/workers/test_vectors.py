"""Vectors that workers share through a real Redis: a text is read once, and a score does not depend on who read it."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest
import redis as sync_redis
from redis.asyncio import Redis

from es_rerank import wire
from es_rerank.cache.vectors import PREFIX, RedisVectorStore
from es_rerank.outage import Outage
from es_rerank.settings import Settings
from es_rerank.wire import Claim
from tests.workers.test_minilm import CountingEncoder, job_of, scores_of
from workers.host import Host
from workers.job import Task
from workers.scorers.biencoder import BiEncoder
from workers.scorers.factory import make_scorer
from workers.scorers.models import MINILM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

if importlib.util.find_spec(MINILM.package) is None:
    pytest.skip("MiniLM's weights are not installed: requirements/minilm.txt", allow_module_level=True)

TEXTS = ("Kill the child process once the time-out is over.", "Bread: flour, water, salt, yeast.", "stop")


def serve(url: str, query: str) -> tuple[list[str], dict[bytes, bytes | None]]:
    """What a new worker encodes for a query about the texts, and the judgments that it leaves in the cache."""
    settings = Settings.model_validate({"upstream": {"urls": ["http://127.0.0.1:1"]}, "redis": {"url": url}})
    scorer = make_scorer(settings.known_scorers()["minilm"], settings)
    assert isinstance(scorer, BiEncoder)
    host = Host(scorer, settings, Outage(), start_timeout_s=60.0, on_broken=print)
    host.start()
    counting = CountingEncoder(scorer)
    keys = [f"es-rerank:score:{query}:{place}" for place in range(len(TEXTS))]
    claim = Claim(
        fingerprint=scorer.fingerprint, query=query, instruction="", texts=[*TEXTS], keys=keys, lifetime_ms=600_000
    )
    with sync_redis.Redis.from_url(url) as client:
        client.set(wire.claim_key(query), wire.encode_claim(claim), px=claim.lifetime_ms)
        host.score(Task(query_id=query, proxy_id="p"))
        host.close()
        return counting.texts, {key.encode(): client.get(key) for key in keys}


def test_a_second_worker_reads_no_text_again(own_redis_url: str) -> None:
    """Another worker, or the same after a restart, encodes the query alone, and scores as if it had read the texts."""
    asked = "how to end a program"
    first, _ = serve(own_redis_url, asked)
    assert sorted(first) == sorted([asked, *TEXTS])
    second, judged = serve(own_redis_url, "the same, asked otherwise")
    assert second == ["the same, asked otherwise"]
    with sync_redis.Redis.from_url(own_redis_url) as client:
        client.flushall()
    alone, expected = serve(own_redis_url, "the same, asked otherwise")
    assert len(alone) == 1 + len(TEXTS)
    assert judged == expected
    assert None not in judged.values()


@pytest.fixture
async def redis(own_redis_url: str) -> AsyncIterator[Redis]:
    """A client of a real, empty Redis."""
    async with Redis.from_url(own_redis_url) as client:
        yield client


async def started(redis: Redis, fingerprint: str = "minilm-test", **options: Any) -> BiEncoder:
    """A started scorer that shares its vectors."""
    store = RedisVectorStore(redis, max_bytes=1 << 30, ttl_s=1000)
    scorer = BiEncoder(MINILM, fingerprint=fingerprint, store=store, **options)
    await scorer.start()
    return scorer


async def test_a_worker_that_keeps_nothing_itself_takes_vectors_from_redis(redis: Redis) -> None:
    """With no room in memory, stored vectors come first and nothing is encoded twice; queries are not stored."""
    scorer = await started(redis, vector_cache_bytes=0)
    before = await scores_of(scorer, job_of(*TEXTS))
    counting = CountingEncoder(scorer)
    batches = [batch async for batch in scorer.score(job_of("new", *TEXTS))]
    assert [[outcome.index for outcome in batch] for batch in batches] == [[1, 2, 3], [0]]
    assert len(counting.texts) == 2
    assert await scores_of(scorer, job_of(*TEXTS)) == before
    assert len(await redis.keys(PREFIX + b"*")) == 1 + len(TEXTS)
    await scorer.close()


async def test_another_fingerprint_has_other_vectors(redis: Redis) -> None:
    """Vectors of another model, or of another precision, are never taken."""
    one = await started(redis)
    await scores_of(one, job_of(*TEXTS))
    other = await started(redis, fingerprint="minilm-other")
    counting = CountingEncoder(other)
    await scores_of(other, job_of(*TEXTS))
    assert len(counting.texts) == 1 + len(TEXTS)
    await one.close()
    await other.close()


@pytest.mark.parametrize("value", [b"", b"x" * 767, b"\x00" * 768, b"\x00\x7c" * 384, b"\x00\x7e" * 384, b"x" * 1536])
async def test_bytes_that_are_no_vector_are_read_anew(redis: Redis, value: bytes) -> None:
    """A value of the wrong length, of zeros, or with what is no number, counts as missing."""
    scorer = await started(redis, vector_cache_bytes=0)
    before = await scores_of(scorer, job_of("stop"))
    [key] = await redis.keys(PREFIX + b"*")
    await redis.set(key, value)
    assert await scores_of(scorer, job_of("stop")) == before
    await scorer.close()


async def test_a_redis_that_fails_costs_no_score(redis: Redis) -> None:
    """Where Redis refuses to write, and where it is gone, scores are the same."""
    plain = BiEncoder(MINILM, fingerprint="minilm-test")
    await plain.start()
    expected = await scores_of(plain, job_of(*TEXTS))
    await redis.config_set("maxmemory", 1)
    full = await started(redis)
    assert await scores_of(full, job_of(*TEXTS)) == expected
    gone = await started(Redis(port=1))
    assert await scores_of(gone, job_of(*TEXTS)) == expected
    for scorer in (plain, full, gone):
        await scorer.close()
