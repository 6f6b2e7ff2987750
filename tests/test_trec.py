"""Query sets and judgments: every file is read whole, or refused with the line that is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from es_rerank.trec import Judgment, Query, TrecError, read_judgments, read_queries

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "query-id\tcorpus-id\tscore\n"
BOM = "\ufeff"
# The same folder for all examples of a property: each one overwrites the file of the one before.
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path, text: str, name: str = "file.txt") -> Path:
    """A file with that text, line ends as they are."""
    file = folder / name
    content = text.encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def judged(file: Path) -> list[tuple[str, str, int | float]]:
    """The judgments of a file as plain tuples."""
    return [(one.query_id, one.document_id, one.grade) for one in read_judgments(file)]


def refusal(file: Path) -> str:
    """Why the judgments of a file are refused."""
    with pytest.raises(TrecError) as error:
        read_judgments(file)
    return str(error.value).removeprefix(str(file)).removeprefix(", ")


@pytest.mark.parametrize("name", ["queries.jsonl", "queries.jsonl.gz"])
def test_queries_are_read_in_order(tmp_path: Path, name: str) -> None:
    """The queries keep the order of the file; other fields and blank lines are ignored, packed or not."""
    text = '{"_id": "q2", "text": "a wing", "metadata": {}}\n\n{"_id": "q1", "text": "Flügel"}\r\n'
    assert read_queries(written(tmp_path, text, name)) == (Query(id="q2", text="a wing"), Query(id="q1", text="Flügel"))


def test_a_query_may_have_a_number_as_its_id(tmp_path: Path) -> None:
    """An id that is a whole number is its digits, as judgments write it; a byte order mark does not matter."""
    file = written(tmp_path, BOM + '{"_id": 7, "text": "a"}\n{"_id": 12345678901234567890123, "text": "b"}\n')
    assert [query.id for query in read_queries(file)] == ["7", "12345678901234567890123"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("not json", "line 2: is not JSON"),
        ("[" * 100_000, "line 2: is not JSON: maximum recursion depth exceeded"),
        ("[1]", "line 2: must be an object"),
        ('{"text": "a"}', "line 2: _id must be a text that is not empty, or a whole number, was None"),
        ('{"_id": true, "text": "a"}', "line 2: _id must be a text that is not empty, or a whole number, was True"),
        ('{"_id": 1.5, "text": "a"}', "line 2: _id must be a text that is not empty, or a whole number, was 1.5"),
        ('{"_id": "q2", "text": ""}', "line 2: text must be a text that is not empty"),
        ('{"_id": "q1", "text": "again"}', "line 2: the query 'q1' is there twice"),
    ],
)
def test_a_wrong_query_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """An error on a query names the file, the line and what was expected."""
    file = written(tmp_path, '{"_id": "q1", "text": "a"}\n' + line)
    with pytest.raises(TrecError) as error:
        read_queries(file)
    assert str(error.value).startswith(f"{file}, {problem}")


@pytest.mark.parametrize("header", [HEADER, "", BOM + HEADER, '"query-id"\t"corpus-id"\t"score"\r\n', "\n \n" + HEADER])
def test_judgments_are_read_with_and_without_header(tmp_path: Path, header: str) -> None:
    """A header line is optional and is not a judgment; a line that comes twice is one judgment."""
    file = written(tmp_path, header + "1\td 7\t2\r\n1\td8\t0\n1\td8\t0\n2\td7\t-1\n")
    assert read_judgments(file) == (
        Judgment(query_id="1", document_id="d 7", grade=2),
        Judgment(query_id="1", document_id="d8", grade=0),
        Judgment(query_id="2", document_id="d7", grade=-1),
    )


@pytest.mark.parametrize(
    "text",
    [
        "301 0 FR940-1 1\n301 0 FR940-2 -2\n",
        "301\t0\tFR940-1\t1\r\n301\t0\tFR940-2\t-2\r\n",
        BOM + "301  Q0  FR940-1  1\n\n301  Q0  FR940-2  -2",
        "301 0\tFR940-1 1\n301 0\tFR940-2 -2\n",
        "301 FR940-1 1\n301 FR940-2 -2\n",
        "topic iteration docno rel\n301 0 FR940-1 1\n301 0 FR940-2 -2\n",
    ],
)
def test_qrels_of_trec_are_read(tmp_path: Path, text: str) -> None:
    """Four columns are query, iteration, document and grade, with blanks, tabs or both; three have no iteration."""
    assert judged(written(tmp_path, text, "qrels")) == [("301", "FR940-1", 1), ("301", "FR940-2", -2)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", BOM])
def test_csv_of_quepid_is_read(tmp_path: Path, start: str, end: str) -> None:
    """A value may hold the separator and doubled quotes; a query that nobody judged stands alone and is skipped."""
    lines = [
        "query,docid,rating",
        '"shoes, red",12,3',
        '"the ""best"" film",d7,0',
        " -5 lamp,13,1",
        "not judged",
        "a,b,",
    ]
    expected = [("shoes, red", "12", 3), ('the "best" film', "d7", 0), ("-5 lamp", "13", 1)]
    assert judged(written(tmp_path, start + end.join(lines) + end, "case.csv")) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Case ID,Query Text,Doc ID,Title,Rating\n5,wings,d1,'of birds',2\n", "detail.csv"),
        ("qid;relevance;query;doc_id\nwings;2;how do birds fly;d1\n", "table.csv"),
        ("document_id\trating\tscore\tquery_id\nd1\t2\t17.3\twings\n", "table.tsv"),
        ("QueryID docNo Label\nwings d1 2\n", "table.txt"),
        ("wings,d1,2\n", "table.csv"),
        ("wings,d1,2\n", "table.csv.gz"),
        ("wings, d1, 2\n", "table.csv"),
        ('"wings"\t"d1"\t"2"\n', "table.tsv"),
    ],
)
def test_a_header_names_the_columns(tmp_path: Path, text: str, name: str) -> None:
    """Columns are found by name in any order, an id before a text, a rating before a score; others are not read."""
    assert judged(written(tmp_path, text, name)) == [("wings", "d1", 2)]


def test_a_fractional_grade_is_never_cut(tmp_path: Path) -> None:
    """A fraction stays one, and a grade that is whole is an int, however it is written."""
    grades = [
        grade for _, _, grade in judged(written(tmp_path, "q\ta\t0.5\nq\tb\t2.0\nq\tc\t-1.25\nq\td\t1e1\nq\te\t+3\n"))
    ]
    assert grades == [0.5, 2, -1.25, 10, 3]
    assert [type(grade) for grade in grades] == [float, int, float, int, int]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1 0 d7 1", "line 3: must be query, document and grade"),
        ("1\td7", "line 3: must be 3 columns, as the first line has, was ('1', 'd7')"),
        ("1\t0\td7\t1", "line 3: must be 3 columns, as the first line has"),
        ("1\t\t1", "line 3: must be query, document and grade, or query, 0, document and grade, "),
        ("1\td7\tgood", "line 3: the grade must be a number, such as 2 or 0.5, was 'good'"),
        ("1\td7\t1,5", "line 3: the grade must be a number, such as 2 or 0.5, was '1,5'"),
        ("1\td7\tnan", "line 3: the grade must be a number"),
        ("1\td7\t1_0", "line 3: the grade must be a number"),
        ("1\td7\t\u0661", "line 3: the grade must be a number"),
        ("1\td7\t1e999", "line 3: the grade must be a number"),
        ("1\td7\t" + 5000 * "0", "line 3: the grade must be a number"),
        (HEADER.strip(), "line 3: the grade must be a number, such as 2 or 0.5, was 'score'"),
        ("1\td1\t2", "line 3: query '1' and document 'd1' are judged twice: 1 before and 2 here"),
        ("1\td1\t1.5", "line 3: query '1' and document 'd1' are judged twice: 1 before and 1.5 here"),
        ('"1\td7\t1\n2"\td7\t1', "line 3: a value goes over several lines; is a quote not closed?"),
        ('"1\td7\t1', "line 3: cannot be taken apart: unexpected end of data"),
        ('"1"x\td7\t1', "line 3: cannot be taken apart: "),
        ("1\td7\t1\r1\td8\t1", "line 3: cannot be taken apart: "),
    ],
)
def test_a_wrong_judgment_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """An error on a judgment names the file, the line and what was expected."""
    if line == "1 0 d7 1":
        problem = "line 3: must be 3 columns, as the first line has, was ('1 0 d7 1',)"
    shown = refusal(written(tmp_path, f"{HEADER}1\td1\t1\n{line}\n"))
    assert shown.startswith(problem)
    assert len(shown) < 400


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("q\td\tgood\n", "qrels.tsv"),
        ("anfrage\tdokument\tnote\nq\td\t1\n", "qrels.tsv"),
        ("query,docid,Ann,Bob\nq,d,1,2\n", "book.csv"),
        ("rating,query,docid,rating\n1,q,d,2\n", "twice.csv"),
        ("q Q0 d 1 12.5 run-a\n", "a.run"),
        ("q d 1 0.5\n", "qrels"),
        ("1\t2,3\t4,5\n", "qrels.tsv"),
        ('{"query": "q", "docid": "d", "rating": 1}\n', "qrels.jsonl"),
        ('"q\td\t1\n', "qrels.tsv"),
        ("q\r" * 100_000, "qrels.tsv"),
    ],
)
def test_a_first_line_that_shows_no_form_is_refused(tmp_path: Path, text: str, name: str) -> None:
    """A first line that is neither a judgment nor a header with known words is an error; it is not passed over."""
    shown = refusal(written(tmp_path, text, name))
    assert shown.startswith("line 1: must be query, document and grade, or query, 0, document and grade, with tabs")
    assert len(shown) < 500


@pytest.mark.parametrize("line", ["q, d, 1", "q; d; 1", "query, docid, rating"])
def test_a_first_line_that_shows_two_forms_is_refused(tmp_path: Path, line: str) -> None:
    """Columns that could be by blanks or by commas are not guessed: the file's name has to tell."""
    assert refusal(written(tmp_path, f"{line}\n")).startswith("line 1: has columns by blanks and by ")
    assert judged(written(tmp_path, f"{line}\n" + ("a;b;1" if ";" in line else "a,b,1"), "x.csv"))[-1][2] == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("q 0 d 1\nq 0 d\n", "line 2: must be 4 columns, as the first line has, was ('q', '0', 'd')"),
        ('q 0 d 1\n"q" 0 e 1\n', "line 2: has a quote: put tabs or commas between the columns"),
        ("query,docid,rating\nq,d\n", "line 2: must be 3 columns, as the first line has, was ('q', 'd')"),
        ("query,docid,rating\nq,,1\n", "line 2: must be query, document and grade"),
        ("query,docid,rating\n,d,1\n", "line 2: must be query, document and grade"),
        ('query,docid,rating\nq,d,1\n\n"q,e,1\n', "line 4: cannot be taken apart: unexpected end of data"),
        ("query\tdocid\trating\nq\n", "line 2: must be 3 columns"),
        ("q,d,\n", "line 1: must be query, document and grade"),
    ],
)
def test_a_row_that_is_not_whole_is_named_in_every_form(tmp_path: Path, text: str, problem: str) -> None:
    """A row with too few values is an error in every form, with its own line."""
    assert refusal(written(tmp_path, text, "x.csv" if "," in text else "x.txt")).startswith(problem)


