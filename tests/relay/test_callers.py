"""What one caller can't do to the others: keep the proxy waiting, fill its connections or its memory, or crowd in."""

from __future__ import annotations

import json
import random
import signal
import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from tests.relay.test_relay import CRLF, ScriptedEngine, exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

LIMIT_S = 60.0
CLIENT_TIMEOUT_S = 1.0
IMPATIENT = f"client_timeout_s = {CLIENT_TIMEOUT_S}"
RULE = '[[rules]]\nname = "films"\nindices = ["films*"]\nfields = ["text"]\n'
NO_HITS = b'{"took":1,"timed_out":false,"hits":{"total":{"value":0,"relation":"eq"},"max_score":null,"hits":[]}}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(NO_HITS) + NO_HITS
GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[ScriptedEngine]:
    """The scripted engine."""
    engine = ScriptedEngine()
    yield engine
    engine.close()


@pytest.fixture
def engine(shared_engine: ScriptedEngine) -> ScriptedEngine:
    """The same engine, which answers every search with no hits."""
    shared_engine.requests.clear()
    shared_engine.closed_by_peer.clear()
    shared_engine.reply = ANSWER
    return shared_engine


@pytest.fixture(scope="module")
def impatient(shared_engine: ScriptedEngine, run_system: Callable[..., System]) -> int:
    """The port of a proxy that waits a second for its callers."""
    return port_of(run_system(f"http://127.0.0.1:{shared_engine.port}", extra=RULE, server=IMPATIENT))


def port_of(system: System) -> int:
    """Where the system listens."""
    return int(system.url.rpartition(":")[2])


def connect(port: int) -> socket.socket:
    """A connection to the proxy."""
    return socket.create_connection(("127.0.0.1", port), LIMIT_S)


def read_all(connection: socket.socket) -> bytes:
    """All bytes until the other side closes, or breaks, the connection."""
    received = b""
    with suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of the next answer, which has a length; nothing where there is none."""
    with connection.makefile("rb", buffering=0) as stream:
        head = b""
        while not head.endswith(CRLF * 2) and (line := stream.readline()):
            head += line
        length = next((int(line[15:]) for line in head.split(CRLF) if line.startswith(b"content-length:")), 0)
        body = b""
        while len(body) < length and (piece := stream.read(length - len(body))):
            body += piece
    return head, body


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    give_up_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


# --- What is waited for, and how long


START = b"POST /a HTTP/1.1\r\nhost: x\r\nx-opaque-id: me\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        START + b"content-length: 5\r\n\r\nab",
        START.replace(b"/a", b"/films/_search") + b"content-length: 5\r\n\r\nab",
        START.replace(b"/a", b"/films/_search") + b"transfer-encoding: chunked\r\n\r\n2\r\nab",
        START + b"x-",
        b"G",
    ],
    ids=["a small body", "a search", "chunks", "a head", "a letter"],
)
def test_what_does_not_come_is_given_up(impatient: int, engine: ScriptedEngine, sent: bytes) -> None:
    """A request that stops in the middle is a 408 in the engine's shape, and the end of its connection."""
    with connect(impatient) as connection:
        connection.sendall(sent)
        head, _, body = read_all(connection).partition(CRLF * 2)
    assert head.split(b" ")[1] == b"408"
    assert b"connection: close" in head.split(CRLF)
    assert (b"x-opaque-id: me" in head.split(CRLF)) is (b"opaque" in sent)
    error = json.loads(body)
    assert (error["status"], error["error"]["type"]) == (408, "timeout_exception")
    assert "within 1 s" in error["error"]["reason"]
    assert engine.requests == []


@pytest.mark.parametrize("beginning", [b"GET /a HTTP/1.1\r\nx: ", b"GET /", b"GET /a HTTP/1.1\r\n"])
def test_a_head_that_dribbles_is_given_up(impatient: int, engine: ScriptedEngine, beginning: bytes) -> None:
    """A head has to be whole in time, and it does not help to send a little of it again and again."""
    with connect(impatient) as connection, suppress(ConnectionError):
        connection.sendall(beginning)
        connection.settimeout(0.2)
        received = b""
        give_up_s = time.monotonic() + LIMIT_S
        while not received and time.monotonic() < give_up_s:
            connection.sendall(b"a:b\r\n" if beginning.endswith(b"\n") else b"a")
            with suppress(TimeoutError):
                received = connection.recv(1000)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert engine.requests == []


