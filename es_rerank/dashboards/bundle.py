"""All dashboards as one file: how it is made, and the one that is shipped."""

from __future__ import annotations

from importlib.resources import files

from es_rerank.dashboards.clicks import clicks
from es_rerank.dashboards.movement import movement
from es_rerank.dashboards.patterns import PATTERNS
from es_rerank.dashboards.relevance import relevance
from es_rerank.dashboards.service import service

FILE_NAME = "es-rerank.ndjson"


def render() -> str:
    """The file: a saved object a line, each before those that refer to it, the same bytes each time."""
    patterns = [pattern.saved() for pattern in PATTERNS]
    boards = [saved for board in (service(), relevance(), movement(), clicks()) for saved in board.saved()]
    return "".join(f"{saved.line()}\n" for saved in (*patterns, *boards))


def shipped() -> bytes:
    """The file as it lies in the package."""
    return files("es_rerank.dashboards").joinpath(FILE_NAME).read_bytes()
