"""Counts what became of the searches of a replay."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Counts:
    """How many queries are recorded, by the status of their search and by its reason."""

    def __init__(
        self, *, done: int = 0, statuses: Mapping[str, int] | None = None, reasons: Mapping[str, int] | None = None
    ) -> None:
        self.done = done
        self._statuses = Counter(statuses or {})
        self._reasons = Counter(reasons or {})

    def add(self, outcomes: Iterable[tuple[str, str | None]]) -> None:
        """Count these too: status and reason of each search."""
        for status, reason in outcomes:
            self.done += 1
            self._statuses[status] += 1
            if reason is not None:
                self._reasons[reason] += 1

    def fields(self) -> dict[str, Any]:
        """The fields of the job's document."""
        return {"done": self.done, "statuses": dict(self._statuses), "reasons": dict(self._reasons)}