def test_a_value_of_csv_may_go_over_lines(tmp_path: Path) -> None:
    """A quoted value with a line end is one value, and the lines behind it are still named rightly."""
    file = written(tmp_path, 'query,docid,rating\n"a\nb",d,1\nq,e,bad\n', "x.csv")
    assert refusal(file).startswith("line 4: the grade must be a number")


def test_what_is_empty_missing_or_binary_is_an_error(tmp_path: Path) -> None:
    """A file that is empty, missing or not text is an error that names the file."""
    missing = tmp_path / "missing"
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(b"".join(b"q\td%d\t1\n" % n for n in range(50_000)))[:-5000])
    (tmp_path / "utf-16").write_bytes(HEADER.encode("utf-16"))
    (tmp_path / "plain.gz").write_text("q\td\t1\n")
    for read, file, problem in (
        (
            read_judgments,
            written(tmp_path, HEADER, "header"),
            ": holds no judgment; a line is query, document and grade",
        ),
        (read_judgments, written(tmp_path, "", "nothing"), ": holds no judgment"),
        (read_judgments, written(tmp_path, "query,docid,rating\nq\n", "c.csv"), ": holds no judgment"),
        (read_queries, written(tmp_path, "\n"), ": holds no query"),
        (read_queries, missing, ": cannot be read: No such file"),
        (
            read_judgments,
            tmp_path / "utf-16",
            ", line 1: is not UTF-8 text: invalid start byte. Save the file as UTF-8",
        ),
        (read_judgments, tmp_path / "plain.gz", ": cannot be read: Not a gzipped file"),
        (read_judgments, broken, r": breaks off behind line \d+: "),
    ):
        with pytest.raises(TrecError, match=f"{file}{problem}"):
            read(file)


