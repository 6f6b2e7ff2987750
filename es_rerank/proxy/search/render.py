"""Renders the answer: the page of the new ranking in the engine's own shape, nothing else changed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.fusion.scale import float32_text, scale_to_engine, to_float32
from es_rerank.proxy.search.cursor import place_behind
from es_rerank.proxy.search.decide import Page
from es_rerank.proxy.search.explanation import explanation_of, fused_hits
from es_rerank.proxy.search.source_filter import cut_source
from es_rerank.rawjson import RAW_LIST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.fusion.fuse import Ranking
    from es_rerank.fusion.rank import Ranked
    from es_rerank.judgment import Judgment
    from es_rerank.proxy.search.decide import Rerank
    from es_rerank.proxy.search.explanation import FusedHit
    from es_rerank.proxy.search.window import EngineAnswer, WindowPlan
    from es_rerank.rawjson import RawObject

BLOCK = "_es_rerank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is known of the window: its new order, and its judgments, parallel to it with None for gaps.

    `from_cache`, parallel too, says whose judgment came from the cache; it is () where nothing was judged. `reasoning`
    holds, by place in the window, what was thought about hits of the page.
    """

    ranked: Ranked
    judgments: Sequence[Judgment | None]
    from_cache: Sequence[bool] = ()
    reasoning: Mapping[int, str] = field(default_factory=dict)


def render_answer(answer: EngineAnswer, plan: WindowPlan, decision: Rerank, verdict: Verdict) -> dict[str, Any]:
    """The answer's top-level members, with the client's page of the ranked window and the engine's hits after it."""
    ranked = verdict.ranked
    order = ranked.ranking.order
    window_scores = answer.scores[: len(order)]
    reranked = ranked.reranked
    scaled = _shown_scores(answer, decision, ranked)
    page = page_of(answer, decision.page, ranked.ranking)
    explained: Mapping[int, FusedHit] = {}
    if reranked and any("_explanation" in answer.hits[index] for _, index in page):
        explained = fused_hits(window_scores, ranked, verdict.from_cache, decision.recipe.method)
    hits: list[dict[str, Any]] = []
    for place, index in page:
        hit = _as_shown(answer.hits[index], plan)
        if reranked and place < len(order):
            hit = _with_score(hit, scaled[place])
        if index in explained and "_explanation" in hit:
            hit["_explanation"] = explanation_of(hit["_score"], explained[index], decision, hit["_explanation"])
        block: dict[str, Any] = {}
        if "scores" in decision.include:
            block = _scores_of(index, answer, verdict)
        if "reasoning" in decision.include:
            block["reasoning"] = verdict.reasoning.get(index)
        if block:
            hit = {**hit, BLOCK: block}
        hits.append(hit)
    hits_object: dict[str, Any] = {**answer.hits_object, "hits": hits}
    if reranked and bytes(answer.hits_object.get("max_score", msgspec.Raw(b"null"))) != b"null":
        hits_object["max_score"] = _number(scaled[0])
    return {**answer.top, "hits": hits_object}


def turned(answer: EngineAnswer, decision: Rerank, ranked: Ranked) -> Rerank:
    """The decision with the page that its cursor means in this order; the same again if it has no cursor (any more)."""
    if decision.cursor is None:
        return decision
    shown = [to_float32(score) for score in _shown_scores(answer, decision, ranked)]
    sorts = [bytes(hit.get("sort", b"[]")) for hit in answer.hits]
    start = place_behind(decision.cursor, ranked.ranking.order, shown, sorts)
    return replace(decision, cursor=None, page=Page(start=start, size=decision.page.size))


def _shown_scores(answer: EngineAnswer, decision: Rerank, ranked: Ranked) -> tuple[float, ...]:
    """The `_score` of each place of the window. In a point in time, hits of the window lie above those behind it."""
    window_scores = answer.scores[: len(ranked.ranking.order)]
    if not ranked.reranked:
        return window_scores
    return scale_to_engine(window_scores, ranked.ranking, above_lowest=decision.in_point)


def page_of(answer: EngineAnswer, page: Page, ranking: Ranking) -> list[tuple[int, int]]:
    """The page's places in the new order, each with the hit's index in the engine's."""
    order = ranking.order
    places = range(page.start, min(page.end, len(answer.hits)))
    return [(place, order[place] if place < len(order) else place) for place in places]


def _with_score(hit: dict[str, Any], score: float) -> dict[str, Any]:
    """The hit with its new score, in `_score` and, if it has `sort`, as the first value there."""
    changed = {**hit, "_score": _number(score)}
    if bytes(hit.get("sort", b""))[:1] == b"[":
        changed["sort"] = [_number(score), *RAW_LIST.decode(hit["sort"])[1:]]
    return changed


def _as_shown(hit: RawObject, plan: WindowPlan) -> dict[str, Any]:
    """The hit with just what the client sees of `_source`."""
    kept: dict[str, Any] = dict(hit)
    if plan.cut is not None and "_source" in hit:
        kept["_source"] = cut_source(hit["_source"], plan.cut)
        if kept["_source"] is None:
            del kept["_source"]
    return kept


def _scores_of(index: int, answer: EngineAnswer, verdict: Verdict) -> dict[str, Any]:
    ranked = verdict.ranked
    inside = index < len(ranked.rank_scores)
    return {
        "engine_score": answer.hits[index]["_score"],
        "engine_rank": index + 1,
        "rank_score": ranked.rank_scores[index] if inside else None,
        "fused_score": ranked.ranking.fused_scores[index] if inside else None,
        **_judgment_of(index, verdict),
    }


def _judgment_of(index: int, verdict: Verdict) -> dict[str, Any]:
    """What else is shown of a judgment that has a distribution."""
    judgment = verdict.judgments[index] if index < len(verdict.judgments) else None
    if judgment is None or judgment.distribution is None:
        return {}
    return {
        "distribution": judgment.distribution,
        "mass": judgment.mass,
        "think_tokens": judgment.think_tokens,
        "cut": judgment.cut or None,
        "truncated": judgment.truncated,
    }


def _number(score: float) -> msgspec.Raw:
    return msgspec.Raw(float32_text(score).encode())
