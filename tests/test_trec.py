"""Query sets and judgments: an error names the line that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from es_rerank.trec import Judgment, Query, TrecError, read_judgments, read_queries

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "query-id\tcorpus-id\tscore\n"


def written(folder: Path, text: str) -> Path:
    """A file with that text."""
    file = folder / "file.txt"
    file.write_text(text, encoding="utf-8")
    return file


def test_queries_are_read_in_order(tmp_path: Path) -> None:
    """The queries keep the order of the file; other fields and blank lines are ignored."""
    file = written(tmp_path, '{"_id": "q2", "text": "a wing", "metadata": {}}\n\n{"_id": "q1", "text": "Flügel"}\n')
    assert read_queries(file) == (Query(id="q2", text="a wing"), Query(id="q1", text="Flügel"))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("not json", "line 2: is not JSON"),
        ("[1]", "line 2: must be an object"),
        ('{"text": "a"}', "line 2: _id must be a text"),
        ('{"_id": 7, "text": "a"}', "line 2: _id must be a text that is not empty, was 7"),
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


@pytest.mark.parametrize("header", [HEADER, "", "\ufeff" + HEADER])
def test_judgments_are_read_with_and_without_header(tmp_path: Path, header: str) -> None:
    """A header line is optional and is not a judgment; a line that comes twice is one judgment."""
    file = written(tmp_path, header + "1\td 7\t2\r\n1\td8\t0\n1\td8\t0\n2\td7\t-1\n")
    assert read_judgments(file) == (
        Judgment(query_id="1", document_id="d 7", grade=2),
        Judgment(query_id="1", document_id="d8", grade=0),
        Judgment(query_id="2", document_id="d7", grade=-1),
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1 0 d7 1", "line 3: must be query, document and grade with a tab between them"),
        ("1\t\t1", "line 3: must be query, document and grade"),
        ("1\td7\tgood", "line 3: the grade must be a whole number, was 'good'"),
        (HEADER.strip(), "line 3: the grade must be a whole number, was 'score'"),
        ("1\td1\t2", "line 3: query '1' and document 'd1' are judged twice: 1 before and 2 here"),
    ],
)
def test_a_wrong_judgment_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """An error on a judgment names the file, the line and what was expected."""
    file = written(tmp_path, f"{HEADER}1\td1\t1\n{line}\n")
    with pytest.raises(TrecError) as error:
        read_judgments(file)
    assert str(error.value).startswith(f"{file}, {problem}")


def test_what_is_empty_missing_or_binary_is_an_error(tmp_path: Path) -> None:
    """A file that is empty, missing or not text is an error that names the file."""
    empty, missing, binary = written(tmp_path, HEADER), tmp_path / "missing", tmp_path / "binary"
    binary.write_bytes(b"\x1f\x8b\x08\xff")
    for read, file, problem in (
        (read_judgments, empty, "holds no judgment"),
        (read_queries, written(tmp_path, "\n"), "holds no query"),
        (read_queries, missing, "cannot be read: No such file"),
        (read_judgments, binary, "is not UTF-8 text"),
    ):
        with pytest.raises(TrecError, match=f"{file}: {problem}"):
            read(file)
