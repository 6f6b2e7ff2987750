"""Sends a query's unscored documents to the workers of a scorer. The one place of the proxy that knows Celery."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from es_rerank import wire
from es_rerank.proxy.offload import compute

if TYPE_CHECKING:
    from celery import Celery
    from redis.asyncio import Redis

    from es_rerank.wire import Claim

SENDING_THREADS = 8
# Celery compares a task's expiry with the worker's clock. A task ends in time because its claim expires, by Redis's
# clock. The task's own expiry only clears the queue of a scorer that no worker serves any more, so it may be this much
# later, and the clocks may differ by as much.
CLOCK_MARGIN_S = 60


class Dispatcher:
    """Puts claims and tasks. One per process; `proxy_id` names the stream that answers come back on."""

    def __init__(self, redis: Redis, celery: Celery, proxy_id: str) -> None:
        self._redis = redis
        self._celery = celery
        self._proxy_id = proxy_id
        # Publishing blocks its thread: in threads of its own it can delay only other publishing.
        self._threads = ThreadPoolExecutor(SENDING_THREADS, thread_name_prefix="dispatch")

    async def send(self, query_id: str, claim: Claim, fingerprint: str) -> None:
        """Have the claim scored. A worker that gets to the task after the claim's lifetime finds nothing to score.

        Raises one of `REDIS_ERRORS` where Redis can't be reached.
        """
        data = await compute(sum(map(len, claim.texts)), wire.encode_claim, claim)
        await self._redis.set(wire.claim_key(query_id), data, px=claim.lifetime_ms)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._publish, query_id, fingerprint, claim.lifetime_ms / 1000)

    async def cancel(self, query_id: str, fingerprint: str) -> None:
        """Drop the work for a query, whether a worker has it yet or not. Raises one of `REDIS_ERRORS`."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.delete(wire.claim_key(query_id))
            pipeline.publish(wire.presence_channel(fingerprint), query_id)
            await pipeline.execute()

    def close(self) -> None:
        """Free the threads and connections, without waiting for a send that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._celery.close()

    def _publish(self, query_id: str, fingerprint: str, lifetime_s: float) -> None:
        self._celery.send_task(
            wire.TASK,
            kwargs={"query_id": query_id, "proxy_id": self._proxy_id},
            queue=wire.queue_name(fingerprint),
            expires=lifetime_s + CLOCK_MARGIN_S,
            retry=False,
        )
