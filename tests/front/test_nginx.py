"""nginx with the printed configuration: what arrives, where it arrives, and what happens when nobody is there."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from es_rerank.demo.processes import free_port
from tests.front.conftest import FINE
from tests.relay.test_relay import CRLF, ScriptedEngine, exchange, talk

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = 3_000_000


pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture(scope="module")
def port(engine: ScriptedEngine, proxy: ScriptedEngine, start_front: Callable[..., int]) -> int:
    """A front in front of both; a proxy that is silent is given up after a little more than a second."""
    return start_front(url_of(engine), proxies=[address_of(proxy)], upstream="read_timeout_s = 0.5", max_deadline_s=0.5)


def url_of(engine: ScriptedEngine) -> str:
    """Where the engine is."""
    return f"http://127.0.0.1:{engine.port}"


def address_of(proxy: ScriptedEngine) -> str:
    """Where the proxy is."""
    return f"127.0.0.1:{proxy.port}"


def status_of(line: bytes) -> int:
    """The status in a status line."""
    return int(line.split(b" ")[1])


def dies(connection: socket.socket) -> None:
    """Be killed in the middle of a search."""
    connection.shutdown(socket.SHUT_RDWR)


def dies_answering(connection: socket.socket) -> None:
    """Be killed before the head of the answer is whole."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-le")
    connection.shutdown(socket.SHUT_RDWR)


def hangs(_: socket.socket) -> None:
    """Accept a search and never answer."""


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/a/_doc/1?",
        b"/a//b/../c/./d",
        b"//films/_search",
        b"/a/_doc/x%2Fy%20z?q=%C3%A9&&x=1&x=2&empty=&flag&bad=%zz",
        b"/%3Clogs-%7Bnow%2Fd%7D%3E/_doc/1?a+b=c+d",
        b"/a/_doc/1?x=1#y",
        b"/a/_doc/1?filter_path=a.*,-b&x=[1,2]{3}|^",
        b"/caf\xc3\xa9/_doc/1",
    ],
)
def test_the_raw_target_reaches_the_engine(
    port: int, engine: ScriptedEngine, proxy: ScriptedEngine, target: bytes
) -> None:
    """A request that is not a search goes straight to the engine, with its target byte for byte."""
    line, _, _ = exchange(port, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n")
    assert status_of(line) == 200
    assert [request.split(b" ")[1] for request in engine.requests] == [target]
    assert proxy.requests == []


@pytest.mark.parametrize(
    "target",
    [
        b"/films/_search",
        b"/films-1/_search/?q=%zz&&x",
        b"/logs,films/_search/template?",
        b"/%66ilms/_search",
        b"/%3Cfilms-%7Bnow%2Fd%7D%3E/_search",
        b"/far:films/_search?x=1#y",
        b"/film*/_search",
        b"/_search?scroll=1m",
        b"/_msearch",
        b"/logs/_msearch/template",
        b"/_all/_async_search",
        b"/_es_rerank/health?pretty",
        b"/_es_rerank",
    ],
)
def test_the_raw_target_reaches_the_proxies(
    port: int, engine: ScriptedEngine, proxy: ScriptedEngine, target: bytes
) -> None:
    """A request that may need a proxy goes to one, with its target byte for byte."""
    line, _, _ = exchange(port, b"POST " + target + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n", b"{}")
    assert status_of(line) == 200
    assert [request.split(b" ")[1] for request in proxy.requests] == [target]
    assert engine.requests == []


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"POST", b"/logs/_search"),
        (b"GET", b"/logs,metrics/_search?q=films"),
        (b"PUT", b"/films/_search"),
        (b"GET", b"/films/_count"),
        (b"POST", b"/_search/scroll"),
        (b"POST", b"/films/_bulk"),
        (b"GET", b"/films/_search?q=" + b"x" * 5000),
        (b"PUT", b"/_es_reranked"),
    ],
)
def test_what_no_proxy_reranks_goes_to_the_engine(
    port: int, engine: ScriptedEngine, proxy: ScriptedEngine, method: bytes, target: bytes
) -> None:
    """Searches without a rule, and requests that only look like searches, never reach a proxy."""
    exchange(port, method + b" " + target + b" HTTP/1.1\r\nhost: x\r\n")
    assert [request.split(b" ")[:2] for request in engine.requests] == [[method, target]]
    assert proxy.requests == []


