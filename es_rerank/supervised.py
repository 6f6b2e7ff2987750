"""The one way to keep a task running that others rely on: nothing but a cancellation ends it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from es_rerank.outage import REDIS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from es_rerank.outage import Outage

LOG = logging.getLogger(__name__)


# Redis's client loses a cancellation that comes while it connects or is about to answer, so it is repeated.
CANCEL_AGAIN_S = 0.1


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel a task, as often as it takes, and wait until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_S)


async def keep_running(use: str, work: Callable[[], Awaitable[None]], *, pause_s: float, outage: Outage) -> None:
    """Run `work` until it returns; begin it again after a pause, whatever it raises.

    Errors of Redis go to the outage, under the name of the `use`; `work` itself says there when it went well. Any other
    error is a fault of ours: its traceback is logged, once as long as it is the same.
    """
    last = ""
    while True:
        try:
            await work()
        except REDIS_ERRORS as error:
            outage.failed(use, error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            outage.failed(use, error)  # a library's own cancellation, of something that we awaited
        except Exception as error:
            outage.failed(use, error)
            if repr(error) != last:
                last = repr(error)
                LOG.exception("%s broke off and begins again", use)
        else:
            return
        await asyncio.sleep(pause_s)
