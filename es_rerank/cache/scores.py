"""The score cache: judgments under their content keys, in Redis or in memory.

Three kinds of entry for each key, under names of their own: the judgment; one that a deadline cut short, with the
thinking so far; the reasoning as text. Knows nothing of queries or documents, only keys and values. Errors of Redis
are redis-py's own; the caller decides what they mean.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
import zstandard

from es_rerank.cache.keys import cut_key, reasoning_key
from es_rerank.judgment import Judgment
from es_rerank.outage import REDIS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from redis.asyncio import Redis

    from es_rerank.outage import Outage

READING, WRITING = "reading the score cache", "writing the score cache"
MAX_REASONING_BYTES = 1024 * 1024


class CutJudgment(msgspec.Struct, frozen=True, kw_only=True):
    """A judgment that a deadline cut short, and the token ids of the thinking up to there, to go on from."""

    judgment: Judgment
    thought: tuple[int, ...] = ()


Value = TypeVar("Value", Judgment, CutJudgment)


class ScoreCache(Protocol):
    """Judgments by content key. Answers are parallel to the keys, None where there is nothing; one round trip each."""

    async def get_many(self, keys: Sequence[str]) -> list[Judgment | None]:
        """The full judgments."""
        ...

    async def put_many(self, judgments: Mapping[str, Judgment]) -> None:
        """Keep judgments for the cache's time to live. Raises ValueError for one that a deadline cut."""
        ...

    async def get_cut(self, keys: Sequence[str]) -> list[CutJudgment | None]:
        """The judgments that deadlines cut short, whether a full judgment exists by now or not."""
        ...

    async def put_cut(self, judgments: Mapping[str, CutJudgment]) -> None:
        """Keep judgments that a deadline cut short, for the time that reasoning is kept."""
        ...

    async def get_reasoning(self, keys: Sequence[str]) -> list[str | None]:
        """The reasoning behind the judgments, where it was kept."""
        ...

    async def put_reasoning(self, reasoning: Mapping[str, str]) -> None:
        """Keep reasoning, compressed, for its own time to live."""
        ...


class RedisScoreCache:
    """The cache that proxies and workers share. A value that can't be read counts as missing.

    `outage` is told how Redis is.
    """

    def __init__(self, redis: Redis, *, ttl_s: int, reasoning_ttl_s: int, outage: Outage) -> None:
        self._redis = redis
        self._outage = outage
        self._ttl_s = ttl_s
        self._reasoning_ttl_s = reasoning_ttl_s

    async def get_many(self, keys: Sequence[str]) -> list[Judgment | None]:
        """See `ScoreCache`. Raises redis.RedisError when Redis can't answer."""
        return [_read(value, Judgment) for value in await self._get(keys)]

    async def put_many(self, judgments: Mapping[str, Judgment]) -> None:
        """See `ScoreCache`. Raises redis.RedisError when Redis can't answer."""
        _refuse_cut(judgments)
        await self._put({key: msgspec.msgpack.encode(value) for key, value in judgments.items()}, self._ttl_s)

    async def get_cut(self, keys: Sequence[str]) -> list[CutJudgment | None]:
        """See `ScoreCache`. Raises redis.RedisError when Redis can't answer."""
        return [_read(value, CutJudgment) for value in await self._get([cut_key(key) for key in keys])]

    async def put_cut(self, judgments: Mapping[str, CutJudgment]) -> None:
        """See `ScoreCache`. Raises redis.RedisError when Redis can't answer."""
        values = {cut_key(key): msgspec.msgpack.encode(value) for key, value in judgments.items()}
        await self._put(values, self._reasoning_ttl_s)

    async def get_reasoning(self, keys: Sequence[str]) -> list[str | None]:
        """See `ScoreCache`. Raises redis.RedisError when Redis can't answer."""
        return [_decompress(value) for value in await self._get([reasoning_key(key) for key in keys])]

    async def put_reasoning(self, reasoning: Mapping[str, str]) -> None:
        """See `ScoreCache`. Raises redis.RedisError when Redis can't answer."""
        compressor = zstandard.ZstdCompressor(level=3)
        values = {reasoning_key(key): compressor.compress(text.encode()) for key, text in reasoning.items()}
        await self._put(values, self._reasoning_ttl_s)

    async def _get(self, keys: Sequence[str]) -> list[Any]:
        if not keys:
            return []
        with self._noting(READING):
            return list(await self._redis.mget(keys))

    async def _put(self, values: Mapping[str, bytes], ttl_s: int) -> None:
        if not values:
            return
        with self._noting(WRITING):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(key, value, ex=ttl_s)
                await pipeline.execute()

    @contextmanager
    def _noting(self, use: str) -> Iterator[None]:
        try:
            yield
        except REDIS_ERRORS as error:
            self._outage.failed(use, error)
            raise
        self._outage.well(use)


class MemoryScoreCache:
    """The same contract within one process, without expiry: for embedding and for tests."""

    def __init__(self) -> None:
        self._judgments: dict[str, Judgment] = {}
        self._cut: dict[str, CutJudgment] = {}
        self._reasoning: dict[str, str] = {}

    async def get_many(self, keys: Sequence[str]) -> list[Judgment | None]:
        """See `ScoreCache`."""
        return [self._judgments.get(key) for key in keys]

    async def put_many(self, judgments: Mapping[str, Judgment]) -> None:
        """See `ScoreCache`."""
        _refuse_cut(judgments)
        self._judgments.update(judgments)

    async def get_cut(self, keys: Sequence[str]) -> list[CutJudgment | None]:
        """See `ScoreCache`."""
        return [self._cut.get(key) for key in keys]

    async def put_cut(self, judgments: Mapping[str, CutJudgment]) -> None:
        """See `ScoreCache`."""
        self._cut.update(judgments)

    async def get_reasoning(self, keys: Sequence[str]) -> list[str | None]:
        """See `ScoreCache`."""
        return [self._reasoning.get(key) for key in keys]

    async def put_reasoning(self, reasoning: Mapping[str, str]) -> None:
        """See `ScoreCache`."""
        self._reasoning.update(reasoning)


def _refuse_cut(judgments: Mapping[str, Judgment]) -> None:
    if any(judgment.cut == "deadline" for judgment in judgments.values()):
        raise ValueError("a judgment that a deadline cut is not a full one: use put_cut for it")


def _read(value: Any, kind: type[Value]) -> Value | None:
    if value is None:
        return None
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except (msgspec.DecodeError, RecursionError):  # the second for values that nest too deeply
        return None


def _decompress(value: Any) -> str | None:
    if value is None:
        return None
    try:
        if not 0 <= zstandard.frame_content_size(value) <= MAX_REASONING_BYTES:
            return None
        return zstandard.ZstdDecompressor().decompress(value).decode()
    except (zstandard.ZstdError, UnicodeDecodeError):
        return None
