"""Grades as text: every form is read whole, or refused with the line and the reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.tuning.forms import FORMS, Form, form_of, read_grades
from es_rerank.tuning.judged import Grade, JudgmentListError

BOM = "\ufeff"
RED = Grade(query_id="q1", object_id="d1", grade=2, user_query="red shoes")
BLUE = Grade(query_id="q1", object_id="d2", grade=-0.5)
OBJECTS = [
    {"query_id": "q1", "object_id": "d1", "grade": 2, "user_query": "red shoes"},
    {"query_id": "q1", "object_id": "d2", "grade": -0.5},
]
LINES = "\n".join(json.dumps(one) for one in OBJECTS)


def refusal(text: str, form: Form) -> str:
    """Why a text is refused."""
    with pytest.raises(JudgmentListError) as raised:
        read_grades("the body", text.encode(), form)
    return str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        BOM + LINES.replace("\n", "\r\n\r\n") + "\n",
        json.dumps(OBJECTS),
        " \n" + json.dumps(OBJECTS, indent=2) + "\n",
    ],
)
def test_json_is_read(text: str) -> None:
    """An object on each line, or a list of objects."""
    assert form_of(text.encode()) == "json"
    assert read_grades("x", text.encode(), "json") == (RED, BLUE)


def test_one_object_may_go_over_lines() -> None:
    """As Dev Tools shows one."""
    assert read_grades("x", json.dumps(OBJECTS[0], indent=2).encode(), "json") == (RED,)


@pytest.mark.parametrize(
    ("text", "form", "problem"),
    [
        (f"{LINES}\n[]\n", "json", "the body, line 3: must be one JSON object, in which no key comes twice"),
        ('\n{"query_id": "q"', "json", "the body, line 2: must be one JSON object"),
        ('{"query_id": "q", "object_id": "d", "grade": 1, "grade": 2}', "json", "the body, line 1: must be one JSON"),
        ('{"query_id": "q", "object_id": "d", "grade": NaN}', "json", "the body, line 1: must be one JSON object"),
        (f'{LINES}\n{{"query_id": "q"}}', "json", "the body, line 3: object_id, grade are missing"),
        ('[{"query_id": "q", "object_id": "d", "grade": 1}, 3]', "json", "the body, item 2: must be one JSON object"),
        ('[{"query_id": "q"', "json", "the body: is not JSON"),
        ('{"query_id": "q", "object_id": "d", "grade": 1, "name": "a"}', "json", "the body: unknown field name"),
        (
            '{"query_id": "q", "object_id": "d", "grade": 1, "timestamp": "now"}',
            "json",
            "the body: timestamp must be a time as in 2026-11-28T09:00:00Z",
        ),
        (f"{LINES}\n{LINES.replace('2}', '3}')}".replace('"grade": 2', '"grade": 3', 1), "json", "the body, line 3: q"),
        ("[]", "json", "the body: holds no judgment"),
        ("q 0 d 1\nq 0 e one\n", "trec", "the body, line 2: the grade must be a number"),
        ("q 0 d 1\nq 0 d 2\n", "trec", 'the body, line 2: query "q" and document "d" are judged twice by people: 1 '),
        ("", "trec", "the body: holds no judgment"),
        ("query,docid,rating\nq,d,\n", "csv", "the body: holds no judgment"),
        ("query,docid,rating\nq,d\n", "csv", "the body, line 2: must be 3 columns"),
        ("query,docid,rating\n" + "q" * 1025 + ",d,1\n", "csv", "the body, line 2: query_id must have at most 1024"),
        ('query,docid,rating\n"q,d,1\n', "csv", "the body, line 2: cannot be taken apart"),
        ("q;d, 1\n", "trec", "the body, line 1: "),
        ("query,docid,Ann,Bob\nq,d,1,2\n", "csv", "the body, line 1: must be query, document and grade"),
        ("query,docid,Ann,Bob\nq,d,1,good\n", "book", "the body, line 2: the grade must be a number"),
        ("query,docid,Ann\nq,d,1,2\n", "book", "the body, line 2: must be 3 columns, as the first line has, has 4"),
        ("query,docid\nq,d\n", "book", "the body, line 1: a book of Quepid begins with query,docid and the names"),
        ("query,docid,rating,query_id,clicks\nw,d,1,q,x\n", "csv", "the body, line 2: clicks must be a whole number"),
        ('{"_id": "1", "text": "a"}\n2\td\t1\n', "beir", "the body, line 2: the query '2' is not among the queries"),
        ('{"_id": "1", "text": ""}\n1\td\t1\n', "beir", "the body, line 1: text must be a text that is not empty"),
        ('{"_id": "1", "text": "a"}\n', "beir", "the body: holds no judgment"),
        ("q\xff".encode("utf-16").decode("latin-1"), "trec", "the body, line 1: "),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(text: str, form: Form, problem: str) -> None:
    """Nothing of a text is read if anything in it is wrong; the error says where and what."""
    assert refusal(text, form).startswith(problem)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("q1 0 d1 2\nq1 0 d2 -0.5\n", "trec"),
        (BOM + "q1\t0\td1\t2\r\n\r\nq1\t0\td2\t-0.5", "trec"),
        ("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t-0.5\n", "trec"),
        ("q1,d1,2\r\nq1,d2,-.5\r\nq1,d2,-.5\r\n", "csv"),
        ('qid;docid;rating\n"q1";"d1";"2"\nq1;d2;-0.5\n', "csv"),
        ("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t-0.5\n", "beir"),
    ],
)
def test_tables_are_read(text: str, form: Form) -> None:
    """With header or none, by tabs, blanks, commas or semicolons, with quotes, a pair twice alike."""
    plain = Grade(query_id="q1", object_id="d1", grade=2)
    assert read_grades("x", text.encode(), form) == (plain, BLUE)


def test_beir_has_the_words_before_the_grades() -> None:
    """queries.jsonl and the qrels behind it make grades with words; queries without a grade are left out."""
    queries = '{"_id": "q1", "text": "red shoes", "metadata": {}}\n{"_id": 2, "text": "blue"}\n'
    text = (BOM + queries + "\nquery-id\tcorpus-id\tscore\nq1\td1\t2\n").encode()
    assert form_of(text) == "beir"
    assert read_grades("x", text, "beir") == (RED,)
    assert refusal(f"{queries}\nquery-id\tcorpus-id\tscore\nq1\td1\tx\n", "beir").startswith("the body, line 5: ")


def test_quepids_basic_export_is_read() -> None:
    """The words are the id too; a query that nobody rated stands alone; before a sign there is a blank."""
    text = 'query,docid,rating\r\n"shoes, red",12,3\r\n -5 lamp,13,1.0\r\nnot judged\r\n'
    assert read_grades("x", text.encode(), "csv") == (
        Grade(query_id="shoes, red", user_query="shoes, red", object_id="12", grade=3),
        Grade(query_id="-5 lamp", user_query="-5 lamp", object_id="13", grade=1),
    )


def test_quepids_detailed_export_is_read() -> None:
    """It doubles the quotes of a value that has no comma, and does not put it in quotes: an inch stays one sign."""
    text = (
        "Team Name,Case Name,Case ID,Query Text,Doc ID,Title,Rating,index,source\r\n"
        'shop,all,5,27"" monitor,d1,A 27"" one,2,3,x\r\n'
        'shop,all,5,"27"" monitor, black",d2,"B, b",,3,x\r\n'
        'shop,all,5,"27"" monitor, black",d3,"C, c",1,3,x\r\n'
    )
    assert read_grades("x", text.encode(), "csv") == (
        Grade(query_id='27" monitor', user_query='27" monitor', object_id="d1", grade=2),
        Grade(query_id='27" monitor, black', user_query='27" monitor, black', object_id="d3", grade=1),
    )


def test_quepids_book_is_read() -> None:
    """It has a column for each person; the grade is the mean of those who judged, and nobody is no judgment."""
    text = "query,docid,Ann,Bob B.,c@example.org\r\nred,d1,1,,2\r\nred,d2,,,\r\nblue,d1,0,0,3\r\n"
    assert read_grades("x", text.encode(), "book") == (
        Grade(query_id="red", user_query="red", object_id="d1", grade=1.5, who="Ann, c@example.org"),
        Grade(query_id="blue", user_query="blue", object_id="d1", grade=1, who="Ann, Bob B., c@example.org"),
    )


def test_what_a_text_does_not_say_its_sender_says() -> None:
    """Source and index of the sender hold for grades without their own."""
    [grade] = read_grades("x", b"q 0 d 1\n", "trec", source="experts", index="films")
    assert (grade.source, grade.index) == ("experts", "films")


def test_columns_of_others_are_not_taken_for_ours() -> None:
    """A column `index` or `source` counts only in a CSV that we wrote: elsewhere it may be the number of a row."""
    [grade] = read_grades("x", b"index,query,docid,rating,source\n0,red,d1,2,web\n", "csv")
    assert grade == Grade(query_id="red", user_query="red", object_id="d1", grade=2)


@given(content=st.binary(max_size=60) | st.text('q0 1\t,;"\n\r.-{}[]:_idtex', max_size=40).map(str.encode))
def test_any_text_is_read_or_refused_in_words(content: bytes) -> None:
    """Whatever a text holds, each form gives grades or a JudgmentListError that names the text, and no other error."""
    for form in (*FORMS, form_of(content)):
        try:
            problem = "" if read_grades("the body", content, form) else "gives nothing"
        except JudgmentListError as error:
            problem = str(error)
        assert not problem or problem.startswith("the body")
