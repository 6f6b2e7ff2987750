"""Where the book in force comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.rules.book import make_book
from es_rerank.rules.source import FileRules
from es_rerank.tables import LimitSettings

if TYPE_CHECKING:
    from es_rerank.rules.source import RuleSource


def test_the_file_s_book_stays() -> None:
    """Every reading gives the one book that the configuration made."""
    book = make_book([], {}, LimitSettings())
    source: RuleSource = FileRules(book)
    assert source.book is source.book is book
