"""An engine that does not take events: searches are answered as ever, and what is lost is counted and told once."""

from __future__ import annotations

import contextlib
import time
import urllib.error
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.demo.embedded import start_engine
from es_rerank.demo.processes import Supervisor, free_port
from es_rerank.store.indices import EVENTS, HITS
from tests.conftest import RULES, Engine, send_json
from tests.e2e.test_events import EVENTS_ON, FILMS, await_documents, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import System

SEARCHES = 5
LIMIT_S = 60.0
SEARCH = {"query": {"match": {"text": "film about the moon"}}}


def search(system: System, query_id: str) -> dict[str, Any]:
    """The status of a search; without a worker it is `failed`, as it would be without events."""
    status: dict[str, Any] = system.search("films", SEARCH, query_id=query_id)["_es_rerank"]
    assert status["reason"] == "no_worker"
    return status


def counts_of(system: System, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What health says of the events, once it is so."""
    give_up_s = time.monotonic() + LIMIT_S
    while not check(counts := system.health()["parts"]["events"]):
        assert time.monotonic() < give_up_s, counts
        time.sleep(0.1)
    assert counts["recorded"] == counts["written"] + counts["dropped"] + sum(counts["failed"].values())
    return dict(counts)


def forget(engine: Engine) -> None:
    """Delete what was written."""
    for index in (EVENTS, HITS):
        for name in send_json(f"{engine.url}/{index.pattern}/_alias"):
            send_json(f"{engine.url}/{name}", method="DELETE")


OURS = f"/{EVENTS.pattern},{HITS.pattern}/_settings"
# What is set while it lasts, by what happens. Of a full disk the engine says that it may be tried again, so giving up
# takes some seconds.
BREAKS: dict[str, tuple[str, Callable[[bool | None], Any]]] = {
    "read_only_indices": (OURS, lambda value: {"index.blocks.write": value}),
    "read_only_cluster": ("/_cluster/settings", lambda value: {"transient": {"cluster.blocks.read_only": value}}),
    "full_disk": (OURS, lambda value: {"index.blocks.read_only_allow_delete": value}),
}


@contextmanager
def broken(engine: Engine, how: str) -> Iterator[None]:
    """The engine takes no events until the block ends, however it ends."""
    target, body = BREAKS[how]
    send_json(f"{engine.url}{target}", body(True), method="PUT")
    try:
        yield
    finally:
        send_json(f"{engine.url}{target}", body(None), method="PUT")


@pytest.mark.parametrize("how", BREAKS)
def test_an_engine_that_takes_no_events_costs_nothing_but_events(
    opensearch: Engine, run_system: Callable[..., System], own_redis_url: str, how: str
) -> None:
    """Read-only or full: searches are answered as ever, each event is counted, and then all is well again."""
    opensearch.load("films", FILMS)
    system = run_system(opensearch.url, redis=own_redis_url, extra=EVENTS_ON + RULES)
    search(system, "before")
    await_documents(opensearch, HITS.name, {"term": {"query_id": "before"}}, 10)
    with broken(opensearch, how):
        for number in range(SEARCHES):
            search(system, f"lost-{number}")
        counts = counts_of(system, lambda counts: sum(counts["failed"].values()) == SEARCHES * 11)
        assert counts["failed"] == {"cluster_block_exception": SEARCHES * 11}
        assert counts["written"] == 11
    search(system, "after")
    await_documents(opensearch, HITS.name, {"term": {"query_id": "after"}}, 10)
    log = system.await_log("is written again", 2)
    for index in (EVENTS, HITS):
        assert log.count(f"{index.pattern} is not written") == 1
        assert log.count(f"{index.pattern} is written again") == 1
    assert "moon" not in log  # nothing of the query, which the events have
    system.supervisor.end(system.proxy)
    forget(opensearch)


@pytest.fixture
def folder_supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """Ends what a test started, at its end."""
    with Supervisor(tmp_path / "logs") as supervisor:
        yield supervisor


def test_events_go_to_the_host_that_is_left(
    folder_supervisor: Supervisor, run_system: Callable[..., System], own_redis_url: str
) -> None:
    """One of two hosts is killed: searches and events go on by the other one, and at most a try is lost."""
    ports = [free_port(), free_port()]
    children = [start_engine(folder_supervisor, port) for port in ports]
    engines = [Engine("osmem", f"http://127.0.0.1:{port}") for port in ports]
    for engine in engines:
        engine.load("films", FILMS)
    system = run_system(*(engine.url for engine in engines), redis=own_redis_url, extra=EVENTS_ON + RULES)
    search(system, "first")
    counts_of(system, lambda counts: counts["written"] == 11)
    [host] = [
        number for number, engine in enumerate(engines) if find(engine, HITS.name, {"term": {"query_id": "first"}})
    ]
    folder_supervisor.end(children[host])
    search(system, "second")
    counts = counts_of(system, lambda counts: counts["written"] == 22)
    assert counts["failed"] == {}
    left = engines[1 - host]
    assert len(await_documents(left, HITS.name, {"term": {"query_id": "second"}}, 10)) == 10
    assert system.await_log("the engine says unreachable", 2).count("the engine says unreachable") == 2


def test_an_engine_that_was_down_at_the_start_gets_the_mapping_first(
    folder_supervisor: Supervisor, run_system: Callable[..., System], own_redis_url: str
) -> None:
    """Nothing is written until our indices are prepared, so the first event already finds its fields."""
    port = free_port()
    system = run_system(f"http://127.0.0.1:{port}", redis=own_redis_url, extra=EVENTS_ON + RULES)
    with contextlib.suppress(urllib.error.HTTPError):
        system.search("films", SEARCH)
    start_engine(folder_supervisor, port)
    engine = Engine("osmem", f"http://127.0.0.1:{port}")
    engine.load("films", FILMS)
    search(system, "early")
    await_documents(engine, HITS.name, {"term": {"query_id": "early"}}, 10)
    for index in (EVENTS, HITS):
        [mapping] = send_json(f"{engine.url}/{index.pattern}/_mapping").values()
        assert mapping["mappings"]["properties"].keys() == index.fields.keys()
