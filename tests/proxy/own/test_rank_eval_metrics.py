"""The metrics of `_rank_eval` on small cases; tests/e2e/test_rank_eval.py holds them to a real engine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.own.rank_eval_metrics import (
    Dcg,
    ExpectedReciprocalRank,
    MeanReciprocalRank,
    Precision,
    Rated,
    Recall,
    mean,
)

if TYPE_CHECKING:
    from es_rerank.proxy.own.rank_eval_metrics import Metric

CASE = Rated([0, None, 3, 1], [0, 3, 1, 2, 2])


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (Precision(), 2 / 4),
        (Precision(ignore_unlabeled=True), 2 / 3),
        (Precision(relevant_rating_threshold=2), 1 / 4),
        (Recall(), 2 / 4),
        (MeanReciprocalRank(), 1 / 3),
        (MeanReciprocalRank(relevant_rating_threshold=4), 0),
        (Dcg(), 7 / math.log2(4) + 1 / math.log2(5)),
        (Dcg(unknown_doc_rating=1), 1 / math.log2(3) + 7 / math.log2(4) + 1 / math.log2(5)),
        (
            Dcg(normalize=True),
            (7 / math.log2(4) + 1 / math.log2(5))
            / (7 / math.log2(2) + 3 / math.log2(3) + 3 / math.log2(4) + 1 / math.log2(5)),
        ),
        (ExpectedReciprocalRank(maximum_relevance=3), 7 / 8 / 3 + (1 - 7 / 8) * (1 / 8) / 4),
    ],
)
def test_a_metric_is_its_formula(metric: Metric, value: float) -> None:
    """Each is computed as its definition says."""
    assert metric.of(CASE)[0] == pytest.approx(value)


def test_nothing_found_is_no_error() -> None:
    """Without hits or ratings a metric is 0; without any request the mean is no number."""
    for metric in (Precision(), Recall(), MeanReciprocalRank(), Dcg(normalize=True)):
        assert metric.of(Rated([], []))[0] == 0
    assert math.isnan(mean([]))


@given(
    st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=6),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=6),
    st.integers(-(2**31), 2**31 - 1),
)
def test_no_rating_breaks_a_metric(found: list[int | None], known: list[int], largest: int) -> None:
    """Any whole numbers give a number, be it infinite or none, and never an error."""
    for metric in (
        Precision(),
        Recall(),
        Dcg(),
        Dcg(normalize=True),
        ExpectedReciprocalRank(maximum_relevance=largest),
    ):
        assert isinstance(metric.of(Rated(found, known))[0], float)
