"""Receives scores: one reader of this process's reply stream, and a waiting place for every query in flight."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from es_rerank import wire
from es_rerank.supervised import end, keep_running
from es_rerank.wire import Arrival, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

    from es_rerank.judgment import Judgment
    from es_rerank.outage import Outage

    Record = tuple[bytes, dict[bytes, bytes]]

LOG = logging.getLogger(__name__)
BLOCK_S = 5.0
RESTART_S = 0.2
# After so many failures in a row, about a second, no query waits any longer.
GIVE_UP_AFTER = 5
BATCH_COUNT = 200
READING = "reading scores"


class Waiting:
    """One query's place: what arrived for it so far."""

    def __init__(self, count: int) -> None:
        self.judgments: list[Judgment | None] = [None] * count
        """Parallel to the documents that were sent; None for those not scored (yet)."""
        self.end: str | None = None
        """None while more may come, then '' for a whole answer or the worker's reason for a broken one."""
        self.lost: BaseException | None = None
        """The error because of which nothing more can come, although no worker has ended the answer."""
        self._ended = asyncio.Event()

    def take(self, arrival: Arrival) -> None:
        """Note an arrival. Outcomes without a judgment, or for documents that were not sent, change nothing."""
        for outcome in arrival.outcomes:
            if 0 <= outcome.index < len(self.judgments) and outcome.judgment is not None:
                self.judgments[outcome.index] = outcome.judgment
        if arrival.end:
            self.end = arrival.reason if arrival.end == "error" else ""
            self._ended.set()

    def lose(self, error: BaseException) -> None:
        """Note that nothing more can come."""
        self.lost = error
        self._ended.set()

    async def whole(self) -> None:
        """Wait until the answer is whole or nothing more can come, without a limit of its own."""
        await self._ended.wait()


class Collector:
    """Reads the reply stream for as long as the process lives, and hands arrivals to the queries that wait.

    `redis` is a client whose time-out is longer than `BLOCK_S`. The stream is read from its beginning, and what was
    handed out is deleted: so a lost connection costs no record, and it does not matter whether the ids of a Redis that
    took over are lower than those before. A record that is handed out twice changes nothing.
    """

    def __init__(self, redis: Redis, proxy_id: str, outage: Outage) -> None:
        self._redis = redis
        self._stream = wire.reply_key(proxy_id)
        self._outage = outage
        self._failures = 0
        self._waiting: dict[str, Waiting] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        work = keep_running(READING, self._read_for_ever, pause_s=RESTART_S, outage=self._outage)
        self._task = asyncio.create_task(work)

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            await end(self._task)
        await self._redis.aclose()

    def trouble(self) -> BaseException | None:
        """The error because of which no scores can be read now; None where they can."""
        return self._outage.error(READING)

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
            except Exception as error:
                self._failures += 1
                if self._failures >= GIVE_UP_AFTER:
                    for waiting in self._waiting.values():
                        waiting.lose(error)
                raise
            self._failures = 0
            self._outage.well(READING)

    async def _read_once(self) -> None:
        # After a failure the next answer comes soon, so that nothing is called broken for longer than it is.
        block_ms = int((RESTART_S if self._failures else BLOCK_S) * 1000)
        answer = await self._redis.xread({self._stream: b"0-0"}, count=BATCH_COUNT, block=block_ms)
        for _, records in cast("list[tuple[bytes, list[Record]]]", answer or []):
            for _, fields in records:
                try:
                    self._hand_out((fields or {}).get(wire.REPLY_FIELD, b""))
                except Exception:  # one record must not cost the others
                    LOG.exception("a record of the reply stream is passed over")
            await self._redis.xdel(self._stream, *(record_id for record_id, _ in records))

    def _hand_out(self, data: bytes) -> None:
        try:
            arrival = wire.decode_arrival(data)
        except WireError as error:
            LOG.warning("a record of the reply stream is passed over: %s", error)
            return
        waiting = self._waiting.get(arrival.query_id)
        if waiting is not None:
            waiting.take(arrival)
