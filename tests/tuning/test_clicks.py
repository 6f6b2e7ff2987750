"""Clicks to grades: a pair is as good as it is clicked more than its places explain."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.tuning.clicks import MAX_GRADE, ShownPair, click_grade, click_shares
from es_rerank.tuning.judged import Grade

COUNTS = st.dictionaries(st.integers(0, 20), st.integers(0, 1000), max_size=5)


def shown(impressions: dict[int, int], clicks: int) -> ShownPair:
    """A pair that was shown so often at these positions."""
    return ShownPair(
        query_id="red", user_query="red", index="films-1", object_id="d", impressions=impressions, clicks=clicks
    )


def test_a_case_by_hand() -> None:
    """At position 1, 40 of 100 are clicked, at 2 20 of 100: ten times at 1 and five at 2 make 5 clicks expected."""
    shares = click_shares({1: 100, 2: 100}, {1: 40, 2: 20})
    assert shares == {1: 0.4, 2: 0.2}
    grade = click_grade(shown({1: 10, 2: 5}, 6), shares)
    assert grade is not None
    assert grade.grade == pytest.approx(6 / 5)
    assert grade.expected_clicks == pytest.approx(5.0)
    assert msgspec.structs.replace(grade, grade=0, expected_clicks=0) == Grade(
        query_id="red",
        user_query="red",
        index="films-1",
        object_id="d",
        grade=0,
        source="clicks",
        impressions=15,
        clicks=6,
        expected_clicks=0,
    )


def test_too_few_impressions_are_no_judgment() -> None:
    """Nine are too few unless the caller says otherwise; never clicked among enough is a grade of 0."""
    shares = {1: 0.5}
    assert click_grade(shown({1: 9}, 9), shares) is None
    grade = click_grade(shown({1: 10}, 0), shares)
    assert grade is not None
    assert grade.grade == 0
    assert click_grade(shown({1: 1}, 1), shares, min_impressions=1) is not None


def test_where_nothing_is_ever_clicked_nothing_is_known() -> None:
    """A pair that was shown only where nobody clicks anything has no judgment."""
    assert click_grade(shown({9: 50}, 0), click_shares({9: 100}, {})) is None


@given(impressions=COUNTS, clicks=COUNTS, at=COUNTS, clicked=st.integers(0, 100))
def test_a_grade_is_in_its_bounds(
    impressions: dict[int, int], clicks: dict[int, int], at: dict[int, int], clicked: int
) -> None:
    """Shares are between 0 and 1, grades between 0 and MAX_GRADE, with the impressions they rest on."""
    shares = click_shares(impressions, clicks)
    assert all(0 <= share <= 1 for share in shares.values())
    grade = click_grade(shown(at, clicked), shares)
    if grade is not None:
        assert 0 <= grade.grade <= MAX_GRADE
        assert grade.impressions == sum(at.values()) >= 10
        assert grade.expected_clicks is not None
        assert grade.grade == min(MAX_GRADE, clicked / grade.expected_clicks)


@given(impressions=st.dictionaries(st.integers(1, 9), st.integers(1, 100), min_size=1), data=st.data())
def test_all_pairs_together_are_clicked_as_often_as_expected(impressions: dict[int, int], data: st.DataObject) -> None:
    """If one pair had all impressions and all clicks, its COEC would be 1."""
    clicks = {place: data.draw(st.integers(0, count)) for place, count in impressions.items()}
    grade = click_grade(shown(impressions, sum(clicks.values())), click_shares(impressions, clicks), min_impressions=1)
    assert (grade is None) == (not sum(clicks.values()))
    assert grade is None or grade.grade == pytest.approx(1)
