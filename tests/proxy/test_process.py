"""What is computed in a process of its own: its result, its error and its progress come back, and it ends with us."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from es_rerank.errors import CallerError
from es_rerank.proxy.process import ComputingError, in_process

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_S = 600.0


def double(given: int, progress: Callable[[int, int], None]) -> int:
    """Twice the number."""
    progress(1, 2)
    progress(2, 2)
    return 2 * given


def refuse(given: str, progress: Callable[[int, int], None]) -> None:
    """An error on purpose."""
    raise CallerError(given, status=409)


def end_at_once(_: None, progress: Callable[[int, int], None]) -> None:
    """A process that is killed, as by the kernel when memory is full."""
    os.kill(os.getpid(), signal.SIGKILL)


def tell_and_wait(_: None, progress: Callable[[int, int], None]) -> None:
    """Says its number, and goes on for long."""
    progress(os.getpid(), 0)
    time.sleep(LONG_S)


async def test_the_result_and_the_progress_come_back() -> None:
    """In the order in which they were told."""
    told: list[tuple[int, int]] = []
    assert await in_process(double, 21, lambda done, total: told.append((done, total))) == 42
    assert told == [(1, 2), (2, 2)]


async def test_an_error_is_raised_where_somebody_waits() -> None:
    """With its text."""
    with pytest.raises(CallerError, match="not now"):
        await in_process(refuse, "not now", lambda _, __: None)


async def test_a_process_that_is_gone_is_an_error() -> None:
    """It says what may have happened."""
    with pytest.raises(ComputingError, match="was its memory full"):
        await in_process(end_at_once, None, lambda _, __: None)


async def test_nothing_computes_where_nobody_waits() -> None:
    """Who is cancelled leaves no process behind."""
    told: asyncio.Queue[int] = asyncio.Queue()
    waiting = asyncio.create_task(in_process(tell_and_wait, None, lambda number, _: told.put_nowait(number)))
    number = await told.get()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
