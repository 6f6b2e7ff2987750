"""From judgments to an order: one function, used both to serve a search and to replay a recorded window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from es_rerank.fusion.fuse import Method, Ranking, Units, fuse_units, units_of

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A window whose judgments are read and whose scores are in comparable units, to be ranked by any alpha."""

    rank_scores: tuple[float | None, ...]
    units: Units

    def ranked(self, alpha: float) -> Ranked:
        """The window in the order that this weight of the engine gives."""
        return Ranked(rank_scores=self.rank_scores, ranking=fuse_units(self.units, alpha))


def prepare(
    engine_scores: Sequence[float], judgments: Sequence[Judgment | None], *, method: Method, score: ScoreRule
) -> Prepared:
    """All of the work of `rank` that does not depend on alpha. The sequences are those of `rank`."""
    rank_scores = tuple([None if one is None else one.score(score) for one in judgments])
    return Prepared(rank_scores=rank_scores, units=units_of(engine_scores, rank_scores, method))


def rank(engine_scores: Sequence[float], judgments: Sequence[Judgment | None], recipe: Recipe) -> Ranked:
    """Rank a window. Both sequences are parallel to it, in engine order; see `fuse` for what a gap means.

    A sweep over many recipes prepares a window once for each method and score, and so runs the same code.
    """
    return prepare(engine_scores, judgments, method=recipe.method, score=recipe.score).ranked(recipe.alpha)
