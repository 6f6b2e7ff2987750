"""What a score costs where it is not in the cache: a running mean, by which events say what the cache saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_rerank.proxy.search.decide import Rerank
    from es_rerank.proxy.search.status import SearchStatus


class ScoreCosts:
    """The mean milliseconds of waiting for a scored document, by scorer and mode, over the life of this process."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str | None], tuple[float, int]] = {}

    def note(self, decision: Rerank, status: SearchStatus) -> None:
        """Learn from a search, if all that was asked for was scored: else the wait says nothing of the scorer."""
        scored = status.scored - status.cached
        took_ms = status.took_ms.get("score", 0.0)
        if status.status == "full" and scored > 0 and took_ms > 0:
            key = _key(decision)
            total_ms, documents = self._totals.get(key, (0.0, 0))
            self._totals[key] = (total_ms + took_ms, documents + scored)

    def saved_ms(self, decision: Rerank, status: SearchStatus) -> float | None:
        """About how long the search would have waited for its cached scores; None while nothing was scored yet."""
        total_ms, documents = self._totals.get(_key(decision), (0.0, 0))
        return round(status.cached * total_ms / documents, 1) if documents else None


def _key(decision: Rerank) -> tuple[str, str | None]:
    return decision.scoring.fingerprint, decision.mode
