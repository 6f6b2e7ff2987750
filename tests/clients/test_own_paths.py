"""Official clients take our own paths: the product check, the media types and the errors are the engine's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.transcript import PACKAGES, run_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

pytestmark = pytest.mark.engines

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
    engine: Engine = request.getfixturevalue(name)
    engine.load(INDEX, FILMS)
    system = system_on(engine)
    answers = run_program("own_paths.py", client, PACKAGES[client], system.url, INDEX)
    assert answers["root"]["name"] == "es-rerank"
    assert answers["stats"]["uptime_s"] > 0
    assert [rule["name"] for rule in answers["table"]] == ["films", "prose"]
    assert answers["explain"]["status"]["status"] == "full"
    assert len(answers["evaluation"]["details"]["a"]["hits"]) == 3
    assert answers["missing"] == 404
