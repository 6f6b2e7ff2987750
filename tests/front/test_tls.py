"""An engine behind TLS: whom a front server trusts."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from typing import TYPE_CHECKING

import trustme

from tests.front.test_nginx import status_of
from tests.relay.test_relay import exchange
from tests.relay.test_tls import Hello

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_an_engine_behind_tls(start_any_front: Callable[..., int], tmp_path: Path) -> None:
    """The engine's certificate is checked against `ca_file` and its name, and `verify_tls = false` trusts anyone."""
    authority, stranger = trustme.CA(), trustme.CA()
    files = {}
    for name, one in (("right", authority), ("wrong", stranger)):
        files[name] = f'ca_file = "{tmp_path / name}"'
        one.cert_pem.write_to_path(str(tmp_path / name))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"localhost:{server.server_address[1]}"
        for trust, right in ((files["right"], True), (files["wrong"], False), ("verify_tls = false", True)):
            port = start_any_front(f"https://{host}", proxies=["127.0.0.1:1"], upstream=trust)
            line, _, body = exchange(port, b"GET / HTTP/1.1\r\nhost: x\r\n")
            assert (status_of(line) == 200) == right
            assert not right or json.loads(body)["host"] == host
        server.shutdown()
