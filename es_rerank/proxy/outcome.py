"""What becomes of a search, and of a request that holds one or many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_rerank.fusion.rank import Window
    from es_rerank.proxy.events.searched import Searched
    from es_rerank.proxy.search.status import SearchStatus
    from es_rerank.records import Reply, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSearch:
    """What became of one search. `searched` is what its event tells of it, None where it leaves none."""

    expression: str
    status: SearchStatus
    searched: Searched | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A complete `reply`, or a request to `forward`, whose answer goes through as it comes.

    Exactly one of the two is set. `searches` are in order; those that asked us for what isn't allowed are left out.
    """

    searches: tuple[OneSearch, ...]
    reply: Reply | None = None
    forward: Request | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome:
    """What becomes of a search that is a request of its own, by the same rule as for an `Outcome`.

    `window` is what was ranked, None where nothing was. `searched` is what an event tells of the search, None where it
    leaves none.
    """

    status: SearchStatus
    reply: Reply | None = None
    forward: Request | None = None
    window: Window | None = None
    searched: Searched | None = None

    def as_request(self, expression: str) -> Outcome:
        """The outcome of the request. `expression` is the index expression of the search."""
        search = OneSearch(expression=expression, status=self.status, searched=self.searched)
        return Outcome(searches=(search,), reply=self.reply, forward=self.forward)
