"""Query sets, judgments and runs: what is read is what was written, and what is wrong is named with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.trec import Judgment, Query, RunEntry, TrecError, read_judgments, read_queries, read_run, write_run

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.tmpdir import TempPathFactory

HEADER = "query-id\tcorpus-id\tscore\n"
# A word is what has no white space; a run is UTF-8, which has no lone surrogates.
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1).filter(
    lambda word: word.split() == [word]
)
ENTRIES = st.builds(
    RunEntry,
    query_id=WORDS,
    document_id=WORDS,
    rank=st.integers(1, 10_000),
    score=st.floats(allow_nan=False, allow_infinity=False),
)


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
    """A header is no judgment, and none is needed; a line that comes twice is one judgment."""
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
    """A file without content, a missing file and one that is no text are errors that name it."""
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


@given(entries=st.lists(ENTRIES))
def test_a_run_survives_writing_and_reading(tmp_path_factory: TempPathFactory, entries: list[RunEntry]) -> None:
    """Reading a written run gives the same entries, scores to the last bit."""
    file = tmp_path_factory.getbasetemp() / "run.txt"
    write_run(file, entries, tag="es-rerank")
    assert read_run(file) == tuple(entries)


def test_a_run_has_the_form_of_trec(tmp_path: Path) -> None:
    """A run is written in the six columns that TREC's tools read."""
    file = tmp_path / "run.txt"
    write_run(file, [RunEntry(query_id="1", document_id="d7", rank=1, score=0.5)], tag="bm25")
    assert file.read_text() == "1 Q0 d7 1 0.5 bm25\n"


@pytest.mark.parametrize(("document_id", "tag"), [("d 7", "bm25"), ("", "bm25"), ("d7", "bm 25"), ("d7\n", "bm25")])
def test_a_run_takes_single_words_only(tmp_path: Path, document_id: str, tag: str) -> None:
    """An id or tag that would break the columns is an error, and no file is written."""
    file = tmp_path / "run.txt"
    with pytest.raises(TrecError, match="must be one word"):
        write_run(file, [RunEntry(query_id="1", document_id=document_id, rank=1, score=0.5)], tag=tag)
    assert not file.exists()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1 Q0 d7 1 0.5", "must be `query Q0 document rank score tag`"),
        ("1 Q0 d7 first 0.5 x", "rank and score must be numbers"),
        ("1 Q0 d7 0 0.5 x", "rank must be 1 or more"),
        ("1 Q0 d7 1 nan x", "rank must be 1 or more and score finite"),
    ],
)
def test_a_wrong_run_entry_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """An error in a run names the file, the line and what was expected."""
    file = written(tmp_path, f"1 Q0 d1 1 2.5 x\n{line}\n")
    with pytest.raises(TrecError) as error:
        read_run(file)
    assert str(error.value).startswith(f"{file}, line 2: {problem}")


def test_a_run_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Writing into a folder that is not there is an error that names the file."""
    with pytest.raises(TrecError, match="cannot be written: No such file"):
        write_run(tmp_path / "missing" / "run.txt", [], tag="x")
