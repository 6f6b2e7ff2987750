"""Vectors of texts in Redis, so that another worker, or the same one after a restart, need not read the texts again.

A worker goes on without the store wherever Redis fails: nothing here raises an error of Redis.

Nothing in Redis counts the bytes under some keys, so the bound is kept by a counter that all workers share. It is a key
that lives as long as a vector does, and while it lives, half of the bound may be written. A vector that was written
under one counter can outlive it, but not the next one; so there are never more than two halves.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from es_rerank.outage import REDIS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

LOG = logging.getLogger(__name__)
PREFIX = b"es-rerank:vector:"
WRITTEN_KEY = "es-rerank:vectors-written"
# What Redis needs for one vector of 384 float16 beside its 768 bytes: the key, its expiry and its places in two tables.
OVERHEAD_BYTES = 256


class VectorStore(Protocol):
    """Bytes by the hash of what they were made from. It may forget everything at any time."""

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """What is kept, parallel to the keys, None where there is nothing."""
        ...

    async def put_many(self, vectors: Mapping[bytes, bytes]) -> None:
        """Keep vectors, as far as there is room."""
        ...

    async def close(self) -> None:
        """Give up the connection."""
        ...


class RedisVectorStore:
    """The vectors that all workers of all scorers share: at most `max_bytes` of Redis's memory, each for `ttl_s`.

    While the room is used up, new vectors are not kept; old ones make room when they expire.
    """

    def __init__(self, redis: Redis, *, max_bytes: int, ttl_s: int) -> None:
        self._redis = redis
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._failing = False

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `VectorStore`. Nothing is found where Redis can't answer."""
        if not keys:
            return []
        try:
            found: list[Any] = await self._redis.mget([PREFIX + key for key in keys])
        except REDIS_ERRORS as error:
            self._note(error)
            return [None] * len(keys)
        return found

    async def put_many(self, vectors: Mapping[bytes, bytes]) -> None:
        """See `VectorStore`. Nothing is kept where Redis can't, because it is gone or full."""
        if not vectors:
            return
        size = sum(len(vector) + OVERHEAD_BYTES for vector in vectors.values())
        try:
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.set(WRITTEN_KEY, 0, ex=self._ttl_s, nx=True)
                pipeline.incrby(WRITTEN_KEY, size)
                written = (await pipeline.execute())[-1]
            self._failing = False
            if written > self._max_bytes // 2:
                return
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key, vector in vectors.items():
                    pipeline.set(PREFIX + key, vector, ex=self._ttl_s)
                await pipeline.execute()
        except REDIS_ERRORS as error:
            self._note(error)

    async def close(self) -> None:
        """See `VectorStore`."""
        await self._redis.aclose()

    def _note(self, error: Exception) -> None:
        """One line in the log for each time that Redis begins to fail."""
        if not self._failing:
            LOG.warning("vectors are not kept in Redis for now: %s", error)
        self._failing = True
