"""The query set of a replay is read whole, or refused with the first wrong place."""

from __future__ import annotations

from typing import Any

import pytest

from es_rerank.errors import CallerError
from es_rerank.proxy.replay.queries import MAX_QUERIES, read_queries, with_words
from es_rerank.tuning.judged import JudgedQuery


def test_queries_are_read_in_their_order() -> None:
    """The group may be left out."""
    given = [{"query_id": "b", "user_query": "x"}, {"query_id": "a", "user_query": "y", "group": "head"}]
    assert read_queries(given) == (
        JudgedQuery(query_id="b", user_query="x"),
        JudgedQuery(query_id="a", user_query="y", group="head"),
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, r"\[queries\] must be a list of 1 to"),
        ([], r"\[queries\] must be a list of 1 to"),
        ([{"query_id": "1", "user_query": "x"}] * (MAX_QUERIES + 1), r"\[queries\] must be a list of 1 to 10000"),
        (["x"], r"\[queries\[0\]\] must be an object"),
        ([{"query_id": "1"}], r"\[queries\[0\].user_query\] must be a text of 1 to"),
        ([{"query_id": 1, "user_query": "x"}], r"\[queries\[0\].query_id\] must be a text"),
        ([{"query_id": "1", "user_query": " "}], r"\[queries\[0\].user_query\] must be a text"),
        ([{"query_id": "1", "user_query": "x", "group": 2}], r"\[queries\[0\].group\] must be a text of 0 to"),
        ([{"query_id": "1", "user_query": "x", "grade": 2}], r"\[queries\[0\]\] unknown field \[grade\]; allowed are"),
        ([{"query_id": "1", "user_query": "x"}] * 2, r"\[queries\[1\].query_id\] is there twice: \[1\]"),
    ],
)
def test_what_is_no_query_set_is_refused(value: Any, said: str) -> None:
    """The error names the place."""
    with pytest.raises(CallerError, match=said):
        read_queries(value)


def test_judged_queries_need_words() -> None:
    """A judgment list from qrels has ids alone: the error says which, and what to do."""
    with pytest.raises(CallerError, match=r"1 of its 2 queries have no words \(7\): give all as \[queries\]"):
        with_words([JudgedQuery(query_id="1", user_query="x"), JudgedQuery(query_id="7")])
