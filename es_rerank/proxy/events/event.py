"""The event of a search, and the rows of the hits that it showed: flat documents, made from frozen values. Pure.

Their fields are those of EVENTS and HITS in `es_rerank.store.indices`; docs/events.md says what each means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from es_rerank.proxy.events.movement import movement_of
from es_rerank.proxy.search.render import page_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from es_rerank.proxy.events.privacy import KeptQuery
    from es_rerank.proxy.events.searched import Searched
    from es_rerank.proxy.search.render import Verdict
    from es_rerank.proxy.search.status import SearchStatus


class SearchEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What became of one search. A field that does not apply to it is None, and is not written."""

    timestamp: datetime
    query_id: str
    user_query: str | None = None
    user_query_hash: str | None = None
    client_id: str | None = None
    application: str | None = None
    opaque_id: str | None = None
    index: str
    rule: str
    rules_version: str
    scorer: str
    mode: str | None = None
    first_stage: str
    status: str
    reason: str | None = None
    window: int
    scored: int
    cached: int
    missing: int
    missing_text: int
    cache_hit_ratio: float | None = None
    think_tokens: int | None = None
    cut: int
    low_mass: int
    truncated: int
    page_from: int
    page_size: int
    alpha: float
    method: str
    took_total_ms: float | None = None
    took_engine_ms: float | None = None
    took_read_ms: float | None = None
    took_cache_ms: float | None = None
    took_score_ms: float | None = None
    took_reasoning_ms: float | None = None
    took_fuse_ms: float | None = None
    took_write_ms: float | None = None
    saved_score_ms: float | None = None
    overlap_at_10: float | None = None
    moved_mean: float | None = None
    moved_max: int | None = None
    proxy: str


class ShownHit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One hit of the page that a search was answered with."""

    timestamp: datetime
    query_id: str
    user_query: str | None = None
    user_query_hash: str | None = None
    client_id: str | None = None
    application: str | None = None
    index: str
    rule: str
    scorer: str
    hit_index: str
    object_id: str
    engine_score: float
    rank_score: float | None = None
    fused_score: float | None = None
    engine_rank: int
    rank_score_rank: int | None = None
    position: int
    moved: int


def leaves_event(status: SearchStatus) -> bool:
    """Whether a search that was to be reranked leaves an event: not where it found system indices, ours among them."""
    return status.reason != "system_index"


def event_of(
    searched: Searched,
    status: SearchStatus,
    *,
    kept: KeptQuery,
    saved_ms: float | None,
    timestamp: datetime,
    proxy: str,
) -> SearchEvent:
    """The event of a search. `saved_ms` is what its cached scores saved, `proxy` the name of this process."""
    names, decision, took_ms = searched.names, searched.decision, status.took_ms
    verdict = searched.verdict
    moved = movement_of(verdict.ranked.ranking.order) if verdict is not None and verdict.ranked.reranked else None
    with_text = status.window - status.missing_text
    return SearchEvent(
        timestamp=timestamp,
        query_id=names.query_id,
        user_query=kept.user_query,
        user_query_hash=kept.user_query_hash,
        client_id=names.client_id,
        application=names.application,
        opaque_id=searched.opaque_id,
        index=searched.expression,
        rule=decision.rule,
        rules_version=searched.rules_version,
        scorer=decision.scorer,
        mode=decision.mode,
        first_stage=decision.first_stage,
        status=status.status,
        reason=status.reason,
        window=status.window,
        scored=status.scored,
        cached=status.cached,
        missing=status.window - status.scored,
        missing_text=status.missing_text,
        cache_hit_ratio=status.cached / with_text if with_text else None,
        think_tokens=_think_tokens(verdict) if verdict is not None and decision.mode is not None else None,
        cut=status.cut,
        low_mass=status.low_mass,
        truncated=status.truncated,
        page_from=decision.page.start,
        page_size=decision.page.size,
        alpha=decision.recipe.alpha,
        method=decision.recipe.method,
        took_total_ms=took_ms.get("total"),
        took_engine_ms=took_ms.get("engine"),
        took_read_ms=took_ms.get("read"),
        took_cache_ms=took_ms.get("cache"),
        took_score_ms=took_ms.get("score"),
        took_reasoning_ms=took_ms.get("reasoning"),
        took_fuse_ms=took_ms.get("fuse"),
        took_write_ms=took_ms.get("write"),
        saved_score_ms=saved_ms if status.window else None,
        overlap_at_10=None if moved is None else moved.overlap,
        moved_mean=None if moved is None else moved.mean,
        moved_max=None if moved is None else moved.most,
        proxy=proxy,
    )


def shown_hits_of(searched: Searched, event: SearchEvent) -> list[ShownHit]:
    """A row for each hit of the page, in the order that was shown; none where the page is not known.

    Hits behind the window have the engine's place, and no rank score.
    """
    found, verdict = searched.found, searched.verdict
    if found is None or verdict is None:
        return []
    ranked = verdict.ranked
    rank_score_ranks = _ranks(ranked.rank_scores)
    rows = []
    for place, index in page_of(found, searched.decision.page, verdict):
        inside = index < len(ranked.rank_scores)
        hit_index, object_id = found.ids[index]
        rows.append(
            ShownHit(
                timestamp=event.timestamp,
                query_id=event.query_id,
                user_query=event.user_query,
                user_query_hash=event.user_query_hash,
                client_id=event.client_id,
                application=event.application,
                index=event.index,
                rule=event.rule,
                scorer=event.scorer,
                hit_index=hit_index,
                object_id=object_id,
                engine_score=found.scores[index],
                rank_score=ranked.rank_scores[index] if inside else None,
                fused_score=ranked.ranking.fused_scores[index] if inside else None,
                engine_rank=index + 1,
                rank_score_rank=rank_score_ranks.get(index),
                position=place + 1,
                moved=index - place,
            )
        )
    return rows


def _think_tokens(verdict: Verdict) -> int:
    return sum(one.think_tokens for one in verdict.judgments if one is not None)


def _ranks(scores: Sequence[float | None]) -> dict[int, int]:
    """By place in the window, the rank by rank score alone, from 1 on; ties in engine order."""
    scored = [(-score, index) for index, score in enumerate(scores) if score is not None]
    return {index: rank for rank, (_, index) in enumerate(sorted(scored), start=1)}
