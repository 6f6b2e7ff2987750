"""The queue on a real Redis, read by real workers: what does not belong there, and who fetches how much."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis as sync_redis

from es_rerank import wire
from es_rerank.broker import make_celery
from es_rerank.tables import RedisSettings
from es_rerank.wire import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from es_rerank.demo.processes import Child
    from tests.conftest import System

WAIT_S = 120.0
TWO_AT_A_TIME = """
[scorers.minilm]
concurrency = 2
threads = 1
[[rules]]
name = "films"
indices = ["films*"]
fields = ["text"]
"""


class Queue:
    """The queue of a running system's scorer."""

    def __init__(self, system: System, redis_url: str) -> None:
        self.system = system
        self.settings = RedisSettings.model_validate({"url": redis_url})
        self.redis = sync_redis.Redis.from_url(redis_url)
        self.fingerprint = system.health()["parts"]["scorers"]["minilm"]["fingerprint"]
        self.name = wire.queue_name(self.fingerprint)

    def put(self, query_id: str, *, texts: int = 1) -> None:
        """A claim of so many long texts, and its task."""
        claim = Claim(
            fingerprint=self.fingerprint,
            query=query_id,
            instruction="",
            texts=[f"{query_id} {number} " + "sea " * 200 for number in range(texts)],
            keys=[f"es-rerank:score:{query_id}-{number}" for number in range(texts)],
            lifetime_ms=600_000,
        )
        self.redis.set(wire.claim_key(query_id), wire.encode_claim(claim), px=claim.lifetime_ms)
        self.task({"query_id": query_id, "proxy_id": "p"})

    def task(self, kwargs: Any, *, name: str = wire.TASK, **options: Any) -> None:
        """A task as Celery sends it."""
        with make_celery(self.settings) as celery:
            celery.send_task(name, kwargs=kwargs, queue=self.name, **options)

    def claims(self) -> int:
        """How many claims no worker has taken yet."""
        return sum(1 for _ in self.redis.scan_iter("es-rerank:claim:query-*"))


@pytest.fixture
def queue(osmem_url: str, run_system: Callable[..., System], own_redis_url: str) -> Iterator[Queue]:
    """The queue of a scorer that serves two queries at a time, with no worker yet."""
    queue = Queue(run_system(osmem_url, redis=own_redis_url, extra=TWO_AT_A_TIME), own_redis_url)
    yield queue
    queue.redis.close()


def await_true(holds: Callable[[], Any], worker: Child) -> None:
    """Wait until something holds, while the worker lives."""
    give_up_s = time.monotonic() + WAIT_S
    while not holds():
        assert worker.process.poll() is None, worker.tail()
        assert time.monotonic() < give_up_s, worker.tail()
        time.sleep(0.02)


def message(**changes: Any) -> bytes:
    """A message as kombu writes it, changed."""
    whole = {
        "body": "W1tdLCB7fSwge31d",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": wire.TASK, "id": "x", "lang": "py"},
        "properties": {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "q"}},
    }
    return json.dumps({**whole, **changes}).encode()


PROPERTIES = {"delivery_tag": "t", "delivery_info": {}, "body_encoding": "base64"}
GARBAGE = [
    b"",
    b"\xff\xfe not JSON",
    b"7",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    message(properties=None),
    message(properties={}),
    message(properties=PROPERTIES, body="no base64!"),
    message(properties={**PROPERTIES, "delivery_tag": ["t"]}),
    message(properties={**PROPERTIES, "body_encoding": "rot13"}),
    message(headers=None),
    message(headers={}),
    message(headers=[]),
    message(headers={"task": "who.knows", "id": "x"}),
    message(headers={"task": "who.knows"}),
    message(headers={"task": ["a"], "id": "x"}),
    message(headers={"task": wire.TASK}),
    message(headers={"task": wire.TASK, "id": "x", "expires": "never", "eta": 7, "timelimit": 3, "retries": "a"}),
    message(headers={"task": wire.TASK, "id": "x", "eta": "2999-99-99"}),
    message(**{"content-type": "application/x-python-serialize"}),
    message(**{"content-type": None, "content-encoding": "no-such"}),
]


def test_what_is_no_task_is_dropped(queue: Queue) -> None:
    """Whatever lies in the queue, and more of it than there are threads: it is dropped, and the next task served."""
    worker = queue.system.start_worker()
    for _ in range(3):
        queue.redis.rpush(queue.name, *GARBAGE)
    for kwargs in (
        {},
        {"query_id": "a"},
        {"query_id": ["a"], "proxy_id": {}},
        {"query_id": 7, "proxy_id": 7, "more": 1},
    ):
        queue.task(kwargs)
    queue.task({}, name="who.knows")
    queue.put("query-after")
    await_true(lambda: not queue.redis.llen(queue.name), worker)
    await_true(lambda: queue.redis.get("es-rerank:score:query-after-0"), worker)
    assert "is no task, and is dropped" in worker.log.read_text()


@pytest.mark.parametrize("command", [("SET", "x"), ("HSET", "a", "b"), ("XADD", "*", "a", "b")], ids=lambda one: one[0])
def test_a_key_of_another_type_under_the_queues_name_is_deleted(queue: Queue, command: tuple[str, ...]) -> None:
    """Else no task could pass for ever. The worker says what it deleted."""
    worker = queue.system.start_worker()
    queue.redis.execute_command(command[0], queue.name, *command[1:])  # type: ignore[no-untyped-call]
    await_true(lambda: not queue.redis.exists(queue.name), worker)
    queue.put("query-after")
    await_true(lambda: queue.redis.get("es-rerank:score:query-after-0"), worker)
    assert f"the key {queue.name} of the queue is not a list" in worker.log.read_text()


def test_a_worker_fetches_only_what_it_serves_at_once(queue: Queue) -> None:
    """With two places, a worker has two of six tasks; the others stay in Redis, for a worker that comes."""
    for number in range(6):
        queue.put(f"query-{number}", texts=400)
    first = queue.system.start_worker()
    await_true(lambda: queue.claims() == 4, first)
    # Whatever is not being served is in the queue, now and until one of the two is done.
    for _ in range(20):
        left = queue.redis.llen(queue.name)
        assert left >= queue.claims() or queue.claims() < 4
        time.sleep(0.05)
    second = queue.system.start_worker()
    await_true(lambda: queue.claims() <= 2, second)
    await_true(lambda: queue.redis.llen(queue.name) == queue.claims(), second)
    for worker in (first, second):
        queue.system.supervisor.end(worker)
