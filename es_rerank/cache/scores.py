"""The score cache: rank scores under their content keys, in Redis or in memory.

Knows nothing of queries or documents, only keys and values. Errors of Redis are redis-py's own; who calls decides
what they mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis


class CachedScore(msgspec.Struct, frozen=True, kw_only=True, rename={"rank_score": "s"}):
    """What is kept for one document: a finite rank score in 0..10."""

    rank_score: Annotated[float, msgspec.Meta(ge=0, le=10)]


class ScoreCache(Protocol):
    """Rank scores by content key."""

    async def get_many(self, keys: Sequence[str]) -> list[float | None]:
        """The scores under `keys`: parallel to them, None where there is none. One round trip."""
        ...

    async def put_many(self, scores: Mapping[str, float]) -> None:
        """Keep scores for the cache's time to live. One round trip."""
        ...


class RedisScoreCache:
    """The cache that proxies and workers share. Values are msgpack; one that can't be read counts as missing."""

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    async def get_many(self, keys: Sequence[str]) -> list[float | None]:
        """See `ScoreCache`. Raises redis.RedisError when Redis can't answer."""
        if not keys:
            return []
        return [None if value is None else _read(value) for value in await self._redis.mget(keys)]

    async def put_many(self, scores: Mapping[str, float]) -> None:
        """See `ScoreCache`. Raises redis.RedisError when Redis can't answer."""
        if not scores:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key, score in scores.items():
                pipeline.set(key, msgspec.msgpack.encode(CachedScore(rank_score=score)), ex=self._ttl_s)
            await pipeline.execute()


class MemoryScoreCache:
    """The same contract within one process, without expiry: for embedding and for tests."""

    def __init__(self) -> None:
        self._scores: dict[str, float] = {}

    async def get_many(self, keys: Sequence[str]) -> list[float | None]:
        """See `ScoreCache`."""
        return [self._scores.get(key) for key in keys]

    async def put_many(self, scores: Mapping[str, float]) -> None:
        """See `ScoreCache`."""
        self._scores.update(scores)


def _read(value: Any) -> float | None:
    try:
        return msgspec.msgpack.decode(value, type=CachedScore).rank_score
    except (msgspec.DecodeError, RecursionError):  # the second for what nests too deep
        return None