def test_a_search_with_our_header_goes_to_the_proxies(port: int, engine: ScriptedEngine, proxy: ScriptedEngine) -> None:
    """Any search with the header `ES-Rerank` goes to the proxies; on other requests the header means nothing."""
    exchange(port, b"POST /logs/_search HTTP/1.1\r\nhost: x\r\nes-rerank: off\r\n")
    exchange(port, b"PUT /logs/_doc/1 HTTP/1.1\r\nhost: x\r\nes-rerank: off\r\n")
    assert b"es-rerank: off" in proxy.requests[0]
    assert [request.split(b" ")[0] for request in engine.requests] == [b"PUT"]


@pytest.mark.parametrize("target", [b"/logs/_bulk", b"/films/_search"])
def test_request_headers_arrive_in_order(
    port: int, engine: ScriptedEngine, proxy: ScriptedEngine, target: bytes
) -> None:
    """End-to-end headers arrive as they were, odd names too, hop-by-hop ones don't; the engine's Host is its own."""
    ours = b"authorization: ApiKey x==\r\nX-Two: 1\r\nx_under: 1\r\nx-two: 2\r\nx.dot: 1\r\nx-utf8: caf\xc3\xa9\r\n"
    exchange(
        port,
        b"POST " + target + b" HTTP/1.1\r\nhost: front:1\r\n" + ours + b"te: trailers\r\nkeep-alive: 4\r\n"
        b"expect: 100-continue\r\nupgrade: h2c\r\ncontent-length: 5\r\n",
        b"hello",
    )
    host = b"front:1" if proxy.requests else b"127.0.0.1:%d" % engine.port
    expected = b"POST " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 5\r\n" + ours + b"\r\nhello"
    assert engine.requests + proxy.requests == [expected]


@pytest.mark.parametrize("target", [b"/logs/_bulk", b"/logs/_search", b"/films/_search"])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_arrive(
    port: int, engine: ScriptedEngine, proxy: ScriptedEngine, target: bytes, *, chunked: bool
) -> None:
    """A large body arrives byte for byte, whether it came with a length or in chunks."""
    body = bytes(number % 251 for number in range(LARGE))
    if chunked:
        pieces = [body[start : start + 70_000] for start in range(0, LARGE, 70_000)]
        framing = b"transfer-encoding: chunked\r\n"
        sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        framing, sent = b"content-length: %d\r\n" % LARGE, body
    line, _, _ = exchange(port, b"POST " + target + b" HTTP/1.1\r\nhost: x\r\n" + framing, sent)
    assert status_of(line) == 200
    [request] = engine.requests + proxy.requests
    head, _, arrived = request.partition(CRLF * 2)
    assert (unchunked(arrived) if b"chunked" in head.lower() else arrived) == body


def unchunked(raw: bytes) -> bytes:
    """What the chunks hold."""
    body = b""
    while raw:
        size, _, raw = raw.partition(CRLF)
        body, raw = body + raw[: int(size, 16)], raw[int(size, 16) + 2 :]
    return body


@pytest.mark.parametrize("target", [b"/logs/_doc/1", b"/films/_search"])
@pytest.mark.parametrize("status", [200, 301, 404, 413, 429, 471, 500, 502, 503, 504])
def test_answers_arrive_as_they_are(
    port: int, engine: ScriptedEngine, proxy: ScriptedEngine, target: bytes, status: int
) -> None:
    """Status, headers and body of every answer pass, also of errors, and no server is asked twice."""
    engine.reply = proxy.reply = (
        b"HTTP/1.1 %d X\r\nX-Elastic-Product: Elasticsearch\r\nWarning: 299 a\r\nWarning: 299 b\r\nServer: s\r\n"
        b'Location: /logs/_doc/1\r\nETag: "e"\r\nX_under: 1\r\ncontent-length: 5\r\n\r\n{"a"}'
    ) % status
    line, lines, body = exchange(port, b"GET " + target + b' HTTP/1.1\r\nhost: x\r\nif-none-match: "e"\r\n')
    assert (status_of(line), body) == (status, b'{"a"}')
    assert sorted(lines) == sorted(
        [
            b"X-Elastic-Product: Elasticsearch", b"Warning: 299 a", b"Warning: 299 b", b"Server: s",
            b"Location: /logs/_doc/1", b'ETag: "e"', b"X_under: 1", b"Content-Length: 5", b"Connection: close",
        ]
    )  # fmt: skip
    assert len(engine.requests) + len(proxy.requests) == 1


