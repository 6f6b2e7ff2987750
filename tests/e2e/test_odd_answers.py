"""An engine that answers what no engine should: the client gets it all the same, over a real connection."""

from __future__ import annotations

import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from es_rerank.rawjson import RAW_LIST, RAW_OBJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

SOUND = b'{"_index":"films","_id":"b","_score":1.5,"_source":{"text":"a robot in love"},"sort":[1.5,"b"]}'
FIRST = {
    "_index": b'"films"',
    "_id": b'"a"',
    "_score": b"2.5",
    "_source": b'{"text":"robot"}',
    "sort": b'[2.5,"a"]',
    "fields": b"{}",
}
TOP = {
    "took": b"1",
    "timed_out": b"false",
    "_shards": b'{"total":1,"failed":0}',
    "_clusters": b"{}",
    "hits": b"",
    "aggregations": b"{}",
}
ASKED = (
    ("", ("status", "scores")),
    ("?pretty&_source=other&filter_path=took,hits", ("status",)),
)
DEEP = b"[" * 1500 + b"]" * 1500
ODD = [b"null", b"true", b"-1", b"0", b"1e999", b"1e-999", b"NaN", b'"NaN"', b'"x"', rb'"\ud800"', b"[]", b"[[]]"]
ODD += [b"[null]", b"{}", b'{"text":null}', b'{"text":[{"a":1}]}', b"3.4e38", b"1e300", b"-0.0", DEEP]


class ScriptedEngine:
    """Answers every request with one body."""

    def __init__(self) -> None:
        self.body = b"{}"
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"] or 0))
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(engine.body)))
                self.end_headers()
                self.wfile.write(engine.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def engine() -> Iterator[ScriptedEngine]:
    """An engine that says what a test wants."""
    engine = ScriptedEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def system(engine: ScriptedEngine, run_system: Callable[..., System]) -> System:
    """A proxy before it, and a worker."""
    system = run_system(engine.url)
    if not system.workers():
        system.start_worker()
    return system


def joined(members: dict[str, bytes]) -> bytes:
    """An object of these members."""
    return b"{" + b",".join(b'"%s":%s' % (key.encode(), value) for key, value in members.items()) + b"}"


def answer_with(place: str, value: bytes) -> bytes:
    """An answer of two hits with an odd value in one place."""
    first = joined({**FIRST, place: value} if place in FIRST else FIRST)
    hits = value if place == "hits.hits" else b"[%s,%s]" % (value if place == "hit" else first, SOUND)
    best = value if place == "max_score" else b"2.5"
    inner = joined({"total": value if place == "total" else b"2", "max_score": best, "hits": hits})
    return joined({**TOP, "hits": inner, **({place: value} if place in TOP else {})})


def asked(system: System, query: str = "", *include: str) -> bytes:
    """The answer to a search that is to be reranked."""
    ext = {"ext": {"es_rerank": {"include": include}}} if include else {}
    body = json.dumps({"query": {"match": {"text": "a robot"}}, **ext}).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{system.url}/films/_search{query}", body, headers)) as reply:
        assert reply.status == 200
        return bytes(reply.read())


def hits_of(body: bytes) -> list[dict[str, bytes]]:
    """The hits of an answer, without what reranking changes."""
    hits = RAW_LIST.decode(RAW_OBJECT.decode(RAW_OBJECT.decode(body)["hits"])["hits"])
    opened = [{key: bytes(value) for key, value in RAW_OBJECT.decode(hit).items()} for hit in hits]
    return sorted(({**hit, "_score": b"", "sort": b""} for hit in opened), key=lambda hit: sorted(hit.items()))


@pytest.mark.parametrize("place", [*FIRST, *TOP, "hit", "hits.hits", "max_score", "total"])
def test_whatever_the_engine_answers_the_client_gets_it(engine: ScriptedEngine, system: System, place: str) -> None:
    """With any value in any place, the answer is whole: reranked with every hit in it, or the engine's own bytes."""
    for value in ODD:
        engine.body = answer_with(place, value)
        said = asked(system)
        if said != engine.body:
            assert hits_of(said) == hits_of(engine.body), value
        for query, include in ASKED:
            assert asked(system, query, *include)
