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

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS: dict[str, dict[str, Any]] = {
    "opensearch": {"number": "2.19.6", "distribution": "opensearch"},
    "elasticsearch": {"number": "8.19.21", "build_flavor": "default"},
}
TAKEN = {"status": 201, "result": "created"}


@dataclass
class FakeEngine:
    """Takes every document, unless `bulk_answers` say otherwise, one for each bulk request.

    An answer is the status of the whole request, 0 to close the connection instead, or the items by position.
    """

    product: str
    version: dict[str, Any] = field(default_factory=dict)
    login: str | None = None
    bulk_answers: deque[int | dict[int, Any]] = field(default_factory=deque)
    requests: list[tuple[str, str]] = field(default_factory=list)
    documents: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any] | None:
        """Status and JSON of an answer; None closes the connection."""
        self.requests.append((method, path))
        if path == "/":
            return 200, {"version": self.version or VERSIONS[self.product]}
        if path.endswith("_bulk"):
            return self._bulk([json.loads(line) for line in body.splitlines() if line])
        return (404 if method == "HEAD" else 200), {}

    def _bulk(self, lines: list[Any]) -> tuple[int, Any] | None:
        scripted = self.bulk_answers.popleft() if self.bulk_answers else {}
        if scripted == 0:
            return None
        if isinstance(scripted, int):
            return scripted, {"error": {"type": "some_exception", "reason": "as it was told"}, "status": scripted}
        pairs = list(zip(lines[::2], lines[1::2], strict=True))
        outcomes = [
            {**TAKEN, "_id": action["index"].get("_id")} | scripted.get(n, {}) for n, (action, _) in enumerate(pairs)
        ]
        self.documents += [pair for pair, outcome in zip(pairs, outcomes, strict=True) if outcome["status"] == 201]
        kept = [outcome for outcome in outcomes if outcome["status"]]
        return 200, {"errors": True, "items": [{"index": outcome} for outcome in kept]}


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
                answer: tuple[int, Any] | None = (401, {"error": {"type": "security_exception", "reason": "who?"}})
            else:
                answer = engine.answer(self.command, self.path.partition("?")[0], body)
            if answer is None:
                self.close_connection = True
                return
            status, value = answer
            content = b"" if self.command == "HEAD" else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("x-elastic-product", "Elasticsearch")
            self.send_header("content-length", str(len(content)))
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
        server.shutdown()
