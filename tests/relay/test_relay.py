"""What isn't a search passes through: every byte that matters, both ways, on real sockets."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest

from es_rerank.proxy.points import MAX_ANSWER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from es_rerank.demo.processes import Supervisor
    from tests.conftest import System

CRLF = b"\r\n"


class ScriptedEngine:
    """An upstream that keeps every request's raw bytes and answers with raw bytes, one scripted reply a request."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.reply: bytes | Callable[[socket.socket], None] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        self.connections = 0
        self.closed_by_peer = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # A proxy that gives a request up leaves the engine with half of it.
        with connection, connection.makefile("rb") as stream, suppress(OSError, ValueError):
            while head := self._head(cast("BinaryIO", stream)):
                body = self._body(cast("BinaryIO", stream), head)
                self.requests.append(head + body)
                if callable(self.reply):
                    self.reply(connection)
                    connection.settimeout(30)
                    if connection.recv(1) == b"":
                        self.closed_by_peer.set()
                    return
                connection.sendall(self.reply)

    def _head(self, stream: BinaryIO) -> bytes:
        lines = []
        while line := stream.readline():
            lines.append(line)
            if line == CRLF:
                break
        return b"".join(lines)

    def _body(self, stream: BinaryIO, head: bytes) -> bytes:
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            raw = b""
            while True:
                size = stream.readline()
                raw += size + stream.read(int(size, 16) + 2)
                if int(size, 16) == 0:
                    return raw
        for line in lower.split(CRLF):
            if line.startswith(b"content-length:"):
                return bytes(stream.read(int(line.split(b":")[1])))
        return b""


@pytest.fixture(scope="module")
def engine() -> Iterator[ScriptedEngine]:
    """The scripted upstream."""
    engine = ScriptedEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def port(
    supervisor: Supervisor,
    redis_url: str,
    engine: ScriptedEngine,
    tmp_path_factory: pytest.TempPathFactory,
    start_proxy: Callable[..., int],
) -> int:
    """A proxy before it."""
    return start_proxy(f"http://127.0.0.1:{engine.port}")


