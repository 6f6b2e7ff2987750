"""All dashboards as one file, made from code."""

from __future__ import annotations

from es_rerank.dashboards.clicks import clicks
from es_rerank.dashboards.movement import movement
from es_rerank.dashboards.patterns import PATTERNS
from es_rerank.dashboards.relevance import relevance
from es_rerank.dashboards.service import service


def render() -> str:
    """The file: a saved object a line, each before those that refer to it, the same bytes each time."""
    patterns = [pattern.saved() for pattern in PATTERNS]
    boards = [saved for board in (service(), relevance(), movement(), clicks()) for saved in board.saved()]
    return "".join(f"{saved.line()}\n" for saved in (*patterns, *boards))
