"""A Redis that can be reached and answers with an error: what a client, health and the logs say, and that it passes.

Each way is one that a real Redis has: full, read-only, cut off from its master, out of disk, without permission. The
worker must never end, and full service must return by itself.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis as sync_redis

from es_rerank.demo.processes import free_port
from tests.faults.conftest import RECOVERY_LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.conftest import Broken

    Redis = sync_redis.Redis

# More than a line for each use of Redis, and far fewer than one a second or one a search would give.
LINES = 6
SEARCHES = 12


@contextmanager
def full(redis: Redis, folder: Path) -> Iterator[str]:
    """No memory is left: OOM."""
    redis.config_set("maxmemory", 1)
    try:
        yield "OOM"
    finally:
        redis.config_set("maxmemory", 0)


@contextmanager
def read_only(redis: Redis, folder: Path) -> Iterator[str]:
    """In a failover the master became a replica: READONLY, and UNBLOCKED for who waits."""
    redis.replicaof("127.0.0.1", free_port())
    try:
        yield "READONLY"
    finally:
        redis.replicaof("NO", "ONE")


@contextmanager
def without_its_master(redis: Redis, folder: Path) -> Iterator[str]:
    """A replica that does not answer from old data: MASTERDOWN for reads, READONLY for writes."""
    redis.config_set("replica-serve-stale-data", "no")
    redis.replicaof("127.0.0.1", free_port())
    try:
        yield "MASTERDOWN READONLY"
    finally:
        redis.replicaof("NO", "ONE")
        redis.config_set("replica-serve-stale-data", "yes")


@contextmanager
def without_replicas(redis: Redis, folder: Path) -> Iterator[str]:
    """A master that has lost its replicas: NOREPLICAS."""
    redis.config_set("min-replicas-to-write", 1)
    try:
        yield "NOREPLICAS"
    finally:
        redis.config_set("min-replicas-to-write", 0)


@contextmanager
def out_of_disk(redis: Redis, folder: Path) -> Iterator[str]:
    """A snapshot can't be written: MISCONF."""
    before = str(redis.config_get("dir")["dir"])
    gone = folder / "gone"
    gone.mkdir()
    redis.config_set("save", "3600 1")
    redis.config_set("dir", str(gone))
    gone.rmdir()
    redis.bgsave()
    await_true(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err")
    try:
        yield "MISCONF"
    finally:
        redis.config_set("dir", before)
        redis.bgsave()
        await_true(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "ok")
        redis.config_set("save", "")


@contextmanager
def without_permission(redis: Redis, folder: Path) -> Iterator[str]:
    """Its user may no longer write: NOPERM."""
    redis.acl_setuser("rescue", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
    redis.execute_command("AUTH", "rescue", "any")  # type: ignore[no-untyped-call]
    redis.execute_command("ACL", "SETUSER", "default", "-@write")  # type: ignore[no-untyped-call]
    try:
        yield "NOPERM"
    finally:
        redis.execute_command("ACL", "SETUSER", "default", "+@all")  # type: ignore[no-untyped-call]


@contextmanager
def behind_a_password(redis: Redis, folder: Path) -> Iterator[str]:
    """A password was set, and every connection was closed: NOAUTH."""
    redis.config_set("requirepass", "new")
    redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
    redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
    try:
        yield "NOAUTH"
    finally:
        redis.config_set("requirepass", "")


WAYS = [full, read_only, without_its_master, without_replicas, out_of_disk, without_permission, behind_a_password]


def await_true(holds: Callable[[], Any]) -> None:
    """Wait until something holds."""
    give_up_s = time.monotonic() + RECOVERY_LIMIT_S
    while not holds():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_redis_that_refuses_is_said_and_passes(broken: Broken, way: Any, tmp_path: Path) -> None:
    """Every hit, in engine order, with the reason `redis_refuses`; health has Redis's words; then full service."""
    broken.await_full_service()
    logs = (broken.system.proxy.log, broken.worker.log)
    begin = [len(log.read_text()) for log in logs]
    with (
        sync_redis.Redis(port=broken.redis_port, single_connection_client=True) as redis,
        way(redis, tmp_path) as codes,
    ):
        for _ in range(SEARCHES):
            hits, status = broken.ask()
            assert len(hits) == 20
            assert (status["status"], status["reason"]) == ("failed", "redis_refuses")
        health = broken.system.health()
        assert health["ready"] is True
        assert health["reranking"] is False
        assert health["parts"]["redis"]["reachable"] is True
        assert health["parts"]["redis"]["writable"] is False
        assert health["parts"]["redis"]["error"].split()[0] in codes
        time.sleep(2)  # the worker goes on meanwhile
        assert broken.worker.process.poll() is None
    broken.await_full_service()
    assert broken.worker.process.poll() is None
    await_true(lambda: broken.system.health()["parts"]["redis"].get("error") is None)
    assert broken.system.health()["reranking"] is True
    for log, place in zip(logs, begin, strict=True):
        said = [line for line in log.read_text()[place:].splitlines() if '"es_rerank.search"' not in line]
        assert len(said) <= LINES, said
    # The proxy's log has Redis's own words, each once.
    proxy_said = broken.system.proxy.log.read_text()[begin[0] :]
    assert [proxy_said.count(code) for code in codes.split()] == [1] * len(codes.split()), proxy_said


def test_a_consumer_that_is_unblocked_goes_on(broken: Broken) -> None:
    """What waits in Redis is ended by an error, as in a failover: the worker and the proxy wait again."""
    broken.await_full_service()
    with sync_redis.Redis(port=broken.redis_port) as redis:
        for _ in range(5):
            for client in redis.client_list():
                redis.execute_command("CLIENT", "UNBLOCK", client["id"], "ERROR")
            time.sleep(0.3)
    broken.await_full_service()
    assert broken.worker.process.poll() is None
