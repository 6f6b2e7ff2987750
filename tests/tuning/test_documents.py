"""One grade as one document: what is wrong is refused with the field, and the same pair has the same id."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from es_rerank.store.indices import JUDGMENTS
from es_rerank.tuning.documents import (
    FIELDS,
    check_fields,
    check_time,
    document_id,
    document_of,
    read_grade,
    refusal_of,
    unique,
)
from es_rerank.tuning.judged import Grade, JudgmentListError
from tests.tuning.grades import GRADES

PAIR = {"query_id": "q", "object_id": "d", "grade": 1}


def test_every_field_of_a_grade_is_in_the_index() -> None:
    """The index has a field for each field of a grade and for the list's name, and no other one."""
    assert {"name", *FIELDS} == set(JUDGMENTS.fields)


@given(grade=GRADES)
def test_what_was_written_as_a_document_is_read_as_the_same_grade(grade: Grade) -> None:
    """A grade that goes into a document and through JSON comes back as it was."""
    document = msgspec.json.decode(msgspec.json.encode(document_of("mine", grade)))
    assert document.pop("name") == "mine"
    check_fields(document)
    check_time(grade)
    assert read_grade(document) == grade


def test_what_is_missing_has_a_meaning() -> None:
    """Without source it is what people say, or what the caller says; nulls are missing; numbers may be ids."""
    assert read_grade(PAIR) == Grade(query_id="q", object_id="d", grade=1)
    assert read_grade({**PAIR, "source": None, "note": "x"}, source="clicks", index="films").source == "clicks"
    assert read_grade({**PAIR, "index": "shoes"}, index="films").index == "shoes"
    assert read_grade({"query_id": 7, "object_id": 12345678901234567890123, "grade": -1.5}) == Grade(
        query_id="7", object_id="12345678901234567890123", grade=-1.5
    )


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([1], "must be an object with query_id, object_id and grade, was [1]"),
        ({}, "query_id, object_id, grade are missing"),
        ({"query_id": "q", "object_id": None, "grade": 1}, "object_id is missing"),
        ({**PAIR, "query_id": ""}, "query_id must not be empty"),
        ({**PAIR, "query_id": True}, "query_id must be a text, was true"),
        ({**PAIR, "object_id": 1.5}, "object_id must be a text, was 1.5"),
        ({**PAIR, "object_id": "x" * 1025}, "object_id must have at most 1024 characters, has 1025"),
        ({**PAIR, "grade": "2"}, 'grade must be a number, such as 2 or 0.5, was "2"'),
        ({**PAIR, "grade": True}, "grade must be a number"),
        ({**PAIR, "grade": [1]}, "grade must be a number"),
        ({**PAIR, "grade": float("nan")}, "grade must be a number"),
        ({**PAIR, "grade": 10**400}, "grade must be a number"),
        ({**PAIR, "source": ""}, "source must not be empty"),
        ({**PAIR, "source": "people,clicks"}, "source must have no comma"),
        ({**PAIR, "source": " people"}, "source must have no comma and no blank around it"),
        ({**PAIR, "user_query": {"a": 1}}, 'user_query must be a text, was {"a":1}'),
        ({**PAIR, "impressions": 1.5}, "impressions must be a whole number from 0, was 1.5"),
        ({**PAIR, "clicks": -1}, "clicks must be a whole number from 0, was -1"),
        ({**PAIR, "expected_clicks": -0.5}, "expected_clicks must be a number"),
    ],
)
def test_what_is_wrong_is_named(document: Any, problem: str) -> None:
    """An error names the field, what it must be, and what it was."""
    with pytest.raises(JudgmentListError) as raised:
        read_grade(document)
    assert str(raised.value).startswith(problem)


def test_a_field_that_no_grade_has_is_refused_where_it_is_looked_at() -> None:
    """A misspelt field is not passed over."""
    with pytest.raises(JudgmentListError, match="unknown field sourc; allowed are query_id, object_id, grade"):
        check_fields({**PAIR, "sourc": "clicks"})


@pytest.mark.parametrize("time", ["", "2026-11-28", "2026-11-28T09:00:00Z", "2026-11-28T09:00:00.123+01:00"])
def test_a_time_is_one_that_engines_read(time: str) -> None:
    """A day, or a time with or without zone and fractions."""
    check_time(Grade(query_id="q", object_id="d", grade=1, timestamp=time))


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01", "20261128", "2026-W48-6", "2026-11-28 09:00:00", "0"])
def test_a_time_that_an_engine_may_refuse_is_refused(time: str) -> None:
    """So that a list is not half written when the engine finds it."""
    with pytest.raises(JudgmentListError, match="timestamp must be a time as in 2026-11-28T09:00:00Z, was"):
        check_time(Grade(query_id="q", object_id="d", grade=1, timestamp=time))


@given(grade=GRADES, other=GRADES)
def test_the_same_pair_has_the_same_id(grade: Grade, other: Grade) -> None:
    """List, source, query, index and document make the `_id`, and nothing else does."""

    def key(one: Grade) -> tuple[str, ...]:
        return (one.source, one.query_id, one.index, one.object_id)

    changed = msgspec.structs.replace(grade, grade=grade.grade + 1, who="bob", timestamp="2026-11-28", group="x")
    assert document_id("mine", grade) == document_id("mine", changed)
    assert document_id("mine", grade) != document_id("yours", grade)
    assert (document_id("mine", grade) == document_id("mine", other)) == (key(grade) == key(other))


def test_a_pair_that_comes_twice_is_one_or_refused() -> None:
    """The same grade twice is one; two grades of one source are an error that names both places."""
    one = Grade(query_id="q", object_id="d", grade=1)
    by_clicks = msgspec.structs.replace(one, source="clicks", grade=2)
    elsewhere = msgspec.structs.replace(one, index="films", grade=3)
    assert unique([("a", one), ("b", by_clicks), ("c", one), ("d", elsewhere)]) == (one, by_clicks, elsewhere)
    with pytest.raises(JudgmentListError, match=r'c: query "q" and document "d" are judged twice by people: 1 \(a\) '):
        unique([("a", one), ("c", msgspec.structs.replace(one, grade=1.5))])


def test_one_error_names_the_first_few_wrong_documents() -> None:
    """Five are named, and the number of the others."""
    assert refusal_of([]) is None
    assert str(refusal_of(["a", "b"])) == "a; b"
    assert str(refusal_of(list("abcdefg"))) == "a; b; c; d; e; and 2 more"
