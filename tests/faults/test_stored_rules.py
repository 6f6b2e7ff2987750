"""Rules changed through one of two running proxies: the other follows, no search fails, no fault takes a rule away."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.demo.embedded import start_engine, start_redis
from es_rerank.demo.processes import Supervisor, free_port
from tests.conftest import Engine, send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import System

# Ten times what a change may take to reach every proxy.
FOLLOW_LIMIT_S = 50.0
CONFIG = """
[store]
[[rules]]
name = "films"
indices = ["films"]
fields = ["title"]
window = 100
"""
QUERY = {"query": {"match": {"title": "film"}}, "size": 5}
FILMS = {str(number): {"title": f"film {number}"} for number in range(120)}


def put(system: System, **keys: Any) -> Any:
    """Change the rule through a proxy."""
    body = {"indices": ["films"], "fields": ["title"], **keys}
    return send_json(f"{system.url}/_es_rerank/rules/films", body, method="PUT")


def window(system: System) -> int:
    """The window of a search: that of the rule in force there."""
    return int(system.search("films", QUERY)["_es_rerank"]["window"])


def await_window(system: System, wanted: int) -> None:
    """Wait until a proxy searches by the changed rule."""
    give_up_s = time.monotonic() + FOLLOW_LIMIT_S
    while window(system) != wanted:
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


@dataclass(kw_only=True, eq=False)
class Load:
    """Searches without a pause through a proxy, in a thread, until it is stopped."""

    system: System
    stopped: threading.Event
    windows: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Search, and note what comes."""
        while not self.stopped.is_set():
            try:
                answer = self.system.search("films", QUERY)
            except OSError as error:
                self.failures.append(str(error))
            else:
                self.windows.append(answer["_es_rerank"]["window"])
                if len(answer["hits"]["hits"]) != 5:
                    self.failures.append(json.dumps(answer))


class Pair:
    """Two proxies before one engine and one Redis, which can be stopped."""

    def __init__(self, supervisor: Supervisor, folder: Path, run_system: Callable[..., System]) -> None:
        self.supervisor, self.folder = supervisor, folder
        self.engine_port, self.redis_port = free_port(), free_port()
        self.start_engine()
        self.redis = start_redis(supervisor, self.redis_port, folder / "redis")
        self.run_system = run_system
        self.one, self.other = self.start_proxy(), self.start_proxy()

    @property
    def engine_url(self) -> str:
        """The engine's URL."""
        return f"http://127.0.0.1:{self.engine_port}"

    def start_proxy(self) -> System:
        """One more proxy."""
        return self.run_system(self.engine_url, redis=f"redis://127.0.0.1:{self.redis_port}/0", extra=CONFIG)

    def start_engine(self) -> None:
        """An engine with nothing but films."""
        self.engine = start_engine(self.supervisor, self.engine_port)
        Engine("osmem", self.engine_url).load("films", FILMS)


@pytest.fixture(scope="module")
def pair(run_system: Callable[..., System], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The pair; each test leaves both running."""
    folder = tmp_path_factory.mktemp("pair")
    with Supervisor(folder / "logs") as supervisor:
        yield Pair(supervisor, folder, run_system)


def test_a_change_through_one_proxy_reaches_the_other_and_no_search_fails(pair: Pair) -> None:
    """Under load on both: at once in the first, soon in the second, each search wholly by the old or the new rule."""
    put(pair.one, window=90)
    await_window(pair.other, 90)
    stopped = threading.Event()
    loads = [Load(system=system, stopped=stopped) for system in (pair.one, pair.other)]
    threads = [threading.Thread(target=load.run) for load in loads]
    for thread in threads:
        thread.start()
    try:
        for wanted in (40, 60):
            put(pair.one, window=wanted)
            assert window(pair.one) == wanted
            await_window(pair.other, wanted)
        with pytest.raises(urllib.error.HTTPError) as refused:
            put(pair.one, window=0)
        with refused.value as error:
            assert error.code == 400
        send_json(f"{pair.one.url}/_es_rerank/rules/films/_rollback", method="POST")
        await_window(pair.other, 40)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    for load in loads:
        assert not load.failures
        turns = [now for before, now in zip([0, *load.windows], load.windows, strict=False) if now != before]
        assert turns in ([90, 40, 60, 40], [90, 40, 60])
    versions = [system.health()["rules"]["version"] for system in (pair.one, pair.other)]
    assert versions[0] == versions[1]


def test_a_proxy_that_starts_has_the_stored_rules_at_once(pair: Pair) -> None:
    """Its first search is by the stored rule, not by the file's."""
    put(pair.one, window=30)
    assert window(pair.start_proxy()) == 30


def test_without_redis_rules_still_change(pair: Pair) -> None:
    """Redis stopped: a change holds, the other proxy follows, and the warning says what is not known."""
    pair.supervisor.end(pair.redis)
    try:
        answer = put(pair.one, window=20)
        assert "Redis does not say whether a worker serves the scorer minilm" in answer["warnings"][0]
        assert window(pair.one) == 20
        await_window(pair.other, 20)
    finally:
        pair.redis = start_redis(pair.supervisor, pair.redis_port, pair.folder / "redis")


def test_an_engine_that_hangs_takes_no_rule_away(pair: Pair) -> None:
    """Stopped by SIGSTOP: the rule stays, and later changes are followed."""
    put(pair.one, window=70)
    await_window(pair.other, 70)
    os.kill(pair.engine.process.pid, signal.SIGSTOP)
    try:
        assert pair.other.health()["rules"]["stored"] == 1
    finally:
        os.kill(pair.engine.process.pid, signal.SIGCONT)
    assert window(pair.other) == 70
    put(pair.one, window=71)
    await_window(pair.other, 71)


def test_an_index_or_engine_that_is_gone_takes_no_rule_away(pair: Pair) -> None:
    """The last rules stay in both proxies; a rule that is put then makes the index again, and is followed."""
    put(pair.one, window=50)
    await_window(pair.other, 50)
    send_json(f"{pair.engine_url}/es-rerank-rules", method="DELETE")
    pair.other.await_log("the stored rules can't be read, the last ones stay: the index es-rerank-rules is gone")
    assert window(pair.other) == 50
    pair.supervisor.end(pair.engine)
    pair.other.await_log("the stored rules can't be read, the last ones stay: no engine host could be reached")
    pair.start_engine()
    assert window(pair.one) == window(pair.other) == 50
    put(pair.one, window=51)
    await_window(pair.other, 51)
