"""An engine that does as it is told: it refuses, fails and breaks off in ways that a real engine can't be made to."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.official.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS: dict[str, dict[str, Any]] = {
    "opensearch": {"number": "2.19.6", "distribution": "opensearch"},
    "elasticsearch": {"number": "8.19.21", "build_flavor": "default"},
}
ADDED = {"status": 201, "result": "created"}
REPLACED = {"status": 200, "result": "updated"}
LOST = "lost"


@dataclass
class FakeEngine:
    """Takes every document, unless it is told otherwise.

    `bulk_answers` has one answer for each bulk request: the status of the whole request, 0 to close the connection
    instead, LOST to carry it out and then close the connection, or the items that differ, by position. `other_answers`
    has statuses, 0 and LOST for requests of other kinds. A status may come with a `Retry-After`.
    """

    product: str
    version: dict[str, Any] = field(default_factory=dict)
    login: str | None = None
    max_bulk_bytes: int = 100_000_000
    bulk_answers: deque[Any] = field(default_factory=deque)
    other_answers: deque[Any] = field(default_factory=deque)
    requests: list[tuple[str, str]] = field(default_factory=list)
    documents: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    indices: set[str] = field(default_factory=set)
    url: str = ""
    # Which bulk request, counted from 1, hangs until `release`, and comes to nothing; `hung` tells when it does.
    hangs_after: int | None = None
    hung: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any, str | None] | None:
        """Status, JSON and `Retry-After` of an answer; None closes the connection."""
        self.requests.append((method, path))
        is_bulk = path.endswith("_bulk")
        if is_bulk and sum(path.endswith("_bulk") for _, path in self.requests) == self.hangs_after:
            self.hung.set()
            self._released.wait()
            return None
        script = self.bulk_answers if is_bulk else self.other_answers
        scripted: Any = script.popleft() if script else {}
        status, wish = scripted if isinstance(scripted, tuple) else (scripted, None)
        if status == 0:
            return None
        if isinstance(status, int):
            return status, {"error": {"type": "some_exception", "reason": "as it was told"}, "status": status}, wish
        if len(body) > self.max_bulk_bytes:
            return 413, {"error": {"type": "too_large", "reason": "too large"}, "status": 413}, None
        lines = [json.loads(line) for line in body.splitlines() if line] if is_bulk else []
        answer = self._bulk(lines, status if isinstance(status, dict) else {}) if is_bulk else self._other(method, path)
        return None if status == LOST else (*answer, None)

    def release(self) -> None:
        """End what hangs."""
        self.hangs_after = None
        self._released.set()

    def ids(self) -> list[str]:
        """The ids of all documents that were taken, in order, repeated ones too."""
        return [next(iter(action.values()))["_id"] for action, _ in self.documents]

    def _other(self, method: str, path: str) -> tuple[int, Any]:
        name = path.strip("/")
        if not name:
            return 200, {"version": self.version or VERSIONS[self.product]}
        if name.endswith("/_count"):
            return 200, {"count": len(set(self.ids()))}
        if method == "PUT":
            self.indices.add(name)
        if method == "DELETE":
            self.indices.discard(name)
        if method == "GET":
            return 200, {name: {"aliases": {}}}
        return (404 if method == "HEAD" and name not in self.indices else 200), {}

    def _bulk(self, lines: list[Any], odd: dict[int, Any]) -> tuple[int, Any]:
        items = []
        known_ids = set(self.ids())
        for number, (action, source) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
            [(operation, details)] = action.items()
            known = details["_id"] in known_ids
            outcome = {"_id": details["_id"], **(REPLACED if known else ADDED)}
            if known and operation == "create":
                outcome |= {"status": 409, "error": {"reason": "version conflict"}}
            outcome |= odd.get(number, {})
            if outcome["status"] in {200, 201}:
                self.documents.append((action, source))
                known_ids.add(details["_id"])
            if outcome["status"]:
                items.append({operation: outcome})
        return 200, {"errors": True, "items": items}


def impatient(max_wait_s: float = 0.0) -> Patience:
    """Waits that end at once, where they are allowed."""
    return Patience(max_wait_s=max_wait_s, say=lambda _: None, sleep=lambda _: None)


@pytest.fixture(params=sorted(VERSIONS))
def fake_engine(request: pytest.FixtureRequest) -> Iterator[FakeEngine]:
    """A fake engine that says it is OpenSearch, then one that says it is Elasticsearch."""
    with serve(FakeEngine(product=request.param)) as engine:
        yield engine


@pytest.fixture(params=sorted(VERSIONS))
def fake_tls_engine(request: pytest.FixtureRequest, certificate_file: Path) -> Iterator[FakeEngine]:
    """The same behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file)
    with serve(FakeEngine(product=request.param), context) as engine:
        yield engine


@pytest.fixture(scope="session")
def certificate_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that has signed itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    file = tmp_path_factory.mktemp("tls") / "127.0.0.1.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    name = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *name, "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@contextmanager
def serve(engine: FakeEngine, context: ssl.SSLContext | None = None) -> Iterator[FakeEngine]:
    """The engine, reachable at its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if engine.login and self.headers.get("authorization") != engine.login:
                refusal = {"error": {"type": "security_exception", "reason": "who?"}}
                answer: tuple[int, Any, str | None] | None = (401, refusal, None)
            else:
                answer = engine.answer(self.command, self.path.partition("?")[0], body)
            if answer is None:
                self.close_connection = True
                return
            status, value, wish = answer
            content = b"" if self.command == "HEAD" else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("x-elastic-product", "Elasticsearch")
            self.send_header("content-length", str(len(content)))
            if wish is not None:
                self.send_header("retry-after", wish)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  the base class's names

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        engine.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_port}"
        yield engine
        engine.release()
        server.shutdown()
