"""Engines that are half broken, on real sockets: every search is answered, by another host or by one more request."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from es_rerank.demo.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

SEARCH = {"query": {"match": {"text": "x"}}}
HITS = [{"_index": "films", "_id": str(n), "_score": 9.0 - n, "_source": {"text": f"text {n}"}} for n in range(3)]
FOUND = {"took": 1, "timed_out": False, "_shards": {"total": 1, "failed": 0}, "hits": {"max_score": 9.0, "hits": HITS}}
# What a test waits for at most; a search has a tenth of it.
LIMIT_S = 30.0
DEADLINE_S = 3.0
RULES = f"""
[limits]
deadline_s = {DEADLINE_S}
[[rules]]
name = "films"
indices = ["films*"]
fields = ["text"]
"""


def answer_of(status: int, body: bytes) -> bytes:
    """An answer on the wire."""
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    return head + body


GOOD = answer_of(200, json.dumps(FOUND).encode())


def give(answer: bytes) -> Callable[[socket.socket], None]:
    """Send these bytes and go on."""
    return lambda connection: connection.sendall(answer)


def close(connection: socket.socket) -> None:
    """Close without a word."""
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    """Break the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionResetError  # whoever serves the connection closes it


def half(connection: socket.socket) -> None:
    """Send half an answer, then break."""
    connection.sendall(GOOD[: len(GOOD) // 2])
    time.sleep(0.05)
    reset(connection)


def stuck(_: socket.socket) -> None:
    """Say nothing for as long as any test may wait."""
    time.sleep(LIMIT_S)


def trickling(connection: socket.socket) -> None:
    """Begin an answer and never end it."""
    connection.sendall(GOOD[: len(GOOD) // 2])
    time.sleep(LIMIT_S)


NO_ANSWERS: dict[str, Callable[[socket.socket], None]] = {
    "closes": close,
    "resets": reset,
    "says 502": give(answer_of(502, b"<html>bad gateway</html>")),
    "says 503": give(answer_of(503, b"{}")),
    "says 504": give(answer_of(504, b"")),
    "says no HTTP": give(b"220 mail.example.org\r\n"),
}
LOST: dict[str, Callable[[socket.socket], None]] = {
    **NO_ANSWERS,
    "half a body": half,
    "says 429": give(answer_of(429, b'{"error":"busy"}')),
    "says 400": give(answer_of(400, b'{"error":"window"}')),
    "stuck": stuck,
    "trickling": trickling,
    "no JSON": give(answer_of(200, b"no json")),
}


class Host:
    """One engine host: answers well, unless `breaks` says what to do with a request that holds `when`."""

    def __init__(self, breaks: Callable[[socket.socket], None] | None = None, *, when: bytes = b"") -> None:
        self.requests: list[bytes] = []
        self._breaks = breaks
        self._when = when
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._listener.close()

    def set(self, breaks: Callable[[socket.socket], None] | None, *, when: bytes = b"") -> None:
        """Answer so from now on, and forget what was asked before."""
        self._breaks, self._when = breaks, when
        self.requests.clear()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := b"".join(iter(lambda: stream.readline().rstrip(b"\r\n") + b"\n", b"\n")):
                length = next((int(line[16:]) for line in head.split(b"\n") if line.startswith(b"Content-Length: ")), 0)
                self.requests.append(head + stream.read(length))
                try:
                    if self._breaks is not None and self._when in head:
                        self._breaks(connection)
                    else:
                        connection.sendall(GOOD)
                except OSError:
                    return


@pytest.fixture(scope="module")
def lone(run_system: Callable[..., System]) -> Iterator[tuple[Host, System]]:
    """An engine of one host, whose answers each test sets, and a proxy before it."""
    host = Host()
    yield host, run_system(host.url, extra=RULES)
    host.close()


@pytest.fixture
def host_that() -> Iterator[Callable[..., Host]]:
    """Makes hosts, which are closed at the end."""
    made: list[Host] = []

    def make(breaks: Callable[[socket.socket], None] | None = None, *, when: bytes = b"") -> Host:
        made.append(Host(breaks, when=when))
        return made[-1]

    yield make
    for host in made:
        host.close()


def post(url: str, body: object = None, *, method: str = "POST") -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an answer, errors too."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as reply:
            return reply.status, reply.read(), {name.lower(): value for name, value in reply.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, error.read(), {name.lower(): value for name, value in error.headers.items()}


@pytest.mark.parametrize("fault", NO_ANSWERS)
def test_a_host_that_fails_costs_no_search(
    host_that: Callable[..., Host], run_system: Callable[..., System], fault: str
) -> None:
    """Of two hosts one breaks every request: all searches are answered by the other, which is soon asked alone."""
    good, bad = host_that(), host_that(NO_ANSWERS[fault])
    system = run_system(good.url, bad.url, extra=RULES)
    answers = [post(f"{system.url}/{index}/_search", SEARCH) for _ in range(10) for index in ("films", "others")]
    assert [status for status, _, _ in answers] == [200] * 20
    assert all(json.loads(body)["hits"]["hits"] for _, body, _ in answers)
    assert len(bad.requests) < 10, "the host is passed over"
    bad.set(None)
    until_s = time.monotonic() + LIMIT_S
    while not bad.requests and time.monotonic() < until_s:
        post(f"{system.url}/others/_search", SEARCH)
        time.sleep(0.1)
    assert bad.requests, "and tried again later"


@pytest.mark.parametrize("path", ["_search/template", "_msearch/template"])
def test_a_template_is_asked_of_another_host_as_a_search_is(
    host_that: Callable[..., Host], run_system: Callable[..., System], path: str
) -> None:
    """Of two hosts one says that it can't serve: no caller sees that."""
    system = run_system(host_that().url, host_that(NO_ANSWERS["says 503"]).url, extra=RULES)
    assert 503 not in [post(f"{system.url}/films/{path}", SEARCH)[0] for _ in range(4)]


@pytest.mark.parametrize("fault", ["closes", "says 503"])
def test_a_write_is_never_sent_twice(
    host_that: Callable[..., Host], run_system: Callable[..., System], fault: str
) -> None:
    """A request that may change something goes to one host only, even if that gives no answer."""
    first, second = host_that(NO_ANSWERS[fault]), host_that(NO_ANSWERS[fault])
    system = run_system(first.url, second.url, extra=RULES)
    status, _, _ = post(f"{system.url}/films/_doc", {"text": "x"})
    assert status in (502, 503)
    assert len(first.requests) + len(second.requests) == 1


@pytest.mark.parametrize("fault", ["says 502", "says 503", "says 504"])
def test_if_no_host_can_serve_the_engine_has_the_last_word(
    host_that: Callable[..., Host], run_system: Callable[..., System], fault: str
) -> None:
    """If all hosts say that they can't serve, one of their answers is relayed, and two hosts at most were asked."""
    hosts = [host_that(NO_ANSWERS[fault]) for _ in range(3)]
    system = run_system(*(host.url for host in hosts), extra=RULES)
    status, _, _ = post(f"{system.url}/others/_search", SEARCH)
    assert status == int(fault.split()[1])
    assert sum(len(host.requests) for host in hosts) == 2


def test_a_search_that_breaks_hosts_breaks_three_at_most(
    host_that: Callable[..., Host], run_system: Callable[..., System]
) -> None:
    """If every host breaks the connection, the search itself may be the cause: not every host is tried."""
    hosts = [host_that(reset) for _ in range(5)]
    system = run_system(*(host.url for host in hosts), extra=RULES)
    status, _, _ = post(f"{system.url}/others/_search", SEARCH)
    assert status == 502
    assert sum(len(host.requests) for host in hosts) == 3


def test_a_host_that_drops_packets_costs_less_than_the_deadline(
    host_that: Callable[..., Host], run_system: Callable[..., System]
) -> None:
    """A reranked search gives up connecting to one host early enough for the other, whatever the time-out allows."""
    good = host_that()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        try:
            for one in waiting:  # fills the queue of connections that the host never accepts
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            system = run_system(url, good.url, extra=RULES, upstream=f"connect_timeout_s = {LIMIT_S}")
            for _ in range(4):
                status, body, _ = post(f"{system.url}/films/_search", SEARCH)
                assert status == 200
                assert len(json.loads(body)["hits"]["hits"]) == 3
        finally:
            for one in waiting:
                one.close()


@pytest.mark.parametrize("fault", LOST)
def test_a_window_that_is_lost_costs_no_search(lone: tuple[Host, System], fault: str) -> None:
    """Where only the window fails, in whatever way, the client's own search is answered, and a Warning says why."""
    host, system = lone
    host.set(LOST[fault], when=b"size=100")
    status, body, headers = post(f"{system.url}/films/_search", SEARCH)
    assert status == 200
    assert json.loads(body) == FOUND
    assert headers["warning"].startswith('299 es-rerank "reranking failed (')
    own = [request for request in host.requests if b"size=100" not in request]
    assert len(own) == 1


@pytest.mark.parametrize("fault", ["closes", "resets", "half a body", "says 502"])
def test_an_engine_without_any_answer_is_an_error_soon(lone: tuple[Host, System], fault: str) -> None:
    """If the client's own search fails like the window, the caller gets an error, after a few requests at most."""
    host, system = lone
    host.set(LOST[fault])
    if fault == "half a body":
        with pytest.raises(http.client.IncompleteRead):  # an answer that breaks off is not made to look whole
            post(f"{system.url}/films/_search", SEARCH)
    else:
        status, _, _ = post(f"{system.url}/films/_search", SEARCH)
        assert status == 502
    assert len(host.requests) <= 4


def test_the_way_back_to_ourselves_is_one_clear_error(run_system: Callable[..., System]) -> None:
    """If `upstream.urls` leads back to the proxy, a request is answered at once with 508, and health says so too."""
    port = free_port()
    system = run_system(f"http://127.0.0.1:{port}", extra=RULES)
    second = run_system(system.url, extra=RULES)
    relay = threading.Thread(target=_forward, args=(port, int(second.url.rpartition(":")[2])), daemon=True)
    relay.start()
    for path, body in (("/films/_search", SEARCH), ("/others/_search", SEARCH), ("/", None)):
        status, said, _ = post(f"{system.url}{path}", body, method="GET" if body is None else "POST")
        assert status == 508
        assert "leads back to this proxy" in json.loads(said)["error"]["reason"]
    assert system.health()["parts"]["upstream"] == {"reachable": False, "status": 508}


def _forward(port: int, to: int) -> None:
    """Joins connections on one port with another one."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            ours, _ = listener.accept()
            theirs = socket.create_connection(("127.0.0.1", to))
            for pair in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=pump, args=pair, daemon=True).start()


@pytest.mark.parametrize("setting", ["engine", "caller"])
def test_the_host_header_is_the_engines_or_the_callers(
    host_that: Callable[..., Host], run_system: Callable[..., System], setting: str
) -> None:
    """`host_header` says which name the engine sees: its own, or the one that the caller used."""
    host = host_that()
    system = run_system(host.url, extra=RULES, upstream=f'host_header = "{setting}"')
    post(f"{system.url}/others/_search", SEARCH)
    expected = host.url if setting == "engine" else system.url
    [names] = [
        [line for line in request.split(b"\n") if line.lower().startswith(b"host:")] for request in host.requests
    ]
    assert names == [b"Host: " + expected.removeprefix("http://").encode()]


def test_hosts_share_the_load(host_that: Callable[..., Host], run_system: Callable[..., System]) -> None:
    """Hosts that are well take turns."""
    hosts = [host_that() for _ in range(3)]
    system = run_system(*(host.url for host in hosts), extra=RULES)
    for _ in range(9):
        post(f"{system.url}/others/_search", SEARCH)
    assert Counter(len(host.requests) for host in hosts) == {3: 3}
