"""Opens the score source of one proxy process: its connections to Redis and Celery, and the reader of its replies."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from es_rerank.broker import make_celery, make_redis
from es_rerank.cache.scores import RedisScoreCache
from es_rerank.outage import Outage
from es_rerank.proxy.scoring.collect import BLOCK_S, Collector
from es_rerank.proxy.scoring.dispatch import Dispatcher
from es_rerank.proxy.scoring.presence import Presence
from es_rerank.proxy.scoring.source import ScoreSource
from es_rerank.proxy.scoring.workers import QueuedWorkers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from es_rerank.clock import Clock
    from es_rerank.settings import Settings


@asynccontextmanager
async def open_score_source(settings: Settings, clock: Clock) -> AsyncIterator[ScoreSource]:
    """The source for one process. Connects to nothing yet: what is down at the start may come up later."""
    proxy_id = uuid.uuid4().hex
    outage = Outage()
    async with AsyncExitStack() as stack:
        redis = make_redis(settings.redis)
        stack.push_async_callback(redis.aclose)
        celery = make_celery(settings.redis)
        dispatcher = Dispatcher(redis, celery, proxy_id, max_sending=settings.limits.max_in_flight)
        stack.callback(dispatcher.close)
        collector = Collector(make_redis(settings.redis, longest_block_s=BLOCK_S), proxy_id, outage)
        collector.start()
        stack.push_async_callback(collector.close)
        cache = RedisScoreCache(
            redis, ttl_s=settings.cache.ttl_s, reasoning_ttl_s=settings.cache.reasoning_ttl_s, outage=outage
        )
        workers = QueuedWorkers(
            Presence(redis),
            dispatcher,
            collector,
            clock,
            outage,
            max_in_flight=settings.limits.max_in_flight,
            cancel_s=settings.redis.timeout_s,
        )
        yield ScoreSource(cache, workers)
