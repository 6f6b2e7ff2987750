"""What waits to be written: a bounded buffer between the searches and the thread that writes."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.proxy.events.event import SearchEvent, ShownHit

    Waiting = SearchEvent | ShownHit

BATCH_DOCUMENTS = 500


class EventBuffer:
    """Holds at most `most` documents, in the order in which they came.

    One thread puts and another one takes. Putting never waits: what finds no room is dropped and counted.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[Waiting] = deque()
        self._full_batch = threading.Event()
        self.recorded = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, documents: Sequence[Waiting]) -> None:
        """Keep all of the documents of one search, or drop them all where there is no room for all."""
        self.recorded += len(documents)
        waiting = len(self._waiting) + len(documents)  # the other thread only makes it fewer
        if waiting > self._most:
            self.dropped += len(documents)
            return
        self._waiting.extend(documents)
        if waiting >= BATCH_DOCUMENTS:
            self._full_batch.set()

    def take(self) -> list[Waiting]:
        """The oldest documents, a batch at most; [] where none wait."""
        return [self._waiting.popleft() for _ in range(min(BATCH_DOCUMENTS, len(self._waiting)))]

    def await_batch(self, limit_s: float) -> None:
        """Wait until a whole batch is there, or for so many seconds, or until `wake`."""
        self._full_batch.wait(limit_s)
        self._full_batch.clear()

    def wake(self) -> None:
        """End the wait for a batch."""
        self._full_batch.set()
