"""Recordings as files of JSON lines: the head in the first line, then a line for each query."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import msgspec

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.recording import RecordedQuery, Recording, RecordingHead

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")


def line_of(part: RecordingHead | RecordedQuery) -> bytes:
    """A line of the file, with its end: the head comes first, then each query."""
    return msgspec.json.encode(part) + b"\n"


def read_recording(file: Path) -> Recording:
    """The recording of a file. Raises TuningError, with the line and the reason, for anything that is not one."""
    try:
        lines = file.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise TuningError(f"{file}: cannot be read: {error.strerror or error}") from error
    head = _decoded(f"{file}, line 1", lines[0], RecordingHead)
    if not 1 <= head.setting.window <= head.window or not 0 <= head.setting.alpha <= 1:
        raise TuningError(
            f"{file}, line 1: the setting must have a window from 1 to the recorded {head.window} and an alpha from 0 "
            "to 1"
        )
    queries: dict[str, RecordedQuery] = {}
    for number, line in enumerate(lines[1:], start=2):
        where = f"{file}, line {number}"
        query = _decoded(where, line, RecordedQuery)
        problem = problem_of(query, head)
        if problem is None and query.query_id in queries:
            problem = f"the query {query.query_id!r} is there twice"
        if problem is not None:
            raise TuningError(f"{where}: {problem}")
        queries[query.query_id] = query
    if not queries:
        raise TuningError(f"{file}: holds no query; behind the head comes a line for each")
    return Recording(head=head, queries=tuple(queries.values()))


def problem_of(query: RecordedQuery, head: RecordingHead) -> str | None:
    """What is wrong with a query that has the right fields and types, or None."""
    count = len(query.ids)
    if len(query.engine_scores) != count or len(query.judgments) != count:
        return (
            f"ids, engine_scores and judgments must be of one length, were {count}, {len(query.engine_scores)} and "
            f"{len(query.judgments)}"
        )
    if count > head.window:
        return f"ids: has {count} hits, more than the window of {head.window} in the first line"
    if not all(map(math.isfinite, query.engine_scores)):
        return "engine_scores: must be finite numbers"
    return None


def _decoded(where: str, line: bytes, kind: type[T]) -> T:
    if not line:
        raise TuningError(f"{where}: is empty")
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # ValidationError is a DecodeError
        what = "the head of a recording" if kind is RecordingHead else "a recorded query"
        raise TuningError(f"{where}: is not {what}: {error}") from error
