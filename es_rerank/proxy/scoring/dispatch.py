"""Sends a query's unscored documents to the workers of a scorer. The one place of the proxy that knows Celery."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from redis.exceptions import TimeoutError as RedisTimeoutError

from es_rerank import wire
from es_rerank.proxy.offload import compute

if TYPE_CHECKING:
    from concurrent.futures import Future

    from celery import Celery
    from redis.asyncio import Redis

    from es_rerank.wire import Claim

SENDING_THREADS = 8
# Celery compares a task's expiry with the worker's clock. A task ends in time because its claim expires, by Redis's
# clock. The task's own expiry only clears the queue of a scorer that no worker serves any more, so it may be this much
# later, and the clocks may differ by as much.
CLOCK_MARGIN_S = 60


class Dispatcher:
    """Puts claims and tasks. One per process; `proxy_id` names the stream that answers come back on.

    At most `max_sending` tasks are being put at a time, those included that nobody waits for any more.
    """

    def __init__(self, redis: Redis, celery: Celery, proxy_id: str, *, max_sending: int) -> None:
        self._redis = redis
        self._celery = celery
        self._proxy_id = proxy_id
        # Publishing blocks its thread: in threads of its own it can delay only other publishing.
        self._threads = ThreadPoolExecutor(SENDING_THREADS, thread_name_prefix="dispatch")
        # A send that its query no longer waits for stays among them until its thread is done with it.
        self._sending: set[Future[None]] = set()
        self._max_sending = max_sending

    async def send(self, query_id: str, claim: Claim, fingerprint: str) -> None:
        """Have the claim scored. A worker that gets to the task after the claim's lifetime finds nothing to score.

        Raises WireError for a claim that is too large, and one of `REDIS_ERRORS` where Redis can't be reached, refuses,
        or has hung for so long that too many tasks wait to be put.
        """
        if len(self._sending) >= self._max_sending:
            raise RedisTimeoutError(f"{len(self._sending)} tasks are waiting to be put already")
        data = await compute(sum(map(len, claim.texts)), wire.encode_claim, claim)
        await self._redis.set(wire.claim_key(query_id), data, px=claim.lifetime_ms)
        sending = self._threads.submit(self._publish, query_id, fingerprint, time.monotonic(), claim.lifetime_ms / 1000)
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
        await asyncio.shield(asyncio.wrap_future(sending))

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

    def _publish(self, query_id: str, fingerprint: str, began_s: float, lifetime_s: float) -> None:
        if time.monotonic() >= began_s + lifetime_s:
            return  # it waited for a thread until after its deadline
        self._celery.send_task(
            wire.TASK,
            kwargs={"query_id": query_id, "proxy_id": self._proxy_id},
            queue=wire.queue_name(fingerprint),
            expires=lifetime_s + CLOCK_MARGIN_S,
            retry=False,
        )
