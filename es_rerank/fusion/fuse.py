"""Fuses the engine's scores with rank scores into one ranking of the window.

Pure functions on values: no clock, no network, no settings. Methods:

- `zscore`: ``alpha * z(engine) + (1 - alpha) * z(rank)``, population standard deviation (ERank, arXiv 2509.00520,
  appendix G, and `hybrid_scores` of its model card). A higher rank score also widens the spread by which all scores
  are measured. So, unlike with the other methods, a higher rank score can cost a document a place.
- `minmax`: the same weights on scores brought to 0..1 by their minimum and maximum.
- `rrf`: reciprocal rank fusion (Cormack et al., SIGIR 2009) with the same weights,
  ``alpha / (60 + engine_rank) + (1 - alpha) / (60 + rank_score_rank)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Method = Literal["zscore", "minmax", "rrf"]

RRF_CONSTANT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The window in its new order.

    `order` is a permutation of the window's indexes (0-based engine ranks), best first. `fused_scores` is parallel
    to the *window*, not to `order`, and None where a document had no rank score.
    """

    order: tuple[int, ...]
    fused_scores: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """A window's scores in comparable units: all of the work of fusing that does not depend on alpha.

    `scored` are the window's indexes that have a rank score, rising. `engine` and `rank` are parallel to it. `size` is
    the length of the window.
    """

    size: int
    scored: tuple[int, ...]
    engine: tuple[float, ...]
    rank: tuple[float, ...]


def fuse(
    engine_scores: Sequence[float], rank_scores: Sequence[float | None], *, method: Method, alpha: float
) -> Ranking:
    """Rank the window by both scores.

    Both sequences are parallel to the window, in engine order; a gap (None) in `rank_scores` is a document that was
    not scored. Scored documents are ordered by fused score, ties by engine rank, and take the places that scored
    documents held; a document without a score keeps its engine rank exactly. So without any scores the engine's order
    stays, and a slow model never buries a hit that it did not read. Engine statistics are over the whole window, rank
    score statistics over the documents that have one.
    """
    return fuse_units(units_of(engine_scores, rank_scores, method), alpha)


def units_of(engine_scores: Sequence[float], rank_scores: Sequence[float | None], method: Method) -> Units:
    """The first half of `fuse`, for who tries many alphas on one window. The arguments are those of `fuse`."""
    scored = tuple([index for index, score in enumerate(rank_scores) if score is not None])
    given = [score for score in rank_scores if score is not None]
    if method == "rrf":
        by_rank_score = sorted(range(len(given)), key=lambda position: (-given[position], position))
        rank_units = [0.0] * len(given)
        for rank, position in enumerate(by_rank_score, start=1):
            rank_units[position] = 1 / (RRF_CONSTANT + rank)
        engine_units = [1 / (RRF_CONSTANT + index + 1) for index in scored]
    else:
        normalise = NORMALISERS[method]
        whole, rank_units = normalise(engine_scores), normalise(given)
        engine_units = whole if len(given) == len(whole) else [whole[index] for index in scored]
    return Units(size=len(rank_scores), scored=scored, engine=tuple(engine_units), rank=tuple(rank_units))


def fuse_units(units: Units, alpha: float) -> Ranking:
    """The second half of `fuse`: weigh the units, and order the window."""
    beta = 1 - alpha
    fused = [alpha * engine + beta * rank for engine, rank in zip(units.engine, units.rank, strict=True)]
    # Best first; the sort is stable, so equal ones stay in the engine's order.
    by_score = sorted(range(len(fused)), key=[-score for score in fused].__getitem__)
    if len(fused) == units.size:
        return Ranking(order=tuple(by_score), fused_scores=tuple(fused))
    order = list(range(units.size))
    fused_scores: list[float | None] = [None] * units.size
    for place, position, score in zip(units.scored, by_score, fused, strict=True):
        order[place] = units.scored[position]
        fused_scores[place] = score
    return Ranking(order=tuple(order), fused_scores=tuple(fused_scores))


def z_scores(scores: Sequence[float]) -> list[float]:
    """Each score's distance from the mean in population standard deviations; all 0 where all scores are equal."""
    if not scores or min(scores) == max(scores):
        return [0.0] * len(scores)  # compares the values: a computed deviation of equal floats need not be 0
    mean = math.fsum(scores) / len(scores)
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
    if deviation == 0.0:  # the squares of tiny differences can be 0
        return [0.0] * len(scores)
    return [(score - mean) / deviation for score in scores]


def min_max(scores: Sequence[float]) -> list[float]:
    """Scores brought to 0..1; all 0 where all scores are equal, so that such a list contributes nothing."""
    if not scores or min(scores) == max(scores):
        return [0.0] * len(scores)
    low, high = min(scores), max(scores)
    return [(score - low) / (high - low) for score in scores]


NORMALISERS: dict[str, Callable[[Sequence[float]], list[float]]] = {"zscore": z_scores, "minmax": min_max}
