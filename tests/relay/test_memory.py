"""Large bodies pass through without being held in memory."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import closing
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
    """An engine that reads any request to its end and answers with as many bytes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                while head := _head(cast("BinaryIO", stream)):
                    length = int(head.get("content-length", 0))
                    left = length
                    while left:
                        left -= len(stream.read(min(left, MIB)))
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length)
                    for _ in range(length // MIB):
                        connection.sendall(bytes(MIB))

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def _head(stream: BinaryIO) -> dict[str, str]:
    lines = []
    while (line := stream.readline().decode()).strip():
        lines.append(line.lower())
    return dict(line.strip().split(": ", 1) for line in lines[1:] if ": " in line)


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


def _peak_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123  no file of anyone's
        [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
