"""The scores that clients see: on the engine's scale, 32-bit, falling."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.fusion.fuse import Ranking, fuse
from es_rerank.fusion.scale import LARGEST_FLOAT32, float32_text, next_float32, scale_to_engine, to_float32

Window = tuple[list[float], Ranking]

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
engine_scores = st.floats(min_value=0, max_value=2.0**100, width=32)


def ranking_of(*fused: float | None) -> Ranking:
    """The ranking that these fused scores make; they stand in engine order."""
    scored = [index for index, score in enumerate(fused) if score is not None]
    best_first = iter(sorted(scored, key=lambda index: (-(fused[index] or 0), index)))
    order = tuple(index if score is None else next(best_first) for index, score in enumerate(fused))
    return Ranking(order=order, fused_scores=fused)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """An engine's scores and a ranking of them, fused scores as near to each other as floats can be."""
    engine = sorted(draw(st.lists(engine_scores, min_size=1, max_size=30)), reverse=True)
    scores = st.none() | st.floats(min_value=-10, max_value=10)
    fused = draw(st.lists(scores, min_size=len(engine), max_size=len(engine)))
    return engine, ranking_of(*fused)


def test_the_formula_on_a_tiny_window() -> None:
    """The fused scores are spread over the engine's range in their own proportions."""
    low, high = 2, 10
    assert scale_to_engine([10.0, 4.0, 2.0], ranking_of(-1.0, 1.0, -0.5)) == (
        high,
        low + (high - low) * 0.5 / 2,
        low,
    )


def test_equal_engine_scores_are_spread_over_one() -> None:
    """A query that gives every hit the same score has no range of its own, so 1 is taken."""
    assert scale_to_engine([1.0, 1.0, 1.0], ranking_of(0.0, 3.0, 1.5)) == (2, 1.5, 1)


@pytest.mark.parametrize("fused", [(0.5, 0.5, 0.5), (None, None, None), (None, 0.5, None)])
def test_without_differences_the_engines_scores_stay(fused: tuple[float | None, ...]) -> None:
    """Where nothing tells the documents apart, their order is the engine's, and so are their scores."""
    assert scale_to_engine([3.0, 2.0, 1.0], ranking_of(*fused)) == (3, 2, 1)


def test_an_unscored_document_takes_the_score_above_it() -> None:
    """Between scored documents it ties with the one above, and on top it has the engine's highest score."""
    ranking = ranking_of(None, 1.0, None, 0.0, None)
    assert ranking.order == (0, 1, 2, 3, 4)
    assert scale_to_engine([9.0, 7.0, 5.0, 3.0, 1.0], ranking) == (9, 9, 9, 1, 1)


def test_an_unscored_document_on_top_has_the_highest_score() -> None:
    """Where equal engine scores were spread upwards, the first place must not stay behind."""
    assert scale_to_engine([1.0, 1.0, 1.0], ranking_of(None, 1.0, 0.0)) == (2, 2, 1)


@given(windows())
def test_scores_of_a_window_can_be_told_from_those_behind_it(window: Window) -> None:
    """If asked for, every shown score is above the engine's lowest, unless nothing tells the documents apart."""
    engine, ranking = window
    values = scale_to_engine(engine, ranking, above_lowest=True)
    fused = {score for score in ranking.fused_scores if score is not None}
    if len(fused) > 1 and to_float32(min(engine)) < LARGEST_FLOAT32:
        assert min(values) > to_float32(min(engine))
        assert all(to_float32(float(float32_text(value))) == value for value in values)
    elif len(fused) < 2:
        assert values == scale_to_engine(engine, ranking)
    assert all(above >= below for above, below in pairwise(values))


@given(windows())
def test_scores_are_32_bit_and_never_rise(window: Window) -> None:
    """Every place has a finite value that an engine could have given, at most that of the place above."""
    engine, ranking = window
    values = scale_to_engine(engine, ranking)
    assert len(values) == len(ranking.order)
    assert all(math.isfinite(value) and float(np.float32(value)) == value for value in values)
    assert all(above >= below for above, below in pairwise(values))


