"""The honest choice: each query's value is that of a setting that was chosen without its fold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.tuning.folds import choose, fold_queries, nearness
from es_rerank.tuning.recording import Setting
from tests.tuning.cases import PRESENT

ALPHAS = tuple([Setting(window=10, method="zscore", alpha=alpha / 10) for alpha in range(8)])


@given(
    st.integers(2, 8),
    st.integers(1, 17),
    st.integers(2, 7),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_held_out_values_are_those_of_a_second_computation(
    rows: int, queries: int, folds: int, seed: int, random: object
) -> None:
    """Fold by fold, the best mean of the other queries chooses, ties by nearness; its value on the fold counts."""
    numbers = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    values = numbers.integers(0, 4, size=(rows, queries)) / 4  # few values, so that there are ties
    ids = [f"q{place}" for place in range(queries)]
    settings = ALPHAS[:rows]
    choice = choose(values, settings, ids, present=PRESENT, folds=folds, seed=seed)
    fold_of = fold_queries(ids, folds, seed)
    assert choice.fold_of == fold_of
    nearest_first = sorted(range(rows), key=lambda row: (abs(round(10 * settings[row].alpha) - 2), row))
    for query in range(queries):
        others = [place for place in range(queries) if fold_of[place] != fold_of[query]] or [query]
        sums = {row: round(float(sum(values[row][place] for place in others)), 6) for row in nearest_first}
        best = max(nearest_first, key=lambda row: sums[row])  # the first of equals, so the nearest
        assert choice.best_without[fold_of[query]] == best
        assert choice.held_out[query] == values[best][query]
    sums = {row: round(float(values[row].sum()), 6) for row in nearest_first}
    assert choice.best == max(nearest_first, key=lambda row: sums[row])


def test_folds_are_even_and_do_not_depend_on_the_order_of_queries() -> None:
    """Sizes differ by one at most; a query's fold depends on its id, the other ids, and the seed."""
    ids = [f"q{place}" for place in range(23)]
    dealt = fold_queries(ids, 5, 0)
    assert sorted(dealt.count(fold) for fold in range(5)) == [4, 4, 5, 5, 5]
    turned = fold_queries(ids[::-1], 5, 0)
    assert turned[::-1] == dealt
    assert fold_queries(ids, 5, 1) != dealt
    assert fold_queries(["a", "b"], 5, 0) in {(0, 1), (1, 0)}


def test_settings_that_are_equal_leave_the_present_one() -> None:
    """Where no setting is better, the present one is chosen, wherever it stands; then the nearest to it."""
    values = np.ones((len(ALPHAS), 6))
    ids = list("abcdef")
    assert ALPHAS[choose(values, ALPHAS, ids, present=PRESENT).best] == PRESENT
    values[2] = 0
    assert ALPHAS[choose(values, ALPHAS, ids, present=PRESENT).best].alpha == 0.1


def test_method_and_score_are_farther_than_window_and_alpha() -> None:
    """What is nearest is said by method, score, window and alpha in turn."""
    tried = [
        PRESENT,
        Setting(window=10, method="zscore", alpha=0.9),
        Setting(window=5, method="zscore", alpha=0.2),
        Setting(window=10, method="zscore", alpha=0.2, score="expected"),
        Setting(window=10, method="rrf", alpha=0.2),
    ]
    distances = [nearness(setting, PRESENT) for setting in tried]
    assert distances == sorted(set(distances))


def test_a_lucky_setting_does_not_keep_its_luck() -> None:
    """Of many settings that differ by chance alone, the best looks good on all queries and not on held-out ones."""
    settings = [Setting(window=10, method="zscore", alpha=row / 200) for row in range(200)]
    on_all, held_out = [], []
    for seed in range(20):
        values = np.random.default_rng(seed).normal(0.5, 0.2, size=(200, 60))
        choice = choose(values, settings, [f"q{place}" for place in range(60)], present=settings[0])
        on_all.append(values[choice.best].mean())
        held_out.append(choice.held_out_mean)
    assert np.mean(on_all) > 0.55
    assert abs(np.mean(held_out) - 0.5) < 0.02
