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

    def named_by(self, found: EngineAnswer) -> Searched:
        """The same with the id that the engine's own plug-in gave the search, if it did."""
        return replace(self, names=answered_names(self.names, found.top))

    def with_hits(self, found: EngineAnswer, verdict: Verdict) -> Searched:
        """The same with its hits and their new order."""
        return replace(self, found=found, verdict=verdict)


def searched_of(
    call: SearchCall, asked: Mapping[str, Any], decision: Rerank, *, rules_version: str, new_id: str
) -> Searched:
    """A search before the engine was asked. `asked` is what it asks of es-rerank; `new_id` names it if it has no id."""
    return Searched(
        names=names_of(call, asked, question=decision.scoring.question, new_id=new_id),
        opaque_id=opaque_id(call.carrier.request),
        expression=call.expression,
        rules_version=rules_version,
        decision=decision,
    )
