"""Every request of docs/api.md, sent as it stands there, on the embedded engine."""

from __future__ import annotations

import http.client
import json
import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.conftest import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import System

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
REQUESTS = re.findall(r"^```\n((?:GET|POST) /_es_rerank.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
INDEX = "films-manual"
FILMS = {
    "1": {"title": "Tin heart", "text": "A robot in love learns to dance."},
    "2": {"title": "Scrap", "text": "A robot is sold for scrap, and nobody asks why."},
    "3": {"title": "Love letters", "text": "Letters of love between two lighthouse keepers."},
}


@pytest.fixture(scope="module")
def system(osmem_url: str, system_on: Callable[[Engine], System], run_system: Callable[..., System]) -> System:
    """The system before films, with the store, so that runs can be asked for."""
    engine = Engine("osmem", osmem_url)
    engine.load(INDEX, FILMS)
    system_on(engine)  # its worker serves both
    rules = (
        '[store]\n[[rules]]\nname = "films"\nindices = ["films*"]\nfields = ["title", "text"]\nany_language = true\n'
    )
    return run_system(osmem_url, extra=rules + "deadline_s = 30.0\n")


@pytest.mark.parametrize("text", REQUESTS, ids=lambda text: text.splitlines()[0])
def test_the_request_is_answered(text: str, system: System) -> None:
    """It is answered with 200; a search is reranked, and the metric finds the film about a robot in love first."""
    head, _, body = text.replace("films", INDEX).partition("\n")
    method, target = head.split()
    with closing(http.client.HTTPConnection(urlsplit(system.url).netloc, timeout=60)) as connection:
        connection.request(method, target, body.encode() or None, {"content-type": "application/json"})
        reply = connection.getresponse()
        said = reply.read().decode()
    assert reply.status == 200, said
    if "_explain" in target:
        told = json.loads(said)
        assert (told["status"]["status"], told["hits"][0]["cached"]) in (("full", True), ("full", False))
    if "_rank_eval" in target:
        told = json.loads(said)
        assert (told["metric_score"], set(told)) == (
            1.0,
            {"metric_score", "details", "failures", "engine", "_es_rerank"},
        )
