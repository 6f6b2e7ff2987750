"""What a search is answered with: the long-lived parts of one proxy process, made and ended together."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from es_rerank.broker import make_celery, make_redis
from es_rerank.cache.scores import RedisScoreCache
from es_rerank.clock import SystemClock
from es_rerank.proxy.collect import BLOCK_S, Collector
from es_rerank.proxy.dispatch import Dispatcher
from es_rerank.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from es_rerank.cache.scores import ScoreCache
    from es_rerank.clock import Clock
    from es_rerank.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that outlives a request. `permits` bounds the queries that wait for workers at once."""

    settings: Settings
    clock: Clock
    upstream: Upstream
    redis: Redis
    cache: ScoreCache
    dispatcher: Dispatcher
    collector: Collector
    permits: asyncio.Semaphore


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """The parts of a proxy. Connects to nothing yet: what is down at the start may come up later."""
    proxy_id = uuid.uuid4().hex
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(settings.upstream, clock))
        redis = make_redis(settings.redis)
        stack.push_async_callback(redis.aclose)
        dispatcher = Dispatcher(redis, make_celery(settings.redis), proxy_id)
        stack.callback(dispatcher.close)
        collector = Collector(make_redis(settings.redis, longest_block_s=BLOCK_S), proxy_id)
        collector.start()
        stack.push_async_callback(collector.close)
        yield Parts(
            settings=settings,
            clock=clock,
            upstream=upstream,
            redis=redis,
            cache=RedisScoreCache(redis, ttl_s=settings.cache.ttl_s, reasoning_ttl_s=settings.cache.reasoning_ttl_s),
            dispatcher=dispatcher,
            collector=collector,
            permits=asyncio.Semaphore(settings.limits.max_in_flight),
        )
