"""The metrics of `_rank_eval`, with the names, the formulas and the details that the engines have. Pure.

Formulas: `modules/rank-eval` of Elasticsearch and of OpenSearch, and what a real OpenSearch 2.19 answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_K = 10
DEFAULT_THRESHOLD = 1
LARGEST_EXPONENT = 1023


@dataclass(frozen=True, slots=True)
class Rated:
    """The ratings of one request: `found` of its hits in their order, None for a hit without one, and `known` of all.

    `known` is in any order.
    """

    found: Sequence[int | None]
    known: Sequence[int]

    @property
    def unrated(self) -> int:
        """How many hits have no rating."""
        return sum(rating is None for rating in self.found)


class Metric(Protocol):
    """One metric with its parameters. `k` is how many hits are asked for, and `name` what it is called."""

    @property
    def name(self) -> str:
        """As in the request."""
        ...

    @property
    def k(self) -> int:
        """The size of each search."""
        ...

    def of(self, rated: Rated) -> tuple[float, dict[str, Any]]:
        """The value for one request, and the metric's details."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The share of the hits that are relevant."""

    k: int = DEFAULT_K
    relevant_rating_threshold: int = DEFAULT_THRESHOLD
    ignore_unlabeled: bool = False
    name: str = "precision"

    def of(self, rated: Rated) -> tuple[float, dict[str, Any]]:
        """See `Metric`."""
        relevant = _relevant(rated.found, self.relevant_rating_threshold)
        retrieved = len(rated.found) - (rated.unrated if self.ignore_unlabeled else 0)
        details = {"relevant_docs_retrieved": relevant, "docs_retrieved": retrieved}
        return (relevant / retrieved if retrieved else 0.0), details


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """The share of the relevant documents that are among the hits."""

    k: int = DEFAULT_K
    relevant_rating_threshold: int = DEFAULT_THRESHOLD
    name: str = "recall"

    def of(self, rated: Rated) -> tuple[float, dict[str, Any]]:
        """See `Metric`."""
        retrieved = _relevant(rated.found, self.relevant_rating_threshold)
        relevant = _relevant(rated.known, self.relevant_rating_threshold)
        return (retrieved / relevant if relevant else 0.0), {
            "relevant_docs_retrieved": retrieved,
            "relevant_docs": relevant,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanReciprocalRank:
    """One over the rank of the first relevant hit, 0 without one."""

    k: int = DEFAULT_K
    relevant_rating_threshold: int = DEFAULT_THRESHOLD
    name: str = "mean_reciprocal_rank"

    def of(self, rated: Rated) -> tuple[float, dict[str, Any]]:
        """See `Metric`."""
        ranks = (
            rank
            for rank, rating in enumerate(rated.found, start=1)
            if rating is not None and rating >= self.relevant_rating_threshold
        )
        first = next(ranks, -1)
        return (0.0 if first < 0 else 1 / first), {"first_relevant": first}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dcg:
    """Discounted cumulative gain, with the gain 2^rating - 1; `normalize` divides it by the best that is possible."""

    k: int = DEFAULT_K
    normalize: bool = False
    unknown_doc_rating: int | None = None
    name: str = "dcg"

    def of(self, rated: Rated) -> tuple[float, dict[str, Any]]:
        """See `Metric`."""
        dcg = _dcg([self.unknown_doc_rating if rating is None else rating for rating in rated.found])
        ideal = _dcg(sorted(rated.known, reverse=True)[: len(rated.found)]) if self.normalize else 0.0
        details: dict[str, Any] = {"dcg": dcg}
        value = dcg
        if self.normalize:
            value = dcg / ideal if ideal else 0.0
        if ideal:
            details |= {"ideal_dcg": ideal, "normalized_dcg": value}
        return value, {**details, "unrated_docs": rated.unrated}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedReciprocalRank:
    """Chapelle et al., Expected reciprocal rank for graded relevance, CIKM 2009."""

    maximum_relevance: int
    k: int = DEFAULT_K
    unknown_doc_rating: int | None = None
    name: str = "expected_reciprocal_rank"

    def of(self, rated: Rated) -> tuple[float, dict[str, Any]]:
        """See `Metric`."""
        left, value = 1.0, 0.0
        for rank, known in enumerate(rated.found, start=1):
            rating = self.unknown_doc_rating if known is None else known
            if rating is not None:
                probability = _gain(rating) * _power_of_two(-self.maximum_relevance)
                value += left * probability / rank
                left *= 1 - probability
        return value, {"unrated_docs": rated.unrated}


METRICS: dict[str, type[Precision | Recall | MeanReciprocalRank | Dcg | ExpectedReciprocalRank]] = {
    "precision": Precision,
    "recall": Recall,
    "mean_reciprocal_rank": MeanReciprocalRank,
    "dcg": Dcg,
    "expected_reciprocal_rank": ExpectedReciprocalRank,
}
"""By name, all that the engines have."""


def mean(values: Sequence[float]) -> float:
    """The mean over all requests that were answered; NaN where there is none."""
    return sum(values) / len(values) if values else math.nan


def _relevant(ratings: Sequence[int | None], threshold: int) -> int:
    return sum(rating is not None and rating >= threshold for rating in ratings)


def _dcg(ratings: Sequence[int | None]) -> float:
    total = 0.0
    for rank, rating in enumerate(ratings, start=1):
        if rating is not None:
            total += _gain(rating) / (math.log(rank + 1) / math.log(2.0))
    return total


def _gain(rating: int) -> float:
    return _power_of_two(rating) - 1


def _power_of_two(exponent: int) -> float:
    """As a 64-bit float, infinite where it is too large for one."""
    return math.inf if exponent > LARGEST_EXPONENT else 2.0**exponent
