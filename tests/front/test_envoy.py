"""Envoy with the printed configuration: the same routes and failovers as nginx's, as far as Envoy can."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from es_rerank.demo.processes import free_port
from tests.front.test_nginx import LARGE, address_of, dies, hangs, status_of, unchunked, url_of
from tests.relay.test_relay import CRLF, ScriptedEngine, exchange

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

HEALTH = b"GET /_es_rerank/health "


pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture(scope="module")
def port(engine: ScriptedEngine, proxy: ScriptedEngine, start_envoy: Callable[..., int]) -> int:
    """A front in front of both; a proxy that is silent is given up after a second."""
    return start_envoy(url_of(engine), proxies=[address_of(proxy)], upstream="read_timeout_s = 0.5", max_deadline_s=0.5)


def asked(upstream: ScriptedEngine) -> list[bytes]:
    """The requests that reached it, without Envoy's own health checks."""
    return [request for request in upstream.requests if not (request.startswith(HEALTH) and b"Envoy/HC" in request)]


def targets(upstream: ScriptedEngine) -> list[bytes]:
    """The raw targets that reached it."""
    return [request.split(b" ")[1] for request in asked(upstream)]


@pytest.mark.parametrize(
    ("method", "target", "ours"),
    [
        (b"GET", b"/", False),
        (b"GET", b"/a//b/../c/./d", False),
        (b"GET", b"/a/_doc/x%2Fy%20z%zz?q=%C3%A9&&x=1&x=2&empty=&flag", False),
        (b"POST", b"/logs/_search", False),
        (b"PUT", b"/films/_search", False),
        (b"GET", b"//films/_search", False),
        (b"POST", b"/_search/scroll", False),
        (b"POST", b"/films/_search?", True),
        (b"GET", b"/logs,films-1/_search/template?q=%zz", True),
        (b"GET", b"/%66ilms/_search", True),
        (b"POST", b"/_msearch", True),
        (b"GET", b"/_search", True),
        (b"GET", b"/_es_rerank/health?pretty", True),
    ],
)
def test_raw_targets_go_the_planned_way(
    port: int, engine: ScriptedEngine, proxy: ScriptedEngine, method: bytes, target: bytes, *, ours: bool
) -> None:
    """A request reaches only the upstream that the plan says, with its target byte for byte."""
    line, _, _ = exchange(port, method + b" " + target + b" HTTP/1.1\r\nhost: x\r\n")
    assert status_of(line) == 200
    assert (targets(engine), targets(proxy)) == (([], [target]) if ours else ([target], []))


def test_a_search_with_our_header_goes_to_the_proxies(port: int, engine: ScriptedEngine, proxy: ScriptedEngine) -> None:
    """Any search with the header `ES-Rerank` goes to the proxies; on other requests the header means nothing."""
    exchange(port, b"POST /logs/_search HTTP/1.1\r\nhost: x\r\nes-rerank: off\r\n")
    exchange(port, b"PUT /logs/_doc/1 HTTP/1.1\r\nhost: x\r\nes-rerank: off\r\n")
    assert (targets(proxy), targets(engine)) == ([b"/logs/_search"], [b"/logs/_doc/1"])


@pytest.mark.parametrize("target", [b"/logs/_bulk", b"/films/_search"])
def test_headers_arrive(port: int, engine: ScriptedEngine, proxy: ScriptedEngine, target: bytes) -> None:
    """End-to-end headers arrive with their case, the engine's name as Host, and one of Envoy's own."""
    ours = [b"Authorization: ApiKey x==", b"X-Two: 1", b"x_under: 1", b"x.dot: 1"]
    exchange(
        port,
        b"POST " + target + b" HTTP/1.1\r\nHost: front:1\r\n" + CRLF.join(ours) + b"\r\ncontent-length: 5\r\n",
        b"hello",
    )
    [request] = asked(engine) + asked(proxy)
    lines = request.partition(CRLF * 2)[0].split(CRLF)[1:]
    host = b"Host: 127.0.0.1:%d" % engine.port
    assert sorted(lines) == sorted([host, *ours, b"content-length: 5", b"x-forwarded-proto: http"])


