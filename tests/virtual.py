"""A clock that tests turn by hand: every wait until a deadline ends when the test says so, and not by chance."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# More steps of the event loop than any path in these tests takes from one wait to the next.
SETTLING_STEPS = 200


class VirtualClock:
    """A clock that stands still until a test turns it. See `es_rerank.clock.Clock`."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s
        self._limits: dict[asyncio.Timeout, float] = {}

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return self.now_s

    @asynccontextmanager
    async def limit(self, due_s: float) -> AsyncIterator[None]:
        """See `Clock`."""
        async with asyncio.timeout(None) as limit:
            self._limits[limit] = due_s
            self._end_due()
            try:
                yield
            finally:
                del self._limits[limit]

    async def advance(self, seconds: float) -> None:
        """Let every task run as far as it can, then turn the clock, and let every task run on."""
        await settle()
        self.now_s += seconds
        self._end_due()
        await settle()

    def next_due_s(self) -> float | None:
        """The instant at which the first wait ends, None if no task waits."""
        return min(self._limits.values(), default=None)

    def _end_due(self) -> None:
        for limit, due_s in self._limits.items():
            if due_s <= self.now_s and not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())


async def settle() -> None:
    """Let every task run until it waits for something that has not come yet."""
    for _ in range(SETTLING_STEPS):
        await asyncio.sleep(0)