@pytest.fixture(autouse=True)
def _fresh(engine: ScriptedEngine) -> None:
    engine.requests.clear()
    engine.closed_by_peer.clear()
    engine.reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def talk(port: int, raw: bytes, *, until: bytes = b"") -> bytes:
    """Send raw bytes, and read until the proxy closes or `until` was seen; the caller asks to close otherwise."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(raw)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
            if until and until in received:
                break
        return received


def exchange(port: int, head: bytes, body: bytes = b"") -> tuple[bytes, list[bytes], bytes]:
    """One request on a connection of its own: status line, header lines and body of the answer."""
    received = talk(port, head + b"connection: close\r\n\r\n" + body)
    answer_head, _, answer_body = received.partition(CRLF * 2)
    status, *lines = answer_head.split(CRLF)
    return status, lines, answer_body


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/a/_doc/1?",
        b"/a//b/../c/./d",
        b"/a/_doc/x%2Fy%20z%zz?q=%C3%A9&&x=1&x=2&empty=&flag",
        b"/%3Clogs-%7Bnow%2Fd%7D%3E/_doc/1?a+b=c+d",
        b"/a/_doc/1?x=1#y",
        b"/a/_doc/1?filter_path=a.*,-b&x=[1,2]{3}|^",
        b"/_cat/indices?v=true&h=index,docs.count",
    ],
)
def test_the_raw_target_reaches_the_engine(port: int, engine: ScriptedEngine, target: bytes) -> None:
    """Path and query string arrive byte for byte: nothing is decoded, normalised or dropped."""
    status, _, _ = exchange(port, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n")
    assert status.startswith(b"HTTP/1.1 200")
    assert engine.requests[0].split(b" ")[1] == target


@pytest.mark.parametrize(
    "target",
    [
        "/a?q=café",
        "/a/_search?q=日本&x=%C3%A9",
        "/日本/_doc/1",
        "/caf%C3%A9/日/?",
        "http://x/日本?q=é",
    ],
)
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("offer", [b"", b"connection: upgrade\r\nupgrade: h2c\r\n"], ids=["plain", "upgrade"])
def test_a_raw_target_above_ascii_reaches_the_engine(
    port: int, engine: ScriptedEngine, target: str, offer: bytes, *, split: bool
) -> None:
    """Bytes above 0x7F in a target, as people type them, arrive as they came, in whatever pieces they came."""
    raw = b"GET %s HTTP/1.1\r\nhost: x\r\nx-utf8: \xc3\xa9\r\n%s\r\n" % (target.encode(), offer)
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in [raw[at : at + 1] for at in range(len(raw))] if split else [raw]:
            connection.sendall(piece)
            time.sleep(0.001 if split else 0)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert engine.requests[0].split(b" ")[1] == target.encode()
    assert b"\r\nx-utf8: \xc3\xa9\r\n" in engine.requests[0]


@pytest.mark.parametrize("line", [b"GE\xc3\xa9 /a HTTP/1.1", b"GET /a HTTP/1.\xb1", b"GET /a\xc3\xa9 b HTTP/1.1"])
def test_a_request_line_that_is_wrong_stays_wrong(port: int, engine: ScriptedEngine, line: bytes) -> None:
    """A byte above 0x7F outside of the target, or beside another fault, is a 400, and reaches no engine."""
    status, _, _ = exchange(port, line + b"\r\nhost: x\r\n")
    assert status.startswith(b"HTTP/1.1 400")
    assert engine.requests == []


def test_request_headers_reach_the_engine_in_order(port: int, engine: ScriptedEngine) -> None:
    """All end-to-end headers arrive in their order, repeated ones too; hop-by-hop ones and Host are our own."""
    exchange(
        port,
        b"GET /a HTTP/1.1\r\nhost: elsewhere\r\nauthorization: ApiKey x==\r\nx-opaque-id: 7\r\naccept: a/b, c\r\n"
        b"x-two: 1\r\nte: trailers\r\nx-two: 2\r\nx-hop: gone\r\nx-utf8: caf\xc3\xa9\r\nconnection: x-hop\r\n"
        b"x-latin1: caf\xe9\r\n",
    )
    lines = engine.requests[0].split(CRLF)[1:-2]
    names = [line.split(b":")[0].lower() for line in lines]
    ours = b"es-rerank-via"
    assert names[-1] == ours
    assert names[:-1] == [
        b"host", b"authorization", b"x-opaque-id", b"accept", b"x-two", b"x-two", b"x-utf8", b"x-latin1"
    ]  # fmt: skip
    assert [line.split(b": ")[1] for line in lines[1:-1]] == [
        b"ApiKey x==", b"7", b"a/b, c", b"1", b"2", b"caf\xc3\xa9", b"caf\xe9",
    ]  # fmt: skip
    assert lines[0] == f"Host: 127.0.0.1:{engine.port}".encode()


def test_a_body_keeps_its_bytes_and_its_framing(port: int, engine: ScriptedEngine) -> None:
    """A body with a length arrives with that length, a chunked one chunked, a compressed one compressed."""
    packed = gzip.compress(b'{"index":{}}\n{}\n')
    exchange(
        port,
        b"POST /_bulk HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ncontent-encoding: gzip\r\n"
        b"content-length: %d\r\n" % len(packed),
        packed,
    )
    assert engine.requests[0].endswith(CRLF * 2 + packed)
    exchange(port, b"POST /_bulk HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n")
    head, _, body = engine.requests[1].partition(CRLF * 2)
    assert b"transfer-encoding: chunked" in head.lower()
    assert b"content-length" not in head.lower()
    assert body == b"3\r\nabc\r\n0\r\n\r\n"


def test_reply_headers_and_body_reach_the_caller(port: int, engine: ScriptedEngine) -> None:
    """Status, all header values in order, repeated ones too, and the body as encoded: nothing added, nothing lost."""
    packed = gzip.compress(b"hello")
    engine.reply = (
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nwarning: 299 a\r\nWWW-Authenticate: Bearer\r\n"
        b"X-elastic-product: Elasticsearch\r\nwarning: 299 b\r\nContent-Encoding: gzip\r\nset-cookie: a=b; path=/\r\n"
        b"content-length: %d\r\n\r\n" % len(packed)
    ) + packed
    status, lines, body = exchange(port, b"GET /a HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\n")
    assert status.startswith(b"HTTP/1.1 401")
    assert [(line.split(b": ")[0].lower(), line.split(b": ")[1]) for line in lines] == [
        (b"www-authenticate", b"Basic realm=x"),
        (b"warning", b"299 a"),
        (b"www-authenticate", b"Bearer"),
        (b"x-elastic-product", b"Elasticsearch"),
        (b"warning", b"299 b"),
        (b"content-encoding", b"gzip"),
        (b"set-cookie", b"a=b; path=/"),
        (b"content-length", b"%d" % len(packed)),
        (b"connection", b"close"),
    ]
    assert body == packed


@pytest.mark.parametrize("status", [200, 201, 204, 299, 304, 400, 404, 413, 429, 500, 503, 599])
def test_every_status_passes(port: int, engine: ScriptedEngine, status: int) -> None:
    """The engine's status is the caller's, with its Retry-After."""
    length = b"" if status in (204, 304) else b"content-length: 0\r\n"
    engine.reply = b"HTTP/1.1 %d Whatever\r\nretry-after: 3\r\n%s\r\n" % (status, length)
    line, headers, _ = exchange(port, b"GET /a HTTP/1.1\r\nhost: x\r\n")
    assert line.split(b" ")[1] == b"%d" % status
    assert b"retry-after: 3" in headers


def test_head_has_the_length_and_no_body(port: int, engine: ScriptedEngine) -> None:
    """HEAD reaches the engine as HEAD, and the Content-Length is that of the body that isn't sent."""
    engine.reply = b"HTTP/1.1 200 OK\r\ncontent-length: 532\r\n\r\n"
    _, lines, body = exchange(port, b"HEAD /a HTTP/1.1\r\nhost: x\r\n")
    assert engine.requests[0].startswith(b"HEAD /a ")
    assert b"content-length: 532" in lines
    assert body == b""


