"""The HTTP server: uvicorn on httptools and uvloop. It looks after connections that keep us waiting, and how it stops.

Chosen by measurement (bench/README.md). Knows nothing of searches.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import resource
from typing import TYPE_CHECKING, Any

import uvicorn

from es_rerank.proxy.http.connections import Connections
from es_rerank.proxy.http.protocol import Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from es_rerank.tables import ServerSettings

LOG = logging.getLogger(__name__)
# What a stop allows beyond the longest deadline, for the answers to be written.
STOP_MARGIN_S = 5
# uvicorn ticks ten times a second. Connections are looked at once a second, and more often while the process stops.
TICKS_A_LOOK = 10
STOP_LOOK_S = 0.25
# A process that stood still has not heard its callers: that time does not count against them.
LONGEST_LOOK_S = 5.0
# Open files beside the connections of callers and to the engine: Redis, listeners, the log.
SPARE_FILES = 128


class Server(uvicorn.Server):
    """uvicorn's server, with one look at all connections a second instead of a timer for each."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._looked_s: float | None = None

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn."""
        if counter % TICKS_A_LOOK == 0:
            self._look(stopping=False)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. It waits for what is being answered, not for callers who send nothing, or half a request."""
        ending = asyncio.create_task(self._end_silent())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _end_silent(self) -> None:
        while True:
            await asyncio.sleep(STOP_LOOK_S)
            self._look(stopping=True)

    def _look(self, *, stopping: bool) -> None:
        now_s = asyncio.get_running_loop().time()
        elapsed_s = 0.0 if self._looked_s is None else min(now_s - self._looked_s, LONGEST_LOOK_S)
        self._looked_s = now_s
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, Protocol):
                if stopping:
                    connection.shutdown()  # also those that were accepted while the stop began
                connection.look(elapsed_s, stopping=stopping)


def make_server(
    app: Any, settings: ServerSettings, *, product: Callable[[], bytes | None], longest_deadline_s: float
) -> uvicorn.Server:
    """A server for the ASGI application, not yet started. It stops on SIGINT and SIGTERM.

    A stop waits for the requests in flight, as long as the longest deadline that a search may have. `product` gives the
    engine's product header for our own refusals.
    """
    protocol: Any = functools.partial(Protocol, shared=Connections(settings, product))
    return Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=protocol,
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=math.ceil(longest_deadline_s) + STOP_MARGIN_S,
        )
    )


def allow_open_files(connections: int) -> None:
    """Let the process have so many connections open, and the files it needs besides, as far as the system allows."""
    wanted = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        LOG.warning(
            "the system allows %d open files, and server.max_connections and upstream.max_connections need %d",
            most,
            wanted,
        )
