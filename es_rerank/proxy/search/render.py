"""Renders the answer: the page of the new ranking in the engine's own shape, nothing else changed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.fusion.scale import float32_text, scale_to_engine, to_float32
from es_rerank.proxy.search.cursor import place_behind
from es_rerank.proxy.search.decide import Page
from es_rerank.proxy.search.explanation import explanation_of, fused_hits
from es_rerank.proxy.search.similarity import score_of
from es_rerank.proxy.search.source_filter import cut_source
from es_rerank.rawjson import RAW_LIST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    holds, by place in the window, what was thought about hits of the page. The hits with the indexes in `dropped` are
    left out of the answer.
    """

    ranked: Ranked
    judgments: Sequence[Judgment | None]
    from_cache: Sequence[bool] = ()
    reasoning: Mapping[int, str] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()


def render_answer(answer: EngineAnswer, plan: WindowPlan, decision: Rerank, verdict: Verdict) -> dict[str, Any]:
    """The answer's top-level members, with the client's page of the ranked window and the engine's hits after it."""
    ranked = verdict.ranked
    order = ranked.ranking.order
    window_scores = answer.scores[: len(order)]
    reranked = ranked.reranked
    scaled = _scores_by_place(window_scores, verdict, decision)
    page = page_of(answer, decision.page, verdict)
    explained: Mapping[int, FusedHit] = {}
    if reranked and any("_explanation" in answer.hits[index] for _, index in page):
        explained = fused_hits(window_scores, ranked, verdict.from_cache, decision.recipe.method)
    hits: list[dict[str, Any]] = []
    for place, index in page:
        hit = _as_shown(answer.hits[index], plan)
        if reranked and place < len(scaled):
            hit = _with_score(hit, scaled[place], sorts=decision.similarity is None)
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
        hits_object["max_score"] = _number(scaled[0]) if scaled else None
    if reranked and _has_floor(decision) and "total" in hits_object:
        hits_object["total"] = _total(len(answer.hits) - len(verdict.dropped), hits_object["total"])
    return {**answer.top, "hits": hits_object}


def turned(answer: EngineAnswer, decision: Rerank, verdict: Verdict) -> Rerank:
    """The decision with the page that its cursor means in this order; the same again if it has no cursor (any more)."""
    if decision.cursor is None:
        return decision
    order = verdict.ranked.ranking.order
    shown = [to_float32(score) for score in _scores_by_place(answer.scores[: len(order)], verdict, decision)]
    sorts = [bytes(hit.get("sort", b"[]")) for hit in answer.hits]
    start = place_behind(decision.cursor, order, shown, sorts)
    return replace(decision, cursor=None, page=Page(start=start, size=decision.page.size))


def page_of(answer: EngineAnswer, page: Page, verdict: Verdict) -> list[tuple[int, int]]:
    """The page's places in the new order, each with the hit's index in the engine's."""
    dropped = verdict.dropped
    order = [index for index in verdict.ranked.ranking.order if index not in dropped]
    places = range(page.start, min(page.end, len(answer.hits) - len(dropped)))
    return [(place, order[place] if place < len(order) else place + len(dropped)) for place in places]


def _scores_by_place(engine_scores: Sequence[float], verdict: Verdict, decision: Rerank) -> list[float]:
    """The `_score` at each place of the window's new order, without the hits that are dropped."""
    ranked = verdict.ranked
    order = ranked.ranking.order
    if not ranked.reranked:
        scores: Sequence[float] = engine_scores
    elif decision.similarity is None or decision.recipe.alpha > 0:
        # In a point in time, hits of the window lie above those behind it: a cursor tells by its score where it is.
        scores = scale_to_engine(engine_scores, ranked.ranking, above_lowest=decision.in_point)
    else:
        scores = _relevance_by_place(ranked)
    return [score for score, index in zip(scores, order, strict=True) if index not in verdict.dropped]


def _relevance_by_place(ranked: Ranked) -> list[float]:
    """The score that a `text_similarity_reranker` gives, by place.

    A hit without a rank score shows that of the hit above it.
    """
    above = max(score_of(score) for score in ranked.rank_scores if score is not None)
    scores = []
    for index in ranked.ranking.order:
        score = ranked.rank_scores[index]
        above = above if score is None else to_float32(score_of(score))
        scores.append(above)
    return scores


def _has_floor(decision: Rerank) -> bool:
    """Whether hits have to be relevant enough: Elasticsearch then counts no hit that was not in the window either."""
    return decision.similarity is not None and (decision.similarity.min_score or 0) > 0


def _total(count: int, told: msgspec.Raw) -> Any:
    """How many hits are left, in the form in which the engine told how many it found."""
    return {"value": count, "relation": "eq"} if bytes(told)[:1] == b"{" else count


def _with_score(hit: dict[str, Any], score: float, *, sorts: bool) -> dict[str, Any]:
    """The hit with its new score, in `_score` and, if it has `sort`, as the first value there.

    Without `sorts`, the order is no more that of any `sort`, and the hit has none.
    """
    changed = {**hit, "_score": _number(score)}
    if not sorts:
        changed.pop("sort", None)
    elif bytes(hit.get("sort", b""))[:1] == b"[":
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
