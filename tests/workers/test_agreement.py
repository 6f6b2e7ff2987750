"""Workers of one fingerprint agree on a real Redis about what they have loaded."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, cast

import pytest
import redis as sync_redis
from celery.exceptions import WorkerShutdown
from celery.worker import state
from redis.exceptions import RedisError

from es_rerank.broker import make_sync_redis
from es_rerank.demo.embedded import start_redis
from es_rerank.demo.processes import free_port
from es_rerank.tables import RedisSettings
from workers.agreement import PREFIX, Agreement, DisagreementError
from workers.app import _await_agreement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from es_rerank.demo.processes import Supervisor
    from workers.scorers.protocol import Scorer

WAIT_S = 60.0
FINGERPRINT = "vllm-of-a-test"


class Loaded:
    """What an agreement sees of a scorer."""

    def __init__(self, identity: str, fingerprint: str = FINGERPRINT) -> None:
        self.identity = identity
        self.fingerprint = fingerprint


@pytest.fixture
def client(own_redis_url: str) -> Iterator[sync_redis.Redis]:
    """The Redis of the agreements."""
    with sync_redis.Redis.from_url(own_redis_url) as client:
        yield client


@pytest.fixture
def make_agreement(own_redis_url: str) -> Iterator[Callable[..., Agreement]]:
    """Make the agreement of a worker that has loaded something."""
    clients = []

    def make(identity: str, fingerprint: str = FINGERPRINT, url: str = own_redis_url) -> Agreement:
        clients.append(make_sync_redis(RedisSettings.model_validate({"url": url})))
        return Agreement(clients[-1], cast("Scorer", Loaded(identity, fingerprint)))

    yield make
    for client in clients:
        client.close()


def test_workers_that_loaded_the_same_agree(make_agreement: Callable[..., Agreement]) -> None:
    """The first notes what it has, and those that have the same serve beside it, as often as they look."""
    one, other = make_agreement("commit é"), make_agreement("commit é")
    for worker in (one, other, one, other):
        worker.confirm()


def test_a_worker_that_loaded_something_else_does_not_serve(make_agreement: Callable[..., Agreement]) -> None:
    """The second is refused with what both machines have, and with what to set; the first goes on."""
    one, other = make_agreement("commit abc"), make_agreement("commit def")
    one.confirm()
    one._machine = "gpu-1"
    with pytest.raises(DisagreementError) as error:
        other.confirm()
    for word in ("commit abc", "commit def", other._machine, FINGERPRINT, "revision", "check_answer", PREFIX):
        assert word in str(error.value)
    one.confirm()


def test_scorers_of_other_fingerprints_need_not_agree(make_agreement: Callable[..., Agreement]) -> None:
    """Another fingerprint is another cache."""
    make_agreement("commit abc").confirm()
    make_agreement("commit def", fingerprint="vllm-other").confirm()


def test_a_scorer_whose_fingerprint_says_all_asks_nothing(make_agreement: Callable[..., Agreement]) -> None:
    """Without an identity Redis is not asked, so not even its absence is noticed."""
    make_agreement("", url="redis://127.0.0.1:1/0").confirm()


def test_the_note_does_not_expire(make_agreement: Callable[..., Agreement], client: sync_redis.Redis) -> None:
    """It outlives every score that was made under it."""
    make_agreement("commit abc").confirm()
    assert client.ttl(PREFIX + FINGERPRINT) == -1


def test_a_lost_note_is_written_again(make_agreement: Callable[..., Agreement], client: sync_redis.Redis) -> None:
    """Where Redis lost it, the worker that looks first writes it, and one that has something else sees that."""
    one, other = make_agreement("commit abc"), make_agreement("commit def")
    one.confirm()
    client.flushdb()
    other.confirm()
    with pytest.raises(DisagreementError):
        one.confirm()


def test_a_redis_that_cannot_be_asked_is_no_agreement(
    make_agreement: Callable[..., Agreement], client: sync_redis.Redis
) -> None:
    """Where Redis is not there, or holds something else under the key, an error is raised."""
    with pytest.raises(RedisError):
        make_agreement("commit abc", url="redis://127.0.0.1:1/0").confirm()
    client.lpush(PREFIX + FINGERPRINT, "x")
    with pytest.raises(RedisError):
        make_agreement("commit abc").confirm()


def test_a_worker_waits_for_redis_to_agree(
    make_agreement: Callable[..., Agreement],
    supervisor: Supervisor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker that starts before Redis does is not lost: it says once what it waits for, and agrees once it can."""
    port = free_port()
    agreement = make_agreement("commit abc", url=f"redis://127.0.0.1:{port}/0")
    waiting = threading.Thread(target=_await_agreement, args=(agreement,))
    waiting.start()
    while not caplog.records:
        time.sleep(0.05)
    redis = start_redis(supervisor, port, tmp_path / "late")
    waiting.join(WAIT_S)
    assert not waiting.is_alive()
    assert len(caplog.records) == 1
    with pytest.raises(DisagreementError):
        make_agreement("commit def", url=f"redis://127.0.0.1:{port}/0").confirm()
    supervisor.end(redis)


def test_a_worker_that_is_told_to_stop_no_longer_waits(
    make_agreement: Callable[..., Agreement], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends the wait for a Redis that is not there, as it ends a worker that serves."""
    monkeypatch.setattr(state, "should_stop", 0)
    with pytest.raises(WorkerShutdown):
        _await_agreement(make_agreement("commit abc", url="redis://127.0.0.1:1/0"))
