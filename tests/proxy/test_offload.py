"""Long computing runs beside the event loop, short computing in it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from es_rerank.proxy.offload import LONG_BYTES, THREADS, compute
from tests.virtual import settle


async def test_a_short_step_needs_no_thread() -> None:
    """What is not longer than the limit runs at once, where it is asked for."""
    assert await compute(LONG_BYTES, threading.get_ident) == threading.get_ident()
    assert await compute(LONG_BYTES + 1, threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize("cost_bytes", [0, LONG_BYTES + 1])
async def test_a_step_gets_its_values_and_its_errors_come_back(cost_bytes: int) -> None:
    """Wherever a step runs, it gives its result, and raises its own exceptions."""
    assert await compute(cost_bytes, sorted, [2, 1, 3], reverse=True) == [3, 2, 1]
    with pytest.raises(ZeroDivisionError):
        await compute(cost_bytes, divmod, 1, 0)


async def test_a_step_that_nobody_waits_for_any_more_is_dropped() -> None:
    """A step that still waits for a thread when its caller leaves never runs; one that runs does no harm."""
    go_on = threading.Event()
    ran: list[int] = []
    running = [asyncio.ensure_future(compute(LONG_BYTES + 1, go_on.wait)) for _ in range(THREADS)]
    waiting = asyncio.ensure_future(compute(LONG_BYTES + 1, ran.append, 1))
    await settle()
    for task in (waiting, running[0]):
        task.cancel()
    await settle()
    assert waiting.cancelled()
    assert running[0].cancelled()
    go_on.set()
    await running[1]
    await compute(LONG_BYTES + 1, ran.append, 2)
    assert ran == [2]
