"""Judgment lists: sources are never mixed, and a hit finds its grade."""

from __future__ import annotations

import pytest

from es_rerank.tuning.judged import Grade, JudgmentListError, judgment_list, keys_of

GRADES = (
    Grade(query_id="q1", object_id="a", grade=2, user_query="red shoes", group="head"),
    Grade(query_id="q1", object_id="b", grade=0, index="shoes-1"),
    Grade(query_id="q2", object_id="a", grade=1),
    Grade(query_id="q1", object_id="a", grade=1.5, source="llm:erank"),
)


def test_sources_are_never_mixed() -> None:
    """A list of several sources is read only by one of them, which the caller chooses."""
    with pytest.raises(JudgmentListError, match="choose one of llm:erank, people"):
        judgment_list("mine", GRADES)
    assert [one.grade for one in judgment_list("mine", GRADES, source="llm:erank").grades] == [1.5]
    with pytest.raises(JudgmentListError, match="no grade of the source 'clicks'; it has llm:erank, people"):
        judgment_list("mine", GRADES, source="clicks")


def test_queries_come_once_in_the_order_of_the_list() -> None:
    """Each query is there once, with the words and the group of the first grade that has them."""
    queries = judgment_list("mine", GRADES, source="people").queries()
    assert [(one.query_id, one.user_query, one.group) for one in queries] == [
        ("q1", "red shoes", "head"),
        ("q2", "", ""),
    ]


def test_a_hit_finds_its_grade_by_index_or_expression() -> None:
    """A grade that names an index holds there and behind an alias of that name; one that names none holds anywhere."""
    graded = judgment_list("mine", GRADES, source="people").by_query()["q1"]

    def grades_of(hits: list[tuple[str, str]], index: str) -> list[float | None]:
        return [next((graded[key] for key in keys_of(hit, graded, index)), None) for hit in hits]

    assert grades_of([("x", "a"), ("shoes-1", "b"), ("x", "b"), ("x", "c")], "shoes") == [2, 0, None, None]
    assert grades_of([("x", "b")], "shoes-1") == [0]
