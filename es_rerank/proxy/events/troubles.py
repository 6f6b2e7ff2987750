"""What the log says while events are not written: each new reason once, and once that all is well again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.proxy.events.bulk import Refusal

LOG = logging.getLogger(__name__)
# The reasons are the engine's words: more of them must not fill the log.
MAX_SAID = 20


class Troubles:
    """Remembers what was said of each index. One index may be well while another one is not."""

    def __init__(self) -> None:
        self._said: dict[str, set[str]] = {}
        self._dropped = 0
        self._full = False

    def note(self, index_names: Sequence[str], answered: Sequence[Refusal | None]) -> None:
        """Learn what became of documents, given by their indices: what the engine said to each, None for well."""
        refused = {(name, one.kind): one for name, one in zip(index_names, answered, strict=True) if one is not None}
        for (name, kind), refusal in refused.items():
            said = self._said.setdefault(name, set())
            if kind not in said and len(said) < MAX_SAID:
                said.add(kind)
                LOG.warning("%s-* is not written: the engine says %s: %s", name, kind, refusal.words)
        for name in set(index_names) - {name for name, _ in refused}:
            if self._said.pop(name, None):
                LOG.info("%s-* is written again", name)

    def note_dropped(self, dropped: int, *, waiting: int) -> None:
        """Learn how many documents were dropped so far for want of room, and how many wait."""
        if dropped > self._dropped and not self._full:
            LOG.warning("events are dropped: events.max_waiting documents wait to be written")
            self._full = True
        elif not waiting:
            self._full = False
        self._dropped = dropped
