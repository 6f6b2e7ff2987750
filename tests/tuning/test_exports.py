"""Exported grades: what is read again is what was written."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from es_rerank.trec import read_judgments
from es_rerank.tuning.exports import to_csv, to_json, to_trec, trec_id
from es_rerank.tuning.forms import form_of, read_grades
from es_rerank.tuning.judged import Grade, JudgmentListError
from tests.tuning.grades import IDS, LISTS

BOM = "\ufeff"


def stripped(text: str) -> str:
    """A text as a reader of CSV has it: without blanks around it and byte order marks."""
    return text.replace(BOM, "").strip(" \t\r\n")


@given(grades=LISTS)
def test_json_comes_back_as_it_was(grades: list[Grade]) -> None:
    """Every field of every grade."""
    text = to_json(grades)
    assert form_of(text) == "json"
    assert read_grades("x", text, "json") == tuple(grades)


@given(grades=LISTS)
def test_csv_comes_back_as_it_was_or_is_refused(grades: list[Grade]) -> None:
    """Every field of every grade, but for blanks around texts; an id that would not come back is refused."""
    ids = [text for one in grades for text in (one.query_id, one.object_id)]
    if any(text != stripped(text) or "\n" in text or "\r" in text for text in ids):
        with pytest.raises(JudgmentListError, match="CSV can't hold"):
            to_csv(grades)
        return
    text = to_csv(grades)
    back = read_grades("x", text.encode(), "csv")
    texts = ("user_query", "group", "index", "source", "fingerprint", "who")
    expected = [
        msgspec.structs.replace(one, **{name: stripped(getattr(one, name)) for name in texts}) for one in grades
    ]
    assert back == tuple(expected)


def test_csv_begins_with_the_columns_that_quepid_imports() -> None:
    """query, docid and rating come first; whole grades have no fraction."""
    grade = Grade(query_id="q1", object_id="d1", grade=2, user_query="shoes, red", impressions=12, clicks=3)
    header, row, end = to_csv([grade]).split("\r\n")
    assert header.startswith("query,docid,rating,query_id,group,index,source,")
    assert row == '"shoes, red",d1,2,q1,,,people,,12,3,,,'
    assert not end


@given(grades=LISTS)
def test_trec_comes_back_with_its_ids_and_grades(tmp_path_factory: pytest.TempPathFactory, grades: list[Grade]) -> None:
    """Pairs and grades come back from a file too; ids with blanks are encoded; two grades for a pair are refused."""
    expected = {(trec_id(one.query_id), trec_id(one.object_id)): one.grade for one in grades}
    if len({(trec_id(one.query_id), trec_id(one.object_id), one.grade) for one in grades}) > len(expected):
        with pytest.raises(JudgmentListError, match="have several grades"):
            to_trec(grades)
        return
    text = to_trec(grades)
    back = read_grades("x", text.encode(), "trec")
    assert {(one.query_id, one.object_id): one.grade for one in back} == expected
    file = tmp_path_factory.getbasetemp() / "qrels"
    file.write_bytes(text.encode())
    assert {(one.query_id, one.document_id): one.grade for one in read_judgments(file)} == expected


def test_trec_has_four_columns_without_blanks_in_them() -> None:
    """As trec_eval reads them: words are percent-encoded where they have blanks, and other ids stay."""
    grades = [
        Grade(query_id="red shoes 50%", object_id="d 1", grade=2),
        Grade(query_id="50%", object_id='"a"', grade=0.5),
        Grade(query_id="schön/é", object_id="a:b", grade=-1, index="films"),
    ]
    assert to_trec(grades) == ("red%20shoes%2050%25\t0\td%201\t2\n50%\t0\t%22a%22\t0.5\nschön/é\t0\ta:b\t-1\n")


@given(text=IDS)
def test_an_id_of_trec_is_one_word(text: str) -> None:
    """Whatever an id is, splitting at blanks leaves it whole."""
    assert trec_id(text).split() == [trec_id(text)]


def test_a_pair_with_two_grades_is_no_trec() -> None:
    """TREC can't tell indices or sources apart: two grades for a pair are refused, and the same one twice is one."""
    one = Grade(query_id="q", object_id="d", grade=1)
    elsewhere = msgspec.structs.replace(one, index="films")
    assert to_trec([one, elsewhere]) == "q\t0\td\t1\n"
    with pytest.raises(JudgmentListError, match="have several grades, of several indices or sources"):
        to_trec([one, msgspec.structs.replace(elsewhere, grade=2)])
