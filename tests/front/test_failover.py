"""Real proxies behind real front servers on the embedded engine: searches are answered even if all proxies die."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Engine, send_json
from tests.relay.test_relay import ScriptedEngine, exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import System

INDEX = "films-front"
DOCUMENTS = {str(number): {"title": f"film {number}", "text": "a wizard goes to school"} for number in range(20)}
QUESTION = {"query": {"match": {"text": "wizard"}}}
SEARCHES = 60


@pytest.fixture(scope="module")
def engine_url(osmem_url: str) -> str:
    """The embedded engine, with an index under the rule and one under none."""
    for index in (INDEX, "plain-front"):
        Engine("osmem", osmem_url).load(index, DOCUMENTS)
    return osmem_url


def address_of(system: System) -> str:
    """Where its proxy is."""
    return system.url.removeprefix("http://")


def kill(system: System) -> None:
    """Kill its proxy with SIGKILL."""
    system.proxy.process.send_signal(signal.SIGKILL)
    system.proxy.process.wait()


def search(port: int, index: str = INDEX, **ext: Any) -> Any:
    """A search through the front. Raises for any other answer than 200."""
    return send_json(f"http://127.0.0.1:{port}/{index}/_search", {**QUESTION, **ext}, method="POST")


def test_all_of_a_system_works_behind_a_front(
    engine_url: str, run_system: Callable[..., System], start_any_front: Callable[..., int]
) -> None:
    """A search under a rule reaches the proxy, as its status shows; so does health; all else is the engine's answer."""
    system = run_system(engine_url)
    port = start_any_front(engine_url, proxies=[address_of(system)])
    answer = search(port, ext={"es_rerank": {"include": ["status"]}})
    assert (len(answer["hits"]["hits"]), answer["_es_rerank"]["rule"]) == (10, "films")
    assert len(search(port, "plain-front")["hits"]["hits"]) == 10
    url = f"http://127.0.0.1:{port}"
    with urllib.request.urlopen(f"{url}/_es_rerank/health", timeout=30) as reply:
        assert json.load(reply)["live"] is True
    send_json(f"{url}/plain-front/_doc/new?refresh=true", {"text": "new"}, method="PUT")
    assert send_json(f"{url}/plain-front/_doc/new")["_source"] == {"text": "new"}
    for method, path, body in (("GET", "/_cat/indices?format=json", None), ("GET", f"/{INDEX}/_mapping", None)):
        assert send_json(url + path, body, method=method) == send_json(engine_url + path, body, method=method)


def test_killed_proxies_cost_no_search(
    engine_url: str, run_system: Callable[..., System], start_any_front: Callable[..., int]
) -> None:
    """While two proxies are killed one after the other, every search of many callers has its hits."""
    systems = [run_system(engine_url), run_system(engine_url)]
    port = start_any_front(engine_url, proxies=list(map(address_of, systems)))
    counts: list[int] = []
    failures: list[Exception] = []
    turn = threading.Barrier(5)

    def ask() -> None:
        try:
            for number in range(SEARCHES):
                if number in (SEARCHES // 3, 2 * SEARCHES // 3):
                    turn.wait(60)  # the killer strikes while the next searches are under way
                counts.append(len(search(port)["hits"]["hits"]))
        except Exception as error:  # noqa: BLE001  whatever it is, the test shows it
            failures.append(error)
            turn.abort()

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    for system in systems:
        turn.wait(60)
        kill(system)
    for caller in callers:
        caller.join()
    assert failures == []
    assert counts == [10] * (4 * SEARCHES)


def test_a_proxy_killed_in_the_middle_of_a_search(
    run_system: Callable[..., System], start_any_front: Callable[..., int]
) -> None:
    """The search that a killed proxy was waiting for is asked of the engine by the front, and answered."""
    engine = ScriptedEngine()
    asked, killed = threading.Event(), threading.Event()
    hits = b'{"hits":{"hits":[]}}'
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(hits), hits)

    def reply(connection: Any) -> None:
        if b"/_search" in engine.requests[-1]:  # and not Envoy's question about the proxy's health
            asked.set()
            killed.wait(60)
        connection.sendall(answer)

    engine.reply = reply
    system = run_system(f"http://127.0.0.1:{engine.port}")
    port = start_any_front(f"http://127.0.0.1:{engine.port}", proxies=[address_of(system)])
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(search(port)))
    caller.start()
    assert asked.wait(60)
    engine.reply = answer
    kill(system)
    killed.set()
    caller.join()
    assert answers == [json.loads(hits)]
    # The window that the proxy asked for, and the caller's own search.
    searches = [request for request in engine.requests if b"/_search" in request]
    assert [b"size=100" in request for request in searches] == [True, False]
    engine.close()


def test_a_dead_proxy_sends_no_write_twice(
    engine_url: str, run_system: Callable[..., System], start_any_front: Callable[..., int]
) -> None:
    """Writes don't go through the proxies: when all proxies are dead, each write arrives, once."""
    system = run_system(engine_url)
    port = start_any_front(engine_url, proxies=[address_of(system)])
    kill(system)
    index = f"written-{port}"
    for number in range(10):
        made = send_json(f"http://127.0.0.1:{port}/{index}/_doc", {"n": number}, method="POST")
        assert made["result"] == "created"
    send_json(f"http://127.0.0.1:{port}/{index}/_refresh", method="POST")
    assert send_json(f"{engine_url}/{index}/_count")["count"] == 10


def test_what_a_body_asks_of_us_is_the_engines_to_refuse(start_any_front: Callable[..., int]) -> None:
    """`ext.es_rerank` stays in a body that no proxy reads, and the engine refuses it, as the manual says."""
    engine = ScriptedEngine()
    port = start_any_front(f"http://127.0.0.1:{engine.port}", proxies=["127.0.0.1:1"])
    body = b'{"ext":{"es_rerank":{}}}'
    exchange(port, b"POST /films/_search HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % len(body), body)
    assert engine.requests[0].endswith(body)
    engine.close()
