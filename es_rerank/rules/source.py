"""Where the book in force comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from es_rerank.rules.book import RuleBook


class RuleSource(Protocol):
    """Gives the book in force. It may be another one at the next reading, so a search reads it once."""

    @property
    def book(self) -> RuleBook:
        """The book in force now."""
        ...


class FileRules:
    """The rules of the configuration file, which don't change while the process runs."""

    def __init__(self, book: RuleBook) -> None:
        self._book = book

    @property
    def book(self) -> RuleBook:
        """See `RuleSource`."""
        return self._book
