"""The jobs that run in this process: replays, sweeps and comparisons. What they do is written in `proxy/own`."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from typing import TYPE_CHECKING

from es_rerank.supervised import end

if TYPE_CHECKING:
    from collections.abc import Coroutine

# How long the jobs have to say in their documents that they end, when the process stops.
LAST_WORDS_S = 3.0


class Jobs:
    """The running jobs by kind and id. `proxy` names this process among all proxies, and is another after a restart."""

    def __init__(self) -> None:
        self.proxy = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.computing = asyncio.Semaphore(1)
        """Held by the one job that computes: others of its kind wait for it, so that one core at most is busy."""
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    def start(self, kind: str, identity: str, work: Coroutine[None, None, None]) -> None:
        """Run a job until it ends or the process stops; then it is cancelled, and may say so in its document."""
        task = asyncio.create_task(work)
        self._running[kind, identity] = task
        task.add_done_callback(lambda _: self._running.pop((kind, identity), None))

    def runs(self, kind: str, identity: str) -> bool:
        """Whether this process runs the job."""
        return (kind, identity) in self._running

    def count(self, kind: str) -> int:
        """How many jobs of a kind this process runs."""
        return sum(1 for running, _ in self._running if running == kind)

    async def close(self) -> None:
        """End all jobs."""
        tasks = [*self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_WORDS_S)
        for task in tasks:
            await end(task)
