"""Counts what became of the searches of one proxy process since its start."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from es_rerank.clock import Clock
    from es_rerank.proxy.search.status import SearchStatus

NO_RULE = "_none"
"""Stands for the rule of a search that none covers. No rule has a name that begins so."""


@dataclass(slots=True, eq=False)
class _Took:
    """How often a step was taken, and how long it took, in milliseconds."""

    count: int = 0
    sum_ms: float = 0.0
    max_ms: float = 0.0

    def add(self, took_ms: float) -> None:
        self.count += 1
        self.sum_ms += took_ms
        self.max_ms = max(self.max_ms, took_ms)


class SearchStats:
    """The counters. One search costs a few additions; nothing grows with their number."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_s = clock.monotonic_s()
        self._in_flight = 0
        self._hits = Counter[str]()
        self._statuses = Counter[str]()
        self._reasons = Counter[str]()
        self._rules: dict[str, Counter[str]] = {}
        self._took: dict[str, _Took] = {}

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """A block in which one more search is being answered."""
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def count(self, status: SearchStatus) -> None:
        """Count a search that was answered."""
        self._statuses[status.status] += 1
        if status.reason is not None:
            self._reasons[status.reason] += 1
        self._rules.setdefault(status.rule or NO_RULE, Counter())[status.status] += 1
        self._hits.update(window=status.window, scored=status.scored, cached=status.cached)
        for step, took_ms in status.took_ms.items():
            self._took.setdefault(step, _Took()).add(took_ms)

    def block(self) -> dict[str, Any]:
        """What `GET /_es_rerank/_stats` says: whole numbers, and milliseconds rounded to a tenth."""
        scored, cached = self._hits["scored"], self._hits["cached"]
        return {
            "uptime_s": round(self._clock.monotonic_s() - self._started_s, 1),
            "searches": {
                "total": self._statuses.total(),
                "in_flight": self._in_flight,
                "status": dict(self._statuses),
                "reason": dict(self._reasons),
                "rule": {rule: {"total": counts.total(), **counts} for rule, counts in self._rules.items()},
            },
            "hits": {
                "window": self._hits["window"],
                "scored": scored,
                "cached": cached,
                "cache_hit_ratio": round(cached / scored, 4) if scored else None,
            },
            "took_ms": {
                step: {
                    "count": took.count,
                    "sum": round(took.sum_ms, 1),
                    "mean": round(took.sum_ms / took.count, 1),
                    "max": round(took.max_ms, 1),
                }
                for step, took in self._took.items()
            },
        }
