"""From judgments to an order: one function, used both to serve a search and to replay a recorded window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from es_rerank.fusion.fuse import Method, Ranking, fuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.judgment import Judgment, ScoreRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an order comes from judgments: which score of a judgment counts, how it is fused, and the engine's weight."""

    method: Method
    alpha: float
    score: ScoreRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The engine's first hits, in a form that can be kept and ranked again by any recipe.

    All three are parallel, in engine order: (`_index`, `_id`) of each hit, the engine's score, and the judgment, None
    for a hit that has none.
    """

    ids: tuple[tuple[str, str], ...]
    engine_scores: tuple[float, ...]
    judgments: tuple[Judgment | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A window in its new order. `rank_scores` is parallel to the window, None for a hit without a judgment."""

    rank_scores: tuple[float | None, ...]
    ranking: Ranking

    @property
    def reranked(self) -> bool:
        """Whether any hit has a rank score; without one the order is the engine's."""
        return any(score is not None for score in self.rank_scores)


def rank(engine_scores: Sequence[float], judgments: Sequence[Judgment | None], recipe: Recipe) -> Ranked:
    """Rank a window. Both sequences are parallel to it, in engine order; see `fuse` for what a gap means."""
    rank_scores = tuple(None if one is None else one.score(recipe.score) for one in judgments)
    ranking = fuse(engine_scores, rank_scores, method=recipe.method, alpha=recipe.alpha)
    return Ranked(rank_scores=rank_scores, ranking=ranking)
