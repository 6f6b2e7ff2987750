"""What the real engines do with targets and announced bodies, and that the proxy keeps to it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from es_rerank.proxy.search.endpoint import endpoint_of
from es_rerank.proxy.search.query_string import parse_query
from es_rerank.records import Request
from tests.conftest import ENGINE_NAMES, real_engine_process
from tests.relay.test_framing import head_of, read_until
from tests.relay.test_relay import exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines
LIMIT_S = 60.0
END = b"\r\n\r\n"


@pytest.fixture(scope="module", params=ENGINE_NAMES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each of the real engines, which takes bodies of a megabyte."""
    with real_engine_process(request.param, "--setting", "http.max_content_length: 1mb") as engine:
        engine.load("docs", {"1": {"text": "fox"}})
        yield engine


@pytest.fixture(scope="module")
def port(engine: Engine, run_system: Callable[..., System]) -> int:
    """A proxy before it."""
    return int(run_system(engine.url).url.rpartition(":")[2])


@pytest.mark.parametrize(
    "text", ["日本", "é", "caf%C3%A9日", "日+é", "é%20日", b"\xe9", b"\xe9%20x", b"%E6\x97\xa5", b"%C3%A9\xe9"]
)
def test_a_raw_parameter_is_read_as_the_engine_reads_it(engine: Engine, port: int, text: str | bytes) -> None:
    """The engine names a parameter that it does not know as we read it, through the proxy and without it."""
    query = (text.encode() if isinstance(text, str) else text) + b"=1"
    request = b"GET /docs/_search?" + query + b" HTTP/1.1\r\nhost: x\r\n"
    [name] = parse_query(query)
    for at in (port, int(engine.url.rpartition(":")[2])):
        status, _, body = exchange(at, request)
        assert status.split(b" ")[1] == b"400"
        assert json.loads(body)["error"]["reason"].endswith(f" parameter: [{name}]")


@pytest.mark.parametrize("name", ["日本", "é%2Cdocs", b"caf\xe9", "日%20x", "é+"])
def test_a_raw_index_name_is_read_as_the_engine_reads_it(engine: Engine, port: int, name: str | bytes) -> None:
    """The index that the engine misses is the one whose rule we would look for."""
    raw = name.encode() if isinstance(name, str) else name
    target = b"/%s/_search" % raw
    status, _, body = exchange(port, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n")
    ours = endpoint_of(Request(method="GET", target=target, headers=()))
    assert ours is not None
    assert status.split(b" ")[1] == b"404"
    assert json.loads(body)["error"]["index"] in ours.expression.split(",")


@pytest.mark.parametrize("target", [b"/docs/_doc/2", b"/docs/_search"])
@pytest.mark.parametrize("through", [True, False], ids=["proxy", "engine"])
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(
    engine: Engine, port: int, target: bytes, *, through: bool
) -> None:
    """A caller who announces 150 MB, and waits to be told to go on, is told 413; so does the engine."""
    at = port if through else int(engine.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", at), LIMIT_S) as connection:
        connection.sendall(
            b"POST " + target + b" HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n"
            b"content-length: 150000000\r\n\r\n"
        )
        assert head_of(read_until(connection, lambda received: END in received)) == b"413"


def test_a_body_that_is_welcome_is_asked_for(engine: Engine, port: int) -> None:
    """A caller who announces a large body that the engine takes is told to go on, and gets the engine's answer."""
    document = json.dumps({"text": "fox " * 50_000}).encode()
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(
            b"PUT /docs/_doc/3 HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(document)
        )
        assert read_until(connection, lambda received: END in received) == b"HTTP/1.1 100 Continue" + END
        connection.sendall(document)
        assert head_of(read_until(connection, lambda received: END in received)) == b"201"
