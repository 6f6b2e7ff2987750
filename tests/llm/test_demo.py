"""The demo on vLLM, as a user starts it."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from tests.demo.test_demo import await_end_of, running

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_S = 280
POLL_S = 0.5
# Redis, the engine, worker and proxy; and vLLM's own below the worker.
FEWEST_PROCESSES = 5


def test_the_demo_shows_what_the_model_thought(smollm2: Path, tmp_path: Path) -> None:
    """It first says how long it takes, shows reasoning, again from the cache, says its worth, and leaves nothing.

    Its processes are collected while it runs: vLLM's have no name by which they could be found afterwards.
    """
    give_up_s = time.monotonic() + LIMIT_S
    started: set[tuple[int, str]] = set()
    with running(tmp_path, "--scorer", "vllm", "--exit") as run:
        while True:
            started |= run.descendants()
            try:
                said, progress = run.process.communicate(timeout=POLL_S)
                break
            except subprocess.TimeoutExpired:
                assert time.monotonic() < give_up_s
        await_end_of(started)
    assert run.process.returncode == 0, progress
    assert len(started) >= FEWEST_PROCESSES
    assert "minutes" in progress.splitlines()[0]
    assert "0 of 48 scores came from the cache" in progress
    assert "12 of 12 scores came from the cache" in progress
    assert said.count(" tokens\n") == 6
    assert "worth nothing" in said
    assert "mean of" not in said
    first, second, again = (
        part.partition("\n\n")[0] for part in said.split("what the model thought of its first 2 hits\n")[1:]
    )
    assert again == first != second
