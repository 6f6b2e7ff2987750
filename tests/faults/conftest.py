"""A system all of whose parts can be broken."""

from __future__ import annotations

import itertools
import json
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.demo.embedded import start_engine, start_redis
from es_rerank.demo.processes import Supervisor, free_port
from tests.conftest import send_json

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

    def ask_many(self, count: int) -> list[tuple[int, dict[str, Any]]]:
        """So many searches in one request, that nobody asked before: how many hits each has, and its status."""
        lines: list[Any] = []
        for _ in range(count):
            body = {"query": {"match": {"text": f"film {next(QUERY_NUMBERS)}"}}, "size": 20}
            lines += [{"index": "films"}, {**body, "ext": {"es_rerank": {"include": ["status"], "deadline_s": 60}}}]
        sent = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        answers = send_json(f"{self.system.url}/_msearch", sent, method="POST")["responses"]
        return [(len(answer["hits"]["hits"]), answer["_es_rerank"]) for answer in answers]

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
