"""Runs what takes long to compute for one caller in threads, so that the others' requests go on meanwhile.

The pool is one for the process, because what it is sparing with is: only one thread at a time runs Python.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Given = ParamSpec("Given")
Result = TypeVar("Result")

# Opening, writing or packing so many bytes takes 1 to 3 ms, and the way to a thread and back 0.05 ms.
LONG_BYTES = 256 * 1024
# More would not compute faster, and the event loop would wait for its turn behind each of them.
THREADS = 2
# How long a thread may keep the event loop waiting for its turn: 5 ms if this is not set, and the loop takes a turn for
# every event of every connection.
SWITCH_S = 0.0005


def _switch_often() -> None:
    sys.setswitchinterval(SWITCH_S)


_THREADS = ThreadPoolExecutor(THREADS, thread_name_prefix="compute", initializer=_switch_often)


async def compute(cost_bytes: int, step: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
    """What a pure step gives for these values; its exceptions are raised here.

    `cost_bytes` says how much there is to compute: as much as opening so many bytes of an engine's answer. Up to
    LONG_BYTES the step runs at once, without a thread. A longer one waits until one of the threads is free. If the
    caller is cancelled meanwhile, a step that waits is dropped, and the result of one that runs is.
    """
    if cost_bytes <= LONG_BYTES:
        return step(*given, **named)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(step, *given, **named))
