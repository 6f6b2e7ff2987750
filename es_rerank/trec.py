"""Query sets and judgments as text files, in the forms that BEIR uses.

Knows no engine and computes no measure. Every error names the file and the line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from es_rerank.errors import EsRerankError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JUDGMENTS_HEADER = ("query-id", "corpus-id", "score")


class TrecError(EsRerankError):
    """A query set or judgments cannot be read; the text names the file, the line and the expected form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of a set."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """How relevant one document is to one query: `grade` 0 is not relevant, a larger grade is more relevant."""

    query_id: str
    document_id: str
    grade: int


def read_queries(file: Path) -> tuple[Query, ...]:
    """The queries of a BEIR queries.jsonl (`_id` and `text`; other fields are ignored), in order of the file.

    Raises TrecError, also for an id that comes twice and for a file without any query.
    """
    queries: dict[str, Query] = {}
    for where, line in _lines(file):
        query = _query(where, line)
        if query.id in queries:
            raise TrecError(f"{where}: the query {query.id!r} is there twice")
        queries[query.id] = query
    if not queries:
        raise TrecError(f"{file}: holds no query; a line is an object with _id and text")
    return tuple(queries.values())


def read_judgments(file: Path) -> tuple[Judgment, ...]:
    """The judgments of a TSV with the columns query, document and grade, in order of the file.

    A first line `query-id corpus-id score` is taken as the header. A line that comes twice is returned once. Raises
    TrecError, also for a pair that is judged twice with different grades and for a file without any judgment.
    """
    judgments: dict[tuple[str, str], Judgment] = {}
    for number, (where, line) in enumerate(_lines(file)):
        columns = tuple(column.strip() for column in line.split("\t"))
        if number == 0 and columns == JUDGMENTS_HEADER:
            continue
        judgment = _judgment(where, columns)
        pair = (judgment.query_id, judgment.document_id)
        if judgments.setdefault(pair, judgment) != judgment:
            grades = f"{judgments[pair].grade} before and {judgment.grade} here"
            raise TrecError(f"{where}: query {pair[0]!r} and document {pair[1]!r} are judged twice: {grades}")
    if not judgments:
        raise TrecError(f"{file}: holds no judgment; a line is query, document and grade with a tab between them")
    return tuple(judgments.values())


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not blank, after its place as `file, line N`."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{file}, line {number}", line.rstrip("\r\n")
    except OSError as error:
        raise TrecError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TrecError(f"{file}: is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _query(where: str, line: str) -> Query:
    try:
        record = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise TrecError(f"{where}: is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise TrecError(f"{where}: must be an object with _id and text, was {type(record).__name__}")
    for name in ("_id", "text"):
        if not isinstance(record.get(name), str) or not record[name]:
            raise TrecError(f"{where}: {name} must be a text that is not empty, was {record.get(name)!r}")
    return Query(id=record["_id"], text=record["text"])


def _judgment(where: str, columns: tuple[str, ...]) -> Judgment:
    if len(columns) != len(JUDGMENTS_HEADER) or not all(columns):
        raise TrecError(f"{where}: must be query, document and grade with a tab between them, was {columns!r}")
    query_id, document_id, grade = columns
    try:
        return Judgment(query_id=query_id, document_id=document_id, grade=int(grade))
    except ValueError:
        raise TrecError(f"{where}: the grade must be a whole number, was {grade!r}") from None
