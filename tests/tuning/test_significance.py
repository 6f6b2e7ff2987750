"""The sign-flip test: exact where it can be, as a second computation gives it, and honest where nothing differs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from es_rerank.tuning.significance import EXACT_DIFFERENCES, FLIPS, sign_flip_test

DIFFERENCES = st.integers(1, 6).flatmap(
    lambda queries: st.lists(
        st.lists(st.integers(-4, 4).map(lambda step: step / 8), min_size=queries, max_size=queries),
        min_size=1,
        max_size=4,
    )
)


def brute(rows: list[list[float]]) -> tuple[list[float], list[float]]:
    """Every flip in plain Python: p of each row by its mean, and by the largest statistic of all rows."""
    norms = [sum(value * value for value in row) ** 0.5 for row in rows]

    def statistics(signs: tuple[int, ...]) -> list[float]:
        sums = [abs(sum(sign * value for sign, value in zip(signs, row, strict=True))) for row in rows]
        return [total / norm if norm else 0.0 for total, norm in zip(sums, norms, strict=True)]

    flips = [statistics(signs) for signs in product((1, -1), repeat=len(rows[0]))]
    found = flips[0]
    alone = [sum(flip[row] >= found[row] - 1e-9 for flip in flips) / len(flips) for row in range(len(rows))]
    corrected = [sum(max(flip) >= found[row] - 1e-9 for flip in flips) / len(flips) for row in range(len(rows))]
    return alone, corrected


@given(DIFFERENCES)
def test_few_queries_are_exact(rows: list[list[float]]) -> None:
    """All 2^n flips are tried, so p is the exact share of those that are as large, alone and for the largest of all."""
    test = sign_flip_test(np.array(rows))
    alone, corrected = brute(rows)
    assert test.exact
    assert test.p == pytest.approx(alone)
    assert test.corrected_p == pytest.approx(corrected)
    assert all(one <= both for one, both in zip(test.p, test.corrected_p, strict=True))


def test_known_values() -> None:
    """Ten gains of one size: of 1,024 flips two are as large. Without any difference p is 1."""
    assert sign_flip_test(np.full((1, 10), 0.1)).p == pytest.approx((2 / 1024,))
    nothing = sign_flip_test(np.zeros((2, 300)))
    assert nothing.p == nothing.corrected_p == (1.0, 1.0)


def test_queries_that_do_not_differ_change_nothing() -> None:
    """Only differences count: zeros beside them leave the test exact and the same."""
    few = np.array([[0.1, -0.2, 0.3, 0.4]])
    assert sign_flip_test(np.hstack([few, np.zeros((1, 500))])) == sign_flip_test(few)


def test_many_queries_are_near_the_exact_test() -> None:
    """Random flips come near the exact p, are the same for the same seed, and never say 0."""
    differences = np.random.default_rng(3).normal(0.15, 0.4, size=(1, EXACT_DIFFERENCES + 1))
    sampled = sign_flip_test(differences, flips=20_000)
    alone, _ = brute([differences[0].tolist()])
    assert not sampled.exact
    assert sampled.p[0] == pytest.approx(alone[0], abs=0.015)
    assert sampled == sign_flip_test(differences, flips=20_000)
    assert sign_flip_test(np.full((1, 100), 0.1)).p == (1 / (FLIPS + 1),)


def test_many_settings_cost_significance() -> None:
    """One good setting among many by chance has a corrected p above its own, and is still found if it is clear."""
    numbers = np.random.default_rng(4)
    differences = numbers.normal(0, 0.2, size=(100, 80))
    differences[17] += 0.2
    test = sign_flip_test(differences, flips=2_000)
    assert test.p[17] <= test.corrected_p[17] < 0.01
    assert min(test.p[:17]) < 0.1 < min(test.corrected_p[:17])


@settings(max_examples=3)
@given(st.integers(0, 2**32))
def test_where_nothing_differs_p_is_not_small_too_often(seed: int) -> None:
    """Of 200 sweeps over settings that differ by luck alone, about 5 % look significant after correction, not more."""
    numbers = np.random.default_rng(seed)
    small = 0
    for _ in range(200):
        shared = numbers.normal(0, 0.1, size=(1, 30))  # settings of one sweep are alike
        differences = shared + numbers.normal(0, 0.1, size=(20, 30))
        small += min(sign_flip_test(differences, flips=199, seed=seed).corrected_p) <= 0.05
    assert small <= 24  # 10 are expected; more than 24 come once in 20,000 times
