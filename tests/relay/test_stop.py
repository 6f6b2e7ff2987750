"""Stopping a proxy: what is in flight is finished for as long as a search may take, and then cut off, not answered."""

from __future__ import annotations

import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.relay.test_relay import ScriptedEngine, talk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

SHORT = "[limits]\nmax_deadline_s = 1.0\ndeadline_s = 0.5\n"
LIMIT_S = 60.0


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    """An engine that answers as the test says."""
    engine = ScriptedEngine()
    yield engine
    engine.close()


def stopped_while_asking(system: System, engine: ScriptedEngine, path: bytes) -> bytes:
    """What a caller receives whose request is at the engine when the proxy is told to stop."""
    received: list[bytes] = []
    port = int(system.url.rpartition(":")[2])
    asking = threading.Thread(
        target=lambda: received.append(talk(port, b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n"))
    )
    asking.start()
    give_up_s = time.monotonic() + LIMIT_S
    while not engine.requests:
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    system.proxy.process.send_signal(signal.SIGTERM)
    assert system.proxy.process.wait(LIMIT_S) == 0
    asking.join(LIMIT_S)
    return received[0]


def test_what_is_in_flight_is_answered(engine: ScriptedEngine, run_system: Callable[..., System]) -> None:
    """An engine that needs a while after the SIGTERM is waited for, and the caller gets its answer."""

    def slowly(connection: socket.socket) -> None:
        time.sleep(1.0)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    engine.reply = slowly
    system = run_system(f"http://127.0.0.1:{engine.port}", extra=SHORT)
    assert stopped_while_asking(system, engine, b"/a/_doc/1").endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize("path", [b"/a/_doc/1", b"/films/_search?q=x"])
def test_what_takes_longer_than_any_deadline_is_cut_off(
    engine: ScriptedEngine, run_system: Callable[..., System], path: bytes
) -> None:
    """Its connection ends without an answer, so that a front or client asks elsewhere; the log has no traceback."""
    engine.reply = lambda _: None
    rule = '[[rules]]\nname = "films"\nindices = ["films*"]\nfields = ["text"]\n'
    system = run_system(f"http://127.0.0.1:{engine.port}", extra=SHORT + rule)
    assert stopped_while_asking(system, engine, path) == b""
    log = system.proxy.log.read_text()
    assert "the server stops" in log
    assert "Traceback" not in log
    assert "ASGI" not in log


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /a HTTP/1.1\r\nhost",
        b"POST /films/_search HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab",
        b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\nab",
        b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n",
        b"GET /_es_rerank/x HTTP/1.1\r\nhost: x\r\n\r\nGET /a",
        b"garbage",
    ],
    ids=["idle", "a head", "a search", "a large body", "chunks", "behind an answer", "refused"],
)
def test_who_sends_nothing_or_half_a_request_holds_no_stop(
    engine: ScriptedEngine, run_system: Callable[..., System], begun: bytes
) -> None:
    """Such connections end at once, while the default limits would let an answer take more than half a minute."""
    rule = '[[rules]]\nname = "films"\nindices = ["films*"]\nfields = ["text"]\n'
    system = run_system(f"http://127.0.0.1:{engine.port}", extra=rule)
    port = int(system.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(begun)
        time.sleep(0.3)
        system.proxy.process.send_signal(signal.SIGTERM)
        assert system.proxy.process.wait(15) == 0
    assert "Traceback" not in system.proxy.log.read_text()


def test_a_body_that_still_comes_is_waited_for(engine: ScriptedEngine, run_system: Callable[..., System]) -> None:
    """A request whose body is on its way when the stop begins gets its answer."""
    system = run_system(f"http://127.0.0.1:{engine.port}")
    port = int(system.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n")
        for count in range(40):
            connection.sendall(b"x")
            if count == 5:
                system.proxy.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert system.proxy.process.wait(LIMIT_S) == 0
    assert engine.requests[0].endswith(b"x" * 40)
