"""Vectors in a real Redis: what is kept, for how long, how much of it, and what happens where Redis fails."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from es_rerank.cache.vectors import OVERHEAD_BYTES, PREFIX, WRITTEN_KEY, RedisVectorStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SIZE = 768
COUNTED = SIZE + OVERHEAD_BYTES
TTL_S = 1000
PLENTY = 1 << 30


@pytest.fixture
async def redis(own_redis_url: str) -> AsyncIterator[Redis]:
    """A client of a real, empty Redis."""
    async with Redis.from_url(own_redis_url) as client:
        yield client


def vectors_of(*numbers: int) -> dict[bytes, bytes]:
    """A vector under a key of its own for each number."""
    return {b"key%013d" % number: b"%0768d" % number for number in numbers}


async def kept(redis: Redis) -> int:
    """How many vectors Redis has."""
    return len([key async for key in redis.scan_iter(PREFIX + b"*")])


async def test_what_was_put_is_found_by_another_store(redis: Redis) -> None:
    """Vectors are parallel to the keys that are asked for, None where there is none, and each expires."""
    vectors = vectors_of(1, 2)
    await RedisVectorStore(redis, max_bytes=PLENTY, ttl_s=TTL_S).put_many(vectors)
    first, second = vectors
    other = RedisVectorStore(redis, max_bytes=PLENTY, ttl_s=TTL_S)
    assert await other.get_many([second, b"unknown", first]) == [vectors[second], None, vectors[first]]
    assert await other.get_many([]) == []
    assert {await redis.ttl(PREFIX + key) for key in vectors} <= {TTL_S, TTL_S - 1}


async def test_a_vector_takes_no_more_memory_than_is_counted(redis: Redis) -> None:
    """Redis's own figure for a thousand vectors stays under the sum that the bound is kept by, and near it."""
    store = RedisVectorStore(redis, max_bytes=PLENTY, ttl_s=TTL_S)
    await store.put_many(vectors_of(0))
    before = (await redis.info("memory"))["used_memory"]
    for start in range(1, 2001, 100):
        await store.put_many(vectors_of(*range(start, start + 100)))
    each = ((await redis.info("memory"))["used_memory"] - before) / 2000
    assert 0.7 * COUNTED < each <= COUNTED


async def test_two_workers_together_keep_to_the_bound(redis: Redis) -> None:
    """While a counter lives, half of the bound is written; with the next one the other half; so never more than all."""
    stores = [RedisVectorStore(redis, max_bytes=20 * COUNTED, ttl_s=TTL_S) for _ in range(2)]
    for number in range(30):
        await stores[number % 2].put_many(vectors_of(number))
    assert await kept(redis) == 10
    assert 0 < await redis.ttl(WRITTEN_KEY) <= TTL_S
    await redis.delete(WRITTEN_KEY)  # it has expired
    for number in range(30, 60):
        await stores[number % 2].put_many(vectors_of(number))
    assert await kept(redis) == 20


async def test_a_batch_that_does_not_fit_is_not_kept(redis: Redis) -> None:
    """Of vectors that would go beyond the bound together, none is written."""
    store = RedisVectorStore(redis, max_bytes=20 * COUNTED, ttl_s=TTL_S)
    await store.put_many(vectors_of(*range(11)))
    assert await kept(redis) == 0


async def test_a_full_redis_costs_nothing_but_the_vectors(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A Redis that refuses to write is no error: what it has is found, and the log has one line until it is well."""
    store = RedisVectorStore(redis, max_bytes=PLENTY, ttl_s=TTL_S)
    await store.put_many(vectors_of(1))
    await redis.config_set("maxmemory", 1)
    with caplog.at_level(logging.WARNING):
        for number in (2, 3):
            await store.put_many(vectors_of(number))
    [record] = caplog.records
    assert record.getMessage().startswith("vectors are not kept in Redis for now: ")
    assert "maxmemory" in record.getMessage()
    assert await store.get_many([*vectors_of(1, 2)]) == [*vectors_of(1).values(), None]
    await redis.config_set("maxmemory", 0)
    await store.put_many(vectors_of(4))
    await redis.config_set("maxmemory", 1)
    await store.put_many(vectors_of(5))
    assert len(caplog.records) == 2
    await redis.config_set("maxmemory", 0)


async def test_no_redis_costs_nothing_but_the_vectors() -> None:
    """Where nothing listens, nothing is found and nothing is kept, without an error."""
    store = RedisVectorStore(Redis(port=1), max_bytes=PLENTY, ttl_s=TTL_S)
    vectors = vectors_of(1, 2)
    await store.put_many(vectors)
    assert await store.get_many([*vectors]) == [None, None]
    await store.close()


async def test_keys_of_another_type_cost_nothing_but_the_vectors(redis: Redis) -> None:
    """What somebody else put under our names is not found, and is no error."""
    store = RedisVectorStore(redis, max_bytes=PLENTY, ttl_s=TTL_S)
    await redis.rpush(PREFIX + b"key", "a")
    assert await store.get_many([b"key"]) == [None]
    await redis.set(WRITTEN_KEY, "many")
    await store.put_many(vectors_of(1))
    assert await kept(redis) == 1
