"""Whose turn it is: the choice for any set of jobs, and the order of work where jobs really wait for one thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.scorers.turns import Place, TooLateError, Turns, first_of, late_beside

if TYPE_CHECKING:
    from collections.abc import Iterator

LATER = 1e9
PLACES = st.lists(
    st.builds(lambda due_s, left: Place(due_s=due_s, documents_left=left), st.integers(0, 9), st.integers(0, 4)),
    min_size=1,
)


@given(PLACES, st.integers(0, 9))
def test_what_can_be_finished_soonest_goes_first(places: list[Place], now_s: int) -> None:
    """No job in time has fewer documents left, no equal one a later deadline; a late one is first only among late."""
    first = first_of(places, now_s)
    in_time = [place for place in places if place.due_s > now_s]
    assert (first in in_time) == bool(in_time)
    for place in in_time or places:
        assert (first.documents_left, -first.due_s) <= (place.documents_left, -place.due_s)


@given(PLACES, st.integers(0, 9))
def test_late_jobs_are_dropped_for_any_other(places: list[Place], now_s: int) -> None:
    """Beside the first one only jobs in time are left, and none of those is dropped."""
    first = first_of(places, now_s)
    dropped = late_beside(first, places, now_s)
    assert first not in dropped
    assert all((place in dropped) == (place.due_s <= now_s) for place in places if place is not first)


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    """One thread."""
    with ThreadPoolExecutor(1) as thread:
        yield thread


class Work:
    """Jobs of several batches in one thread, which is kept busy until all have asked for it."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self.turns = Turns(thread)
        self.begin = threading.Event()
        self.order: list[str] = []

    async def job(self, name: str, batches: int, due_s: float = LATER) -> str:
        """Run a job, and say how it ended. After each batch it is away for some steps of the loop."""
        with self.turns.join(due_s, batches) as place:
            try:
                for left in range(batches - 1, -1, -1):
                    await self.turns.run(place, lambda: self.order.append(name))
                    place.documents_left = left
                    for _ in range(20):
                        await asyncio.sleep(0)
            except TooLateError:
                return "dropped"
        return "done"

    async def all_of(self, *jobs: tuple[str, int, float]) -> dict[str, str]:
        """Begin the jobs in this order while the thread is busy, and say how each ended."""
        with self.turns.join(LATER, 0) as busy:
            blocking = asyncio.ensure_future(self.turns.run(busy, self.begin.wait))
            await asyncio.sleep(0)
            begun = {one[0]: asyncio.ensure_future(self.job(*one)) for one in jobs}
            for _ in range(20):
                await asyncio.sleep(0)
            self.begin.set()
            await blocking
        return {name: await one for name, one in begun.items()}


async def test_a_job_that_was_begun_is_finished_and_then_the_newest_is_next(thread: ThreadPoolExecutor) -> None:
    """Of equal jobs the one with the latest deadline goes first, and to its end, although it asks for each batch."""
    work = Work(thread)
    ended = await work.all_of(("old", 3, LATER), ("new", 3, LATER + 2), ("newer", 3, LATER + 1))
    assert work.order == ["new"] * 3 + ["newer"] * 3 + ["old"] * 3
    assert set(ended.values()) == {"done"}


async def test_a_short_job_does_not_wait_for_a_long_one(thread: ThreadPoolExecutor) -> None:
    """Whichever has fewer documents left goes first, whatever came first."""
    work = Work(thread)
    await work.all_of(("long", 9, LATER), ("short", 2, LATER))
    assert work.order == ["short"] * 2 + ["long"] * 9


async def test_late_work_gives_way_before_and_during_scoring(thread: ThreadPoolExecutor) -> None:
    """A job whose deadline has passed is not worked on while another waits, and is worked on while none does."""
    work = Work(thread)
    assert await work.all_of(("late", 1, 0.0), ("in time", 5, LATER)) == {"late": "dropped", "in time": "done"}
    assert work.order == ["in time"] * 5
    assert await work.job("late", 2, 0.0) == "done"


async def test_a_job_that_is_away_does_not_keep_the_thread(thread: ThreadPoolExecutor) -> None:
    """A job whose caller does not come back for the next batch holds the others for a moment only."""
    work = Work(thread)
    with work.turns.join(LATER + 1, 0) as away:
        await work.turns.run(away, lambda: None)
        assert await asyncio.wait_for(work.job("other", 2), 30) == "done"


async def test_a_cancelled_job_leaves_the_thread_to_the_others(thread: ThreadPoolExecutor) -> None:
    """Cancelled while it waits or while it has its turn, a job is gone, and the next one goes on."""
    work = Work(thread)
    begin = threading.Event()
    with work.turns.join(LATER, 1) as place:
        running = asyncio.ensure_future(work.turns.run(place, begin.wait))
        waiting, other = (asyncio.ensure_future(work.job(name, 1)) for name in ("waiting", "other"))
        for _ in range(20):
            await asyncio.sleep(0)
        waiting.cancel()
        running.cancel()
        begin.set()
        await asyncio.wait([waiting, running])
    assert await asyncio.wait_for(other, 30) == "done"
    assert work.order == ["other"]
