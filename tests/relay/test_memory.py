"""Nothing that a caller sends is held without a bound: not a body, not what lies around it, not the next requests."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

MIB = 1024 * 1024
BODY_BYTES = 100 * MIB
ALLOWED_GROWTH_BYTES = 32 * MIB


@pytest.fixture
def sink() -> Iterator[str]:
    """An engine that reads any request to its end and answers with as many bytes; one for `/stuck` it never answers."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError):
            while head := _head(cast("BinaryIO", stream)):
                if head["target"] == "/stuck":
                    stream.read()
                length = left = int(head.get("content-length", 0))
                while left and (piece := stream.read(min(left, MIB))):
                    left -= len(piece)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length)
                for _ in range(length // MIB):
                    connection.sendall(bytes(MIB))

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def _head(stream: BinaryIO) -> dict[str, str]:
    """The headers of the next request and its `target`; nothing where there is none."""
    lines = []
    while (line := stream.readline().decode()).strip():
        lines.append(line.strip().lower())
    if len(lines) < 1 or " " not in lines[0]:
        return {}  # the end, or the middle of a body that broke off
    return {"target": lines[0].split(" ")[1]} | dict(line.split(": ", 1) for line in lines[1:] if ": " in line)


@pytest.mark.parametrize("path", ["/_bulk", "/films/_search"])
def test_100_mb_there_and_back_grow_our_memory_by_at_most_32_mb(
    sink: str, run_system: Callable[..., System], path: str
) -> None:
    """The proxy's peak memory over a 100 MB body, sent and received, is near what it was before; a search's too."""
    system = run_system(sink)
    port = int(system.url.rpartition(":")[2])
    headers = {"content-length": str(BODY_BYTES), "content-type": "application/json"}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request("GET", "/")
        connection.getresponse().read()
        before_bytes = _peak_bytes(system.proxy.process.pid)
        connection.request("POST", path, iter([bytes(MIB)] * (BODY_BYTES // MIB)), headers)
        reply = connection.getresponse()
        received = 0
        while chunk := reply.read(MIB):
            received += len(chunk)
    assert received == BODY_BYTES
    assert _peak_bytes(system.proxy.process.pid) - before_bytes <= ALLOWED_GROWTH_BYTES


def started(sink: str, run_system: Callable[..., System], extra: str = "") -> tuple[int, Callable[[], int]]:
    """A proxy's port, and how many bytes its memory has grown at most since now."""
    system = run_system(sink, extra=extra)
    port = int(system.url.rpartition(":")[2])
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request("GET", "/")
        connection.getresponse().read()
    pid = system.proxy.process.pid
    before_bytes = _peak_bytes(pid)
    return port, lambda: _peak_bytes(pid) - before_bytes


CHUNKED = b"POST /a/_doc HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (CHUNKED + b"0\r\n", b"x-a: 1\r\n" * 8192),
        (CHUNKED + b"0\r\nx-a: ", b"x" * 65536),
        (CHUNKED + b"2;a=", b"x" * 65536),
        (b"GET /a HTTP/1.1\r\nx-a: ", b"x" * 65536),
        (b"GET /a HTTP/1.1\r\n", b"a:\r\n" * 16384),
        (b"GET /a?", b"x" * 65536),
    ],
    ids=["trailers", "a trailer", "an extension", "a header", "headers", "a target"],
)
def test_100_mb_around_a_body_are_refused_and_not_held(
    sink: str, run_system: Callable[..., System], before: bytes, piece: bytes
) -> None:
    """What has no end of its own, and is not the body, is a 400 before much of it came; the rest is not kept."""
    port, grown_bytes = started(sink, run_system)
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        with suppress(OSError):
            connection.sendall(before)
            for _ in range(BODY_BYTES // len(piece)):
                connection.sendall(piece)
        with suppress(ConnectionError):  # who sends on after the refusal may lose it
            assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert grown_bytes() <= ALLOWED_GROWTH_BYTES


@pytest.mark.parametrize("first", [b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n", b""], ids=["stuck", "answered"])
def test_requests_that_wait_are_not_held(sink: str, run_system: Callable[..., System], first: bytes) -> None:
    """30 MB of small requests on one connection: what waits for the request in front is hardly read, and not held.

    Where the request in front is never answered, they stay with the caller; where all are answered, they wait for a
    caller who takes the answers.
    """
    port, grown_bytes = started(sink, run_system)
    raw = memoryview(first + b"GET /_es_rerank/x HTTP/1.1\r\nhost: x\r\n\r\n" * 650_000)
    sent = 0
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.settimeout(3)
        with suppress(TimeoutError):
            while sent < len(raw):
                sent += connection.send(raw[sent : sent + MIB])
        assert grown_bytes() <= ALLOWED_GROWTH_BYTES
    assert sent < len(raw) / 2


def test_the_bodies_of_all_callers_together_have_a_bound(sink: str, run_system: Callable[..., System]) -> None:
    """Many large searches that lack their last byte: the process holds what the setting allows, not them all."""
    limits = f"[limits]\nmax_held_bytes = {40 * MIB}\n"
    rule = '[[rules]]\nname = "films"\nindices = ["films*"]\nfields = ["text"]\n'
    port, grown_bytes = started(sink, run_system, limits + rule)
    head = b"POST /films/_search HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (4 * MIB)
    with ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 60))
            connection.sendall(head + b" " * (4 * MIB - 1))
        assert grown_bytes() <= (40 + 60 * 0.6) * MIB + ALLOWED_GROWTH_BYTES


def _peak_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123  no file of anyone's
        [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
