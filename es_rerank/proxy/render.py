"""Writes the answer: the page of the new ranking in the engine's own shape, nothing else changed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.fusion.scale import float32_text, scale_to_engine
from es_rerank.proxy.call import RAW_OBJECT
from es_rerank.proxy.filter_path import filter_answer, without_paths
from es_rerank.proxy.pretty import pretty_print

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.fusion.fuse import Ranking
    from es_rerank.judgment import Judgment
    from es_rerank.proxy.call import SearchCall
    from es_rerank.proxy.classify import Rerank
    from es_rerank.proxy.control import Controls
    from es_rerank.proxy.status import SearchStatus
    from es_rerank.proxy.window import EngineAnswer, RawObject, WindowPlan

BLOCK = "_es_rerank"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedWindow:
    """The window's rank scores and judgments, parallel to it with None for gaps, and its ranking.

    `reasoning` holds, by place in the window, what was thought about hits of the page.
    """

    rank_scores: Sequence[float | None]
    ranking: Ranking
    judgments: Sequence[Judgment | None] = ()
    reasoning: Mapping[int, str] = field(default_factory=dict)

    @property
    def reranked(self) -> bool:
        """Whether any hit has a rank score; else the engine's own scores are shown."""
        return any(score is not None for score in self.rank_scores)


def render_answer(
    answer: EngineAnswer, plan: WindowPlan, decision: Rerank, ranked: RankedWindow, controls: Controls
) -> dict[str, Any]:
    """The answer's top-level members: the client's page of the ranked list, then of the engine's hits behind it."""
    order = ranked.ranking.order
    window_scores = answer.scores[: len(order)]
    scaled = scale_to_engine(window_scores, ranked.ranking) if ranked.reranked else window_scores
    hits: list[dict[str, Any]] = []
    for place, index in page_of(answer, decision, ranked.ranking):
        hit = _without_added_fields(answer.hits[index], plan)
        if ranked.reranked and place < len(order):
            hit = _with_score(hit, scaled[place])
        block: dict[str, Any] = {}
        if "scores" in controls.include:
            block = _scores_of(index, answer, ranked)
        if "reasoning" in controls.include:
            block["reasoning"] = ranked.reasoning.get(index)
        if block:
            hit = {**hit, BLOCK: block}
        hits.append(hit)
    hits_object: dict[str, Any] = {**answer.hits_object, "hits": hits}
    if ranked.reranked and bytes(answer.hits_object.get("max_score", msgspec.Raw(b"null"))) != b"null":
        hits_object["max_score"] = _number(scaled[0])
    return {**answer.top, "hits": hits_object}


def page_of(answer: EngineAnswer, decision: Rerank, ranking: Ranking) -> list[tuple[int, int]]:
    """The page's places in the new order, each with the hit's index in the engine's."""
    end = min(decision.page_from + decision.page_size, len(answer.hits))
    order = ranking.order
    return [(place, order[place] if place < len(order) else place) for place in range(decision.page_from, end)]


def finish_body(members: dict[str, Any], call: SearchCall, status: SearchStatus, controls: Controls) -> bytes:
    """The answer's JSON, with the status where it was asked for, as `filter_path` and `pretty` want it."""
    if "status" in controls.include:
        members = {**members, BLOCK: status.block()}
    body = msgspec.json.encode(members)
    if "filter_path" in call.parameters:
        body = filter_answer(body, call.parameters["filter_path"])
    return pretty_print(body) if call.flag("pretty") else body


def open_object(body: bytes) -> dict[str, Any] | None:
    """The members of a JSON object, each as its own bytes; None for anything else."""
    try:
        return dict(RAW_OBJECT.decode(body))
    except (ValueError, RecursionError):
        return None


def _with_score(hit: dict[str, Any], score: float) -> dict[str, Any]:
    """The hit under its new score, in `_score` and, where hits carry `sort`, in its first slot."""
    changed = {**hit, "_score": _number(score)}
    if "sort" in hit:
        changed["sort"] = [_number(score), *msgspec.json.decode(hit["sort"], type=list[msgspec.Raw])[1:]]
    return changed


def _without_added_fields(hit: RawObject, plan: WindowPlan) -> dict[str, Any]:
    """The hit without the values that it holds only because we asked for their fields."""
    kept: dict[str, Any] = dict(hit)
    paths = [path for name in plan.added_fields for path in _ways_to(name.split("."))]
    for holder in ("fields", "ignored_field_values") if paths else ():
        if holder in hit:
            kept[holder] = without_paths(hit[holder], paths)
            if kept[holder] is None:
                del kept[holder]
    return kept


def _ways_to(parts: list[str]) -> list[tuple[str, ...]]:
    """The paths under which a dotted name may lie: Elasticsearch answers nested fields as lists of objects."""
    ways: list[tuple[str, ...]] = [(".".join(parts),)]
    for end in range(1, len(parts)):
        ways += [(".".join(parts[:end]), *way) for way in _ways_to(parts[end:])]
    return ways


def _scores_of(index: int, answer: EngineAnswer, ranked: RankedWindow) -> dict[str, Any]:
    inside = index < len(ranked.rank_scores)
    return {
        "engine_score": answer.hits[index]["_score"],
        "engine_rank": index + 1,
        "rank_score": ranked.rank_scores[index] if inside else None,
        "fused_score": ranked.ranking.fused_scores[index] if inside else None,
        **_judgment_of(index, ranked),
    }


def _judgment_of(index: int, ranked: RankedWindow) -> dict[str, Any]:
    """What more there is of a judgment with a distribution."""
    judgment = ranked.judgments[index] if index < len(ranked.judgments) else None
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
