"""Runs sessions of official clients, each in a process of its own, and compares what they saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ENGINES_REQUIRED

CLIENTS_DIR = Path(__file__).parents[2] / ".clients"
PACKAGES = {"elasticsearch8": "elasticsearch", "elasticsearch9": "elasticsearch", "opensearch-py3": "opensearchpy"}
SESSION_LIMIT_S = 120


def run_session(client: str, url: str, *options: str) -> dict[str, Any]:
    """The transcript of one session of a client with a URL; skips the test where the client is missing."""
    return run_program("session.py", client, PACKAGES[client], url, *options)


def run_program(name: str, client: str, *arguments: str) -> dict[str, Any]:
    """What a program beside this file prints, run with a client; skips the test where the client is missing."""
    folder = CLIENTS_DIR / client
    if not folder.is_dir():
        if ENGINES_REQUIRED:
            pytest.fail(f"{folder} is missing, and ES_RERANK_REQUIRE_ENGINES=1")
        pytest.skip(f"{folder} is missing: run `make install-dev`")
    command = [sys.executable, str(Path(__file__).parent / name), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SESSION_LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    transcript: dict[str, Any] = json.loads(done.stdout)
    return transcript


def assert_same(direct: dict[str, Any], proxied: dict[str, Any]) -> None:
    """All calls gave the same, and hits that may be reordered are at least the same hits."""
    assert list(proxied["calls"]) == list(direct["calls"])
    for name, outcome in direct["calls"].items():
        assert proxied["calls"][name] == outcome, name
    assert {name: sorted(ids) for name, ids in proxied["orders"].items()} == {
        name: sorted(ids) for name, ids in direct["orders"].items()
    }
