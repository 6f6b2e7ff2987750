"""Recordings as files: what is written is read, and whatever else is refused with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.recordings import read_recording
from tests.tuning.cases import head_of, query_of, recorded_queries, recording_of, write_recording

if TYPE_CHECKING:
    from pathlib import Path

    from es_rerank.tuning.recording import RecordedQuery


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(recorded_queries(10))
def test_what_is_written_is_read(tmp_path: Path, query: RecordedQuery) -> None:
    """A recording with any judgments and gaps comes back as it was, and nothing else is left in the folder."""
    file = tmp_path / "run.jsonl"
    recording = recording_of(query, mode="think")
    write_recording(file, recording)
    assert read_recording(file) == recording
    assert [found.name for found in tmp_path.iterdir()] == ["run.jsonl"]


def lines_of(*queries: Any) -> bytes:
    """The lines of a file."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in (head_of(), *queries))


QUERY = msgspec.to_builtins(query_of("q1", [1, None]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: is empty"),
        (b"{}\n", "line 1: is not the head of a recording: .*missing required field"),
        (lines_of(), "holds no query"),
        (lines_of(QUERY)[:-20], "line 2: is not a recorded query"),
        (lines_of(QUERY) + b"\n\n", "line 3: is empty"),
        (lines_of(QUERY, QUERY), "line 3: the query 'q1' is there twice"),
        (lines_of({**QUERY, "engine_scores": [1.0]}), "line 2: ids, engine_scores and judgments must be of one length"),
        (lines_of({**QUERY, "status": "good"}), r"line 2: is not a recorded query: Invalid enum value 'good'"),
        (lines_of({**QUERY, "judgments": [{"rank_score": 11}, None]}), r"line 2: .*judgments\[0\]"),
        (lines_of({**QUERY, "judgments": [{}, None]}), "line 2: .*either a rank score or a distribution"),
        (lines_of(query_of("q1", [1] * 11)), "line 2: ids: has 11 hits, more than the window of 10"),
        (lines_of(QUERY).replace(b'"alpha":0.2', b'"alpha":2'), "line 1: the setting must have"),
        (lines_of(QUERY).replace(b'"window":10,', b'"window":9,', 1), "line 1: .* from 1 to the recorded 9 and"),
        (lines_of(QUERY).replace(b'"alpha":0.2', b'"alpha":NaN'), "line 1: is not the head"),
        (b"\xff\xfe" + lines_of(QUERY), "line 1: is not the head"),
        (b"[" * 100_000, "line 1: is not the head"),
    ],
)  # fmt: skip
def test_other_files_are_refused_with_line_and_reason(tmp_path: Path, content: bytes, message: str) -> None:
    """No file is half read."""
    file = tmp_path / "run.jsonl"
    file.write_bytes(content)
    with pytest.raises(TuningError, match=message):
        read_recording(file)


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    """It says which file, and why not."""
    with pytest.raises(TuningError, match=r"none\.jsonl: cannot be read: No such file"):
        read_recording(tmp_path / "none.jsonl")
