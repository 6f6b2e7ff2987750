"""Tasks that others rely on: whatever they raise, they begin again, and a cancellation ends them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError

from es_rerank.outage import Outage
from es_rerank.supervised import end, keep_running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ERRORS = [ResponseError("LOADING"), OSError("gone"), ZeroDivisionError(), asyncio.CancelledError(), TypeError("odd")]


def failing(*errors: BaseException) -> Callable[[], Awaitable[None]]:
    """Work that raises these errors, one a run, and then returns."""
    left = list(errors)

    async def work() -> None:
        await asyncio.sleep(0)
        if left:
            raise left.pop(0)

    return work


async def test_whatever_is_raised_it_begins_again() -> None:
    """Errors of Redis, of the system and of ours, and a cancellation that nobody asked for."""
    outage = Outage()
    async with asyncio.timeout(30):
        await keep_running("work", failing(*ERRORS), pause_s=0.001, outage=outage)
    error = outage.error("work")
    assert isinstance(error, TypeError)


async def test_a_fault_of_ours_is_logged_once_as_long_as_it_is_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """A traceback a pause would fill the log."""
    errors = [ZeroDivisionError("a")] * 50 + [ZeroDivisionError("b")] * 50
    async with asyncio.timeout(30):
        await keep_running("work", failing(*errors), pause_s=0.0, outage=Outage())
    assert [record.exc_info is not None for record in caplog.records].count(True) == 2


async def test_a_cancellation_ends_it() -> None:
    """Whether the work runs or pauses."""
    for work in (asyncio.Event().wait, failing(OSError("gone"))):
        task = asyncio.create_task(keep_running("work", work, pause_s=3600, outage=Outage()))  # type: ignore[arg-type]
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)


async def test_a_task_that_loses_cancellations_is_ended_all_the_same() -> None:
    """Redis's client loses one that comes while it connects: the next one ends the task."""
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost += 1
                if lost > 2:
                    raise

    task = asyncio.ensure_future(keep_running("work", work, pause_s=0.001, outage=Outage()))
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end(task)
    assert task.cancelled()
    assert lost == 3
    await end(task)  # one that has ended stays as it is
