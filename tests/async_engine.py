"""A recording engine with async searches, for tests: it runs each on a real engine, and answers in the published shape.

No engine that is at hand has async searches. The shapes are those of Elasticsearch's specification (`async_search`) and
of OpenSearch's asynchronous search. Everything else goes to the real engine as it comes. `filter_path` and `pretty` of
what it stores are done by es-rerank's own functions, so nothing here says whether those are right.
"""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

from es_rerank.proxy.search.filter_path import filter_answer
from es_rerank.proxy.search.pretty import pretty_print
from es_rerank.proxy.search.query_string import edit_query

if TYPE_CHECKING:
    from collections.abc import Mapping

ASYNC = re.compile(r"^(/[^/]+)?/(_async_search|_plugins/_asynchronous_search)(/status)?(?:/([^/]+))?$")
OWN_PARAMETERS = {"wait_for_completion_timeout", "keep_on_completion", "keep_alive", "filter_path", "pretty", "human"}
STARTED_MS, EXPIRES_MS, ENDED_MS = 1764336000000, 1764768000000, 1764336000250
NOT_FOUND = (
    b'{"error":{"root_cause":[{"type":"resource_not_found_exception","reason":"gone"}],"type":"x"},"status":404}'
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request as it came, with its header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Stored:
    """A search that was submitted: by whom, what the real engine answered, and how often it is still running."""

    owner: str
    response: bytes
    running: int
    kept: bool


@dataclass(slots=True)
class AsyncEngine:
    """A server before the engine with this URL. Its settings hold for what comes next.

    `polls` says at how many answers a search still runs. With `failed_shards`, searches end without some shards.
    `refuses` is the status with which plain searches are refused, 0 for none.
    """

    real: str
    polls: int = 0
    failed_shards: int = 0
    refuses: int = 0
    requests: list[Recorded] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    searches: dict[str, Stored] = field(default_factory=dict)
    url: str = ""
    closed: bool = False
    _server: ThreadingHTTPServer | None = None

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop, on open connections too."""
        assert self._server is not None
        self.closed = True
        self._server.shutdown()
        self._server.server_close()

    def asked(self, ending: str) -> list[Recorded]:
        """The requests whose path ends so."""
        return [request for request in self.requests if urlsplit(request.target).path.endswith(ending)]

    def answer(self, request: Recorded) -> tuple[int, bytes]:
        """Status and body of an answer."""
        parts = urlsplit(request.target)
        found = ASYNC.match(parts.path)
        if found is None:
            refused = self.refuses if parts.path.endswith("/_search") else 0
            return (refused, b'{"error":"busy"}') if refused else self.ask_real(request.target, request)
        is_opensearch = found[2] != "_async_search"
        if found[4] is None:
            if request.method != "POST":
                return 405, b'{"error":"method","status":405}'
            return self._submit(request, (found[1] or "") + "/_search", is_opensearch=is_opensearch)
        return self._about(request, unquote(found[4]), status=bool(found[3]), is_opensearch=is_opensearch)

    def _submit(self, request: Recorded, path: str, *, is_opensearch: bool) -> tuple[int, bytes]:
        target = edit_query(request.target.encode(), drop=OWN_PARAMETERS, add={}).decode()
        query = target.partition("?")[2]
        status, response = self.ask_real(path + ("?" + query if query else ""), request)
        if status != 200:
            return status, self._shaped(response, request)
        if self.failed_shards:
            shards = b'"_shards":{"total":2,"successful":1,"skipped":0,"failed":%d}' % self.failed_shards
            response = re.sub(rb'"_shards":\{[^}]*\}', shards, response)
        kept = parse_qs(urlsplit(request.target).query).get("keep_on_completion") == ["true"]
        search_id = f"FmRldE8zREVEUzA2ZVpUeGs2{len(self.searches)}=="
        search = Stored(request.headers.get("authorization", ""), response, self.polls, kept)
        self.searches[search_id] = search
        written = self._written(search_id, search, named=kept or self.polls > 0, is_opensearch=is_opensearch)
        return 200, self._shaped(written, request)

    def _about(self, request: Recorded, search_id: str, *, status: bool, is_opensearch: bool) -> tuple[int, bytes]:
        search = self.searches.get(search_id)
        if search is None or search.owner != request.headers.get("authorization", ""):
            return 404, self._shaped(NOT_FOUND, request)
        if request.method == "DELETE":
            del self.searches[search_id]
            return 200, b'{"acknowledged":true}'
        if status:
            return 200, b'{"id":"%b","is_running":true,"is_partial":true}' % search_id.encode()
        written = self._written(search_id, search, named=True, is_opensearch=is_opensearch)
        return 200, self._shaped(written, request)

    def _written(self, search_id: str, search: Stored, *, named: bool, is_opensearch: bool) -> bytes:
        """The answer about a search; each brings it nearer to its end. Only a search that is stored is named."""
        running = search.running > 0
        search.running -= 1
        name = b'"id":"%b",' % search_id.encode() if named else b""
        times = b'"start_time_in_millis":%d,"expiration_time_in_millis":%d' % (STARTED_MS, EXPIRES_MS)
        response = search.response
        if running:  # what the first shards found, in an order of its own
            response = b'{"took":1,"timed_out":false,"hits":{"total":{"value":0,"relation":"gte"},"hits":[]}}'
        if is_opensearch:
            state = b"RUNNING" if running else b"STORE_RESIDENT" if search.kept else b"SUCCEEDED"
            return b'{%b"state":"%b",%b,"response":%b}' % (name, state, times, response)
        partial = b"true" if running or self.failed_shards else b"false"
        ended = b"" if running else b'"completion_time_in_millis":%d,' % ENDED_MS
        flags = b'"is_partial":%b,"is_running":%b,' % (partial, b"true" if running else b"false")
        return b'{%b%b%b,%b"response":%b}' % (name, flags, times, ended, response)

    def _shaped(self, body: bytes, request: Recorded) -> bytes:
        """As `filter_path` and `pretty` want it."""
        asked = parse_qs(urlsplit(request.target).query, keep_blank_values=True)
        if "filter_path" in asked:
            body = filter_answer(body, asked["filter_path"][-1])
        return pretty_print(body) if "pretty" in asked else body

    def ask_real(self, target: str, request: Recorded) -> tuple[int, bytes]:
        """The real engine's answer to the same body at this target."""
        media_type = request.headers.get("content-type", "application/json")
        asked = urllib.request.Request(
            self.real + quote(target, safe="/?&=%:,*.;+~!$'()@"),
            request.body or None,
            {"content-type": media_type},
            method=request.method,
        )
        try:
            with urllib.request.urlopen(asked, timeout=120) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def _handler_of(engine: AsyncEngine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Recorded(self.command, self.path, headers, body)
            if engine.closed:
                self.close_connection = True
                return
            engine.requests.append(request)
            status, answer = engine.answer(request)
            if ASYNC.match(urlsplit(self.path).path):
                engine.answers.append(answer)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _answer  # noqa: N815  the base class's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            """Say nothing."""

    return Handler
