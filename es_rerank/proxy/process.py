"""Computes in a process of its own what would hold up every search here: only one thread at a time runs Python."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from typing import TYPE_CHECKING, Any, TypeVar

from es_rerank.errors import EsRerankError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

Result = TypeVar("Result")


class ComputingError(EsRerankError):
    """The process that computed is gone, without a result."""


async def in_process(
    function: Callable[[Any, Callable[[int, int], None]], Result], given: Any, progress: Callable[[int, int], None]
) -> Result:
    """What a function of a module gives for this value; its exceptions are raised here.

    Its second argument is to be called with how much is done, and of how much; so is `progress` then, here. If the
    caller is cancelled, the process is killed. Raises ComputingError if it ends by itself, for want of memory say.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit every connection
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, function), daemon=True)
    process.start()  # takes some milliseconds; what is given may be much, and is sent beside the event loop
    theirs.close()  # so that its end is seen
    try:
        await asyncio.to_thread(ours.send, given)
        kind, value = await asyncio.to_thread(ours.recv)
        while kind == "progress":
            progress(*value)
            kind, value = await asyncio.to_thread(ours.recv)
    except (EOFError, OSError) as error:
        raise ComputingError("the process that computed has ended without a result; was its memory full?") from error
    finally:
        process.kill()  # whoever is cancelled again while it ends has killed it nevertheless
        await asyncio.to_thread(process.join)
        ours.close()
    if kind == "error":
        raise value
    result: Result = value
    return result


def _work(answers: Connection, function: Callable[[Any, Callable[[int, int], None]], Any]) -> None:
    """What the other process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that waits
    given = answers.recv()
    try:
        result = function(given, lambda done, total: answers.send(("progress", (done, total))))
    except Exception as error:  # noqa: BLE001  it is raised where somebody waits
        answers.send(("error", error))
    else:
        answers.send(("result", result))
