"""Official clients take our own paths: the product check, the media types and the errors are the engine's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients.transcript import CLIENTS_DIR, PACKAGES, SESSION_LIMIT_S
from tests.conftest import ENGINES_REQUIRED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines

SCRIPT = Path(__file__).parent / "own_paths.py"
INDEX = "films-own-paths"
FILMS = {str(number): {"text": f"A robot in love, part {number}."} for number in range(5)}


@pytest.mark.parametrize(
    ("name", "client"),
    [
        ("opensearch", "opensearch-py3"),
        ("elasticsearch", "elasticsearch8"),
        ("elasticsearch9", "elasticsearch8"),
        ("elasticsearch9", "elasticsearch9"),
    ],
)
def test_a_client_takes_our_answers(
    name: str, client: str, request: pytest.FixtureRequest, system_on: Callable[[Engine], System]
) -> None:
    """Values come back parsed, and an error is the client's own exception."""
    if not (CLIENTS_DIR / client).is_dir():
        if ENGINES_REQUIRED:
            pytest.fail(f"{CLIENTS_DIR / client} is missing, and ES_RERANK_REQUIRE_ENGINES=1")
        pytest.skip(f"{CLIENTS_DIR / client} is missing: run `make install-dev`")
    engine: Engine = request.getfixturevalue(name)
    engine.load(INDEX, FILMS)
    system = system_on(engine)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), PACKAGES[client], system.url, INDEX],
        env={**os.environ, "PYTHONPATH": str(CLIENTS_DIR / client)},
        capture_output=True,
        text=True,
        timeout=SESSION_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers["root"]["name"] == "es-rerank"
    assert answers["stats"]["uptime_s"] > 0
    assert [rule["name"] for rule in answers["table"]] == ["films", "prose"]
    assert answers["explain"]["status"]["status"] == "full"
    assert len(answers["evaluation"]["details"]["a"]["hits"]) == 3
    assert answers["missing"] == 404
