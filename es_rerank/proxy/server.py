"""The HTTP server: uvicorn on httptools and uvloop, with what a transparent proxy needs beyond it.

Chosen by measurement (bench/README.md). Knows nothing of searches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from es_rerank.proxy.own import error_body

if TYPE_CHECKING:
    from es_rerank.settings import ServerSettings

RAW_TARGET = "es_rerank.raw_target"
# Engines never close an idle connection, so clients' pools don't expect it; a POST that meets a closing one fails.
IDLE_CONNECTION_S = 3600
# A stop waits for the searches in flight: longer than any deadline that is in use.
GRACE_S = 30


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol that keeps the request target as it came, and refuses in the engine's shape.

    ASGI has path and query string apart, by which a lone trailing `?` is lost.
    """

    def on_headers_complete(self) -> None:
        """See httptools."""
        self.scope["extensions"] = {RAW_TARGET: {"target": bytes(self.url)}}
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, as the parser sees it (two lengths, a length beside chunks), and close."""
        body = error_body(400, "illegal_argument_exception", msg)
        self.transport.write(
            STATUS_LINE[400]
            + b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()


def make_server(app: Any, settings: ServerSettings) -> uvicorn.Server:
    """A server for the ASGI application, not yet started. It stops on SIGINT and SIGTERM, finishing what runs."""
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
            timeout_graceful_shutdown=GRACE_S,
        )
    )
