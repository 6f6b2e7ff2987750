"""What the proxy tells of its searches: made here, kept in the buffer, written by a thread."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from es_rerank.proxy.events.costs import ScoreCosts
from es_rerank.proxy.events.event import event_of, leaves_event, shown_hits_of
from es_rerank.proxy.events.privacy import query_keeper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.events.buffer import EventBuffer
    from es_rerank.proxy.events.searched import Searched
    from es_rerank.proxy.events.writer import EventWriter
    from es_rerank.proxy.search.status import SearchStatus
    from es_rerank.tables import EventSettings

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCounts:
    """What became of the documents so far, events and rows of hits together.

    Of those `recorded`, each was `written`, `dropped` for want of room, `failed` by reason, or is `waiting`.
    """

    recorded: int
    written: int
    dropped: int
    failed: Mapping[str, int]
    waiting: int

    def block(self) -> dict[str, Any]:
        """The counts as JSON."""
        return {
            "recorded": self.recorded,
            "written": self.written,
            "dropped": self.dropped,
            "failed": dict(self.failed),
            "waiting": self.waiting,
        }


class EventRecorder:
    """Records searches. Costs a search microseconds, and never fails it or makes it wait."""

    def __init__(self, settings: EventSettings, buffer: EventBuffer, writer: EventWriter, *, proxy: str) -> None:
        self._rate = settings.sample_rate
        self._hits_rate = settings.sample_rate * settings.hits_sample_rate
        self._keeper = query_keeper(settings)
        self._buffer = buffer
        self._writer = writer
        self._proxy = proxy
        self._costs = ScoreCosts()

    def record(self, searched: Searched, status: SearchStatus) -> None:
        """Tell of a search that was answered, if it is in the sample."""
        try:
            self._costs.note(searched.decision, status)
            drawn = draw(searched.names.query_id)
            if drawn >= self._rate or not leaves_event(status):
                return
            event = event_of(
                searched,
                status,
                kept=self._keeper.keep(searched.user_query),
                saved_ms=self._costs.saved_ms(searched.decision, status),
                timestamp=datetime.now(UTC),
                proxy=self._proxy,
            )
            rows = shown_hits_of(searched, event) if drawn < self._hits_rate else []
            self._buffer.put([event, *rows])
        except Exception:
            LOG.exception("an event broke; its search was answered")

    def open(self) -> None:
        """Begin to write: the engine knows the fields of our indices now."""
        self._writer.open()

    async def stop(self) -> None:
        """Write what waits, as far as the engine takes it within a few seconds."""
        await asyncio.to_thread(self._writer.stop)

    def counts(self) -> EventCounts:
        """What became of the documents so far."""
        return EventCounts(
            recorded=self._buffer.recorded,
            written=self._writer.written,
            dropped=self._buffer.dropped,
            failed=self._writer.failed(),
            waiting=len(self._buffer) + self._writer.in_hand,
        )


def draw(query_id: str) -> float:
    """A number from 0 up to 1, evenly distributed, and the same wherever this id comes again.

    So all pages of a query, and all proxies that see it, agree on whether it is in a sample.
    """
    digest = hashlib.blake2b(query_id.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
