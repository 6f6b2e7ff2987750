"""The recording of a replay as a file that grows: what it holds already, and how it is continued."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from es_rerank.errors import CallerError
from es_rerank.proxy.replay.queries import read_query
from es_rerank.trec import read_queries
from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.forms import BYTE_ORDER_MARK
from es_rerank.tuning.grade_files import read_grade_file
from es_rerank.tuning.judged import JudgedQuery
from es_rerank.tuning.recording import RecordedQuery, RecordingHead
from es_rerank.tuning.recordings import line_of, read_recording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class RecordingFile:
    """A file of JSON lines as `es_rerank.tuning.recordings` reads it: the head, then a line for each query.

    Each query is written whole as it comes, so whatever ends the process leaves a file that can be continued. Only a
    last line without its end may be there, and is taken away.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.queries: tuple[RecordedQuery, ...] = ()
        """What the file holds."""
        self.head: RecordingHead | None = None

    def open(self) -> None:
        """Read what the file holds, if it is there. Raises TuningError for a file that is no recording."""
        if not self._file.exists():
            return
        try:
            data = self._file.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                with self._file.open("r+b") as stream:
                    stream.truncate(len(whole))
        except OSError as error:
            raise TuningError(f"{self._file}: cannot be continued: {error.strerror or error}") from error
        if whole.count(b"\n") == 1:
            try:
                self.head = msgspec.json.decode(whole, type=RecordingHead)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise TuningError(f"{self._file}, line 1: is not the head of a recording: {error}") from error
        elif whole:
            recording = read_recording(self._file)
            self.head, self.queries = recording.head, recording.queries

    def continue_with(self, head: RecordingHead, queries: Sequence[JudgedQuery]) -> Sequence[JudgedQuery]:
        """The queries that are left. Raises TuningError if the file is of another replay."""
        if self.head is None:
            self._append(line_of(head))
            return queries
        differing = [
            name
            for name in RecordingHead.__struct_fields__
            if name not in ("id", "time") and getattr(head, name) != getattr(self.head, name)
        ]
        begun = [(query.query_id, query.user_query) for query in self.queries]
        if begun != [(query.query_id, query.user_query) for query in queries[: len(begun)]]:
            differing.append("queries")
        if differing:
            raise TuningError(
                f"{self._file} is of another replay, whose {', '.join(differing)} differ: name another file"
            )
        return queries[len(begun) :]

    def add(self, query: RecordedQuery) -> None:
        """Write one more query. Raises TuningError where the file can't be written."""
        self._append(line_of(query))

    def _append(self, line: bytes) -> None:
        try:
            with self._file.open("ab") as stream:
                stream.write(line)
        except OSError as error:
            raise TuningError(f"{self._file}: cannot be written: {error.strerror or error}") from error


def read_query_file(file: Path, judgments: Path | None) -> tuple[JudgedQuery, ...]:
    """The queries of a BEIR queries.jsonl (`_id` and `text`), or of lines with query_id, user_query and group.

    With a file of judgments, only those queries that it judges. Raises TrecError, TuningError, JudgmentListError and
    CallerError for what can't be read, and where no query is left.
    """
    queries = _own_lines(file)
    if queries is None:
        queries = tuple(JudgedQuery(query_id=one.id, user_query=one.text) for one in read_queries(file))
    if judgments is not None:
        judged = {one.query_id for one in read_grade_file(judgments)}
        queries = tuple(query for query in queries if query.query_id in judged)
    if not queries:
        raise CallerError(f"{file}: no query is left to search for")
    return queries


def _own_lines(file: Path) -> tuple[JudgedQuery, ...] | None:
    """The queries of a file whose first line has a query_id; None for any other file."""
    try:
        lines = [line for line in file.read_bytes().removeprefix(BYTE_ORDER_MARK).splitlines() if line.strip()]
        first = msgspec.json.decode(lines[0])
    except (OSError, IndexError, ValueError):
        return None
    if not isinstance(first, dict) or "query_id" not in first:
        return None
    found: dict[str, JudgedQuery] = {}
    for number, line in enumerate(lines, start=1):
        try:
            query = read_query(msgspec.json.decode(line), f"query {number}")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CallerError(f"{file}: query {number} is no JSON object: {error}") from error
        except CallerError as error:
            raise CallerError(f"{file}: {error}") from error
        if query.query_id in found:
            raise CallerError(f"{file}: the query_id {query.query_id!r} is there twice")
        found[query.query_id] = query
    return tuple(found.values())