def test_a_large_answer_arrives(port: int, engine: ScriptedEngine) -> None:
    """Megabytes of answer, and 30 KB of warnings before them, pass."""
    body = bytes(number % 251 for number in range(LARGE))
    warnings = b"warning: 299 " + b"w" * 1000 + CRLF
    engine.reply = b"HTTP/1.1 200 OK\r\n" + warnings * 30 + b"content-length: %d\r\n\r\n" % LARGE + body
    _, lines, arrived = exchange(port, b"GET /logs HTTP/1.1\r\nhost: x\r\n")
    assert arrived == body
    assert len([line for line in lines if line.startswith(b"warning")]) == 30


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /a/%zz HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /a/%00 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /a/../../b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /%2e%2e/b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (b"PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 200000000\r\n\r\n", 413),
    ],
)
def test_what_nginx_refuses_by_itself(
    port: int, engine: ScriptedEngine, proxy: ScriptedEngine, raw: bytes, status: int
) -> None:
    """What the manual lists as refused is refused in the engine's form, and reaches no server."""
    # nginx closes the connection with bytes unread, so a reset may follow the answer.
    head, _, body = talk(port, raw, until=b'"status":%d}' % status).partition(CRLF * 2)
    error = json.loads(body)
    assert (status_of(head), error["status"], error["error"]["type"]) == (status, status, "illegal_argument_exception")
    assert engine.requests + proxy.requests == []


def test_an_absolute_target_arrives_as_a_path(port: int, engine: ScriptedEngine) -> None:
    """An absolute target arrives without its scheme and host, as the manual says."""
    exchange(port, b"GET http://elsewhere/a?b HTTP/1.1\r\nhost: x\r\n")
    assert [request.split(b" ")[1] for request in engine.requests] == [b"/a?b"]


@pytest.mark.parametrize("wrong", [dies, dies_answering, hangs])
@pytest.mark.parametrize("target", [b"/films/_search", b"/_msearch", b"/_search?q=x"])
def test_a_search_whose_proxy_fails_is_the_engines(
    port: int,
    engine: ScriptedEngine,
    proxy: ScriptedEngine,
    target: bytes,
    wrong: Callable[[socket.socket], None],
) -> None:
    """A proxy that dies or hangs costs no search: the engine gets the same one, without our header."""
    proxy.reply = wrong
    line, _, body = exchange(
        port,
        b"POST " + target + b" HTTP/1.1\r\nhost: x\r\nes-rerank: off\r\nx-two: 2\r\ncontent-length: 5\r\n",
        b"hello",
    )
    assert (status_of(line), body) == (200, b"{}")
    host = b"127.0.0.1:%d" % engine.port
    assert engine.requests == [
        b"POST " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 5\r\nx-two: 2\r\n\r\nhello"
    ]
    assert {request.split(b" ")[1] for request in proxy.requests} == {target}


def test_without_a_proxy_our_own_paths_are_unavailable(engine: ScriptedEngine, start_front: Callable[..., int]) -> None:
    """While no proxy answers, searches go to the engine, and our own paths are a 503 in its form without asking it."""
    port = start_front(url_of(engine), proxies=[f"127.0.0.1:{free_port()}"])
    line, _, body = exchange(port, b"GET /_es_rerank/health HTTP/1.1\r\nhost: x\r\n")
    assert (status_of(line), json.loads(body)["status"]) == (503, 503)
    assert engine.requests == []
    line, _, _ = exchange(port, b"GET /films/_search HTTP/1.1\r\nhost: x\r\n")
    assert (status_of(line), len(engine.requests)) == (200, 1)


def test_one_of_two_proxies_is_enough(
    engine: ScriptedEngine, proxy: ScriptedEngine, start_front: Callable[..., int]
) -> None:
    """Of several proxies the one that is up gets all searches."""
    port = start_front(url_of(engine), proxies=[f"127.0.0.1:{free_port()}", address_of(proxy)])
    for _ in range(6):
        line, _, _ = exchange(port, b"POST /films/_search HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n", b"{}")
        assert status_of(line) == 200
    assert (len(proxy.requests), len(engine.requests)) == (6, 0)


def test_a_proxy_is_back_soon(engine: ScriptedEngine, start_front: Callable[..., int]) -> None:
    """A proxy that comes up again has the searches again within seconds."""
    places = [free_port(), free_port()]
    port = start_front(url_of(engine), proxies=[f"127.0.0.1:{place}" for place in places])
    exchange(port, b"GET /films/_search HTTP/1.1\r\nhost: x\r\n")
    with socket.create_server(("127.0.0.1", places[0])) as listener:
        give_up_s = time.monotonic() + 30
        listener.settimeout(0.05)
        while time.monotonic() < give_up_s:
            asking = threading.Thread(target=exchange, args=(port, b"GET /films/_search HTTP/1.1\r\nhost: x\r\n"))
            asking.start()
            try:
                back, _ = listener.accept()
            except TimeoutError:
                asking.join()
                continue
            with back:
                back.recv(65536)
                back.sendall(FINE)
            asking.join()
            return
    pytest.fail("nobody came back to the proxy")


