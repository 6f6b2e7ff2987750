"""Receives scores: one reader of this process's reply stream, and a waiting place for every query in flight."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from redis.exceptions import RedisError

from es_rerank import wire
from es_rerank.wire import Arrival, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

    from es_rerank.judgment import Judgment

    Record = tuple[bytes, dict[bytes, bytes]]

LOG = logging.getLogger(__name__)
BLOCK_S = 5.0
RECONNECT_S = 0.2
CANCEL_S = 0.1
BATCH_COUNT = 200


class Waiting:
    """One query's place: what arrived for it so far."""

    def __init__(self, count: int) -> None:
        self.judgments: list[Judgment | None] = [None] * count
        """Parallel to the documents that were sent; None for those not scored (yet)."""
        self.end: str | None = None
        """None while more may come, then '' for a whole answer or the worker's reason for a broken one."""
        self._ended = asyncio.Event()

    def take(self, arrival: Arrival) -> None:
        """Note an arrival. Outcomes without a judgment, or for documents that were not sent, change nothing."""
        for outcome in arrival.outcomes:
            if 0 <= outcome.index < len(self.judgments) and outcome.judgment is not None:
                self.judgments[outcome.index] = outcome.judgment
        if arrival.end:
            self.end = arrival.reason if arrival.end == "error" else ""
            self._ended.set()

    async def whole(self) -> None:
        """Wait until the answer is whole, without a limit of its own."""
        await self._ended.wait()


class Collector:
    """Reads the reply stream for as long as the process lives, and hands arrivals to the queries that wait.

    `redis` is a client whose time-out is longer than `BLOCK_S`. After a lost connection the reader goes on from the
    last record that it saw, so it misses nothing that Redis still has.
    """

    def __init__(self, redis: Redis, proxy_id: str) -> None:
        self._redis = redis
        self._stream = wire.reply_key(proxy_id)
        self._last_id = b"0-0"
        self._waiting: dict[str, Waiting] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._read_for_ever())

    async def close(self) -> None:
        """Stop reading."""
        while self._task is not None and not self._task.done():
            self._task.cancel()  # the client loses a cancellation that comes while it connects
            await asyncio.wait([self._task], timeout=CANCEL_S)
        await self._redis.aclose()

    @contextmanager
    def expect(self, query_id: str, count: int) -> Iterator[Waiting]:
        """A place for a query's `count` outcomes; what comes after the block has ended is dropped."""
        waiting = self._waiting[query_id] = Waiting(count)
        try:
            yield waiting
        finally:
            del self._waiting[query_id]

    async def _read_for_ever(self) -> None:
        while True:
            try:
                await self._read_once()
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_S)
            except Exception:  # nothing may end the reader, which every search waits for
                LOG.exception("an answer of Redis is passed over")
                await asyncio.sleep(RECONNECT_S)

    async def _read_once(self) -> None:
        block_ms = int(BLOCK_S * 1000)
        answer = await self._redis.xread({self._stream: self._last_id}, count=BATCH_COUNT, block=block_ms)
        for _, records in cast("list[tuple[bytes, list[Record]]]", answer or []):
            for record_id, fields in records:
                self._last_id = record_id
                try:
                    self._hand_out(fields.get(wire.REPLY_FIELD, b""))
                except Exception:  # one record must not cost the others
                    LOG.exception("a record of the reply stream is passed over")

    def _hand_out(self, data: bytes) -> None:
        try:
            arrival = wire.decode_arrival(data)
        except WireError as error:
            LOG.warning("a record of the reply stream is passed over: %s", error)
            return
        waiting = self._waiting.get(arrival.query_id)
        if waiting is not None:
            waiting.take(arrival)
