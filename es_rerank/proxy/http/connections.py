"""What the connections of all callers share: how many there may be, and how long one may keep us waiting."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from es_rerank.tables import ServerSettings

LOG = logging.getLogger(__name__)
# Connections beyond the limit that may wait for their 503 at a time; any more are closed without one.
MAX_TURNED_AWAY = 64
# The log says again that the connections are full only after so few were open that it is news.
ROOM_AGAIN = 0.9


class Connections:
    """The count of connections of one process, and the terms on which they are kept.

    `product` gives the engine's product header, which our own answers carry.
    """

    def __init__(self, settings: ServerSettings, product: Callable[[], bytes | None]) -> None:
        self.max_connections = settings.max_connections
        self.client_timeout_s = settings.client_timeout_s
        self.product = product
        self._admitted = 0
        self._turned_away = 0
        self._is_full = False

    def admit(self) -> bool:
        """Count a new connection, and say whether there was room for it. It is one until `leave`."""
        if self._admitted < self.max_connections:
            self._admitted += 1
            return True
        self._turned_away += 1
        if not self._is_full:
            self._is_full = True
            LOG.warning("server.max_connections = %d are open; further callers get a 503", self.max_connections)
        return False

    def may_wait(self) -> bool:
        """Whether the connection that was just not admitted may stay until it has its 503."""
        return self._turned_away <= MAX_TURNED_AWAY

    def leave(self, *, admitted: bool) -> None:
        """A connection ended, which was admitted or not."""
        if admitted:
            self._admitted -= 1
            if self._admitted < self.max_connections * ROOM_AGAIN:
                self._is_full = False
        else:
            self._turned_away -= 1