def test_who_sends_slowly_but_steadily_is_waited_for(impatient: int, engine: ScriptedEngine) -> None:
    """A body that takes longer than the limit, but is never still for so long, arrives."""
    with connect(impatient) as connection:
        connection.sendall(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 30\r\n\r\n")
        for _ in range(30):
            connection.sendall(b"x")
            time.sleep(0.1)
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 200")
    assert engine.requests[0].endswith(b"x" * 30)


def test_a_slow_engine_is_not_the_callers_fault(impatient: int, engine: ScriptedEngine) -> None:
    """A caller who waits for its answer is not cut off, however long the engine takes."""

    def slowly(connection: socket.socket) -> None:
        time.sleep(4 * CLIENT_TIMEOUT_S)
        connection.sendall(ANSWER.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        connection.shutdown(socket.SHUT_RDWR)

    engine.reply = slowly
    status, _, body = exchange(impatient, b"GET /a HTTP/1.1\r\nhost: x\r\n")
    assert (status.split(b" ")[1], body) == (b"200", NO_HITS)


@pytest.mark.parametrize("before", [b"", GET, GET + CRLF, GET + b"\n", GET + CRLF * 3], ids=repr)
def test_an_idle_connection_is_kept(impatient: int, engine: ScriptedEngine, before: bytes) -> None:
    """A connection without a request in it stays open, before its first request, after one, and after empty lines."""
    with connect(impatient) as connection:
        if before:
            connection.sendall(before)
            assert read_answer(connection)[1] == NO_HITS
        time.sleep(4 * CLIENT_TIMEOUT_S)
        connection.sendall(GET)
        assert read_answer(connection)[1] == NO_HITS


def test_a_process_that_stood_still_cuts_nobody_off(engine: ScriptedEngine, run_system: Callable[..., System]) -> None:
    """The time in which the proxy itself did not run is not taken for a caller's silence."""
    system = run_system(f"http://127.0.0.1:{engine.port}", server="client_timeout_s = 8.0")
    process = system.proxy.process
    with connect(port_of(system)) as connection:
        connection.sendall(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
        time.sleep(2)
        process.send_signal(signal.SIGSTOP)
        time.sleep(12)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        connection.sendall(b"b")
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 200")


class Listener:
    """An engine that the test plays by hand: its connections as they come, one thread for all."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"

    def accept(self) -> socket.socket:
        """The next connection."""
        self.server.settimeout(LIMIT_S)
        connection, _ = self.server.accept()
        connection.settimeout(LIMIT_S)
        return connection


@pytest.fixture
def by_hand() -> Iterator[Listener]:
    """Such an engine."""
    listener = Listener()
    yield listener
    listener.server.close()


def test_a_body_that_stops_frees_its_connection_to_the_engine(
    by_hand: Listener, run_system: Callable[..., System]
) -> None:
    """A large body that streams and then stops: the connection to the engine ends, so that others can have one."""
    port = port_of(run_system(by_hand.url, server=IMPATIENT, upstream="max_connections = 1"))
    with connect(port) as connection:
        connection.sendall(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n" + b"x" * 1000)
        with by_hand.accept() as engine:
            assert read_all(engine).endswith(b"x" * 1000)
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")
    with connect(port) as connection:
        connection.sendall(GET)
        with by_hand.accept() as engine:
            engine.recv(1000)
            engine.sendall(ANSWER)
            assert read_answer(connection)[1] == NO_HITS


def test_a_body_that_the_engine_does_not_take_is_not_late(by_hand: Listener, run_system: Callable[..., System]) -> None:
    """A caller who is held back because the engine reads nothing is not silent: its body arrives in the end."""
    port = port_of(run_system(by_hand.url, server=IMPATIENT))
    size = 20_000_000
    with connect(port) as connection:
        head = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size
        sending = threading.Thread(target=lambda: connection.sendall(head + bytes(size)))
        sending.start()
        with by_hand.accept() as engine:
            time.sleep(4 * CLIENT_TIMEOUT_S)
            received = 0
            while received < size:
                received += len(engine.recv(1 << 20))
            engine.sendall(ANSWER)
            sending.join(LIMIT_S)
            assert read_answer(connection)[0].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("framing", [b"content-length: 100000000", b"transfer-encoding: chunked"])
def test_an_answer_that_is_not_taken_frees_its_connection_to_the_engine(
    by_hand: Listener, run_system: Callable[..., System], framing: bytes
) -> None:
    """A caller who reads nothing of a large answer is cut off, and with it the engine's work for it."""
    port = port_of(run_system(by_hand.url, server=IMPATIENT))
    with connect(port) as connection:
        connection.sendall(GET)
        with by_hand.accept() as engine:
            engine.recv(1000)
            engine.sendall(b"HTTP/1.1 200 OK\r\n" + framing + CRLF * 2)
            piece = b"%x\r\n%s\r\n" % (65536, bytes(65536)) if b"chunked" in framing else bytes(65536)
            with pytest.raises(ConnectionError):
                engine.sendall(piece * (100_000_000 // 65536))


def test_who_takes_an_answer_slowly_but_steadily_gets_all_of_it(
    by_hand: Listener, run_system: Callable[..., System]
) -> None:
    """A caller who reads a little at a time, for longer than the limit, is not cut off."""
    port = port_of(run_system(by_hand.url, server=IMPATIENT))
    size = 20_000_000
    with connect(port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        with by_hand.accept() as engine:
            engine.recv(1000)
            answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
            sending = threading.Thread(target=lambda: engine.sendall(answer + bytes(size)))
            sending.start()
            received = b""
            for _ in range(40):
                received += connection.recv(1 << 18)
                time.sleep(0.1)
            received += read_all(connection)
            sending.join(LIMIT_S)
    assert received.partition(CRLF * 2)[2] == bytes(size)


@pytest.mark.parametrize("target", [b"/a", b"/films/_search?q=x"])
def test_a_caller_who_is_gone_at_once_leaves_nothing_behind(
    engine: ScriptedEngine, run_system: Callable[..., System], target: bytes
) -> None:
    """Whether it leaves before or after its request is begun, no connection to the engine stays with it."""
    port = port_of(run_system(f"http://127.0.0.1:{engine.port}", extra=RULE, upstream="max_connections = 1"))
    engine.reply = lambda _: None
    for _ in range(50):
        with connect(port) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    engine.reply = ANSWER
    with connect(port) as connection:
        ask(connection)


# --- How many


def test_there_are_as_many_connections_as_the_setting_says(
    engine: ScriptedEngine, run_system: Callable[..., System]
) -> None:
    """The next caller gets a 503 in the engine's shape and a close; when another one leaves, there is room again."""
    system = run_system(f"http://127.0.0.1:{engine.port}", server="max_connections = 5")
    port = port_of(system)
    rng = random.Random(1)
    with ExitStack() as stack:
        kept = [ask(stack.enter_context(connect(port))) for _ in range(5)]
        for _ in range(20):
            with connect(port) as refused:
                refused.sendall(b"GET /a HTTP/1.1\r\nhost: x\r\nx-opaque-id: me\r\n\r\n")
                head, _, body = read_all(refused).partition(CRLF * 2)
            assert head.split(b" ")[1] == b"503"
            assert {b"x-opaque-id: me", b"connection: close"} <= set(head.split(CRLF))
            assert json.loads(body)["status"] == 503
            kept.pop(rng.randrange(5)).close()
            kept.append(stack.enter_context(admitted(port)))
        with connect(port) as refused:
            refused.sendall(b"HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n")
            assert read_all(refused).partition(CRLF * 2)[2] == b""
        for connection in kept:
            ask(connection)
    assert "server.max_connections = 5 are open" in system.proxy.log.read_text()


def ask(connection: socket.socket) -> socket.socket:
    """The same connection, on which the engine has just answered."""
    connection.sendall(GET)
    assert read_answer(connection)[1] == NO_HITS
    return connection


def admitted(port: int) -> socket.socket:
    """A connection that is answered: the proxy needs a moment to hear that another one ended."""
    give_up_s = time.monotonic() + LIMIT_S
    while True:
        connection = connect(port)
        connection.sendall(GET)
        if read_answer(connection)[1] == NO_HITS:
            return connection
        connection.close()
        assert time.monotonic() < give_up_s


def test_those_beyond_the_limit_are_not_kept_either(engine: ScriptedEngine, run_system: Callable[..., System]) -> None:
    """However many connect and send nothing, they are closed, at once or after a moment, and the admitted ones work."""
    system = run_system(f"http://127.0.0.1:{engine.port}", server="max_connections = 2")
    port = port_of(system)
    with ExitStack() as stack:
        kept = ask(stack.enter_context(connect(port)))
        stack.enter_context(connect(port))
        crowd = [stack.enter_context(connect(port)) for _ in range(300)]
        for connection in crowd:
            assert read_all(connection) == b""
        ask(kept)


def test_the_process_allows_itself_the_files_that_it_needs(
    engine: ScriptedEngine, run_system: Callable[..., System]
) -> None:
    """The limit of open files is raised for the connections that the settings allow, as far as the system lets us."""
    system = run_system(f"http://127.0.0.1:{engine.port}", server="max_connections = 3000")
    with open(f"/proc/{system.proxy.process.pid}/limits", encoding="ascii") as limits:  # noqa: PTH123  no file of anyone's
        [line] = [line for line in limits if line.startswith("Max open files")]
    soft, hard = line.split()[3:5]
    assert int(soft) >= min(3000 + 1000, int(hard))


# --- One after the other


def test_a_connection_has_one_search_in_work(by_hand: Listener, run_system: Callable[..., System]) -> None:
    """Searches that one connection sends at once are served one after the other, and answered in their order."""
    port = port_of(run_system(by_hand.url, extra=RULE))
    searches = [b"GET /films/_search?q=x%d HTTP/1.1\r\nhost: x\r\n\r\n" % number for number in range(5)]
    with connect(port) as connection:
        connection.sendall(b"".join(searches))
        with by_hand.accept() as engine:
            for number in range(5):
                assert b"q=x%d&" % number in engine.recv(65536)
                engine.settimeout(0.3)
                by_hand.server.settimeout(0.3)
                with pytest.raises(TimeoutError):  # nothing more, on this connection or on another
                    engine.recv(65536)
                with pytest.raises(TimeoutError):
                    by_hand.server.accept()
                engine.settimeout(LIMIT_S)
                engine.sendall(ANSWER)
                assert json.loads(read_answer(connection)[1])["hits"]["hits"] == []


@pytest.mark.parametrize("seed", range(3))
def test_all_that_is_sent_at_once_is_answered_in_order(impatient: int, engine: ScriptedEngine, seed: int) -> None:
    """Thousands of requests of all kinds, cut into any portions: as many answers, each at its place."""
    rng = random.Random(seed)
    kinds = (
        b"GET /_es_rerank/n%d HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /_es_rerank/n%d HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n\r\n\r\n",
        b"\r\nPUT /_es_rerank/n%d HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n4;a\r\n\r\n\r\n\r\n0\r\nx: y\r\n\r\n",
        b"GET /_es_rerank/n%d HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    )
    raw = b"".join(rng.choice(kinds) % number for number in range(2000))

    def send() -> None:
        at = 0
        while at < len(raw):
            size = rng.choice((1, 3, 100, 5000, 200_000))
            connection.sendall(raw[at : at + size])
            at += size

    with connect(impatient) as connection:
        threading.Thread(target=send, daemon=True).start()
        for number in range(2000):
            assert b"no such path [/_es_rerank/n%d]" % number in read_answer(connection)[1]


@pytest.mark.parametrize("garbage", [b"garbage\r\n\r\n", b"\x16\x03\x01", b"GET /b HTTP/1.1\r\nx y: z\r\n\r\n"])
@pytest.mark.parametrize("target", [b"/_es_rerank/x", b"/a"])
def test_a_request_before_garbage_gets_its_answer(
    impatient: int, engine: ScriptedEngine, garbage: bytes, target: bytes
) -> None:
    """A right request and something else in one packet: the answer of the first, then a 400, then the end."""
    with connect(impatient) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % target + garbage)
        first = read_answer(connection)[0].split(b" ")[1]
        second = read_answer(connection)[0].split(b" ")[1]
        assert (first, second) == (b"404" if target != b"/a" else b"200", b"400")
        assert read_all(connection) == b""


# --- The memory for bodies


def test_a_search_without_room_for_its_body_is_answered_all_the_same(
    engine: ScriptedEngine, run_system: Callable[..., System]
) -> None:
    """While other bodies fill the memory, a search reaches the engine as it is, and says that it wasn't reranked."""
    limits = "[limits]\nmax_request_bytes = 4096\nmax_answer_bytes = 4096\nmax_held_bytes = 10000\n"
    system = run_system(f"http://127.0.0.1:{engine.port}", extra=limits + RULE)
    port = port_of(system)
    body = b'{"query":{"match":{"text":"x"}}}' + b" " * 3000
    head = b"POST /films/_search HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    with ExitStack() as stack:
        waiting = [stack.enter_context(connect(port)) for _ in range(3)]
        for connection in waiting:
            connection.sendall(head % 3500 + CRLF + b" " * 3200)
        time.sleep(0.5)
        status, lines, answered = exchange(port, head % len(body), body)
        assert (status.split(b" ")[1], answered) == (b"200", NO_HITS)
        assert b'warning: 299 es-rerank "reranking failed (memory_full): hits are in engine order"' in lines
        assert engine.requests[-1].endswith(CRLF * 2 + body)
        assert b"size=" not in engine.requests[-1].split(b" ")[1]
        small = exchange(port, b"POST /a/_doc HTTP/1.1\r\nhost: x\r\ncontent-length: 600\r\n", b"x" * 600)
        assert small[0].split(b" ")[1] == b"200"
        assert engine.requests[-1].endswith(CRLF * 2 + b"x" * 600)
    until(lambda: b"size=" in windowed(port, engine, head, body))
    log = [json.loads(line) for line in system.proxy.log.read_text().splitlines()]
    assert ("failed", "memory_full", "films") in {
        (line.get("status"), line.get("reason"), line.get("rule")) for line in log
    }


def windowed(port: int, engine: ScriptedEngine, head: bytes, body: bytes) -> bytes:
    """The target with which the engine was first asked for a search."""
    engine.requests.clear()
    exchange(port, head % len(body), body)
    return engine.requests[0].split(b" ")[1]
