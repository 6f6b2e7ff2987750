"""Child processes that never outlive their parent: started, awaited, ended in reverse order.

Each child asks the kernel to kill it when its parent dies, so that not even SIGKILL of the parent leaves one behind.
Knows nothing of what it starts.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from es_rerank.errors import EsRerankError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

GRACE_S = 10.0
POLL_S = 0.05
LOG_TAIL_LINES = 15


class ProcessError(EsRerankError):
    """A child could not be started, or ended by itself; the text has the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A running child process and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines of its log, for people."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"  | {line}" for line in lines)


class Supervisor:
    """Children of this process. A context manager: leaving it ends all of them, the last started first.

    Start children from the main thread: for the kernel, a child's parent ends when the thread that started it ends.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        """Make the folder for logs."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        """End all children: each by SIGTERM, and ten seconds later by SIGKILL."""
        for child in reversed(self._children):
            self.end(child)

    def start(self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Child:
        """Start one child. Raises ProcessError where its program can't be run."""
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise ProcessError("the program setpriv is missing (Debian package util-linux): install it")
        log = self._log_dir / f"{name}.log"
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [setpriv, "--pdeathsig", "KILL", "--", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # a Ctrl-C at the terminal reaches only the parent
                )
        except OSError as error:
            raise ProcessError(f"{name} cannot be started: {error}") from error
        child = Child(name=name, process=process, log=log)
        self._children.append(child)
        return child

    def await_ready(self, child: Child, is_ready: Callable[[], bool], *, limit_s: float) -> None:
        """Wait until `is_ready`. Raises ProcessError when the child ends first, or `limit_s` is over."""
        give_up_s = time.monotonic() + limit_s
        while not is_ready():
            if child.process.poll() is not None:
                raise ProcessError(
                    f"{child.name} ended by itself with code {child.process.returncode}:\n{child.tail()}"
                )
            if time.monotonic() > give_up_s:
                raise ProcessError(f"{child.name} was not ready within {limit_s:.0f} s:\n{child.tail()}")
            time.sleep(POLL_S)

    def ended(self) -> Child | None:
        """A child that ended without being told to, or None."""
        return next((child for child in self._children if child.process.poll() is not None), None)

    def end(self, child: Child) -> None:
        """End one child and forget it."""
        if child in self._children:
            self._children.remove(child)
        child.process.terminate()
        try:
            child.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


def is_listening(port: int) -> bool:
    """Whether something accepts connections on 127.0.0.1:`port`."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
