"""Ends vLLM's engine processes with the worker that started them: a plug-in that vLLM loads in each of its processes.

A worker that is killed can't end vLLM's engine, which would live on and hold the GPU. The plug-in is registered as an
entry point (pyproject.toml, group vllm.general_plugins). It knows nothing else of es-rerank and must import fast.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time

HOST_VARIABLE = "ES_RERANK_ENGINE_HOST_PID"
GRACE_S = 5.0


def watch_host() -> None:
    """In an engine process of a worker, end this process once the worker has ended: by SIGTERM, then by SIGKILL.

    In any other process it does nothing. The engine process also leaves the terminal's process group, so that a Ctrl-C
    reaches only the worker, which finishes its running queries and then ends the engine.
    """
    host = os.environ.get(HOST_VARIABLE, "")
    if not host.isdigit() or int(host) == os.getpid():
        return
    if os.getpgrp() == _group_of(int(host)):
        os.setpgid(0, 0)
    try:
        descriptor = os.pidfd_open(int(host))
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
        return
    threading.Thread(target=_end_after, args=(descriptor,), name="es-rerank-guard", daemon=True).start()


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _end_after(descriptor: int) -> None:
    select.select([descriptor], [], [])  # a pidfd is readable once its process has ended
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
