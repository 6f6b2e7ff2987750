"""Searches whose bodies are broken in any way, on kept connections: each is answered, and never by a fault of ours."""

from __future__ import annotations

import gzip
import http.client
import json
import random
import zlib
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.conftest import send_json
from tests.formats import SMILE_END, cbor, smile
from tests.relay.test_hosts import RULES, Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System

LIMIT_S = 30.0
INDEX = "films-fuzzed"
SEARCH = {"query": {"match": {"text": "fox"}}, "size": 3}
ASKING = {**SEARCH, "ext": {"es_rerank": {"window": 7, "include": ["status"]}}}
HEADER = {"index": INDEX}
# By kind: whole bodies, and the media type that they have when nothing is broken.
KINDS: dict[str, tuple[tuple[bytes, ...], str]] = {
    "json": (tuple(json.dumps(one).encode() for one in (SEARCH, ASKING)), "application/json"),
    "lines": (
        tuple(
            b"".join(json.dumps(line).encode() + b"\n" for line in (HEADER, one, {}, one)) for one in (SEARCH, ASKING)
        ),
        "application/x-ndjson",
    ),
    "cbor": (tuple(cbor(one) for one in (SEARCH, ASKING)), "application/cbor"),
    "smile": (
        (smile(SEARCH), smile(HEADER) + SMILE_END + smile(SEARCH) + SMILE_END),
        "application/smile",
    ),
    "yaml": ((b"query:\n  match: {text: fox}\nsize: 3\n", b"ext: {es_rerank: {rerank: false}}\n"), "application/yaml"),
}
CODINGS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
TARGETS = (f"/{INDEX}/_search", f"/{INDEX}/_msearch", "/_msearch", f"/{INDEX}/_search?format=cbor", f"/{INDEX}/_count")
PIECES = (
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\u",
    b"\\ud800",
    b"\n",
    b"\x00",
    b"\xff",
    b"\xbf",
    b":)\n",
    b"es_rerank",
    b"1e999",
    b"/*",
)
ROUNDS = 120


def broken(body: bytes, chance: random.Random) -> bytes:
    """The body with up to three faults: another byte, a part that is lost, doubled or moved, or one that is put in."""
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        start, end = sorted((chance.randint(0, len(body)), chance.randint(0, len(body))))
        body = chance.choice(
            (
                body[:start] + bytes([chance.randrange(256)]) + body[start + 1 :],
                body[:start] + body[end:],
                body[:end] + body[start:end] + body[end:],
                body[:start],
                body[end:] + body[:start],
                body[:start] + chance.choice(PIECES) * chance.choice((1, 1, 300)) + body[start:],
            )
        )
    return body


def request_of(chance: random.Random) -> tuple[str, bytes, dict[str, str], bytes]:
    """Target, body and headers of one search, and the body before it was packed.

    What is broken is the JSON, its coding, or what is said of it.
    """
    bodies, media_type = KINDS[chance.choice(sorted(KINDS))]
    body = plain = broken(chance.choice(bodies), chance)
    headers = {"content-type": media_type}
    if chance.random() < 0.3:
        headers["content-type"] = KINDS[chance.choice(sorted(KINDS))][1]
    if chance.random() < 0.4:
        coding = chance.choice(sorted(CODINGS))
        packed = CODINGS[coding](body)
        body = broken(packed, chance) if chance.random() < 0.5 else packed
        headers["content-encoding"] = chance.choice((coding, coding, "gzip", "x"))
    if chance.random() < 0.2:
        headers["accept"] = KINDS[chance.choice(sorted(KINDS))][1]
    return chance.choice(TARGETS), body, headers, plain


def ask(
    connection: http.client.HTTPConnection, target: str, body: bytes, headers: dict[str, str], *, chunked: bool
) -> tuple[int, bytes]:
    """Status and body of an answer on this connection; (0, b"") where it is closed without any."""
    sent = iter([body[:5], body[5:]]) if chunked else body
    try:
        connection.request("POST", target, body=sent, headers=headers, encode_chunked=chunked)
        reply = connection.getresponse()
    except ConnectionError:
        return 0, b""
    return reply.status, reply.read()


@pytest.fixture(scope="module")
def lone(run_system: Callable[..., System]) -> Iterator[tuple[Host, System]]:
    """An engine that finds the same for all, and a proxy before it."""
    host = Host()
    yield host, run_system(host.url, extra=RULES)
    host.close()


@pytest.fixture
def fuzzed(opensearch: Engine) -> Iterator[Engine]:
    """A real engine with two documents."""
    opensearch.load(INDEX, {"1": {"text": "fox"}, "2": {"text": "a fox and a dog"}})
    try:
        yield opensearch
    finally:
        send_json(f"{opensearch.url}/{INDEX}", method="DELETE")


@pytest.mark.parametrize("seed", range(6))
def test_no_body_is_a_fault_of_ours(lone: tuple[Host, System], seed: int) -> None:
    """On one kept connection each broken search is answered: by the engine, or by a refusal of what it asked of us."""
    _, system = lone
    chance = random.Random(seed)
    with closing(http.client.HTTPConnection(system.url.removeprefix("http://"), timeout=LIMIT_S)) as connection:
        connection.connect()
        kept = connection.sock
        for number in range(ROUNDS):
            target, body, headers, _ = request_of(chance)
            said = f"seed {seed}, round {number}: {target} {headers} {body[:500]!r}"
            chunked = chance.random() < 0.3 and len(body) > 5 and not target.endswith("_count")
            status, answer = ask(connection, target, body, headers, chunked=chunked)
            assert status == 200 or (status == 400 and b"es_rerank" in answer), said
            assert connection.sock is kept, said
    log = system.proxy.log.read_text()
    assert "a request failed" not in log
    assert "internal_error" not in log
    assert system.proxy.process.poll() is None


@pytest.mark.engines
def test_what_an_engine_refuses_it_refuses_through_us(fuzzed: Engine, run_system: Callable[..., System]) -> None:
    """A broken search that asks nothing of us has the engine's own status, and its own answer if it is refused.

    Engines close the connection on a body whose coding is broken; then there is no answer, and the caller gets a 502.
    """
    system = run_system(fuzzed.url)
    chance = random.Random(7)
    urls = [url.removeprefix("http://") for url in (fuzzed.url, system.url)]
    refused = 0
    for number in range(2 * ROUNDS):
        target, body, headers, plain = request_of(chance)
        if b"es_rerank" in plain:
            continue
        answers = []
        for url in urls:
            with closing(http.client.HTTPConnection(url, timeout=LIMIT_S)) as connection:
                answers.append(ask(connection, target, body, headers, chunked=False))
        (status, direct), (ours, answer) = answers
        assert ours == (status or 502), f"round {number}: {target} {headers} {body[:500]!r}: {answer[:300]!r}"
        if status not in (0, 200):
            refused += 1
            assert len(answer) == len(direct) or answer[:60] == direct[:60], f"round {number}: {target} {body[:500]!r}"
    assert refused
