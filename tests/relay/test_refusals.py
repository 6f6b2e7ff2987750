"""What we answer ourselves looks like the engine's own answer, and says what was wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.relay.test_relay import CRLF, ScriptedEngine, exchange, talk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

HOST = b"\r\nhost: x\r\nx-opaque-id: me\r\n"
CHUNKED = b"POST /a HTTP/1.1" + HOST + b"transfer-encoding: chunked\r\n\r\n"
PRODUCT = b"X-Elastic-Product: Elasticsearch\r\n"


@pytest.fixture(scope="module")
def engine() -> Iterator[ScriptedEngine]:
    """An engine that has a product header."""
    engine = ScriptedEngine()
    engine.reply = b"HTTP/1.1 200 OK\r\n" + PRODUCT + b"content-length: 2\r\n\r\n{}"
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def port(engine: ScriptedEngine, run_system: Callable[..., System]) -> int:
    """A proxy before it, which has seen an answer."""
    port = int(run_system(f"http://127.0.0.1:{engine.port}").url.rpartition(":")[2])
    exchange(port, b"GET / HTTP/1.1\r\nhost: x\r\n")
    return port


REFUSED = {
    "method": (b"FOO /a HTTP/1.1" + HOST + CRLF, 400, "invalid method"),
    "method in small letters": (b"get /a HTTP/1.1" + HOST + CRLF, 400, "invalid method"),
    "tunnel": (b"CONNECT /a HTTP/1.1" + HOST + CRLF, 400, "method [CONNECT] is not allowed"),
    "version 2": (b"GET /a HTTP/2.0" + HOST + CRLF, 505, "HTTP version [2.0] is not spoken here"),
    "no version": (b"GET /a" + HOST + CRLF, 505, "HTTP version [0.9] is not spoken here"),
    "target with a blank": (b"GET /a b HTTP/1.1" + HOST + CRLF, 400, "expected HTTP/"),
    "target with a control character": (b"GET /a\x01 HTTP/1.1" + HOST + CRLF, 400, "invalid char in url path"),
    "header name": (b"GET /a HTTP/1.1" + HOST + b"x y: z" + CRLF * 2, 400, "invalid header token"),
    "header value": (b"GET /a HTTP/1.1" + HOST + b"x: \x00" + CRLF * 2, 400, "invalid header value char"),
    "two lengths": (
        b"POST /a HTTP/1.1" + HOST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
        400,
        "duplicate Content-Length",
    ),
    "length and chunks": (
        b"POST /a HTTP/1.1" + HOST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
        "transfer-Encoding can't be present with Content-Length",
    ),
    "length that is none": (
        b"POST /a HTTP/1.1" + HOST + b"content-length: 1x\r\n\r\n",
        400,
        "invalid character in Content-Length",
    ),
    "chunk": (CHUNKED + b"zz\r\n", 400, "invalid character in chunk size"),
    "chunk of a search": (
        CHUNKED.replace(b"/a", b"/films/_search") + b"zz\r\n",
        400,
        "invalid character in chunk size",
    ),
    "head": (b"GET /a HTTP/1.1" + HOST + b"x: " + b"y" * 70_000 + CRLF * 2, 400, "larger than 65536 bytes"),
    "headers": (b"GET /a HTTP/1.1" + HOST + b"x: y\r\n" * 1000 + CRLF, 400, "more than 1000 header lines"),
    "trailers": (CHUNKED + b"0\r\n" + b"x: y\r\n" * 20_000, 400, "trailers are larger than 65536 bytes"),
    "expectation": (b"POST /a HTTP/1.1" + HOST + b"expect: x\r\ncontent-length: 1\r\n\r\n", 417, "[Expect]"),
    "our own path": (b"GET /_es_rerank/x HTTP/1.1" + HOST + b"connection: close\r\n\r\n", 404, "no such path"),
    "our own method": (b"PUT /_es_rerank/health HTTP/1.1" + HOST + b"connection: close\r\n\r\n", 405, "[PUT]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_what_is_wrong_and_looks_like_the_engines(port: int, engine: ScriptedEngine, name: str) -> None:
    """Status, the engine's error shape, its product header and the caller's X-Opaque-Id; the connection then ends."""
    raw, status, reason = REFUSED[name]
    engine.requests.clear()
    head, _, body = talk(port, raw).partition(CRLF * 2)
    line, *lines = head.split(CRLF)
    assert line.split(b" ")[1] == b"%d" % status
    assert b"content-length: %d" % len(body) in lines
    assert {b"content-type: application/json", b"connection: close", b"x-opaque-id: me"} <= set(lines)
    assert b"x-elastic-product: Elasticsearch" in lines
    error = json.loads(body)
    assert error["status"] == status
    assert error["error"]["root_cause"] == [{key: error["error"][key] for key in ("type", "reason")}]
    assert reason in error["error"]["reason"]
    assert engine.requests == []


@pytest.mark.parametrize(
    ("asked", "as_get"),
    [
        (b"HEAD /_es_rerank/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", True),
        (b"HEAD /a HTTP/1.1\r\nhost: x\r\nexpect: x\r\n\r\n", True),
        (b"HEAD /a HTTP/1.1\r\nhost: x\r\nx y: z\r\n\r\n", True),
        (b"HEAD /a HTTP/3.0\r\nhost: x\r\n\r\n", True),
        (b"HEAD /a HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", True),
        (b"HEAD /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", True),
        (b"HEAD /films/_search HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", True),
        (b"HEAD /_es_rerank/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", False),
    ],
)
def test_an_answer_to_head_has_no_body(port: int, asked: bytes, *, as_get: bool) -> None:
    """Whatever we answer to HEAD, it has the status and the length that GET gets, and no body."""
    head, _, body = talk(port, asked).partition(CRLF * 2)
    assert body == b""
    line, *lines = head.split(CRLF)
    other, _, content = talk(port, asked.replace(b"HEAD", b"GET")).partition(CRLF * 2)
    assert other.split(CRLF)[0] == line
    assert (b"content-length: %d" % len(content) in lines) or not as_get
    assert any(one.startswith(b"content-length: ") for one in lines)


def test_a_value_that_could_end_a_line_does_not_come_back(port: int) -> None:
    """A caller can't write lines of our answer, by a header that we would repeat."""
    received = talk(port, b"GET /a HTTP/1.1\r\nx-opaque-id: a\rx-forged: b\r\nx y: z\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"forged" not in received