@pytest.mark.parametrize(
    ("method", "target", "times"),
    [
        (b"PUT", b"/logs/_doc/1", 1),
        (b"DELETE", b"/logs/_doc/1", 1),
        (b"POST", b"/logs/_doc", 1),
        (b"POST", b"/_bulk", 1),
        (b"POST", b"/films/_update/1", 1),
        (b"GET", b"/_search/scroll", 1),
        (b"POST", b"/_search/scroll", 1),
        (b"POST", b"/logs/_search", 2),
    ],
)
def test_only_searches_are_sent_again(
    port: int, engine: ScriptedEngine, method: bytes, target: bytes, times: int
) -> None:
    """When a kept connection breaks before any answer, a search is sent once more, but no write and no scroll is."""
    exchange(port, b"GET /a HTTP/1.1\r\nhost: x\r\n")
    engine.requests.clear()
    engine.reply = dies
    line, _, body = exchange(port, method + b" " + target + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n", b"{}")
    assert (status_of(line), json.loads(body)["status"]) == (502, 502)
    assert len(engine.requests) == times


@pytest.mark.parametrize("method", [b"PUT", b"DELETE", b"POST", b"GET"])
def test_nothing_is_asked_of_two_engine_hosts(start_front: Callable[..., int], method: bytes) -> None:
    """A write that one host received and did not answer is not sent to the next host; a GET is."""
    hosts = [ScriptedEngine(), ScriptedEngine()]
    for host in hosts:
        host.reply = dies
    port = start_front(*map(url_of, hosts), proxies=["127.0.0.1:1"])
    line, _, _ = exchange(port, method + b" /logs/_doc/1 HTTP/1.1\r\nhost: x\r\n")
    assert status_of(line) == 502
    assert sum(len(host.requests) for host in hosts) == (2 if method == b"GET" else 1)


def test_an_engine_host_that_is_down_is_passed_over(engine: ScriptedEngine, start_front: Callable[..., int]) -> None:
    """The hosts that are up share the load: a request that could not be sent to one goes to the next."""
    port = start_front(f"http://127.0.0.1:{free_port()}", url_of(engine), proxies=["127.0.0.1:1"])
    for target in (b"/logs/_search", b"/_bulk", b"/films/_search", b"/logs/_doc"):
        line, _, _ = exchange(port, b"POST " + target + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n", b"{}")
        assert status_of(line) == 200
    assert len(engine.requests) == 4


def test_a_write_does_not_look_for_another_host(engine: ScriptedEngine, start_front: Callable[..., int]) -> None:
    """A PUT that meets a host that is down is a 502, and the next one meets another host."""
    port = start_front(f"http://127.0.0.1:{free_port()}", url_of(engine), proxies=["127.0.0.1:1"])
    statuses = [
        status_of(exchange(port, b"PUT /logs/_doc/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n", b"{}")[0])
        for _ in range(3)
    ]
    assert statuses == [502, 200, 200]
    assert len(engine.requests) == 2


@pytest.mark.parametrize("target", [b"/logs/_doc/1", b"/logs/_search", b"/films/_search"])
def test_an_engine_that_hangs_is_a_504(port: int, engine: ScriptedEngine, proxy: ScriptedEngine, target: bytes) -> None:
    """An engine that is silent longer than `read_timeout_s` is a 504 in its form, after a proxy's failure too."""
    engine.reply, proxy.reply = hangs, dies
    line, _, body = exchange(port, b"POST " + target + b" HTTP/1.1\r\nhost: x\r\n")
    assert (status_of(line), json.loads(body)["error"]["type"]) == (504, "es_rerank_upstream_exception")
    assert len(engine.requests) == 1


def test_a_caller_who_leaves_takes_the_request_along(port: int, engine: ScriptedEngine) -> None:
    """When the caller disconnects, the connection to the engine is closed too, so the engine cancels its work."""
    engine.reply = hangs
    engine.closed_by_peer.clear()
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"POST /logs/_search HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        while not engine.requests:
            time.sleep(0.01)
    assert engine.closed_by_peer.wait(30)