def test_a_byte_that_is_not_text_is_named_with_its_line(tmp_path: Path) -> None:
    """The line is the one with the wrong byte, however much of the file is read at a time."""
    file = tmp_path / "qrels.tsv"
    file.write_bytes(b"q\td1\t1\n" + b"".join(b"q\td%d\t1\n" % n for n in range(2, 5000)) + b"q\t\xff\t1\n")
    assert refusal(file).startswith("line 5000: is not UTF-8 text")


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters=BOM), min_size=1, max_size=12)
VALUES = TEXTS.map(lambda text: text.translate(dict.fromkeys(map(ord, "\r\n\t"), " ")).strip(" ")).filter(bool)
# Without blanks, quotes and a separator at the end, as a TREC file needs it.
WORDS = st.text(string.ascii_letters + string.digits + "-_.,;:/ü语\u00a0", min_size=1, max_size=12).filter(
    lambda word: word[-1] not in ",;"
)
GRADES = st.one_of(st.integers(-5, 1000), st.floats(allow_nan=False, allow_infinity=False).filter(lambda n: n % 1 != 0))


def some_judgments(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, str, int | float]]]:
    """Judgments of one pair each."""
    rows = st.tuples(values, values, GRADES)
    return st.lists(rows, min_size=1, max_size=8, unique_by=lambda row: row[:2])


