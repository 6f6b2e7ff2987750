"""Writes our part of a hit's `_explanation`, on top of the engine's own, in the engines' shape. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from es_rerank.fusion.fuse import RRF_CONSTANT, units_of
from es_rerank.judgment import LARGEST_SCORE
from es_rerank.proxy.search.similarity import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec

    from es_rerank.fusion.fuse import Method
    from es_rerank.fusion.rank import Ranked
    from es_rerank.proxy.search.decide import Rerank

# By method: what a side of the fusion is measured in.
UNITS: dict[Method, str] = {
    "zscore": "standard deviations from the mean",
    "minmax": "share of the way from the lowest to the highest",
    "rrf": f"1 / ({RRF_CONSTANT} + rank)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedHit:
    """What came into the fused score of one hit of the window, both sides in the units of the method."""

    engine_score: float
    engine_rank: int
    engine_unit: float
    rank_score: float
    rank_unit: float
    fused_score: float
    from_cache: bool


def fused_hits(
    engine_scores: Sequence[float], ranked: Ranked, from_cache: Sequence[bool], method: Method
) -> dict[int, FusedHit]:
    """By index in the window, the hits that have a rank score. All sequences are parallel to the window."""
    units = units_of(engine_scores, ranked.rank_scores, method)
    found: dict[int, FusedHit] = {}
    for index, engine_unit, rank_unit in zip(units.scored, units.engine, units.rank, strict=True):
        rank_score, fused_score = ranked.rank_scores[index], ranked.ranking.fused_scores[index]
        if rank_score is not None and fused_score is not None:
            found[index] = FusedHit(
                engine_score=engine_scores[index],
                engine_rank=index + 1,
                engine_unit=engine_unit,
                rank_score=rank_score,
                rank_unit=rank_unit,
                fused_score=fused_score,
                from_cache=from_cache[index],
            )
    return found


def explanation_of(score: msgspec.Raw, hit: FusedHit, decision: Rerank, engine: msgspec.Raw) -> Mapping[str, Any]:
    """The hit's explanation: `score` is its new `_score`, `engine` the engine's own explanation, the last detail."""
    recipe = decision.recipe
    asked = decision.similarity
    unit = UNITS[recipe.method]
    origin = "from the cache" if hit.from_cache else "scored for this search"
    rank_score = {
        "value": hit.rank_score,
        "description": f"rank score (0 to 10) of the scorer [{decision.scorer}], {origin}",
        "details": [],
    }
    if asked is not None and recipe.alpha == 0:
        which = f"[{asked.inference_id}] on document field: [{asked.field}]"
        description = f"{NAME}, inference endpoint: {which}: 1 + rank score / {LARGEST_SCORE}"
        return {"value": score, "description": description, "details": [rank_score, engine]}
    engine_score = {
        "value": hit.engine_score,
        "description": f"the engine's score, its rank {hit.engine_rank}",
        "details": [],
    }
    fused = {
        "value": hit.fused_score,
        "description": (
            f"fused score, sum of engine unit * {recipe.alpha:g} and rank unit * {1 - recipe.alpha:g}: "
            f"alpha {recipe.alpha:g}, method [{recipe.method}]"
        ),
        "details": [
            {"value": hit.engine_unit, "description": f"engine unit: {unit}", "details": [engine_score]},
            {"value": hit.rank_unit, "description": f"rank unit: {unit}", "details": [rank_score]},
        ],
    }
    by = "rule" if asked is None else "endpoint"
    return {
        "value": score,
        "description": f"reranked by the {by} [{decision.rule}]: the fused score on the scale of the engine's scores",
        "details": [fused, engine],
    }