@given(windows())
def test_no_score_lies_below_the_windows_lowest(window: Window) -> None:
    """What the engine ranks behind the window goes on below it; the lowest scored document meets it exactly."""
    engine, ranking = window
    values = scale_to_engine(engine, ranking)
    assert min(values) == min(engine)


@given(windows())
def test_the_highest_score_is_the_engines(window: Window) -> None:
    """The first place has the engine's highest score, or a few 32-bit steps more where these had to be made room."""
    engine, ranking = window
    highest = scale_to_engine(engine, ranking)[0]
    steps = max(engine) if min(engine) < max(engine) else max(engine) + 1
    for _ in engine:
        steps = next_float32(steps)
    assert max(engine) <= highest <= steps


@given(st.lists(st.integers(0, 1000).map(float), min_size=2, unique=True), st.floats(0, 1))
def test_with_room_the_highest_score_is_exactly_the_engines(engine: list[float], alpha: float) -> None:
    """On scores as engines give them, no step has to be added, so every page names the engine's `max_score`."""
    engine.sort(reverse=True)
    rank: list[float | None] = [float(index % 11) for index in range(len(engine))]
    assert scale_to_engine(engine, fuse(engine, rank, method="rrf", alpha=alpha))[0] == engine[0]


@given(windows())
def test_different_fused_scores_have_different_scores(window: Window) -> None:
    """Between two scored documents the value falls if the fused score does, and stays if that stays."""
    engine, ranking = window
    values = scale_to_engine(engine, ranking)
    scored = [
        (score, value)
        for index, value in zip(ranking.order, values, strict=True)
        if (score := ranking.fused_scores[index]) is not None
    ]
    if len({score for score, _ in scored}) > 1:  # else the engine's scores stay
        assert all((one > other) == (above > below) for (one, above), (other, below) in pairwise(scored))


def test_at_the_largest_float_there_is_no_room() -> None:
    """Above the largest 32-bit float nothing is finite, so there scores tie."""
    assert scale_to_engine([LARGEST_FLOAT32, LARGEST_FLOAT32], ranking_of(0.0, 1.0)) == (LARGEST_FLOAT32,) * 2


@given(st.lists(engine_scores, min_size=1), st.integers(1, 100), st.integers(-100, 100))
def test_only_the_proportions_of_fused_scores_count(engine: list[float], factor: int, shift: int) -> None:
    """Fused scores of another scale give the same values but for rounding."""
    engine.sort(reverse=True)
    fused = [float(index * 7 % 5) for index in range(len(engine))]
    values = scale_to_engine(engine, ranking_of(*fused))
    assert scale_to_engine(engine, ranking_of(*(factor * score + shift for score in fused))) == pytest.approx(
        values, rel=1e-6
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_goes_to_the_nearest_finite_32_bit_float(value: float) -> None:
    """Rounding agrees with numpy's, and a value too large becomes the largest of its sign."""
    with np.errstate(over="ignore"):
        nearest = float(np.float32(value))
    expected = nearest if math.isfinite(nearest) else math.copysign(LARGEST_FLOAT32, value)
    assert to_float32(value) == expected


@given(float32s)
def test_the_next_float_is_the_smallest_above(value: float) -> None:
    """There is no 32-bit float between a value and the next one; the largest has none and stays."""
    with np.errstate(over="ignore", under="ignore"):
        above = float(np.nextafter(np.float32(value), np.float32(math.inf)))
    assert next_float32(value) == (value if math.isinf(above) else above)


@given(float32s)
def test_text_reads_back_as_the_same_32_bit_float(value: float) -> None:
    """What a client parses as JSON and keeps as a 32-bit float is the score that was meant."""
    assert to_float32(json.loads(float32_text(value))) == value


@given(st.integers(1, 999_999), st.integers(-36, 30))
def test_text_is_no_longer_than_needed(digits: int, exponent: int) -> None:
    """A number of at most six digits is printed with those digits, not with those of its binary value."""
    number = float(f"{digits}e{exponent}")
    assert float32_text(to_float32(number)) == repr(number)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.0"), (3.0, "3.0"), (0.1, "0.1"), (13.649996, "13.649996"), (1 / 3, "0.33333334")]
)
def test_text_is_as_engines_print_it(value: float, text: str) -> None:
    """Scores look as in an engine's answer."""
    assert float32_text(to_float32(value)) == text
