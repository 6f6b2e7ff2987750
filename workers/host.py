"""Holds a scorer and its event loop for the life of the worker process.

A scorer is driven from one loop only (an LLM engine dies with the loop that first touched it), while Celery's
threads come and go. No thread waits for the loop without a limit. Knows nothing of Celery.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from es_rerank import wire
from es_rerank.broker import make_redis
from es_rerank.cache.scores import RedisScoreCache
from es_rerank.supervised import end, keep_running
from es_rerank.transport import READING
from workers.errors import WorkerStartError
from workers.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from es_rerank.outage import Outage
    from es_rerank.settings import Settings
    from workers.job import Task
    from workers.scorers.protocol import Scorer

LOG = logging.getLogger(__name__)
# A job may go on after its deadline, because late scores still fill the cache, but only for so long, and only while the
# scorer has nothing to do that is in time.
OVERTIME_S = 60.0
# How long a call into the loop may take beyond its own limit. After that the loop itself must be stuck.
STUCK_S = 30.0
CLOSE_LIMIT_S = 60.0
PING_S = 1.0
RESTART_S = 0.5
PRESENCE = "the presence channel"


class Host:
    """A scorer in a thread of its own, with its connections to Redis. `outage` is told how Redis is.

    `on_broken` is called, from that thread, with the reason why the scorer can never score again.
    """

    def __init__(
        self,
        scorer: Scorer,
        settings: Settings,
        outage: Outage,
        *,
        start_timeout_s: float,
        on_broken: Callable[[str], None],
        close_limit_s: float = CLOSE_LIMIT_S,
    ) -> None:
        self._scorer = scorer
        self._settings = settings
        self._outage = outage
        self._start_timeout_s = start_timeout_s
        self._on_broken = on_broken
        self._close_limit_s = close_limit_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scorer", daemon=True)
        self._redis = make_redis(settings.redis)
        cache = RedisScoreCache(
            self._redis, ttl_s=settings.cache.ttl_s, reasoning_ttl_s=settings.cache.reasoning_ttl_s, outage=outage
        )
        self._job = Job(scorer, self._redis, cache, outage)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._presence: asyncio.Future[None] | None = None
        self._watch: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Load and warm up the model, and wait for it. Raises WorkerStartError, also when it takes too long."""
        self._thread.start()
        try:
            self._call(self._scorer.start(), self._start_timeout_s)
        except TimeoutError as error:
            raise WorkerStartError(
                f"The model was not ready within start_timeout_s = {self._start_timeout_s:g}: raise it if the model is "
                "still being downloaded or compiled then."
            ) from error

    def announce(self) -> None:
        """Let proxies know that this scorer is served, and begin to watch the scorer."""

        async def begin() -> None:
            self._presence = asyncio.ensure_future(self._keep_running(PRESENCE, self._be_present))
            self._watch = asyncio.ensure_future(self._keep_running("the watch over the scorer", self._watch_scorer))

        self._call(begin(), STUCK_S)

    def score(self, task: Task) -> None:
        """Serve one task, waiting for it in the caller's thread. Raises what `Job.serve` raises, or TimeoutError.

        A task may run a minute longer than the longest deadline, since late scores still fill the cache. A task
        whose caller disconnected ends quietly.
        """
        limit_s = self._settings.limits.max_deadline_s + OVERTIME_S

        async def limited() -> None:
            running = asyncio.ensure_future(self._job.serve(task))
            self._running[task.query_id] = running
            try:
                async with asyncio.timeout(limit_s):
                    await running
            finally:
                del self._running[task.query_id]

        with contextlib.suppress(asyncio.CancelledError, concurrent.futures.CancelledError):
            self._call(limited(), limit_s + STUCK_S)

    def retire(self) -> None:
        """Stop being counted by proxies; running tasks go on."""
        self._call(self._end_presence(), STUCK_S)

    def close(self) -> None:
        """Free the model and end the loop. Called once; a task that still runs is cancelled."""

        async def close_all() -> None:
            await self._end_presence()
            # After a second signal Celery no longer waits for its tasks, but their threads wait for this loop.
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await self._scorer.close()
            await self._redis.aclose()

        try:
            self._call(close_all(), self._close_limit_s)
        except TimeoutError:
            LOG.error(  # noqa: TRY400  the traceback would show only the wait
                "the scorer did not close within %.0f s; it ends with the process", self._close_limit_s
            )
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STUCK_S)
        self._loop.close()

    async def _watch_scorer(self) -> None:
        reason = await self._scorer.broken()
        await self._end_presence()
        self._on_broken(reason)

    async def _end_presence(self) -> None:
        if self._presence is not None:
            await end(self._presence)

    async def _be_present(self) -> None:
        """Stay subscribed to the presence channel, and drop queries named on it.

        A worker that cannot read its queue is not subscribed, so that nobody waits for it.
        """
        while True:
            while self._outage.error(READING) is not None:  # noqa: ASYNC110  the queue is read in another thread
                await asyncio.sleep(RESTART_S)
            async with self._redis.pubsub() as subscription:
                await subscription.subscribe(wire.presence_channel(self._scorer.fingerprint))
                self._outage.well(PRESENCE)
                await self._listen(subscription)

    async def _listen(self, subscription: Any) -> None:
        """Read while the queue can be read too. Raises the error of a lost connection.

        Only a read shows that a connection is lost; a ping each second gives something to read.
        """
        loop = asyncio.get_running_loop()
        next_ping_s = loop.time()
        while self._outage.error(READING) is None:
            if loop.time() >= next_ping_s:
                await subscription.ping()
                next_ping_s = loop.time() + PING_S
            # Pongs and the subscription's own confirmation are messages too.
            message = await subscription.get_message(timeout=max(0.01, next_ping_s - loop.time()))
            if message is not None and message["type"] == "message":
                self._drop(bytes(message["data"]).decode("latin-1"))

    def _keep_running(self, use: str, work: Callable[[], Coroutine[Any, Any, None]]) -> Coroutine[Any, Any, None]:
        return keep_running(use, work, pause_s=RESTART_S, outage=self._outage)

    def _drop(self, query_id: str) -> None:
        running = self._running.get(query_id)
        if running is not None:
            running.cancel()

    def _call(self, coroutine: Coroutine[Any, Any, None], limit_s: float) -> None:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            future.result(limit_s)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise
