"""No caller gets an answer that belongs to another, whatever callers send and however the engine answers."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.relay.attacks import LARGE, PIPED, SMUGGLED, Attack, make_attack, make_withheld
from tests.relay.recording import FAIR, REFUSALS, UNFAIR, WITHHELD, RecordingEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System

CRLF = b"\r\n"
LIMIT_S = 30.0
ROUNDS = 15
SERIAL = itertools.count(1)


class Caller:
    """A caller with correct requests only, on a kept connection, who checks that each answer is its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def ask(self, script: str = "plain", method: str = "GET", body: bytes = b"", *, chunked: bool = False) -> int:
        """Send a request, and give the number under which the engine recorded it; 0 if the proxy had no answer."""
        name = f"caller-{next(SERIAL)}"
        self._connection.request(
            method,
            f"/own/{name}",
            body=iter([body]) if chunked else body or None,
            headers={"x-caller": name, "x-script": script},
            encode_chunked=chunked,
        )
        reply = self._connection.getresponse()
        text = reply.read()
        if reply.status == 502 and (method == "HEAD" or b"es_rerank_upstream_exception" in text):
            return 0  # the engine closed, or sent what is not an answer: then there is none, and not another's either
        number = int(reply.getheader("x-number", "0"))
        own = {"number": number, "target": f"/own/{name}", "caller": name, "body": hashlib.sha256(body).hexdigest()}
        assert (reply.getheader("x-caller"), reply.getheader("x-target")) == (name, f"/own/{name}"), text
        assert method == "HEAD" or json.loads(text) == own
        return number


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[RecordingEngine]:
    """The recording engine."""
    engine = RecordingEngine()
    yield engine
    engine.close()


@pytest.fixture
def engine(shared_engine: RecordingEngine) -> RecordingEngine:
    """The same engine with cleared records."""
    shared_engine.forget()
    return shared_engine


@pytest.fixture(scope="module")
def system(shared_engine: RecordingEngine, run_system: Callable[..., System]) -> System:
    """A proxy with one connection to the engine, which all callers use in turn."""
    return run_system(f"http://127.0.0.1:{shared_engine.port}", upstream="max_connections = 1")


@pytest.fixture(scope="module")
def port(system: System) -> int:
    """Its port."""
    return int(system.url.rpartition(":")[2])


@pytest.fixture
def caller(port: int) -> Iterator[Caller]:
    """A caller with correct requests."""
    caller = Caller(port)
    yield caller
    caller.close()


def read_until(connection: socket.socket, wanted: Callable[[bytes], bool], limit_s: float = LIMIT_S) -> bytes:
    """The bytes that arrive until they are as wanted, the peer closes, or nothing comes for so long."""
    connection.settimeout(limit_s)
    received = b""
    with suppress(TimeoutError, ConnectionError):
        while not wanted(received) and (chunk := connection.recv(65536)):
            received += chunk
    return received


def answered(received: bytes) -> bool:
    """Whether there is a final answer, by its head and some body, beyond any 100."""
    final = received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return CRLF * 2 in final and final.startswith(b"HTTP/1.1 ")


def head_of(received: bytes) -> bytes:
    """The status of an answer."""
    return received.split(b" ")[1] if received.startswith(b"HTTP/1.1 ") else received


def numbers_on(engine: RecordingEngine, connection: int) -> list[int]:
    """The requests that came on a connection to the engine."""
    return [request.number for request in engine.requests if request.connection == connection]


def connection_of(engine: RecordingEngine, number: int) -> int:
    """The connection to the engine on which a request came."""
    [connection] = [request.connection for request in engine.requests if request.number == number]
    return connection


@pytest.mark.parametrize("target", [b"/a", b"/films/_search"])
@pytest.mark.parametrize(
    "lines",
    [
        b"expect: 200-ok\r\n",
        b"Expect: 100-continue, x\r\n",
        b"expect: x, 100-continue\r\n",
        b"expect: 100-continue\r\nexpect: 200-ok\r\n",
        b"expect: 200-ok\r\nexpect: 100-continue\r\n",
        b"expect: 100-continue\r\nexpect: 100-continue\r\n",
        b"expect:\r\n",
        b"expect: \r\nexpect: 100-continue\r\n",
        b"expect: 100-continue;q=1\r\n",
        b"expect: 100 continue\r\n",
    ],
)
@pytest.mark.parametrize("body", [SMUGGLED, LARGE], ids=["small", "large"])
def test_another_expectation_is_refused_by_the_proxy(
    engine: RecordingEngine, caller: Caller, target: bytes, lines: bytes, body: bytes
) -> None:
    """Anything but 100-continue is a 417 in the engine's shape, reaches no engine, and its body stays a body."""
    raw = b"POST %s HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n" % (target, lines, len(body)) + body
    follower = b"GET /next HTTP/1.1\r\nhost: x\r\nx-caller: next\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", caller.port), LIMIT_S) as connection:
        with suppress(OSError):  # it may be closed before it took everything
            connection.sendall(raw + follower)
        received = read_until(connection, lambda _: False)
    if len(body) < 1000 or received:  # a close with bytes unread may take the answer with it
        head, _, rest = received.partition(CRLF * 2)
        assert head_of(head) == b"417"
        assert b"content-type: application/json" in head
        refusal, end = json.JSONDecoder().raw_decode(rest.decode("latin-1"))
        assert refusal["status"] == 417
        assert refusal["error"]["root_cause"][0]["type"] == refusal["error"]["type"]
        assert rest[end:] == b"" or b"x-target: /next\r\n" in rest[end:]
        assert rest[end:].count(b"HTTP/1.1 ") <= 1
    assert {request.target for request in engine.requests} <= {b"/next"}
    assert caller.ask()


def test_a_refused_expectation_is_said_before_the_body(port: int, engine: RecordingEngine, caller: Caller) -> None:
    """A caller that keeps its body back until an answer gets the 417 before it sends the body."""
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(b"POST /a HTTP/1.1\r\nhost: x\r\nexpect: 200-ok\r\ncontent-length: 5\r\n\r\n")
        assert head_of(read_until(connection, answered)) == b"417"
    assert engine.requests == []
    assert caller.ask()


@pytest.mark.parametrize("value", [b"100-continue", b"100-Continue", b" \t100-CONTINUE"])
@pytest.mark.parametrize("framing", [b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n"])
def test_100_continue_works_in_any_case(port: int, engine: RecordingEngine, value: bytes, framing: bytes) -> None:
    """The caller is told to go on, and its body arrives. The engine is asked first where we don't hold the body."""
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(b"PUT /a HTTP/1.1\r\nhost: x\r\nexpect:" + value + CRLF + framing + CRLF)
        assert read_until(connection, lambda received: received.endswith(CRLF * 2)) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello" if b"length" in framing else b"5\r\nhello\r\n0\r\n\r\n")
        assert head_of(read_until(connection, answered)) == b"200"
    [request] = engine.requests
    assert request.body == b"hello"
    assert request.header(b"expect") == (b"" if b"length" in framing else b"100-continue")


def test_whitespace_behind_an_expectation_leaves_no_caller_waiting(port: int, engine: RecordingEngine) -> None:
    """Whitespace after the value is not part of it (RFC 9110, 5.5): the caller gets its 100 or its 417."""
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(b"PUT /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue \t\r\ncontent-length: 5\r\n\r\n")
        assert head_of(read_until(connection, lambda received: CRLF * 2 in received, 5)) in (b"100", b"417")


@pytest.mark.parametrize("script", ["early-413", "unread-413", "early-401"])
@pytest.mark.parametrize(
    "announced",
    [
        b"POST /_bulk HTTP/1.1\r\ncontent-length: 150000000",
        b"POST /_bulk HTTP/1.1\r\ntransfer-encoding: chunked",
        b"POST /films/_search HTTP/1.1\r\ncontent-length: 150000000",
    ],
)
def test_a_body_that_the_engine_refuses_is_not_asked_for(
    port: int, engine: RecordingEngine, caller: Caller, script: str, announced: bytes
) -> None:
    """A caller who asks first gets the engine's refusal instead of a 100, and the connection can't be used again."""
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(announced + b"\r\nhost: x\r\nx-script: %s\r\nexpect: 100-continue\r\n\r\n" % script.encode())
        received = read_until(connection, lambda _: False)
    assert head_of(received) == script[-3:].encode()
    assert b"\r\nconnection: close\r\n" in received
    assert received.count(b"HTTP/1.1 ") == 1
    number = caller.ask()
    assert connection_of(engine, number) != engine.requests[0].connection
    assert engine.misplaced() == []


def test_an_engine_that_says_nothing_gets_the_body_all_the_same(port: int, engine: RecordingEngine) -> None:
    """An engine that never sends a 100, but waits for the body, gets it after a moment (RFC 9110, 10.1.1)."""
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(
            b"PUT /a HTTP/1.1\r\nhost: x\r\nx-script: mute\r\nexpect: 100-continue\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        assert read_until(connection, lambda received: received.endswith(CRLF * 2)) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"5\r\nhello\r\n0\r\n\r\n")
        assert head_of(read_until(connection, answered)) == b"200"
    assert [request.body for request in engine.requests] == [b"hello"]


@pytest.mark.parametrize("script", sorted(WITHHELD | {name: UNFAIR[name] for name in UNFAIR if "unread" in name}))
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_an_answer_before_the_body_ends_the_connection(
    port: int, engine: RecordingEngine, caller: Caller, script: str, framing: str
) -> None:
    """The engine answers before the request is whole, and reads on: the next request goes over another connection."""
    size = b"content-length: %d" % len(LARGE) if framing == "length" else b"transfer-encoding: chunked"
    part = LARGE[:100] if framing == "length" else b"64\r\n" + LARGE[:100] + CRLF
    rest = LARGE[100:] if framing == "length" else b"%x\r\n%s\r\n0\r\n\r\n" % (len(LARGE) - 100, LARGE[100:])
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(
            b"POST /a HTTP/1.1\r\nhost: x\r\nx-script: %s\r\n%s\r\n\r\n" % (script.encode(), size) + part
        )
        received = read_until(connection, answered)
        number = caller.ask()
        with suppress(OSError):
            connection.sendall(rest + PIPED)
        for _ in range(3):
            assert caller.ask()
    assert head_of(received) == script.rpartition("-")[2].replace("interim", "413").encode()
    assert connection_of(engine, number) != engine.requests[0].connection
    assert engine.misplaced() == []
    assert engine.first_class(b"/smuggled") == []


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("manner", ["refused", "unread"])
@pytest.mark.parametrize("body", [SMUGGLED, LARGE], ids=["small", "large"])
def test_nothing_is_asked_after_a_refusal(
    engine: RecordingEngine, caller: Caller, status: int, manner: str, body: bytes
) -> None:
    """After a status that may leave a body unread, the next request goes over another connection."""
    head = b"POST /a HTTP/1.1\r\nhost: x\r\nx-script: %s-%d\r\ncontent-length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", caller.port), LIMIT_S) as connection:
        connection.sendall(head % (manner.encode(), status, len(body)) + body)
        received = read_until(connection, answered)
    for _ in range(3):
        assert caller.ask()
    assert head_of(received) == b"%d" % status
    assert engine.misplaced() == []
    assert engine.first_class(b"/smuggled") == []


@pytest.mark.parametrize("script", sorted(name for name in FAIR if "late" in name))
def test_bytes_that_come_late_are_nobodys_answer(
    system: System, engine: RecordingEngine, caller: Caller, script: str
) -> None:
    """Bytes on an idle connection close it, and the next caller gets its own answer over another connection."""
    number = caller.ask(script)
    engine.send_late()
    for _ in range(3):
        assert caller.ask()
    assert numbers_on(engine, connection_of(engine, number)) == [number]


@pytest.mark.parametrize("script", ["behind", "behind-chunks", "behind-part", "http-1.0", "says-close", "until-close"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_with_more_behind_it_is_the_last(
    engine: RecordingEngine, caller: Caller, script: str, method: str
) -> None:
    """After an answer with bytes after it, or one that announces the end, the next request uses another connection."""
    caller.ask(script, method)
    [first] = engine.requests
    for _ in range(3):
        assert caller.ask()
    assert numbers_on(engine, first.connection) == [first.number]


@pytest.mark.parametrize(
    ("script", "method"),
    [("short", b"GET"), ("body-always", b"HEAD"), ("body-with-204", b"GET"), ("body-with-304", b"GET")],
)
def test_a_body_beyond_its_length_is_nobodys_answer(
    port: int, engine: RecordingEngine, caller: Caller, script: str, method: bytes
) -> None:
    """An answer that is longer than its length is cut at that length, and is the last on its connection."""
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(method + b" /a HTTP/1.1\r\nhost: x\r\nx-script: " + script.encode() + CRLF * 2)
        read_until(connection, answered)
        for _ in range(3):
            assert caller.ask()
        connection.sendall(b"GET /next HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received = read_until(connection, lambda _: False)
    assert received[received.find(b"HTTP/1.1 ") :].startswith(b"HTTP/1.1 200")
    assert b"x-target: /next\r\n" in received
    assert engine.misplaced() == []


@pytest.mark.parametrize("script", ["plain", "interim", "chunked"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_connection_in_order_is_kept(engine: RecordingEngine, caller: Caller, script: str, method: str) -> None:
    """After interim answers, chunks and trailers the connection is still used."""
    caller.ask()
    body = b"hello" if method == "POST" else b""
    numbers = [caller.ask(script, method, body) for _ in range(3)]
    assert len({connection_of(engine, number) for number in numbers}) == 1


def send(port: int, attack: Attack) -> bytes:
    """Send the attack; gives what came back, up to a moment of silence."""
    received = b""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        for part in attack.parts:
            connection.settimeout(1)
            connection.sendall(part)
            wait_s = LIMIT_S if attack.withheld and part is attack.parts[0] else 0.05
            received += read_until(connection, answered if attack.withheld else lambda _: False, wait_s)
    return received


def plan_one(rng: random.Random) -> tuple[str, str, bytes, bool]:
    """A correct request: script, method, body, and whether the body goes in chunks."""
    method = rng.choice(("GET", "POST", "POST", "PUT", "HEAD"))
    body = rng.randbytes(rng.choice((1, 100, 100_000))) if method in ("POST", "PUT") else b""
    return rng.choice(sorted(FAIR)), method, body, bool(body) and rng.random() < 0.3


@pytest.fixture(scope="module")
def fuzzed(shared_engine: RecordingEngine, run_system: Callable[..., System]) -> System:
    """A proxy with two connections to the engine."""
    return run_system(f"http://127.0.0.1:{shared_engine.port}", upstream="max_connections = 2")


@pytest.fixture
def neighbour(fuzzed: System) -> Iterator[Caller]:
    """A caller with correct requests to that proxy."""
    caller = Caller(int(fuzzed.url.rpartition(":")[2]))
    yield caller
    caller.close()


@pytest.mark.parametrize("seed", range(8))
def test_no_caller_gets_what_belongs_to_another(
    fuzzed: System, engine: RecordingEngine, neighbour: Caller, seed: int
) -> None:
    """Whatever bytes other callers send, and however the engine answers, each answer is its caller's own."""
    rng = random.Random(seed)
    numbers: list[int] = []

    def ask(plan: list[tuple[str, str, bytes, bool]], over: threading.Event) -> None:
        for turn in range(50):
            if turn >= len(plan) and over.is_set():
                break
            script, method, body, in_chunks = plan[turn % len(plan)]
            numbers.append(neighbour.ask(script, method, body, chunked=in_chunks))

    with ThreadPoolExecutor(4) as pool:
        for number in range(ROUNDS):
            makers = [rng.choice((make_attack,) * 9 + (make_withheld,)) for _ in range(3)]
            attacks = [make(rng, b"attacker-%d" % next(SERIAL)) for make in makers]
            said = f"seed {seed}, round {number}: {[(part[:500], len(part)) for one in attacks for part in one.parts]}"
            over = threading.Event()
            asked = pool.submit(ask, [plan_one(rng) for _ in range(5)], over)
            list(pool.map(lambda one: send(neighbour.port, one), attacks))
            over.set()
            problem = asked.exception(LIMIT_S * 2)
            assert problem is None, f"{said}: {problem!r}"
            # All is still: the proxy has noticed every caller that left. What the engine sends now answers no request.
            fuzzed.health()
            engine.send_late()
            fuzzed.health()
            cut = {one.name for one in attacks if one.cut}
            whole = [request for request in engine.requests if request.body is not None]
            assert [request for request in whole if request.header(b"x-caller") in cut] == [], said
            assert engine.first_class(b"/smuggled") == [], said
            assert engine.misplaced() == [], said
            assert engine.unreadable == [], said
            assert [request for request in engine.requests if request.expects] == [], said
    served = [number for number in numbers if number]
    assert len(set(served)) == len(served) >= 0.8 * len(numbers)
    assert neighbour.ask()
    assert fuzzed.proxy.process.poll() is None


@pytest.mark.engines
def test_a_real_engine_answers_each_its_own(
    opensearch: Engine, run_system: Callable[..., System], request: pytest.FixtureRequest
) -> None:
    """On OpenSearch, which reads the body after an unknown expectation as a request, each answer is its caller's."""
    system = run_system(opensearch.url, upstream="max_connections = 2")
    port = int(system.url.rpartition(":")[2])
    hidden = b"GET /attacker/_doc/1 HTTP/1.1\r\nhost: x\r\nx-opaque-id: attacker\r\n\r\n"
    victim = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    request.addfinalizer(victim.close)
    for number in range(20):
        framing = b"content-length: %d\r\n\r\n%s" % (len(hidden), hidden)
        if number % 2:
            framing = b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
        raw = b"POST /a/_doc HTTP/1.1\r\nhost: x\r\nexpect: 200-ok\r\ncontent-type: application/json\r\n" + framing
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
            connection.sendall(raw)
            received = read_until(connection, answered)
        assert head_of(received) == b"417"
        for turn in range(3):
            name = f"victim-{number}-{turn}"
            victim.request("GET", f"/{name}/_doc/1", headers={"x-opaque-id": name})
            reply = victim.getresponse()
            text = reply.read()
            assert (reply.status, reply.getheader("x-opaque-id")) == (404, name), text
            assert json.loads(text)["error"]["index"] == name