@SAME_FOLDER
@given(
    rows=some_judgments(VALUES),
    separator=st.sampled_from("\t,;"),
    end=st.sampled_from(["\n", "\r\n"]),
    start=st.sampled_from(["", BOM]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_what_a_csv_writer_wrote_is_read(
    tmp_path: Path, *, rows: list[tuple[str, str, int | float]], separator: str, end: str, start: str, quoting: int
) -> None:
    """Whatever a table under a header holds, in tabs, commas or semicolons, is read as it was."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([("query-id", "corpus-id", "score"), *rows])
    assert judged(written(tmp_path, start + text.getvalue(), "file.tsv" if separator == "\t" else "file.csv")) == rows


@SAME_FOLDER
@given(
    rows=some_judgments(WORDS),
    gap=st.sampled_from([" ", "\t", "  "]),
    iteration=st.sampled_from(["0", "Q0", None]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_was_written_in_columns_is_read(
    tmp_path: Path, rows: list[tuple[str, str, int | float]], gap: str, iteration: str | None, end: str
) -> None:
    """TREC's columns, three or four without a header, are read as they were."""
    lines = []
    for query, document, grade in rows:
        cells = [query, document, str(grade)] if iteration is None else [query, iteration, document, str(grade)]
        lines.append(gap.join(cells) + end)
    assert judged(written(tmp_path, "".join(lines), "qrels.txt")) == rows


@SAME_FOLDER
@given(content=st.binary(max_size=60) | st.text('q0 1\t,;"\n\r.-', max_size=40).map(str.encode))
def test_any_file_is_read_or_refused_in_words(tmp_path: Path, content: bytes) -> None:
    """Whatever a file holds, reading it gives judgments or a TrecError, and no other error."""
    file = tmp_path / "file"
    file.write_bytes(content)
    for read in (read_judgments, read_queries):
        try:
            problem = "" if read(file) else "gives nothing"
        except TrecError as error:
            problem = str(error).removeprefix(str(file))
        assert not problem or problem.startswith((": ", ", line "))


@SAME_FOLDER
@given(queries=st.dictionaries(TEXTS | st.integers().map(str), TEXTS, min_size=1, max_size=5))
def test_what_a_json_writer_wrote_is_read(tmp_path: Path, queries: dict[str, str]) -> None:
    """Queries written as JSON lines are read as they were."""
    text = "\n".join(json.dumps({"_id": key, "text": value}, ensure_ascii=False) for key, value in queries.items())
    assert read_queries(written(tmp_path, text)) == tuple(Query(id=key, text=value) for key, value in queries.items())
