"""An engine behind TLS: whom the proxy trusts."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import urllib.error
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import System


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers with the headers of the request."""

    def do_GET(self) -> None:
        """One answer."""
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The authority that signed the engine's certificate."""
    return trustme.CA()


@pytest.fixture(scope="module")
def engine_url(authority: trustme.CA) -> Iterator[str]:
    """An engine behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_named_authority_is_trusted(
    engine_url: str, authority: trustme.CA, run_system: Callable[..., System], tmp_path: Path
) -> None:
    """With `ca_file` the engine is reached, by its own name as Host."""
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    system = run_system(engine_url, upstream=f'ca_file = "{ca_file}"')
    assert send_json(f"{system.url}/")["host"] == engine_url.removeprefix("https://")


def test_an_unknown_authority_is_not_trusted(engine_url: str, run_system: Callable[..., System]) -> None:
    """Without `ca_file` a certificate of an unknown authority is a 502, and nothing of the request was sent."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        send_json(f"{run_system(engine_url).url}/")
    with caught.value as refusal:
        assert refusal.code == 502
        assert "certificate" in json.load(refusal)["error"]["reason"]


def test_trusting_anyone_has_to_be_said(engine_url: str, run_system: Callable[..., System]) -> None:
    """`verify_tls = false` reaches the engine whoever signed its certificate."""
    system = run_system(engine_url, upstream="verify_tls = false")
    assert send_json(f"{system.url}/")["host"] == engine_url.removeprefix("https://")


def test_forwarded_headers_are_sent_where_configured(engine_url: str, run_system: Callable[..., System]) -> None:
    """With `forwarded_headers` the engine learns who asked and for which host; without them, it doesn't."""
    plain = run_system(engine_url, upstream="verify_tls = false")
    assert "x-forwarded-for" not in send_json(f"{plain.url}/")
    telling = run_system(engine_url, upstream="verify_tls = false\nforwarded_headers = true")
    seen = send_json(f"{telling.url}/")
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-host"] == telling.url.removeprefix("http://")
    assert seen["x-forwarded-proto"] == "http"
