"""The HTTP server: uvicorn on httptools and uvloop, with what a transparent proxy needs beyond it.

Chosen by measurement (bench/README.md). Knows nothing of searches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from es_rerank.proxy.http.own import error_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from es_rerank.tables import ServerSettings

EXTENSION = "es_rerank"
# Engines never close an idle connection, so clients don't expect it: a POST on a connection that just closes fails.
IDLE_CONNECTION_S = 3600
# What a stop allows beyond the longest deadline, for the answers to be written.
STOP_MARGIN_S = 5
# Engines allow 4 KiB for the request line and 16 KiB for headers unless told otherwise.
MAX_HEAD_BYTES = 64 * 1024
UNREADABLE = "the request is not valid HTTP/1.1"


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, for a proxy.

    It keeps the request target as it came: ASGI splits it into path and query string, which loses a lone trailing `?`.
    It reports a lost connection by a callback: with ASGI alone, one more task for each request would have to wait for
    it. It never upgrades, since a server may always decline (RFC 9110, 7.8): a request that offers HTTP/2 is answered
    in HTTP/1.1, and its body is read. It bounds the head, drops trailers, and writes refusals in the engine's shape.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._offers_upgrade = False
        self._on_lost: set[Callable[[], None]] = set()
        self._in_head = True
        self._head_ended = False  # whether a head or a message ended within the data that came last
        self._head_bytes = 0  # of a head that is not complete yet

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._unset_keepalive_if_required()
        self._head_ended = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response(UNREADABLE)
            return
        if self._in_head and not self._head_ended:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(f"request line and headers are larger than {MAX_HEAD_BYTES} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        for tell in tuple(self._on_lost):
            tell()

    def _feed(self, data: bytes) -> None:
        """Give data to the parser, which stops at the end of a head that offers an upgrade and skips its body."""
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._decline_upgrade()
            else:
                return

    def _decline_upgrade(self) -> None:
        """Read the head once more, without its offer. Raises HttpParserError for CONNECT, which is not an offer."""
        if self.scope["method"] == "CONNECT":
            raise httptools.HttpParserError("CONNECT")
        version = self.parser.get_http_version().encode()
        head = b"%s %s HTTP/%s\r\n" % (self.scope["method"].encode(), self.url, version)
        lines = [b"%s: %s\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(head + b"".join(lines) + b"\r\n")

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. Blanks after a value are not part of it (RFC 9112, 5), and a trailer is not a header."""
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._offers_upgrade = self.parser.should_upgrade()
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["extensions"] = {
            EXTENSION: {"target": self.url, "on_lost": self._on_lost, "cut_off": self.transport.abort}
        }
        if not self._offers_upgrade:
            self._in_head, self._head_ended, self._head_bytes = False, True, 0
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See httptools."""
        if not self._offers_upgrade:
            self._in_head, self._head_ended = True, True
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refuses as HTTP (such as two lengths, or a length beside chunks), and close."""
        body = error_body(400, "illegal_argument_exception", msg)
        self.transport.write(
            STATUS_LINE[400]
            + b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()


def make_server(app: Any, settings: ServerSettings, *, longest_deadline_s: float) -> uvicorn.Server:
    """A server for the ASGI application, not yet started. It stops on SIGINT and SIGTERM.

    A stop waits for the requests in flight, as long as the longest deadline that a search may have.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=Protocol,
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=IDLE_CONNECTION_S,
            timeout_graceful_shutdown=math.ceil(longest_deadline_s) + STOP_MARGIN_S,
        )
    )