def test_a_caller_who_expects_100_gets_it(port: int, engine: ScriptedEngine) -> None:
    """Expect: 100-continue is met before the body is sent, and the body then arrives."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(
            b"PUT /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\nconnection: close\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"abc")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert engine.requests[0].endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize(
    "expected",
    [
        b"expect: 200-ok\r\n",
        b"expect:\r\n",
        b"expect: 100-continue, else\r\n",
        b"expect: 100-continue\r\nexpect: else\r\n",
        b"expect: 100-continue\r\nexpect: 100-continue\r\n",
    ],
)
def test_another_expectation_is_refused(port: int, engine: ScriptedEngine, expected: bytes) -> None:
    """Anything but a single `100-continue` gets our 417, which ends the connection, and never reaches the engine."""
    smuggled = b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n"
    head = b"POST /a HTTP/1.1\r\nhost: x\r\n" + expected + b"content-length: %d\r\n\r\n" % len(smuggled)
    received = talk(port, head + smuggled)
    assert received.startswith(b"HTTP/1.1 417 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert json.loads(received.partition(CRLF * 2)[2])["status"] == 417
    assert engine.requests == []


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        b"content-length: 3\r\ncontent-length: 4\r\n",
        b"content-length: 3\r\ncontent-length: 3\r\n",
    ],
)
def test_an_ambiguous_length_is_refused(port: int, engine: ScriptedEngine, framing: bytes) -> None:
    """Two lengths, or a length beside chunks, are a 400 in the engine's shape, and never reach the engine."""
    line, _, body = exchange(port, b"POST /a HTTP/1.1\r\nhost: x\r\n" + framing, b"3\r\nabc\r\n0\r\n\r\n")
    assert line.split(b" ")[1] == b"400"
    assert json.loads(body)["status"] == 400
    assert engine.requests == []


