"""Knows how many workers serve a scorer, by the number of subscribers of its presence channel, and how Redis is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

# How long Redis keeps what was written to see whether it can be.
TRIED_MS = 1000


class Presence:
    """Counts workers. A killed worker loses its connection, so Redis drops it at once and without a clock."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def count(self, fingerprints: Sequence[str]) -> list[int]:
        """How many live workers serve each scorer, parallel to the fingerprints. Raises one of `REDIS_ERRORS`."""
        counts = await self._redis.pubsub_numsub(*map(wire.presence_channel, fingerprints))
        return [int(count) for _, count in counts]

    async def try_write(self) -> None:
        """Write what a search writes, under a name of its own. Raises one of `REDIS_ERRORS`."""
        await self._redis.set(wire.claim_key("health"), b"", px=TRIED_MS)
