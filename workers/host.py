"""Holds a scorer and its event loop for the life of the worker process.

A scorer is driven from one loop only (an LLM engine dies with the loop that first touched it), while Celery's
threads come and go. Knows nothing of Celery.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from es_rerank import wire
from es_rerank.broker import make_redis
from es_rerank.cache.scores import RedisScoreCache
from workers.job import Job

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from es_rerank.settings import Settings
    from workers.job import Task
    from workers.scorers.protocol import Scorer

LOG = logging.getLogger(__name__)
# Late scores are worth having, a job that never ends is not.
OVERTIME_S = 300.0
PING_S = 1.0
RECONNECT_S = 0.5


class Host:
    """A scorer in a thread of its own, with its connections to Redis."""

    def __init__(self, scorer: Scorer, settings: Settings) -> None:
        self._scorer = scorer
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scorer", daemon=True)
        self._redis = make_redis(settings.redis)
        self._job = Job(scorer, self._redis, RedisScoreCache(self._redis, ttl_s=settings.cache.ttl_s))
        self._presence: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Load and warm the model, in the caller's time. Raises WorkerStartError."""
        self._thread.start()
        self._call(self._scorer.start())

    def announce(self) -> None:
        """Let proxies know that this scorer is served."""

        async def begin() -> None:
            self._presence = asyncio.ensure_future(self._be_present())

        self._call(begin())

    def score(self, task: Task, remaining_s: float) -> None:
        """Serve one task, waiting for it in the caller's thread. Raises what `Job.serve` raises, or TimeoutError.

        A task may run five minutes over its deadline, since late scores still fill the cache.
        """
        limit_s = max(0.0, remaining_s) + OVERTIME_S

        async def limited() -> None:
            async with asyncio.timeout(limit_s):
                await self._job.serve(task)

        self._call(limited())

    def retire(self) -> None:
        """No longer be counted; what runs goes on."""
        self._call(self._end_presence())

    def close(self) -> None:
        """Free the model and end the loop. Called once; a task that still runs is cut off."""

        async def end() -> None:
            await self._end_presence()
            # After a second signal Celery no longer waits for its tasks, but their threads wait for this loop.
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await self._scorer.close()
            await self._redis.aclose()

        self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_presence(self) -> None:
        if self._presence is not None:
            self._presence.cancel()
            await asyncio.wait([self._presence])

    async def _be_present(self) -> None:
        """Stay subscribed to the presence channel, whatever happens to Redis."""
        channel = wire.presence_channel(self._scorer.fingerprint)
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(channel)
                    while True:
                        # Only a read shows that the connection is lost, and only a ping gives something to read.
                        await subscription.ping()
                        await subscription.get_message(timeout=self._settings.redis.timeout_s)
                        await asyncio.sleep(PING_S)
            await asyncio.sleep(RECONNECT_S)

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
