"""Whose turn it is, where jobs share one thread: what was begun is finished, and nothing is done for who has gone.

Of the jobs that are in time, the one with the fewest documents left goes first, and of equal ones the one with the
latest deadline. So under more load than the thread can carry, as many jobs as it can carry are finished, and not all of
them by half. Choosing is pure; `Turns` waits.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

# How long the thread may be idle for a job whose last batch is still on its way to the caller.
HOLD_S = 0.05
Made = TypeVar("Made")


class TooLateError(Exception):
    """The job's deadline has passed, and another job waits."""


@dataclass(eq=False, slots=True, kw_only=True)
class Place:
    """One job: its deadline in the event loop's time, and how many documents it has left.

    `turn` is done when the job may use the thread, and None while it does not ask for it.
    """

    due_s: float
    documents_left: int
    turn: asyncio.Future[None] | None = None

    @property
    def waits(self) -> bool:
        """Whether the job asks for the thread, and does not have it."""
        return self.turn is not None and not self.turn.done()


def first_of(places: Sequence[Place], now_s: float) -> Place:
    """The job that goes first; of those that are late only if all are. Of equal ones, the last."""
    in_time = [place for place in places if place.due_s > now_s]
    return min(reversed(in_time or places), key=lambda place: (place.documents_left, -place.due_s))


def late_beside(first: Place, places: Sequence[Place], now_s: float) -> list[Place]:
    """The jobs that are dropped when `first` goes first: the late ones."""
    return [place for place in places if place is not first and place.due_s <= now_s]


class Turns:
    """Gives jobs the thread, one call at a time. Used in one event loop."""

    def __init__(self, thread: Executor) -> None:
        self._thread = thread
        self._places: list[Place] = []
        self._running: Place | None = None
        self._hold: asyncio.TimerHandle | None = None

    @contextmanager
    def join(self, due_s: float, documents: int) -> Iterator[Place]:
        """A place for a job, as long as it lasts."""
        place = Place(due_s=due_s, documents_left=documents)
        self._places.append(place)
        try:
            yield place
        finally:
            self._places.remove(place)
            self._give()

    async def run(self, place: Place, work: Callable[[], Made]) -> Made:
        """What `work` makes in the thread, when it is the job's turn. Raises TooLateError, and what `work` raises."""
        loop = asyncio.get_running_loop()
        place.turn = loop.create_future()
        self._give()
        try:
            await place.turn
            return await loop.run_in_executor(self._thread, work)
        finally:
            place.turn = None
            if self._running is place:
                self._running = None
                # The job asks again, or leaves, before the loop comes to this.
                loop.call_soon(self._give)

    def _give(self, *, holds: bool = True) -> None:
        """Give the thread to the job that goes first, if it is free; hold it for a moment if that job is away."""
        waiting = [place for place in self._places if place.waits]
        if self._running is not None or not waiting:
            return
        now_s = asyncio.get_running_loop().time()
        first = first_of(self._places, now_s)
        if not first.waits:
            if holds:
                self._hold = self._hold or asyncio.get_running_loop().call_later(HOLD_S, self._end_hold)
                return
            first = first_of(waiting, now_s)
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        for late in late_beside(first, waiting, now_s):
            if late.turn is not None:
                late.turn.set_exception(TooLateError())
        self._running = first
        if first.turn is not None:
            first.turn.set_result(None)

    def _end_hold(self) -> None:
        self._hold = None
        self._give(holds=False)
