"""What a client gets while real processes are broken underneath, and that full service returns by itself."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
import urllib.error
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.demo.embedded import start_engine, start_redis
from es_rerank.demo.processes import Supervisor, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from es_rerank.demo.processes import Child
    from tests.conftest import System

HIT_COUNT = 120
WINDOW = 100
RECOVERY_LIMIT_S = 120.0
WORDS = [a + b for a in ("sun", "moon", "rain", "fire", "ice") for b in ("set", "rise", "fall", "man")]


class Broken:
    """A system all of whose parts can be broken: engine, Redis, one worker."""

    def __init__(self, supervisor: Supervisor, folder: Path, run_system: Callable[..., System], load: Any) -> None:
        self.supervisor = supervisor
        self.folder = folder
        self.engine_port, self.redis_port = free_port(), free_port()
        self.load = load
        self.start_engine()
        self.start_redis()
        self.system = run_system(f"http://127.0.0.1:{self.engine_port}", redis=f"redis://127.0.0.1:{self.redis_port}/0")
        self.worker = self.system.start_worker()

    def start_engine(self) -> None:
        """An engine, loaded."""
        self.engine = start_engine(self.supervisor, self.engine_port)
        self.load_new_texts()

    def load_new_texts(self) -> None:
        """Long texts, which take seconds to score and are new to every cache."""
        chance = random.Random(next(SEEDS))
        self.load(
            f"http://127.0.0.1:{self.engine_port}",
            {
                str(number): {"title": f"film {number}", "text": "film " + " ".join(chance.choices(WORDS, k=150))}
                for number in range(HIT_COUNT)
            },
        )

    def start_redis(self) -> Child:
        """Redis, with what it kept."""
        self.redis = start_redis(self.supervisor, self.redis_port, self.folder / "redis")
        return self.redis

    def ask(self, **controls: Any) -> tuple[list[str], dict[str, Any]]:
        """A search that nobody asked before: the ids of its page, and its status."""
        body = {"query": {"match": {"text": f"film {next(QUERY_NUMBERS)}"}}, "size": 20}
        answer = self.system.search("films", body, **controls)
        return [hit["_id"] for hit in answer["hits"]["hits"]], answer["_es_rerank"]

    def await_full_service(self) -> None:
        """Ask until a search is reranked in full."""
        give_up_s = time.monotonic() + RECOVERY_LIMIT_S
        while (status := self.ask()[1])["status"] != "full":
            assert time.monotonic() < give_up_s, status
            time.sleep(0.2)


QUERY_NUMBERS = itertools.count()
SEEDS = itertools.count()


@pytest.fixture(scope="module")
def broken(
    run_system: Callable[..., System], load_films: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broken]:
    """The system; each test leaves it whole."""
    folder = tmp_path_factory.mktemp("faults")
    with Supervisor(folder / "logs") as supervisor:
        yield Broken(supervisor, folder, run_system, load_films)


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
    assert broken.system.health()["ready"] is True
    assert broken.system.health()["reranking"] is False
    broken.start_redis()
    broken.await_full_service()


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
