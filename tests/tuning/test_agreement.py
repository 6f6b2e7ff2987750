"""How far two sources agree: kappa by its definition, and on the pairs that both have judged."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.tuning.agreement import agreement_of, cohens_kappa, common_grades, weighted_kappa
from es_rerank.tuning.judged import Grade, JudgmentList, judgment_list

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=20)


def by_table(pairs: list[tuple[int, int]], *, quadratic: bool) -> float | None:
    """Kappa from the table of both raters' grades, 1 - Σ w·observed / Σ w·expected: another way than the module's."""
    n = len(pairs)
    grades = range(5)
    observed = {(i, j): pairs.count((i, j)) / n for i in grades for j in grades} if n else {}
    rows = {i: sum(observed.get((i, j), 0) for j in grades) for i in grades}
    columns = {j: sum(observed.get((i, j), 0) for i in grades) for j in grades}
    weights = {(i, j): (i - j) ** 2 if quadratic else int(i != j) for i in grades for j in grades}
    expected = sum(weight * rows[i] * columns[j] for (i, j), weight in weights.items())
    if expected < 1e-12:
        return None
    return 1 - sum(weights[cell] * share for cell, share in observed.items()) / expected


@given(pairs=PAIRS)
def test_kappa_is_what_the_table_gives(pairs: list[tuple[int, int]]) -> None:
    """Plain and quadratically weighted, against a second computation; not defined where chance explains all."""
    for found, expected in (
        (cohens_kappa(pairs), by_table(pairs, quadratic=False)),
        (weighted_kappa(pairs), by_table(pairs, quadratic=True)),
    ):
        assert (found is None) == (expected is None)
        assert found is None or found == pytest.approx(expected, abs=1e-9)
        assert found is None or -1 - 1e-9 <= found <= 1 + 1e-9


def test_a_case_by_hand() -> None:
    """Cohen's example of two who agree on 20 yes and 15 no of 50: p_o 0.7, p_e 0.5, kappa 0.4."""
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert cohens_kappa(pairs) == pytest.approx(0.4)
    # With two grades, far apart is the same as not the same.
    assert weighted_kappa(pairs) == pytest.approx(0.4)


@given(pairs=PAIRS)
def test_kappa_does_not_care_who_is_first(pairs: list[tuple[int, int]]) -> None:
    """Both are symmetric, and full agreement is 1."""
    turned = [(second, first) for first, second in pairs]
    for kappa in (cohens_kappa, weighted_kappa):
        one, other = kappa(pairs), kappa(turned)
        assert one == other or math.isclose(one or 0, other or 0, abs_tol=1e-12)
        same = kappa([(first, first) for first, _ in pairs])
        assert same is None or same == pytest.approx(1)


def test_fractional_grades_are_rounded_for_plain_kappa_alone() -> None:
    """A half goes up; the weighted one takes the grades as they are."""
    assert cohens_kappa([(0.5, 1), (2.4, 2), (0, 0)]) == 1
    assert weighted_kappa([(0.5, 1), (2.4, 2), (0, 0)]) not in (None, 1)


def made(source: str, *grades: tuple[str, str, float, str, str]) -> JudgmentList:
    """A list of (query id, document, grade, index, words)."""
    return judgment_list(
        "mine",
        [
            Grade(query_id=query, object_id=document, grade=grade, index=index, user_query=words, source=source)
            for query, document, grade, index, words in grades
        ],
    )


def test_a_pair_is_common_by_id_or_words_and_by_index_where_both_say_it() -> None:
    """Grades of another index do not meet; a query with another id is found by its words."""
    people = made("people", ("q1", "a", 2, "", "red"), ("q1", "b", 0, "x", "red"), ("q2", "a", 1, "", ""))
    model = made(
        "llm:erank",
        ("red", "a", 3, "films", "red"),
        ("red", "b", 1, "y", "red"),
        ("q2", "a", 1, "films", "blue"),
        ("q2", "c", 1, "films", "blue"),
    )
    assert common_grades(people, model) == [(2, 3), (1, 1)]
    assert common_grades(model, people) == [(3, 2), (1, 1)]


def test_agreement_is_said_in_a_sentence() -> None:
    """With the number of pairs, both figures, the word for the first one, and scales that differ."""
    people = made("people", *[("q", str(n), n % 3, "", "") for n in range(6)])
    model = made("llm:erank", *[("q", str(n), n % 3 or 1, "", "") for n in range(6)])
    found = agreement_of(people, model)
    assert (found.sources, found.n) == (("people", "llm:erank"), 6)
    assert found.kappa == pytest.approx(0.5)
    assert found.sentence == (
        "people and llm:erank have both judged 6 pairs: kappa 0.50, moderate agreement; quadratically weighted 0.67"
    )
    binary = made("llm:x", ("q", "0", 1, "", ""), ("q", "1", 0, "", ""), ("q", "2", 1, "", ""))
    assert agreement_of(people, binary).sentence.endswith("(their best grades are 2 and 1)")


def test_without_anything_to_compare_a_sentence_says_so() -> None:
    """No common pair, or one and the same grade for all: no figure, and why."""
    people = made("people", ("q", "a", 1, "", ""))
    other = agreement_of(people, made("clicks", ("q", "b", 1, "", "")))
    assert (other.n, other.kappa, other.weighted_kappa) == (0, None, None)
    assert "judged no pair in common" in other.sentence
    same = agreement_of(people, made("clicks", ("q", "a", 1, "", "")))
    assert (same.n, same.kappa, same.weighted_kappa) == (1, None, None)
    assert same.sentence.startswith("people and clicks have both judged 1 pair and give all of them one and the same")
