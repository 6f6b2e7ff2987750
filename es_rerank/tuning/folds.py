"""The honest choice of a setting: how good it is on queries that it was not chosen by.

The best of many settings on some queries is partly the best by luck, so its own figure on them is too high (Varma and
Simon, BMC Bioinformatics 7:91, 2006). In k-fold cross-validation each query's value is that of the setting which is the
best on the other folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from es_rerank.tuning.metrics import FOLDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from es_rerank.tuning.recording import Setting

# Means of the same values, added in another order, differ by less.
EQUAL = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, by the number of its setting.

    `best` is the best on all queries. `fold_of` and `held_out` are parallel to the queries: the fold that each is in,
    and its value under the setting that was chosen without that fold. `best_without` is parallel to the folds.
    """

    best: int
    best_without: tuple[int, ...]
    fold_of: tuple[int, ...]
    held_out: tuple[float, ...]

    @property
    def held_out_mean(self) -> float:
        """The figure to report."""
        return fmean(self.held_out)


def choose(
    values: npt.NDArray[np.float64],
    settings: Sequence[Setting],
    query_ids: Sequence[str],
    *,
    present: Setting,
    folds: int = FOLDS,
    seed: int = 0,
) -> Choice:
    """Choose among the settings by `values`, which has a row for each setting and a column for each query.

    Of settings with equal means, the nearest to the present one is chosen; see `nearness`. There are at most as many
    folds as queries. With a single query, nothing can be held out, and its value is that of the best setting.
    """
    nearest = sorted(range(len(settings)), key=lambda row: (nearness(settings[row], present), row))
    by_nearness = values[nearest]
    fold_of = fold_queries(query_ids, folds, seed)
    held_out = np.zeros(len(query_ids))
    best_without = []
    for fold in range(max(fold_of) + 1):
        inside = np.array(fold_of) == fold
        others = by_nearness[:, ~inside] if not inside.all() else by_nearness
        row = nearest[_first_best(others)]
        best_without.append(row)
        held_out[inside] = values[row, inside]
    return Choice(
        best=nearest[_first_best(by_nearness)],
        best_without=tuple(best_without),
        fold_of=fold_of,
        held_out=tuple(held_out.tolist()),
    )


def fold_queries(query_ids: Sequence[str], folds: int, seed: int) -> tuple[int, ...]:
    """The fold of each query, parallel to `query_ids`: sizes differ by one at most.

    Queries are dealt out in the order of a hash of seed and id. So the folds depend neither on the order of the queries
    nor on a library's random numbers.
    """
    folds = min(folds, len(query_ids))
    dealt = sorted(
        range(len(query_ids)), key=lambda place: (sha256(f"{seed} {query_ids[place]}".encode()).digest(), place)
    )
    found = [0] * len(query_ids)
    for turn, place in enumerate(dealt):
        found[place] = turn % folds
    return tuple(found)


def nearness(setting: Setting, present: Setting) -> tuple[bool, bool, int, float]:
    """How far a setting is from the present one; smaller is nearer. Method, score, window and alpha count in turn."""
    return (
        setting.method != present.method,
        setting.score != present.score,
        abs(setting.window - present.window),
        round(abs(setting.alpha - present.alpha), 9),  # 0.3 and 0.1 are as far from 0.2
    )


def _first_best(values: npt.NDArray[np.float64]) -> int:
    """The first row whose mean is the largest, up to rounding."""
    means = values.mean(axis=1)
    return int(np.argmax(means >= means.max() - EQUAL))
