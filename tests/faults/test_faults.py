"""What a client gets while real processes are broken underneath, and that full service returns by itself."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.error
from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import RECOVERY_LIMIT_S, WINDOW

if TYPE_CHECKING:
    from tests.faults.conftest import Broken


def test_a_worker_killed_in_mid_query_costs_no_search(broken: Broken) -> None:
    """SIGKILL in mid-query: the answer comes at the deadline with every hit, the next says no_worker at once."""
    broken.load_new_texts()
    killer = threading.Timer(0.3, lambda: os.kill(broken.worker.process.pid, signal.SIGKILL))
    killer.start()
    hits, status = broken.ask(deadline_s=3)
    killer.join()
    assert len(hits) == 20
    assert status["status"] in ("failed", "partial")
    assert status["reason"] == "deadline"
    assert status["window"] == WINDOW
    for count, one in broken.ask_many(3):
        assert (count, one["status"], one["reason"]) == (20, "failed", "no_worker")
    hits, status = broken.ask(deadline_s=60)
    assert len(hits) == 20
    assert (status["status"], status["reason"]) == ("failed", "no_worker")
    assert status["took_ms"]["total"] < 30_000
    broken.worker = broken.system.start_worker()
    broken.await_full_service()


def test_without_redis_the_engines_order_is_answered(broken: Broken) -> None:
    """Redis stopped: engine order, said as no_redis; started again, proxy and worker find back by themselves."""
    broken.supervisor.end(broken.redis)
    hits, status = broken.ask()
    assert len(hits) == 20
    assert (status["status"], status["reason"], status["scored"]) == ("failed", "no_redis", 0)
    assert [(count, one["reason"]) for count, one in broken.ask_many(3)] == [(20, "no_redis")] * 3
    assert broken.system.health()["ready"] is True
    assert broken.system.health()["reranking"] is False
    broken.start_redis()
    broken.await_full_service()


def test_a_search_that_is_held_while_redis_dies_ends_soon_and_says_so(broken: Broken) -> None:
    """Redis is killed while a worker scores: the reason is `no_redis`, long before the deadline."""
    broken.load_new_texts()
    killer = threading.Timer(0.3, lambda: os.kill(broken.redis.process.pid, signal.SIGKILL))
    killer.start()
    hits, status = broken.ask(deadline_s=110)
    killer.join()
    assert len(hits) == 20
    assert status["status"] in ("failed", "partial")
    assert status["reason"] == "no_redis"
    assert status["took_ms"]["total"] < 60_000
    broken.supervisor.end(broken.redis)
    broken.start_redis()
    broken.await_full_service()
    assert broken.worker.process.poll() is None


def test_a_redis_that_hangs_delays_no_search_beyond_its_deadline(broken: Broken) -> None:
    """Redis stopped by SIGSTOP, so that it accepts and never answers: engine order within the deadline."""
    os.kill(broken.redis.process.pid, signal.SIGSTOP)
    try:
        hits, status = broken.ask(deadline_s=2)
    finally:
        os.kill(broken.redis.process.pid, signal.SIGCONT)
    assert len(hits) == 20
    assert status["status"] == "failed"
    assert status["took_ms"]["total"] < 20_000
    broken.await_full_service()


def test_a_passed_deadline_gives_what_is_there_and_late_scores_are_cached(broken: Broken) -> None:
    """A deadline too short for a cold window: engine order in time; later the same search is served from the cache."""
    broken.load_new_texts()
    body = {"query": {"match": {"text": "film late"}}, "size": 20}
    status = broken.system.search("films", body, deadline_s=0.2)["_es_rerank"]
    assert status["status"] in ("failed", "partial")
    assert status["reason"] == "deadline"
    give_up_s = time.monotonic() + RECOVERY_LIMIT_S
    while (status := broken.system.search("films", body, deadline_s=0.2)["_es_rerank"])["cached"] < WINDOW:
        assert time.monotonic() < give_up_s, status
        time.sleep(0.2)
    assert status["status"] == "full"


def test_without_the_engine_the_caller_gets_a_502_and_then_hits_again(broken: Broken) -> None:
    """The engine stopped: 502 in its own shape and not ready; started again, searches are reranked again."""
    broken.supervisor.end(broken.engine)
    with pytest.raises(urllib.error.HTTPError) as caught:
        broken.ask()
    assert caught.value.code == 502
    caught.value.close()
    assert broken.system.health()["ready"] is False
    broken.start_engine()
    broken.await_full_service()
