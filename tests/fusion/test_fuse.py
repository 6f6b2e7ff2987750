"""Fusing: the formulas on tiny windows, and what must hold for every window."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.fusion.fuse import Method, fuse, min_max, z_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

METHODS: tuple[Method, ...] = get_args(Method)
Window = tuple[list[float], list[float | None]]

methods = st.sampled_from(METHODS)
alphas = st.floats(min_value=0, max_value=1)
engine_scores = st.floats(min_value=0, max_value=2.0**100, width=32)
rank_scores = st.floats(min_value=0, max_value=10)
# On a grid of 1/64 sums and differences are exact, so two different scores are never one score after rounding.
grid_engine_scores = st.integers(min_value=0, max_value=64 * 50).map(lambda count: count / 64)
grid_rank_scores = st.integers(min_value=0, max_value=64 * 10).map(lambda count: count / 64)


def windows(
    engine: st.SearchStrategy[float], rank: st.SearchStrategy[float | None], *, min_size: int = 0
) -> st.SearchStrategy[Window]:
    """Windows as engines return them, scores never rising, with the rank scores beside them."""
    hits = st.lists(st.tuples(engine, rank), min_size=min_size, max_size=30)
    return hits.map(lambda pairs: (sorted((one for one, _ in pairs), reverse=True), [other for _, other in pairs]))


any_windows = windows(engine_scores, st.none() | rank_scores)
scored_windows = windows(engine_scores, rank_scores)
grid_windows = windows(grid_engine_scores, grid_rank_scores, min_size=1)


def place_of(index: int, engine: Sequence[float], rank: Sequence[float | None], method: Method, alpha: float) -> int:
    """Where a document stands in the fused ranking."""
    return fuse(engine, rank, method=method, alpha=alpha).order.index(index)


def test_the_check_vector_of_the_model_card() -> None:
    """ERank's model card prints what its `hybrid_scores` gives for three documents."""
    ranking = fuse([46.7, 1.5, 2.3], [4.84, 0.0, 2.98], method="zscore", alpha=0.2)
    assert ranking.fused_scores == pytest.approx((1.18, -1.19, 0.01), abs=0.005)
    assert ranking.order == (0, 2, 1)


def test_zscore_is_its_formula() -> None:
    """Distances from the mean in population standard deviations, weighed by alpha."""
    engine_unit, rank_unit = math.sqrt(3 / 2), 1 / math.sqrt(2)  # of (3, 2, 1), and of (0, 3, 3)
    ranking = fuse([3.0, 2.0, 1.0], [0.0, 3.0, 3.0], method="zscore", alpha=0.25)
    assert ranking.fused_scores == pytest.approx(
        (
            0.25 * engine_unit + 0.75 * -2 * rank_unit,
            0.75 * rank_unit,
            0.25 * -engine_unit + 0.75 * rank_unit,
        )
    )
    assert ranking.order == (1, 2, 0)


def test_minmax_is_its_formula() -> None:
    """Both scores are brought to 0..1 and weighed by alpha."""
    ranking = fuse([9.0, 3.0, 1.0], [2.0, 10.0, 0.0], method="minmax", alpha=0.25)
    assert ranking.fused_scores == pytest.approx((0.25 * 8 / 8 + 0.75 * 2 / 10, 0.25 * 2 / 8 + 0.75 * 10 / 10, 0.0))
    assert ranking.order == (1, 0, 2)


def test_rrf_is_its_formula() -> None:
    """Only ranks count, each as one over 60 more, weighed by alpha."""
    ranking = fuse([9.0, 3.0, 1.0], [0.0, 5.0, 10.0], method="rrf", alpha=0.25)
    assert ranking.fused_scores == pytest.approx((0.25 / 61 + 0.75 / 63, 0.25 / 62 + 0.75 / 62, 0.25 / 63 + 0.75 / 61))
    assert ranking.order == (2, 1, 0)


def test_rrf_counts_ranks_over_what_is_there() -> None:
    """Engine ranks are those of the window, rank score ranks those among the scored documents."""
    ranking = fuse([9.0, 3.0, 1.0], [None, 5.0, 10.0], method="rrf", alpha=0.25)
    assert ranking.fused_scores[0] is None
    assert ranking.fused_scores[1:] == pytest.approx((0.25 / 62 + 0.75 / 62, 0.25 / 63 + 0.75 / 61))
    assert ranking.order == (0, 2, 1)


def test_engine_statistics_are_over_the_whole_window() -> None:
    """A document that was not scored still counts in the engine's mean and deviation, not in the model's."""
    fused = fuse([3.0, 2.0, 1.0], [None, 5.0, 7.0], method="zscore", alpha=0.5).fused_scores
    assert fused[1:] == pytest.approx((0.5 * 0 - 0.5 * 1, 0.5 * -math.sqrt(3 / 2) + 0.5 * 1))


@given(any_windows, methods, alphas)
def test_a_ranking_is_a_permutation_of_the_window(window: Window, method: Method, alpha: float) -> None:
    """Whatever is fused, every document of the window is there once, with a fused score if it has a rank score."""
    engine, rank = window
    ranking = fuse(engine, rank, method=method, alpha=alpha)
    assert sorted(ranking.order) == list(range(len(engine)))
    assert [score is None for score in ranking.fused_scores] == [score is None for score in rank]


@given(any_windows, methods, alphas)
def test_scored_documents_stand_by_fused_score_then_engine_rank(window: Window, method: Method, alpha: float) -> None:
    """Among the scored documents the fused score decides, and the engine's order where two are equal."""
    ranking = fuse(*window, method=method, alpha=alpha)
    places = [(-score, index) for index in ranking.order if (score := ranking.fused_scores[index]) is not None]
    assert places == sorted(places)


