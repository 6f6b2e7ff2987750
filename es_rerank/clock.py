"""Time as a value: the clock that everything reads, and the one deadline of a search.

Knows nothing of what is being waited for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from. Tests bring one of their own."""

    def monotonic_s(self) -> float:
        """Seconds that never run backwards; for measuring and waiting."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment by which one search has to be answered. Made when the request arrives, spent by every wait."""

    clock: Clock
    started_s: float
    length_s: float

    def remaining_s(self) -> float:
        """Seconds left, 0 when none are."""
        return max(0.0, self.started_s + self.length_s - self.clock.monotonic_s())
