"""Time as a value: the clock that everything reads, and the one deadline of a search.

A duration is called `…_s` or `deadline_s`, an instant of the clock `due_s`. Knows nothing of what is being waited for.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


def utc_text(moment: datetime | None = None) -> str:
    """A time of day, or that of now, as it stands in a document: ISO 8601, in UTC."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Clock(Protocol):
    """Where the time comes from. Tests use a clock of their own, and so decide when a wait ends."""

    def monotonic_s(self) -> float:
        """The instant, in seconds that never run backwards."""
        ...

    def limit(self, due_s: float) -> AbstractAsyncContextManager[object]:
        """A block that raises TimeoutError if it still runs at the instant `due_s`: the one way to wait until then."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def limit(self, due_s: float) -> AbstractAsyncContextManager[object]:
        """See `Clock`."""
        return asyncio.timeout(max(0.0, due_s - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Deadline:
    """The instant `due_s` by which one search has to be answered: every wait of the search keeps it."""

    clock: Clock
    due_s: float

    def remaining_s(self) -> float:
        """Seconds left, 0 when none are."""
        return max(0.0, self.due_s - self.clock.monotonic_s())

    def before(self, margin_s: float) -> Deadline:
        """The deadline of a step that has to end so much sooner."""
        return Deadline(self.clock, self.due_s - margin_s)

    def limit(self, margin_s: float = 0.0) -> AbstractAsyncContextManager[object]:
        """A block that raises TimeoutError if it still runs `margin_s` before the deadline."""
        return self.clock.limit(self.due_s - margin_s)