@given(any_windows, methods, alphas)
def test_an_unscored_document_keeps_its_engine_rank(window: Window, method: Method, alpha: float) -> None:
    """A gap in the rank scores neither raises nor buries a document: it stands exactly where the engine put it."""
    order = fuse(*window, method=method, alpha=alpha).order
    assert all(order[index] == index for index, score in enumerate(window[1]) if score is None)


@given(st.lists(engine_scores), methods, alphas)
def test_no_rank_score_at_all_is_engine_order(engine: list[float], method: Method, alpha: float) -> None:
    """Without any rank score the ranking is the engine's, and no document has a fused score."""
    ranking = fuse(engine, [None] * len(engine), method=method, alpha=alpha)
    assert ranking.order == tuple(range(len(engine)))
    assert set(ranking.fused_scores) <= {None}


@given(any_windows, methods)
def test_alpha_one_is_engine_order(window: Window, method: Method) -> None:
    """With all the weight on the engine, its order stays, ties included, scored or not."""
    assert fuse(*window, method=method, alpha=1).order == tuple(range(len(window[0])))


@given(grid_windows, methods)
def test_alpha_zero_is_rank_score_order(window: Window, method: Method) -> None:
    """With all the weight on the model, its scores decide, and the engine's order where two are equal."""
    rank = window[1]
    by_rank_score = sorted(range(len(rank)), key=lambda index: (-(rank[index] or 0), index))
    assert fuse(*window, method=method, alpha=0).order == tuple(by_rank_score)


@given(grid_windows, st.sampled_from(["minmax", "rrf"]), alphas, st.data())
def test_raising_a_rank_score_never_lowers_its_document(
    window: Window, method: Method, alpha: float, data: st.DataObject
) -> None:
    """With min-max and reciprocal ranks a document that the model likes better stands no lower."""
    engine, rank = window
    index = data.draw(st.integers(0, len(rank) - 1))
    raised = rank.copy()
    raised[index] = data.draw(grid_rank_scores.filter(lambda score: score >= (rank[index] or 0)))
    assert place_of(index, engine, raised, method, alpha) <= place_of(index, engine, rank, method, alpha)


def test_under_zscore_raising_a_rank_score_can_cost_a_place() -> None:
    """The known price of z-scores: from 6 to 10 the third document's lead is measured by a wider deviation."""
    assert place_of(2, [2.0, 1.0, 0.0], [0.0, 3.0, 6.0], "zscore", 0.495) == 0
    assert place_of(2, [2.0, 1.0, 0.0], [0.0, 3.0, 10.0], "zscore", 0.495) == 1


@given(
    windows(grid_engine_scores, st.none() | grid_rank_scores),
    methods,
    alphas,
    st.integers(1, 1000),
    st.integers(-1000, 1000),
)
def test_another_scale_of_either_score_changes_nothing(
    window: Window, method: Method, alpha: float, factor: int, shift: int
) -> None:
    """Fused scores stay when all engine scores, or all rank scores, are multiplied and shifted."""
    engine, rank = window
    other_engine = [factor * score + shift for score in engine]
    other_rank = [None if score is None else factor * score + shift for score in rank]
    expected = fuse(engine, rank, method=method, alpha=alpha).fused_scores
    for changed in ((other_engine, rank), (engine, other_rank)):
        found = fuse(*changed, method=method, alpha=alpha).fused_scores
        assert [score is None for score in found] == [score is None for score in expected]
        assert [score for score in found if score is not None] == pytest.approx(
            [score for score in expected if score is not None], abs=1e-9
        )


@pytest.mark.parametrize("method", ["zscore", "minmax"])
def test_scores_that_are_all_equal_contribute_nothing(method: Method) -> None:
    """A list without differences says nothing, so the other one decides, weighed as ever."""
    flat = fuse([0.1, 0.1, 0.1], [1.0, 3.0, 2.0], method=method, alpha=0.5)
    assert flat.order == (1, 2, 0)
    assert flat.fused_scores == fuse([0.0, 0.0, 0.0], [1.0, 3.0, 2.0], method=method, alpha=0.5).fused_scores
    assert fuse([3.0, 2.0, 1.0], [0.1, 0.1, 0.1], method=method, alpha=0.5).order == (0, 1, 2)


@given(st.lists(grid_rank_scores, min_size=2).filter(lambda scores: len(set(scores)) > 1))
def test_z_scores_have_mean_zero_and_deviation_one(scores: list[float]) -> None:
    """The two numbers that define a z-score, with the population's deviation."""
    found = z_scores(scores)
    assert math.fsum(found) / len(found) == pytest.approx(0, abs=1e-9)
    assert math.fsum(score**2 for score in found) / len(found) == pytest.approx(1)


@given(st.lists(grid_rank_scores, min_size=2).filter(lambda scores: len(set(scores)) > 1))
def test_min_max_reaches_from_zero_to_one(scores: list[float]) -> None:
    """The lowest score becomes 0 and the highest 1."""
    assert (min(min_max(scores)), max(min_max(scores))) == (0, 1)


@given(scored_windows, methods, alphas)
def test_fused_scores_are_finite(window: Window, method: Method, alpha: float) -> None:
    """However near or far the scores of a window lie, no fused score is infinite or undefined."""
    assert all(
        score is not None and math.isfinite(score) for score in fuse(*window, method=method, alpha=alpha).fused_scores
    )


def test_differences_too_small_to_square_count_as_none() -> None:
    """A deviation that vanishes must not be divided by."""
    assert z_scores([5e-324, 0.0]) == [0, 0]
    assert min_max([5e-324, 0.0]) == [1, 0]


def test_nothing_gives_nothing() -> None:
    """An empty window is an empty ranking."""
    assert [fuse([], [], method=method, alpha=0.2).order for method in METHODS] == [()] * len(METHODS)
