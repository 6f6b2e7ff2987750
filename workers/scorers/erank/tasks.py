"""Work that is done at the same time, of which nothing runs on when its caller has ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

T = TypeVar("T")


async def all_of(work: Sequence[Awaitable[T]]) -> list[T]:
    """The results in order; where one raises, or the caller is cancelled, the others are dropped."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await drop(tasks)


async def drop(tasks: Iterable[asyncio.Future[T]]) -> None:
    """Cancel these tasks and wait until they have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
    for task in ending:
        if not task.cancelled():
            task.exception()  # the first error was raised already, the others have nothing to add
