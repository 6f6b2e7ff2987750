"""Bodies in every form that the real engines take: what is no JSON is the engine's own answer, and JSON is reranked."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import zlib
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import zstandard

from tests.clients.session import FILMS, QUERY
from tests.formats import SMILE_END, cbor, smile
from tests.relay.test_framing import head_of, read_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines
INDEX = "films-bodies"
PATH = f"/{INDEX}/_search"
SEARCH = {"query": QUERY, "size": 10}
JSON = json.dumps(SEARCH).encode()
YAML = b"query:\n  match:\n    text: a robot who falls in love\nsize: 10\n"
HEADER = {"index": INDEX}
LINES = b"%b\n%b\n" % (json.dumps(HEADER).encode(), JSON)
SMILE_LINES = b"".join(smile(one) + SMILE_END for one in (HEADER, SEARCH))
JSON_TYPE = "application/json"
LINES_TYPE = "application/x-ndjson"
TYPE, ACCEPT = "content-type", "accept"
# How long a search took is all that differs from one to the next.
UNTIMED = "filter_path=-took,-responses.took"
ENGINE_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An engine with films, and the system before it."""

    engine: Engine
    system: System


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and what is answered."""

    target: str
    body: bytes | None = JSON
    headers: dict[str, str] = field(default_factory=lambda: {TYPE: JSON_TYPE})
    method: str = "POST"

    def of(self, url: str, **more: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (without those of the connection) and body of the answer to a client that adds nothing."""
        mark = "&" if "?" in self.target else "?"
        target = f"{self.target}{mark}{UNTIMED}"
        with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=ENGINE_LIMIT_S)) as connection:
            connection.putrequest(self.method, target, skip_accept_encoding=True)
            for name, value in {**self.headers, **more}.items():
                connection.putheader(name, value)
            if self.body is not None:
                connection.putheader("content-length", str(len(self.body)))
            connection.endheaders(self.body)
            reply = connection.getresponse()
            headers = {name.lower(): value for name, value in reply.getheaders()}
            body = reply.read()
        dropped = ("content-length", "transfer-encoding", "warning")
        return reply.status, {name: value for name, value in headers.items() if name not in dropped}, body


@pytest.fixture(scope="module")
def pair(real_engine: Engine, system_on: Callable[[Engine], System]) -> Pair:
    """Films on a real engine, and the system before it."""
    real_engine.load(INDEX, {key: {"title": title, "text": text} for key, (title, text) in FILMS.items()})
    return Pair(engine=real_engine, system=system_on(real_engine))


