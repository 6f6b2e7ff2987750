"""A recording that grows in a file: whatever ended it, it is continued where it was, or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from es_rerank.errors import CallerError
from es_rerank.proxy.replay.file import RecordingFile, read_query_file
from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.recording import RecordedQuery
from tests.proxy.replay.parts import films_plan, queries

if TYPE_CHECKING:
    from pathlib import Path

    from es_rerank.tuning.judged import JudgedQuery

HEAD = films_plan().head
QUERIES = queries("a", "b", "c")


def recorded(query: JudgedQuery) -> RecordedQuery:
    """A query that found nothing."""
    return RecordedQuery(
        query_id=query.query_id, user_query=query.user_query, status="full", ids=(), engine_scores=(), judgments=()
    )


def opened(path: Path) -> RecordingFile:
    """The file as a later run of the command finds it."""
    file = RecordingFile(path)
    file.open()
    return file


def test_a_file_is_continued_behind_its_last_whole_line(tmp_path: Path) -> None:
    """A line that was cut off in writing is taken away, and its query is recorded again."""
    path = tmp_path / "run.jsonl"
    file = opened(path)
    assert file.continue_with(HEAD, QUERIES) == QUERIES
    file.add(recorded(QUERIES[0]))
    with path.open("ab") as stream:
        stream.write(b'{"query_id":"b","user_')
    file = opened(path)
    assert file.queries == (recorded(QUERIES[0]),)
    assert file.continue_with(msgspec.structs.replace(HEAD, id="other", time="later"), QUERIES) == QUERIES[1:]
    for query in QUERIES[1:]:
        file.add(recorded(query))
    assert opened(path).continue_with(HEAD, QUERIES) == ()


def test_a_file_that_has_only_a_head_is_continued(tmp_path: Path) -> None:
    """As a replay leaves it that was ended before its first query."""
    path = tmp_path / "run.jsonl"
    opened(path).continue_with(HEAD, QUERIES)
    assert opened(path).continue_with(HEAD, QUERIES) == QUERIES


def test_a_file_of_another_replay_is_left_alone(tmp_path: Path) -> None:
    """The error says what differs, and nothing is written."""
    path = tmp_path / "run.jsonl"
    file = opened(path)
    file.continue_with(HEAD, QUERIES)
    file.add(recorded(QUERIES[1]))
    before = path.read_bytes()
    other = msgspec.structs.replace(HEAD, fingerprint="x")
    with pytest.raises(TuningError, match="whose fingerprint, queries differ: name another file"):
        opened(path).continue_with(other, QUERIES)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["{}\n", '{"_id": "1", "text": "x"}\n', "no JSON\nat all\n"])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, text: str) -> None:
    """It is not overwritten."""
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(TuningError, match="line 1"):
        opened(path)
    assert path.read_text() == text


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    """The error names the file; so it does for what is no file."""
    with pytest.raises(TuningError, match="cannot be continued"):
        opened(tmp_path)
    with pytest.raises(TuningError, match=r"run.jsonl: cannot be written: No such file"):
        opened(tmp_path / "missing" / "run.jsonl").continue_with(HEAD, QUERIES)


@pytest.mark.parametrize(
    "lines",
    [
        [{"query_id": "1", "user_query": "x", "group": "g"}, {"query_id": "2", "user_query": "y"}],
        [{"_id": "1", "text": "x", "metadata": {}}, {"_id": "2", "text": "y"}],
    ],
)
def test_two_forms_of_query_files_are_read(tmp_path: Path, lines: list[dict[str, str]]) -> None:
    """BEIR's, and the fields of our own; a byte order mark and CRLF change nothing; judgments choose among them."""
    path, judged = tmp_path / "queries.jsonl", tmp_path / "qrels.txt"
    path.write_text("\ufeff" + "\r\n".join(json.dumps(line) for line in lines) + "\r\n", encoding="utf-8")
    assert [query.user_query for query in read_query_file(path, None)] == ["x", "y"]
    judged.write_text("2 0 d1 1\n")
    assert [query.query_id for query in read_query_file(path, judged)] == ["2"]
    judged.write_text("7 0 d1 1\n")
    with pytest.raises(CallerError, match="no query is left"):
        read_query_file(path, judged)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ('{"query_id": "1", "user_query": "y"}', "the query_id '1' is there twice"),
        ('{"query_id": "2"}', r"\[query 2.user_query\] must be a text"),
        ('{"query_id": ', "query 2 is no JSON object"),
    ],
)
def test_a_query_file_is_read_whole_or_refused(tmp_path: Path, second: str, said: str) -> None:
    """The error names the file and the query."""
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query_id": "1", "user_query": "x"}\n' + second + "\n")
    with pytest.raises(CallerError, match=rf"queries.jsonl: .*{said}"):
        read_query_file(path, None)
