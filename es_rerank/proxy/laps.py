"""How long each step of a search took."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_rerank.clock import Clock


class Laps:
    """A stopwatch that starts when it is made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started_s = self._last_s = clock.monotonic_s()
        self._took_s: dict[str, float] = {}

    def lap(self, name: str) -> float:
        """Add the time since the last lap to the step with this name, and give it, in seconds."""
        now_s = self._clock.monotonic_s()
        took_s = now_s - self._last_s
        self._took_s[name] = self._took_s.get(name, 0.0) + took_s
        self._last_s = now_s
        return took_s

    def took_ms(self) -> dict[str, float]:
        """Milliseconds of each step so far, and `total` from the start until now, rounded to a tenth."""
        total_s = self._clock.monotonic_s() - self.started_s
        return {name: round(took_s * 1000, 1) for name, took_s in (*self._took_s.items(), ("total", total_s))}
