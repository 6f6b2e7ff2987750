"""Whether a difference between two orders is more than luck: the paired sign-flip (randomisation) test, two-sided.

If two orders are equally good, each query's difference may as well have the other sign. The test counts how often
flipped signs give a mean difference that is as large as the one found (Smucker, Allan and Carterette, "A comparison of
statistical significance tests for information retrieval evaluation", CIKM 2007). Up to 13 differences that are not 0
are flipped in all 2^n ways, more of them at random. Then what was found counts as one of the flips, so p is never 0
(Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 9:39, 2010).

Of many settings, some differ by luck. The corrected p is that of the largest statistic of all settings under the same
flips (single-step maxT; Westfall and Young, "Resampling-Based Multiple Testing", 1993): the chance that any of them
would look so good or so bad if none were. Each setting's statistic is its summed difference over the root of its sum of
squares, which no flip changes, so that settings that change few queries and those that change many weigh alike. For a
single setting this orders the flips as the mean does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

FLIPS = 10_000
EXACT_DIFFERENCES = 13  # 2^13 is the last power below FLIPS
BLOCK = 250  # flips at a time, so that memory is bounded: a number for each of them and each setting
EQUAL = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Significance:
    """The p of each setting, parallel to the settings, alone and corrected for their number.

    `exact` says whether all sets of signs that there are were tried.
    """

    p: tuple[float, ...]
    corrected_p: tuple[float, ...]
    exact: bool


def sign_flip_test(differences: npt.NDArray[np.float64], *, flips: int = FLIPS, seed: int = 0) -> Significance:
    """Test the differences of settings to one baseline: a row for each setting, a column for each query.

    A setting without any difference has p = 1.
    """
    differs = np.abs(differences) > EQUAL
    kept = np.where(differs, differences, 0.0)[:, differs.any(axis=0)]
    norms = np.sqrt((kept**2).sum(axis=1, keepdims=True))
    scaled = np.divide(kept, norms, out=np.zeros_like(kept), where=norms > 0)
    observed = np.abs(scaled.sum(axis=1))
    count = kept.shape[1]
    exact = count <= EXACT_DIFFERENCES
    as_large = np.zeros(len(scaled))
    largest_as_large = np.zeros(len(scaled))
    tried = 0
    for signs in _all_signs(count) if exact else _random_signs(count, flips, seed):
        statistics = np.abs(signs @ scaled.T)
        as_large += (statistics >= observed - EQUAL).sum(axis=0)
        highest = np.sort(statistics.max(axis=1))
        largest_as_large += len(signs) - np.searchsorted(highest, observed - EQUAL)
        tried += len(signs)
    found = 0 if exact else 1  # the order that was found is one of the flips
    return Significance(
        p=tuple(((as_large + found) / (tried + found)).tolist()),
        corrected_p=tuple(((largest_as_large + found) / (tried + found)).tolist()),
        exact=exact,
    )


def _all_signs(count: int) -> Iterator[npt.NDArray[np.float64]]:
    """All 2^count rows of signs, in blocks."""
    for start in range(0, 2**count, BLOCK):
        numbers = np.arange(start, min(start + BLOCK, 2**count))
        yield np.where((numbers[:, None] >> np.arange(count)) & 1, -1.0, 1.0)


def _random_signs(count: int, flips: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """Rows of signs at random, in blocks."""
    random = np.random.default_rng(seed)
    for start in range(0, flips, BLOCK):
        rows = min(BLOCK, flips - start)
        yield np.where(random.integers(0, 2, size=(rows, count)) == 1, -1.0, 1.0)
