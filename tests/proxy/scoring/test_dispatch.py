"""Putting tasks, on a real Redis: what a worker fetches first, and a Redis that hangs."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
import redis as sync_redis

from es_rerank import transport, wire
from es_rerank.broker import make_celery, make_redis
from es_rerank.demo.embedded import start_redis
from es_rerank.demo.processes import free_port
from es_rerank.outage import REDIS_ERRORS
from es_rerank.proxy.scoring.dispatch import SENDING_THREADS, Dispatcher
from es_rerank.tables import RedisSettings
from es_rerank.wire import Claim

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from es_rerank.demo.processes import Child, Supervisor

CLAIM = Claim(fingerprint="f", query="q", instruction="", texts=["t"], keys=["k"], lifetime_ms=60_000)
MAX_SENDING = 4 * SENDING_THREADS


class Sending:
    """A dispatcher on a Redis of its own."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self.port = free_port()
        self.redis: Child = start_redis(supervisor, self.port, folder)
        settings = RedisSettings.model_validate({"url": f"redis://127.0.0.1:{self.port}/0", "timeout_s": 0.5})
        self.client = make_redis(settings)
        self.dispatcher = Dispatcher(self.client, make_celery(settings), "p", max_sending=MAX_SENDING)

    def queued(self) -> list[bytes]:
        """The tasks in the queue, in the order in which workers fetch them."""
        with sync_redis.Redis(port=self.port) as redis:
            found: Any = redis.lrange(wire.queue_name("f"), 0, -1)
            return list(reversed(found))


@pytest.fixture
async def sending(supervisor: Supervisor, tmp_path: Path) -> AsyncIterator[Sending]:
    """A dispatcher, and its Redis."""
    sending = Sending(supervisor, tmp_path / "redis")
    yield sending
    sending.dispatcher.close()
    await sending.client.aclose()
    supervisor.end(sending.redis)


async def test_the_newest_task_is_fetched_first(sending: Sending) -> None:
    """Under more load than workers can carry, the oldest task is the one that comes too late."""
    for query_id in ("first", "second", "third"):
        await sending.dispatcher.send(query_id, CLAIM, "f")
    settings = RedisSettings.model_validate({"url": f"redis://127.0.0.1:{sending.port}/0"})
    with make_celery(settings) as celery, celery.connection_for_read() as connection:
        queue = connection.SimpleQueue(wire.queue_name("f"))
        fetched = [queue.get(timeout=30).headers["kwargsrepr"] for _ in range(3)]
    order = [next(name for name in ("first", "second", "third") if name in said) for said in fetched]
    assert order == ["third", "second", "first"]


async def test_the_queue_is_all_that_celery_keeps_in_redis(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    """No table of bindings, no copies; the queue is bounded, drops the oldest, and expires by itself."""
    monkeypatch.setattr(transport, "MAX_QUEUED", 3)
    for number in range(5):
        await sending.dispatcher.send(f"query-{number}", CLAIM, "f")
    with sync_redis.Redis(port=sending.port) as redis:
        keys = sorted(key for key in redis.scan_iter() if not key.startswith(b"es-rerank:claim:"))
        assert keys == [wire.queue_name("f").encode()]
        assert 0 < redis.ttl(wire.queue_name("f")) <= transport.QUEUE_TTL_S
    assert [[name for name in range(5) if f"query-{name}".encode() in task] for task in sending.queued()] == [
        [4],
        [3],
        [2],
    ]


async def test_a_redis_that_hangs_holds_up_a_bounded_number_of_tasks(sending: Sending) -> None:
    """Every send ends, as many as may wait at once, and when Redis goes on, so do they."""
    await sending.dispatcher.send("before", CLAIM, "f")
    os.kill(sending.redis.process.pid, signal.SIGSTOP)
    try:
        # The claim is put first: only a Redis that hangs right behind that holds up a thread.
        stuck = [
            sending.dispatcher._threads.submit(sending.dispatcher._publish, "stuck", "f", 1e12, 60.0)
            for _ in range(MAX_SENDING)
        ]
        for one in stuck:
            sending.dispatcher._sending.add(one)
            one.add_done_callback(sending.dispatcher._sending.discard)
        with pytest.raises(REDIS_ERRORS, match="waiting to be put"):
            await sending.dispatcher.send("one too many", CLAIM, "f")
        done, open_ones = await asyncio.wait([asyncio.wrap_future(one) for one in stuck], timeout=120)
        assert not open_ones
        assert all(isinstance(one.exception(), REDIS_ERRORS) for one in done)
    finally:
        os.kill(sending.redis.process.pid, signal.SIGCONT)
    await sending.dispatcher.send("after", CLAIM, "f")
    assert len(sending.queued()) >= 2


@pytest.mark.parametrize(
    ("url", "verified"),
    [
        ("rediss://user:p%40ss@redis.example:6380/3", True),
        ("rediss://redis.example?ssl_cert_reqs=none", False),
        ("redis://:p%40ss@redis.example/3", None),
    ],
)
def test_celery_reads_the_whole_url(url: str, verified: bool | None) -> None:
    """Scheme, password and database reach its connections, and with TLS the certificate is checked unless told not."""
    import ssl

    with make_celery(RedisSettings.model_validate({"url": url})) as celery:
        connection = celery.connection_for_write()
        assert connection.hostname == "redis.example"
        assert connection.password == ("p@ss" if "p%40ss" in url else None)
        assert connection.virtual_host == ("3" if url.endswith("/3") else None) or connection.virtual_host == "/"
        assert issubclass(connection.transport_cls, transport.Transport)
        wanted = {True: ssl.CERT_REQUIRED, False: ssl.CERT_NONE}
        assert (connection.ssl or {}).get("ssl_cert_reqs") == (None if verified is None else wanted[verified])
