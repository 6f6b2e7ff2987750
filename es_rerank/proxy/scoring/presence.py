"""Knows how many workers serve a scorer, by the number of subscribers of its presence channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis


class Presence:
    """Counts workers. A killed worker loses its connection, so Redis drops it at once and without a clock."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def count(self, fingerprints: Sequence[str]) -> list[int]:
        """How many live workers serve each scorer, parallel to the fingerprints. Raises one of `REDIS_ERRORS`."""
        counts = await self._redis.pubsub_numsub(*map(wire.presence_channel, fingerprints))
        return [int(count) for _, count in counts]
