"""The clock, and the one deadline of a search."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.clock import Clock, Deadline, SystemClock
from tests.virtual import VirtualClock

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

seconds = st.integers(0, 10_000).map(lambda count: count / 64)  # sums of these are exact


def test_the_system_clock_is_the_machines() -> None:
    """A reading lies between two readings of the machine's own clock."""
    clock: Clock = SystemClock()
    before = time.monotonic()
    assert before <= clock.monotonic_s() <= time.monotonic()


@given(seconds, seconds, seconds)
def test_what_remains_falls_with_the_clock_to_zero(start_s: float, length_s: float, passed_s: float) -> None:
    """What remains of a deadline is its length less the time since its start, and never below 0."""
    clock = VirtualClock(start_s)
    deadline = Deadline(clock, clock.monotonic_s() + length_s)
    assert deadline.remaining_s() == length_s
    clock.now_s += passed_s
    assert deadline.remaining_s() == max(0, length_s - passed_s)


def test_a_deadline_counts_from_the_start_that_it_is_given() -> None:
    """A search whose reading took time has spent that time already."""
    started_s = 5.0
    assert Deadline(VirtualClock(7.0), started_s + 3.0).remaining_s() == 1


async def wait_for_ever(limit: AbstractAsyncContextManager[object]) -> None:
    """Wait in this block for something that never comes."""
    async with limit:
        await asyncio.Event().wait()


@pytest.mark.parametrize("due_in_s", [-1.0, 0.0, 0.05])
async def test_the_system_clock_ends_what_still_runs_at_its_limit(due_in_s: float) -> None:
    """A block ends with TimeoutError at the given instant, not before, and at once if that instant is over."""
    clock = SystemClock()
    due_s = clock.monotonic_s() + due_in_s
    with pytest.raises(TimeoutError):
        await wait_for_ever(clock.limit(due_s))
    assert clock.monotonic_s() >= due_s


async def test_what_is_done_before_its_limit_is_left_alone() -> None:
    """The limit changes nothing for a block that ends before it, nor for what follows that block."""
    clock = SystemClock()
    async with clock.limit(clock.monotonic_s() + 0.02):
        await asyncio.sleep(0)
    await asyncio.sleep(0.04)


@pytest.mark.parametrize(("margin_s", "due_s"), [(0.0, 3.0), (0.5, 2.5)])
async def test_a_deadline_ends_a_wait_its_margin_early(margin_s: float, due_s: float) -> None:
    """A wait with a margin ends exactly that margin before the deadline."""
    clock = VirtualClock()
    waiting = asyncio.create_task(wait_for_ever(Deadline(clock, 3.0).limit(margin_s)))
    await clock.advance(due_s - 0.25)
    assert not waiting.done()
    await clock.advance(0.25)
    with pytest.raises(TimeoutError):
        await waiting