@pytest.mark.parametrize(
    "coding", [b"gzip, chunked", b"identity, chunked", b",chunked", b"chunked\r\ntransfer-encoding: chunked"]
)
def test_a_transfer_coding_beside_chunks_is_refused(port: int, engine: ScriptedEngine, coding: bytes) -> None:
    """A transfer coding that could not be forwarded as it came is a 501, and never reaches the engine."""
    head = b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: " + coding + b"\r\n"
    line, _, _ = exchange(port, head, b"3\r\nabc\r\n0\r\n\r\n")
    assert line.split(b" ")[1] in (b"501", b"400")  # the parser refuses some of them by itself
    assert engine.requests == []


def test_trailers_are_no_headers(port: int, engine: ScriptedEngine) -> None:
    """Trailers after a body, in one piece with the head or not, reach neither the engine nor our own code."""
    head = b"POST /films/_search HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    body = b"2\r\n{}\r\n0\r\nx-opaque-id: me\r\nes-rerank: nonsense\r\nauthorization: x\r\n\r\n"
    line, _, _ = exchange(port, head, body)
    assert line.split(b" ")[1] == b"200"
    assert not any(name in request.lower() for request in engine.requests for name in (b"opaque", b"authorization"))


def test_a_body_is_framed_whatever_the_caller_says_of_its_length(port: int, engine: ScriptedEngine) -> None:
    """A length that the caller names as its connection's own is dropped, and the body still arrives as one body."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n" + b"x" * 100_000
    head = b"POST /a/_doc HTTP/1.1\r\nhost: x\r\nconnection: content-length, close\r\ncontent-length: %d\r\n\r\n"
    received = talk(port, head % len(smuggled) + smuggled)
    assert received.startswith(b"HTTP/1.1 200")
    [request] = engine.requests
    assert b"transfer-encoding: chunked" in request.lower()
    assert request.endswith(b"\r\n0\r\n\r\n")


def test_a_length_of_nothing_arrives(port: int, engine: ScriptedEngine) -> None:
    """A POST without a body that says so says so to the engine."""
    exchange(port, b"POST /a/_refresh HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n")
    assert b"content-length: 0\r\n" in engine.requests[0].lower()


@pytest.mark.parametrize("path", [b"/films/_search", b"/films/_msearch", b"/films/_count", b"/_bulk"])
def test_no_bytes_in_chunks_arrive_in_chunks(port: int, engine: ScriptedEngine, path: bytes) -> None:
    """Held or not, an empty body in chunks stays one: Elasticsearch tells it from no body, and from no bytes."""
    exchange(port, b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n" % path, b"0\r\n\r\n")
    [request] = engine.requests
    assert b"transfer-encoding: chunked" in request.lower()
    assert b"content-length" not in request.lower()
    assert request.endswith(b"\r\n\r\n0\r\n\r\n")


def test_who_asked_can_not_be_hidden(engine: ScriptedEngine, run_system: Callable[..., System]) -> None:
    """With `forwarded_headers`, a caller can't have them dropped by naming them as its connection's own."""
    system = run_system(f"http://127.0.0.1:{engine.port}", upstream="forwarded_headers = true")
    port = int(system.url.rpartition(":")[2])
    talk(port, b"GET /a HTTP/1.1\r\nhost: me\r\nconnection: x-forwarded-for, x-forwarded-host, close\r\n\r\n")
    [request] = engine.requests
    assert b"x-forwarded-for: 127.0.0.1\r\nx-forwarded-host: me\r\nx-forwarded-proto: http\r\n" in request


@pytest.mark.parametrize("length", [0, 100, MAX_ANSWER_BYTES, MAX_ANSWER_BYTES + 1, 3 * MAX_ANSWER_BYTES])
def test_an_answer_that_is_looked_at_passes_whole(
    engine: ScriptedEngine, run_system: Callable[..., System], length: int
) -> None:
    """However long it is, and whatever is in it: here it should name a point in time, and does not."""
    rule = '[[rules]]\nname = "a"\nindices = ["films"]\nfields = ["text"]\npit = true\n'
    system = run_system(f"http://127.0.0.1:{engine.port}", extra=rule)
    body = b"x" * length
    engine.reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length + body
    status, lines, received = exchange(
        int(system.url.rpartition(":")[2]), b"POST /films/_pit?keep_alive=1m HTTP/1.1\r\nhost: x\r\n"
    )
    assert (status[:12], received) == (b"HTTP/1.1 200", body)
    assert b"content-length: %d" % length in lines


def test_connections_to_the_engine_are_kept(port: int, engine: ScriptedEngine) -> None:
    """Requests one after another share a connection to the engine."""
    before = engine.connections
    for _ in range(5):
        exchange(port, b"GET /a HTTP/1.1\r\nhost: x\r\n")
    assert engine.connections - before <= 1


def test_an_answer_that_breaks_off_is_not_made_to_look_whole(port: int, engine: ScriptedEngine) -> None:
    """When the engine dies in the middle of a chunked answer, the caller's answer has no end either."""

    def break_off(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        connection.shutdown(socket.SHUT_RDWR)

    engine.reply = break_off
    received = talk(port, b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"hello" in received
    assert not received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("path", [b"/a/_doc/1", b"/films/_search?q=x"])
def test_a_caller_who_leaves_cancels_the_engines_work(port: int, engine: ScriptedEngine, path: bytes) -> None:
    """When the caller disconnects, the connection to the engine is closed, so the engine cancels its task."""
    engine.reply = lambda _: None
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        give_up_s = time.monotonic() + 30
        while not engine.requests and time.monotonic() < give_up_s:
            time.sleep(0.01)
    assert engine.closed_by_peer.wait(30)


def test_no_engine_is_a_502_in_the_engines_shape(start_proxy: Callable[..., int]) -> None:
    """If no engine host answers, the caller gets a 502 that says why, in the engine's shape."""
    closed = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    closed.close()
    line, lines, body = exchange(start_proxy(url), b"GET /a HTTP/1.1\r\nhost: x\r\n")
    assert line.split(b" ")[1] == b"502"
    assert b"content-type: application/json" in lines
    error = json.loads(body)
    assert error["status"] == 502
    assert error["error"]["type"] == "es_rerank_upstream_exception"


def test_a_host_that_is_down_is_passed_over(start_proxy: Callable[..., int], engine: ScriptedEngine) -> None:
    """Of two hosts one is down: every request is answered by the other."""
    closed = socket.create_server(("127.0.0.1", 0))
    down = closed.getsockname()[1]
    closed.close()
    port = start_proxy(f"http://127.0.0.1:{down}", f"http://127.0.0.1:{engine.port}")
    for _ in range(4):
        line, _, _ = exchange(port, b"POST /a/_doc HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n", b"{}")
        assert line.split(b" ")[1] == b"200"
    assert len(engine.requests) == 4


def test_our_own_paths_are_ours(port: int, engine: ScriptedEngine) -> None:
    """Below /_es_rerank nothing is forwarded: unknown paths are 404, other methods 405, in the engine's shape."""
    line, _, body = exchange(port, b"GET /_es_rerank/nothing HTTP/1.1\r\nhost: x\r\n")
    assert (line.split(b" ")[1], json.loads(body)["status"]) == (b"404", 404)
    line, _, body = exchange(port, b"DELETE /_es_rerank/health HTTP/1.1\r\nhost: x\r\n")
    assert (line.split(b" ")[1], json.loads(body)["status"]) == (b"405", 405)
    assert engine.requests == []


def test_our_answers_carry_the_engines_product_header(port: int, engine: ScriptedEngine, tmp_path: Path) -> None:
    """Our own answers carry the same product header as the engine's, since clients check it."""
    engine.reply = b"HTTP/1.1 200 OK\r\nX-Elastic-Product: Elasticsearch\r\ncontent-length: 2\r\n\r\n{}"
    exchange(port, b"GET / HTTP/1.1\r\nhost: x\r\n")
    _, lines, _ = exchange(port, b"GET /_es_rerank/health HTTP/1.1\r\nhost: x\r\n")
    assert b"x-elastic-product: Elasticsearch" in lines


@pytest.mark.parametrize("method", [b"POST", b"PUT"])
@pytest.mark.parametrize("split", [False, True])
def test_an_offered_upgrade_is_declined_and_the_body_arrives(
    port: int, engine: ScriptedEngine, method: bytes, *, split: bool
) -> None:
    """A client that offers HTTP/2 in clear text is answered in HTTP/1.1; its body is not read as the next request."""
    body = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    head = (
        method + b" /a/_doc/1 HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings, close\r\nupgrade: h2c\r\n"
        b"http2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
        % len(body)
    )
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(head if split else head + body)
        if split:
            time.sleep(0.05)
            connection.sendall(body)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.count(b"HTTP/1.1 ") == 1
    assert received.startswith(b"HTTP/1.1 200")
    [request] = engine.requests
    assert request.endswith(b"\r\n\r\n" + body)
    assert b"upgrade" not in request.lower()
    assert b"http2-settings" not in request.lower()


def test_requests_behind_an_offered_upgrade_are_answered(port: int, engine: ScriptedEngine) -> None:
    """Two requests at once, the first offering an upgrade, are two answers."""
    received = talk(
        port,
        b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        b"GET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    assert received.count(b"HTTP/1.1 200") == 2
    assert [request.split(b" ")[1] for request in engine.requests] == [b"/a", b"/b"]


def test_thousands_of_offered_upgrades_at_once_are_as_many_requests(port: int, engine: ScriptedEngine) -> None:
    """However many requests with an offer come in one piece, each is answered."""
    count = 3000
    one = b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: a\r\n\r\n"
    received = talk(port, one * count + b"GET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert received.count(b"HTTP/1.1 200") == count + 1


@pytest.mark.parametrize("target", [b"/x", b"evil:80"])
def test_connect_is_refused(port: int, engine: ScriptedEngine, target: bytes) -> None:
    """The proxy opens no tunnels."""
    line, _, _ = exchange(port, b"CONNECT " + target + b" HTTP/1.1\r\nhost: x\r\n")
    assert line.split(b" ")[1] == b"400"
    assert engine.requests == []


@pytest.mark.parametrize("target", [b"http://evil/x", b"//evil/x", b"/@evil", b"http://u:p@evil/", b"/\\evil"])
def test_no_target_leads_elsewhere(port: int, engine: ScriptedEngine, target: bytes) -> None:
    """Whatever the target looks like, the engine gets it, under its own Host."""
    exchange(port, b"GET " + target + b" HTTP/1.1\r\nhost: evil\r\n")
    for request in engine.requests:
        assert f"Host: 127.0.0.1:{engine.port}".encode() in request


def test_a_huge_head_is_refused(port: int, engine: ScriptedEngine) -> None:
    """Headers beyond 64 KiB are a 400 before they are all there, and never reach the engine."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET /a HTTP/1.1\r\nhost: x\r\nx-large: ")
        received = b""
        for _ in range(200):
            try:
                connection.sendall(b"x" * 1024)
            except OSError:
                break
            time.sleep(0.001)
        received = connection.recv(65536)
    assert received.startswith(b"HTTP/1.1 400")
    assert b"larger than 65536 bytes" in received
    assert engine.requests == []


def test_many_reply_headers_pass(port: int, engine: ScriptedEngine) -> None:
    """An engine that warns three hundred times is heard three hundred times."""
    engine.reply = b"HTTP/1.1 200 OK\r\n" + b"warning: 299 x\r\n" * 300 + b"content-length: 0\r\n\r\n"
    line, lines, _ = exchange(port, b"GET /a HTTP/1.1\r\nhost: x\r\n")
    assert line.split(b" ")[1] == b"200"
    assert lines.count(b"warning: 299 x") == 300


def test_http_1_0_gets_no_chunks(port: int, engine: ScriptedEngine) -> None:
    """A client of HTTP/1.0 is answered with a length, also where the engine answers in chunks."""
    engine.reply = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    received = talk(port, b"GET /a HTTP/1.0\r\nhost: x\r\n\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-length: 5" in head
    assert b"transfer-encoding" not in head
    assert body == b"hello"


def test_http_1_0_gets_a_long_answer_as_it_comes(port: int, engine: ScriptedEngine) -> None:
    """A long answer of unknown length is not held: its end is the end of the connection, as HTTP/1.0 has it."""
    pieces = [b"%d" % (number % 10) * 10_000 for number in range(100)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    engine.reply = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    head, _, body = talk(port, b"GET /a HTTP/1.0\r\nhost: x\r\n\r\n").partition(CRLF * 2)
    assert head.startswith(b"HTTP/1.1 200")
    assert not any(name in head for name in (b"transfer-encoding", b"content-length"))
    assert body == b"".join(pieces)


def test_http_1_0_can_tell_a_broken_answer_from_a_whole_one(port: int, engine: ScriptedEngine) -> None:
    """Where a long answer of unknown length breaks off, the caller's connection is reset, not closed in order."""

    def break_off(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall((b"%x\r\n%s\r\n" % (10_000, bytes(10_000))) * 20)
        time.sleep(0.3)
        connection.shutdown(socket.SHUT_RDWR)

    engine.reply = break_off
    with pytest.raises(ConnectionResetError):
        talk(port, b"GET /a HTTP/1.0\r\nhost: x\r\n\r\n")


@pytest.mark.parametrize("framing", [b"content-length: 3", b"transfer-encoding: chunked"])
def test_http_1_0_is_never_told_to_go_on(port: int, engine: ScriptedEngine, framing: bytes) -> None:
    """A caller of HTTP/1.0 can't read a 100, so its expectation is ignored (RFC 9110, 10.1.1)."""
    body = b"abc" if b"length" in framing else b"3\r\nabc\r\n0\r\n\r\n"
    received = talk(port, b"PUT /a HTTP/1.0\r\nhost: x\r\nexpect: 100-continue\r\n" + framing + CRLF * 2 + body)
    assert received.startswith(b"HTTP/1.1 200")
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("method", "target", "times"),
    [
        (b"PUT", b"/a", 1),
        (b"DELETE", b"/a", 1),
        (b"POST", b"/a", 1),
        (b"GET", b"/_search/scroll?scroll_id=x", 1),
        (b"GET", b"/a", 2),
        (b"HEAD", b"/a", 2),
        (b"POST", b"/a/_search", 2),
        (b"POST", b"/a/_msearch", 2),
    ],
)
def test_only_what_changes_nothing_is_sent_again(
    engine: ScriptedEngine, start_proxy: Callable[..., int], method: bytes, target: bytes, times: int
) -> None:
    """When a kept connection breaks before any answer, what only reads is sent once more, and nothing else is."""
    port = start_proxy(f"http://127.0.0.1:{engine.port}")
    exchange(port, b"GET /a HTTP/1.1\r\nhost: x\r\n")
    engine.requests.clear()
    engine.reply = lambda connection: connection.shutdown(socket.SHUT_RDWR)
    line, _, _ = exchange(port, method + b" " + target + b" HTTP/1.1\r\nhost: x\r\n")
    assert line.split(b" ")[1] == b"502"
    assert len(engine.requests) == times


def test_slow_bodies_keep_no_connection_to_the_engine(
    engine: ScriptedEngine, run_system: Callable[..., System]
) -> None:
    """Callers who send small bodies slowly keep no connection of the pool from others, however small the pool is."""
    system = run_system(f"http://127.0.0.1:{engine.port}", upstream="max_connections = 1")
    port = int(system.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 30) as slow:
        slow.sendall(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx")
        time.sleep(0.1)
        line, _, _ = exchange(port, b"GET /b HTTP/1.1\r\nhost: x\r\n")
    assert line.split(b" ")[1] == b"200"


def test_a_host_that_drops_packets_is_passed_over(engine: ScriptedEngine, run_system: Callable[..., System]) -> None:
    """A host that never accepts nor refuses is given up after the connect time-out, then passed over for a while."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        try:
            for one in waiting:  # fills the queue of connections that the host never accepts
                one.setblocking(False)
                one.connect_ex(address)
            system = run_system(
                f"http://127.0.0.1:{address[1]}",
                f"http://127.0.0.1:{engine.port}",
                upstream="connect_timeout_s = 0.3",
            )
            port = int(system.url.rpartition(":")[2])
            for _ in range(4):
                line, _, _ = exchange(port, b"GET /a HTTP/1.1\r\nhost: x\r\n")
                assert line.split(b" ")[1] == b"200"
        finally:
            for one in waiting:
                one.close()
    assert len(engine.requests) == 4