FOREIGN = {
    "format=yaml": Asked(f"{PATH}?format=yaml"),
    "format=cbor": Asked(f"{PATH}?format=CBOR"),
    "format=smile": Asked(f"{PATH}?format=smile"),
    "format=xml": Asked(f"{PATH}?format=xml"),
    "accept yaml": Asked(PATH, headers={TYPE: JSON_TYPE, ACCEPT: "application/yaml"}),
    "accept cbor": Asked(PATH, headers={TYPE: JSON_TYPE, ACCEPT: "application/cbor"}),
    "accept smile": Asked(PATH, headers={TYPE: JSON_TYPE, ACCEPT: "application/smile"}),
    "accept a list": Asked(PATH, headers={TYPE: JSON_TYPE, ACCEPT: "application/cbor;q=0.1, application/json"}),
    "accept compat cbor": Asked(
        PATH,
        cbor(SEARCH),
        {
            TYPE: "application/vnd.elasticsearch+cbor;compatible-with=8",
            ACCEPT: "application/vnd.elasticsearch+cbor;compatible-with=8",
        },
    ),
    "body yaml": Asked(PATH, YAML, {TYPE: "application/yaml"}),
    "body yaml that is JSON": Asked(PATH, JSON, {TYPE: "Application/YAML; charset=utf-8"}),
    "body cbor": Asked(PATH, cbor(SEARCH), {TYPE: "application/cbor"}),
    "body smile": Asked(PATH, smile(SEARCH), {TYPE: "application/smile"}),
    "body cbor, answer JSON": Asked(PATH, cbor(SEARCH), {TYPE: "application/cbor", ACCEPT: JSON_TYPE}),
    "body cbor that asks us": Asked(
        PATH, cbor({**SEARCH, "ext": {"es_rerank": {"window": 7}}}), {TYPE: "application/cbor"}
    ),
    "no body, type yaml": Asked(f"{PATH}?q=text:robot", None, {TYPE: "application/yaml"}, "GET"),
    "source yaml": Asked(f"{PATH}?source={quote(YAML)}&source_content_type=application/yaml", None, {}, "GET"),
    "source without a type": Asked(f"{PATH}?source={quote(JSON)}", None, {}, "GET"),
    "another type": Asked(PATH, JSON, {TYPE: "text/plain"}),
    "no type": Asked(PATH, JSON, {}),
    "utf-16": Asked(PATH, JSON.decode().encode("utf-16-le"), {TYPE: "application/json;charset=utf-16"}),
    "unknown coding": Asked(PATH, JSON, {TYPE: JSON_TYPE, "content-encoding": "br"}),
    "two codings": Asked(PATH, gzip.compress(gzip.compress(JSON)), {TYPE: JSON_TYPE, "content-encoding": "gzip, gzip"}),
    "many, format=cbor": Asked("/_msearch?format=cbor", LINES, {TYPE: LINES_TYPE}),
    "many, accept yaml": Asked("/_msearch", LINES, {TYPE: LINES_TYPE, ACCEPT: "application/yaml"}),
    "many, smile": Asked("/_msearch", SMILE_LINES, {TYPE: "application/smile"}),
    "many, smile for an index": Asked(f"/{INDEX}/_msearch", SMILE_LINES, {TYPE: "application/smile"}),
    "many, cbor": Asked(f"/{INDEX}/_msearch", cbor(HEADER) + b"\n" + cbor(SEARCH) + b"\n", {TYPE: "application/cbor"}),
    "many, type yaml": Asked("/_msearch", LINES, {TYPE: "application/yaml"}),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_json_is_the_engines_own_answer(pair: Pair, case: str) -> None:
    """A body or an answer in another format, or with a type or coding that we don't read, passes both ways as it is."""
    direct = FOREIGN[case].of(pair.engine.url)
    assert FOREIGN[case].of(pair.system.url) == direct


def compatible(version: int, kind: str = "json") -> dict[str, str]:
    """The headers of an official client of this version."""
    accepted = f"application/vnd.elasticsearch+json; compatible-with={version}"
    return {TYPE: f"application/vnd.elasticsearch+{kind}; compatible-with={version}", ACCEPT: accepted}


OURS = {
    "json": Asked(PATH),
    "charset": Asked(PATH, headers={TYPE: "application/json; charset=UTF-8"}),
    "odd case": Asked(PATH, headers={TYPE: "Application/JSON;Charset=utf-8", ACCEPT: "APPLICATION/JSON"}),
    "charset accepted": Asked(PATH, headers={TYPE: JSON_TYPE, ACCEPT: "application/json;charset=utf-8"}),
    "format=JSON": Asked(f"{PATH}?format=JSON"),
    "vendor": Asked(PATH, headers={TYPE: "application/vnd.elasticsearch+json"}),
    "vendor of OpenSearch": Asked(PATH, headers={TYPE: "application/vnd.opensearch+json; charset=UTF-8"}),
    **{f"compatible with {version}": Asked(PATH, headers=compatible(version)) for version in (7, 8, 9)},
    "gzip": Asked(PATH, gzip.compress(JSON), {TYPE: JSON_TYPE, "content-encoding": "gzip"}),
    "odd gzip": Asked(PATH, gzip.compress(JSON), {TYPE: JSON_TYPE, "content-encoding": " X-Gzip"}),
    "deflate": Asked(PATH, zlib.compress(JSON), {TYPE: JSON_TYPE, "content-encoding": "deflate"}),
    "source": Asked(f"{PATH}?source={quote(JSON)}&source_content_type=application/json", None, {}, "GET"),
    "source with a charset": Asked(
        f"{PATH}?source={quote(JSON)}&source_content_type=application%2Fjson%3B%20charset%3Dutf-8", None, {}, "GET"
    ),
    "GET": Asked(PATH, method="GET"),
    "many": Asked("/_msearch", LINES, {TYPE: LINES_TYPE}),
    "many, odd case": Asked("/_msearch", LINES, {TYPE: "Application/X-NDJSON; charset=utf-8"}),
    "many as json": Asked("/_msearch", LINES, {TYPE: JSON_TYPE}),
    "many, gzip": Asked("/_msearch", gzip.compress(LINES), {TYPE: LINES_TYPE, "content-encoding": "gzip"}),
    **{
        f"many, compatible with {version}, {kind}": Asked("/_msearch", LINES, compatible(version, kind))
        for version in (7, 8, 9)
        for kind in ("json", "x-ndjson")
    },
}
UNKNOWN_TO_SOME = {case for case in OURS if "compatible" in case or "vendor" in case}


def hits_of(body: bytes) -> list[dict[str, Any]]:
    """The hits of a search, alone or in the answer to many."""
    answer = json.loads(body)
    [one] = answer.get("responses", [answer])
    return list(one["hits"]["hits"])


@pytest.mark.parametrize("case", OURS)
def test_json_is_reranked_whatever_it_is_called(pair: Pair, case: str) -> None:
    """JSON under any of its names is reranked, and the answer's type is the engine's; what that refuses, it refuses."""
    status, headers, body = OURS[case].of(pair.engine.url)
    if status != 200:
        assert case in UNKNOWN_TO_SOME
        assert OURS[case].of(pair.system.url) == (status, headers, body)
        return
    assert_reranked(OURS[case].of(pair.system.url, **{"es-rerank": "include=status"}), headers, body)


def assert_reranked(answer: tuple[int, dict[str, str], bytes], headers: dict[str, str], direct: bytes) -> None:
    """The answer has the engine's headers and hits, the latter in a new order."""
    status, ours, body = answer
    assert status == 200
    assert ours == headers
    told = json.loads(body)
    [one] = told.get("responses", [told])
    assert one["_es_rerank"]["status"] == "full"
    found, before = hits_of(body), hits_of(direct)
    assert [hit["_id"] for hit in found] != [hit["_id"] for hit in before]
    unscored = [sorted(({**hit, "_score": 0} for hit in hits), key=str) for hits in (found, before)]
    assert unscored[0] == unscored[1]


@pytest.mark.parametrize("accepted", ["gzip", "deflate", "zstd", "zstd, gzip", "snappy", "*", "gzip;q=0, zstd", "br"])
def test_a_coding_that_we_do_not_write_is_not_asked_for(pair: Pair, accepted: str) -> None:
    """Whatever a client accepts, a reranked answer is in gzip, in deflate or in none, and only where it is accepted."""
    status, headers, body = Asked(PATH).of(
        pair.system.url, **{"accept-encoding": accepted, "es-rerank": "include=status"}
    )
    assert status == 200
    coding = headers.get("content-encoding")
    assert coding is None or coding in accepted
    read = gzip.decompress(body) if coding == "gzip" else zlib.decompress(body) if coding else body
    assert json.loads(read)["_es_rerank"]["status"] == "full"


def test_zstd_is_left_to_the_engine(pair: Pair) -> None:
    """A body in zstd passes as it is: Elasticsearch refuses it in its own words."""
    if pair.engine.name == "opensearch":
        pytest.skip("a body in zstd ends the process of an OpenSearch 2.19")
    asked = Asked(PATH, zstandard.compress(JSON), {TYPE: JSON_TYPE, "content-encoding": "zstd"})
    direct = asked.of(pair.engine.url)
    assert direct[0] == 400
    assert asked.of(pair.system.url) == direct


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("expecting", [False, True], ids=["at once", "expects 100"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_search_may_come_in_chunks_or_wait_to_be_welcome(
    pair: Pair, method: str, *, expecting: bool, chunked: bool
) -> None:
    """GET with a body in chunks, as Dev Tools send it, and `Expect: 100-continue` are reranked as any search."""
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(JSON)
    head = f"{method} {PATH}?{UNTIMED} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n".encode()
    head += b"connection: close\r\nes-rerank: include=status\r\n" + framing + b"\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (JSON[:9], JSON[9:])) + b"0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(pair.system.url.rpartition(":")[2])), ENGINE_LIMIT_S) as connection:
        if expecting:
            connection.sendall(head + b"Expect: 100-Continue\r\n\r\n")
            assert head_of(read_until(connection, lambda received: b"\r\n\r\n" in received)) == b"100"
            connection.sendall(body if chunked else JSON)
        else:
            connection.sendall(head + b"\r\n" + (body if chunked else JSON))
        received = read_until(connection, lambda _: False)
    assert head_of(received) == b"200"
    answer = received.partition(b"\r\n\r\n")[2]
    if b"transfer-encoding: chunked" in received.lower():
        answer = answer.partition(b"\r\n")[2].rpartition(b"\r\n0\r\n")[0]
    _, headers, direct = Asked(PATH).of(pair.engine.url)
    assert_reranked((200, headers, answer), headers, direct)
