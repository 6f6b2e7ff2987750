"""The demo on vLLM, as a user starts it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from es_rerank.demo.processes import free_port
from tests.conftest import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_S = 280


def test_the_demo_shows_what_the_model_thought(smollm2: Path, tmp_path: Path) -> None:
    """It states its time first, shows reasoning and a second time from the cache, and says what it is worth."""
    command = [*COMMAND, "demo", "--scorer", "vllm", "--exit", "--port", str(free_port()), "--dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "minutes" in ended.stderr.splitlines()[0]
    assert "0 of 48 scores came from the cache" in ended.stderr
    assert "12 of 12 scores came from the cache" in ended.stderr
    assert ended.stdout.count("what the model thought of its first 2 hits") == 2
    assert ended.stdout.count(" tokens") == 4
    assert "worth nothing" in ended.stdout
    assert "nDCG@10 " not in ended.stdout.partition("what the model thought")[2]
    found = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False)
    assert not found.stdout