@pytest.mark.parametrize("target", [b"/logs/_bulk", b"/films/_search"])
def test_large_bodies_arrive(port: int, engine: ScriptedEngine, proxy: ScriptedEngine, target: bytes) -> None:
    """A body of some megabytes arrives byte for byte."""
    body = bytes(number % 251 for number in range(LARGE))
    line, _, _ = exchange(port, b"POST " + target + b" HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % LARGE, body)
    assert status_of(line) == 200
    [request] = asked(engine) + asked(proxy)
    head, _, arrived = request.partition(CRLF * 2)
    assert (unchunked(arrived) if b"chunked" in head.lower() else arrived) == body


@pytest.mark.parametrize("target", [b"/logs/_doc/1", b"/films/_search"])
@pytest.mark.parametrize("status", [404, 429, 502, 503, 504])
def test_answers_arrive_as_they_are(
    port: int, engine: ScriptedEngine, proxy: ScriptedEngine, target: bytes, status: int
) -> None:
    """An error of engine or proxy is relayed with its headers, and no server is asked twice."""
    engine.reply = proxy.reply = (
        b'HTTP/1.1 %d X\r\nX-Elastic-Product: Elasticsearch\r\nWarning: 299 a\r\ncontent-length: 5\r\n\r\n{"a"}'
    ) % status
    line, lines, body = exchange(port, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n")
    assert (status_of(line), body) == (status, b'{"a"}')
    assert {b"X-Elastic-Product: Elasticsearch", b"Warning: 299 a"} <= set(lines)
    assert len(asked(engine)) + len(asked(proxy)) == 1


@pytest.mark.parametrize("wrong", [dies, hangs])
@pytest.mark.parametrize("target", [b"/films/_search", b"/_msearch"])
def test_a_search_whose_proxy_fails_is_the_engines(
    port: int,
    engine: ScriptedEngine,
    proxy: ScriptedEngine,
    target: bytes,
    wrong: Callable[[socket.socket], None],
) -> None:
    """A proxy that dies or hangs costs no search: the engine gets the same one."""
    proxy.reply = wrong
    line, _, body = exchange(port, b"POST " + target + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n", b"hello")
    assert (status_of(line), body) == (200, b"{}")
    [request] = asked(engine)
    assert request.split(b" ")[1] == target
    assert request.endswith(b"\r\n\r\nhello")


def test_without_a_proxy_our_own_paths_are_unavailable(engine: ScriptedEngine, start_envoy: Callable[..., int]) -> None:
    """While no proxy answers, searches go to the engine, and our own paths are a 503 in its form without asking it."""
    port = start_envoy(url_of(engine), proxies=[f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"])
    for _ in range(4):
        line, _, _ = exchange(port, b"POST /films/_search HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n", b"{}")
        assert status_of(line) == 200
    assert len(asked(engine)) == 4
    line, _, body = exchange(port, b"GET /_es_rerank/health HTTP/1.1\r\nhost: x\r\n")
    answer = json.loads(body)
    assert (status_of(line), answer["status"], answer["error"]["type"]) == (503, 503, "es_rerank_upstream_exception")
    assert len(asked(engine)) == 4


def test_one_of_two_proxies_is_enough(
    engine: ScriptedEngine, proxy: ScriptedEngine, start_envoy: Callable[..., int]
) -> None:
    """Of several proxies the one that is up gets all searches."""
    port = start_envoy(url_of(engine), proxies=[f"127.0.0.1:{free_port()}", address_of(proxy)])
    for _ in range(6):
        line, _, _ = exchange(port, b"POST /films/_search HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n", b"{}")
        assert status_of(line) == 200
    assert (len(asked(proxy)), len(asked(engine))) == (6, 0)


@pytest.mark.parametrize(
    ("method", "target", "times"),
    [
        (b"PUT", b"/logs/_doc/1", 1),
        (b"DELETE", b"/logs/_doc/1", 1),
        (b"POST", b"/_bulk", 1),
        (b"GET", b"/_search/scroll", 1),
        (b"POST", b"/logs/_search", 2),
    ],
)
def test_only_searches_are_sent_again(
    port: int, engine: ScriptedEngine, method: bytes, target: bytes, times: int
) -> None:
    """When a connection breaks before any answer, a search is sent once more, but no write and no scroll is."""
    exchange(port, b"GET /a HTTP/1.1\r\nhost: x\r\n")
    engine.requests.clear()
    engine.reply = dies
    line, _, _ = exchange(port, method + b" " + target + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n", b"{}")
    assert status_of(line) in (502, 503)
    assert len(asked(engine)) == times


def test_an_engine_host_that_is_down_is_passed_over(engine: ScriptedEngine, start_envoy: Callable[..., int]) -> None:
    """The hosts that are up share the load, of writes too, since Envoy knows that nothing was sent."""
    port = start_envoy(f"http://127.0.0.1:{free_port()}", url_of(engine), proxies=["127.0.0.1:1"])
    for method, target in ((b"POST", b"/logs/_search"), (b"PUT", b"/a/_doc/1"), (b"DELETE", b"/a"), (b"GET", b"/a")):
        for _ in range(2):
            line, _, _ = exchange(port, method + b" " + target + b" HTTP/1.1\r\nhost: x\r\n")
            assert status_of(line) == 200
    assert len(asked(engine)) == 8
