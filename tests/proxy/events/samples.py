"""Searches with their events for tests: made from the values that matter, by the code that a search runs through."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from es_rerank.fusion.rank import Recipe, rank
from es_rerank.judgment import Judgment
from es_rerank.proxy.events.event import event_of
from es_rerank.proxy.events.names import Names
from es_rerank.proxy.events.privacy import KeptQuery
from es_rerank.proxy.events.searched import Searched
from es_rerank.proxy.search.render import Verdict
from es_rerank.proxy.search.status import SearchStatus
from es_rerank.proxy.search.window import EngineAnswer
from tests.proxy.search.calls import decision_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.proxy.events.event import SearchEvent

TIME = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
NAMES = Names(query_id="q-1", user_query="moon")


def searched_with(
    scores: Sequence[float | None] = (1.0, 9.0, 5.0), *, behind: int = 0, start: int = 0, size: int = 10, **changes: Any
) -> Searched:
    """A search whose window has these rank scores, in engine order, and that found `behind` more hits.

    Its order is that of the rank scores alone.
    """
    count = len(scores) + behind
    found = EngineAnswer(
        top={},
        hits_object={},
        hits=({},) * count,
        ids=tuple(("films", str(number)) for number in range(count)),
        scores=tuple(float(count - number) for number in range(count)),
        complete=True,
        shards_failed=False,
    )
    judgments = tuple(None if score is None else Judgment(rank_score=score, think_tokens=7) for score in scores)
    recipe = Recipe(method="zscore", alpha=0.0, score="paper")
    ranked = rank(found.scores[: len(scores)], judgments, recipe)
    searched = Searched(
        names=NAMES,
        opaque_id=None,
        expression="films",
        rules_version="v1",
        decision=decision_of("text", start=start, size=size),
        found=found,
        verdict=Verdict(ranked=ranked, judgments=judgments),
    )
    return replace(searched, **changes)


def status_with(**values: Any) -> SearchStatus:
    """The status of a search that was reranked in full, but for these values."""
    took_ms = {"engine": 4.0, "score": 30.0, "total": 40.0}
    usual: dict[str, Any] = {"status": "full", "window": 3, "scored": 3, "took_ms": took_ms}
    return SearchStatus(**{**usual, **values})


def event_with(searched: Searched, status: SearchStatus | None = None, *, kept: KeptQuery | None = None) -> SearchEvent:
    """The event of a search."""
    return event_of(
        searched,
        status or status_with(),
        kept=kept or KeptQuery(),
        saved_ms=None,
        timestamp=TIME,
        proxy="here:1",
    )
