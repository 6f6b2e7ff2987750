"""Measures are those of ir-measures, for every order, and odd grades change none of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.graded import grade_recording
from es_rerank.tuning.measures import measured, parse_measure
from es_rerank.tuning.metrics import USUAL
from es_rerank.tuning.order import order_of
from es_rerank.tuning.sweep import order_by_query, sweep
from tests.tuning.cases import PRESENT, by_chance, judged_as, query_of, recorded_queries, recording_of, settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.tuning.recording import RecordedQuery, Setting

NAMES = (
    *USUAL, "P@5", "P@100", "Success@1", "Rprec", "RR", "AP", "nDCG", "RR(rel=2)@3", "P(rel=2)@4", "AP(rel=2)@3",
    "R(rel=3)@2",
)  # fmt: skip
GRADES = st.dictionaries(st.sampled_from([f"d{place}" for place in range(14)]), st.integers(-1, 4), min_size=1)


def plain(
    name: str, grades: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """What ir-measures itself says of each judged query."""
    measure = ir_measures.parse_measure(name)
    results: Any = ir_measures.iter_calc([measure], dict(grades), dict(run))
    return {result.query_id: result.value for result in results}


def run_of(query: RecordedQuery, setting: Setting) -> dict[str, float]:
    """The order as ir-measures takes it."""
    order = order_of(query, setting)
    return {object_id: float(len(order) - place) for place, (_, object_id) in enumerate(order)}


@given(recorded_queries().filter(lambda query: query.ids), GRADES, st.lists(settings(), min_size=1, max_size=6))
def test_every_setting_is_measured_as_ir_measures_does(
    query: RecordedQuery, grades: dict[str, int], tried: list[Setting]
) -> None:
    """For any window, grades (negative ones too) and settings, each value is what ir-measures says of that order."""
    graded = grade_recording(recording_of(query, setting=PRESENT), judged_as({"q1": grades}))
    tried = [setting for setting in tried if setting.window <= PRESENT.window] or [PRESENT]
    for name in NAMES:
        swept = sweep(graded, tried, parse_measure(name))
        expected = [plain(name, {"q1": grades}, {"q1": run_of(query, setting)})["q1"] for setting in tried]
        assert swept.values[:, 0].tolist() == pytest.approx(expected, abs=1e-12), name


def test_many_queries_are_measured_as_one_run() -> None:
    """Per query and in the mean, the values are those of ir-measures for the whole run; a missing query counts 0."""
    recording, judgments = by_chance(5, queries=12, window=20)
    recording = recording_of(*recording.queries[:-2], setting=recording.head.setting)
    graded = grade_recording(recording, judgments)
    assert graded.missing == ("q10", "q11")
    grades = {key: {doc: int(grade) for (_, doc), grade in docs.items()} for key, docs in judgments.by_query().items()}
    run = {query.query_id: run_of(query, recording.head.setting) for query in recording.queries}
    orders = order_by_query(graded, recording.head.setting)
    for name in NAMES:
        values = measured(parse_measure(name), graded.queries, orders)
        expected = plain(name, grades, run)
        assert dict(zip([query.query_id for query in graded.queries], values, strict=True)) == pytest.approx(expected)
        assert values[-2:] == [0, 0]
        mean = ir_measures.calc_aggregate([ir_measures.parse_measure(name)], grades, run)
        assert [sum(values) / len(values)] == pytest.approx(list(mean.values()))


def test_an_empty_answer_counts_zero() -> None:
    """A query that found nothing is 0 by every measure, Judged@10 included."""
    graded = grade_recording(recording_of(query_of("q1", []), query_of("q2", [1])), judged_as({"q1": {"d0": 1}}))
    for name in NAMES:
        assert measured(parse_measure(name), graded.queries, [()]) == [0.0]


@given(
    recorded_queries().filter(lambda query: query.ids),
    st.dictionaries(st.sampled_from([f"d{place}" for place in range(14)]), st.integers(-8, 16), min_size=1),
    settings(10),
)
def test_fractional_grades_keep_what_a_measure_means(
    query: RecordedQuery, quarters: dict[str, int], setting: Setting
) -> None:
    """For nDCG, 0.25, 0.5, ... are worth what 1, 2, ... are; other measures ask whether a grade is at least `rel`."""
    graded = grade_recording(
        recording_of(query), judged_as({"q1": {key: grade / 4 for key, grade in quarters.items()}})
    )
    run = {"q1": run_of(query, setting)}
    orders = order_by_query(graded, setting)
    for name in NAMES:
        kept = {key: max(0, grade if "nDCG" in name else grade // 4) for key, grade in quarters.items()}
        expected = plain(name, {"q1": kept}, run)["q1"]
        assert measured(parse_measure(name), graded.queries, orders) == pytest.approx([expected], abs=1e-12), name


@given(st.lists(st.floats(0, 7, allow_subnormal=False), min_size=3, max_size=10))
def test_ndcg_of_any_grades_is_near_the_formula(grades: list[float]) -> None:
    """Grades that are no simple fractions are rounded to 1/10,000 of the largest: nDCG moves by less than 0.0005."""
    query = query_of("q1", [None] * len(grades))
    graded = grade_recording(recording_of(query), judged_as({"q1": {f"d{place}": g for place, g in enumerate(grades)}}))
    discounts = [1 / math.log2(place + 2) for place in range(len(grades))]
    ideal = sum(grade * discount for grade, discount in zip(sorted(grades, reverse=True), discounts, strict=True))
    expected = (
        sum(grade * discount for grade, discount in zip(grades, discounts, strict=True)) / ideal if ideal else 0.0
    )
    [value] = measured(parse_measure("nDCG@10"), graded.queries, [tuple(range(len(grades)))])
    assert value == pytest.approx(expected, abs=0.0005)


def test_negative_grades_count_as_zero_and_are_judged() -> None:
    """A query with nothing but negative grades is judged, and 0 by every measure; pytrec_eval would crash on it."""
    graded = grade_recording(recording_of(query_of("q1", [1, 1])), judged_as({"q1": {"d0": -2, "d1": -3}}))
    assert graded.without_relevant == ("q1",)
    for name in NAMES:
        [value] = measured(parse_measure(name), graded.queries, [(0, 1)])
        assert value == (1.0 if name == "Judged@10" else 0.0)


def test_grades_that_are_large_stay_bounded() -> None:
    """A whole grade of any size is measured, in memory that does not depend on it."""
    graded = grade_recording(recording_of(query_of("q1", [1, 1])), judged_as({"q1": {"d0": 10**30, "d1": 5 * 10**29}}))
    assert measured(parse_measure("nDCG@10"), graded.queries, [(0, 1)]) == [1.0]
    assert measured(parse_measure("AP@10"), graded.queries, [(0, 1)]) == [1.0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ndcg@10", "metric: 'ndcg@10' is not taken; allowed are nDCG, RR, AP, R, P, Rprec, Success, Judged"),
        ("ERR@10", "'ERR@10' is not taken"),
        ("nDCG@x", "'nDCG@x' is not taken"),
        ("nDCG@", "is not taken"),
        ("", "is not taken"),
        ("__import__('os')", "is not taken"),
        ("nDCG(dcg='exp-log2')@10", "has dcg; allowed are a depth and rel"),
        ("nDCG(gains={1:3})@10", "has gains; allowed are a depth and rel"),
        ("nDCG(judged_only=True)@10", "has judged_only; allowed are a depth and rel"),
        ("nDCG@0", "the depth and rel must be whole numbers from 1 to 10,000"),
        ("R@99999999999999999999", "the depth and rel must be whole numbers from 1 to 10,000"),
        ("RR(rel=0)@10", "the depth and rel must be whole numbers from 1 to 10,000"),
        ("P(rel='x')@10", "metric: "),
        ("P(rel=1.5)@10", "metric: "),
        ("P(rel=True)@10", "metric: "),
        ("nDCG@10@5", "metric: "),
        ("(" * 100_000, "is not taken"),
        ("P", "needs a depth, as in P@10"),
    ],
)
def test_other_metrics_are_refused(name: str, message: str) -> None:
    """What is no measure, or one whose value odd grades would change, is a clear error."""
    with pytest.raises(TuningError) as caught:
        parse_measure(name)
    assert message in str(caught.value)


@given(st.text(max_size=70) | st.text("nDCGRPAh@0123456789()=.,'rel", max_size=20))
def test_any_text_is_a_measure_or_a_clear_error(name: str) -> None:
    """Whatever a caller sends, nothing but a measure or the error comes out."""
    try:
        measure = parse_measure(name)
    except TuningError:
        return
    assert parse_measure(measure.name) == measure


def test_names_are_those_of_ir_measures() -> None:
    """A second name of a measure is brought to the first."""
    assert [parse_measure(name).name for name in ("NDCG@10", "MRR@10", "MAP@100")] == ["nDCG@10", "RR@10", "AP@100"]
