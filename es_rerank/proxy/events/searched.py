"""One search that was to be reranked, as much as its event tells of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from es_rerank.proxy.events.names import answered_names, names_of
from es_rerank.proxy.search.call import opaque_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.events.names import Names
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.decide import Rerank
    from es_rerank.proxy.search.render import Verdict
    from es_rerank.proxy.search.window import EngineAnswer

# As much of a query as the mapping indexes as one keyword; it also bounds what waits to be written.
MAX_QUERY_CHARACTERS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A search that a rule covers, and that was decided to be reranked.

    `found` are the hits that the engine found, and `verdict` has the window's new order and judgments. Both are None
    where the client got the answer to its own search, in which es-rerank reads no hits.
    """

    names: Names
    opaque_id: str | None
    expression: str
    rules_version: str
    decision: Rerank
    found: EngineAnswer | None = None
    verdict: Verdict | None = None

    @property
    def user_query(self) -> str:
        """What the user asked, else the question that is scored: its first MAX_QUERY_CHARACTERS characters."""
        return (self.names.user_query or self.decision.scoring.question)[:MAX_QUERY_CHARACTERS]

    def with_hits(self, found: EngineAnswer, verdict: Verdict, decision: Rerank) -> Searched:
        """The same with its hits, their new order, and the decision by which they have it.

        If the engine's own plug-in gave the search an id, that is its id now.
        """
        names = answered_names(self.names, found.top)
        return replace(self, names=names, found=found, verdict=verdict, decision=decision)


def searched_of(
    call: SearchCall, asked: Mapping[str, Any], decision: Rerank, *, rules_version: str, new_id: str
) -> Searched:
    """A search before the engine was asked. `asked` is what it asks of es-rerank; `new_id` names it if it has no id."""
    return Searched(
        names=names_of(call, asked, new_id=new_id),
        opaque_id=opaque_id(call.carrier.request),
        expression=call.expression,
        rules_version=rules_version,
        decision=decision,
    )
