"""Query sets, judgments and runs as text files, in the forms that BEIR and TREC tools read and write.

Knows no engine and computes no measure. Every error names the file and the line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from es_rerank.errors import EsRerankError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

JUDGMENTS_HEADER = ("query-id", "corpus-id", "score")


class TrecError(EsRerankError):
    """A query set, judgments or a run cannot be read or written; the text names the file, the line and the form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of a set."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """How relevant one document is to one query: `grade` 0 is not relevant, a larger one is more so."""

    query_id: str
    document_id: str
    grade: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """One document of a query's ranking. `rank` is 1-based; a larger `score` is better."""

    query_id: str
    document_id: str
    rank: int
    score: float


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


def read_run(file: Path) -> tuple[RunEntry, ...]:
    """The entries of a TREC run (`query Q0 document rank score tag`), in order of the file. Raises TrecError."""
    return tuple(_run_entry(where, line) for where, line in _lines(file))


def write_run(file: Path, entries: Iterable[RunEntry], *, tag: str) -> None:
    """Write a TREC run in the order given, replacing the file.

    Raises TrecError before anything is written when an id or `tag` is empty or has white space, which separates
    the columns.
    """
    lines = []
    for entry in entries:
        for name in (entry.query_id, entry.document_id, tag):
            if len(name.split()) != 1 or name.split()[0] != name:
                raise TrecError(f"{file}: {name!r} cannot stand in a run: it must be one word")
        lines.append(f"{entry.query_id} Q0 {entry.document_id} {entry.rank} {entry.score!r} {tag}\n")
    try:
        file.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise TrecError(f"{file}: cannot be written: {error.strerror}") from error


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not blank, behind `file, line N`."""
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


def _run_entry(where: str, line: str) -> RunEntry:
    columns = line.split()
    if len(columns) != 6:
        raise TrecError(f"{where}: must be `query Q0 document rank score tag`, was {line!r}")
    query_id, _, document_id, rank, score, _ = columns
    try:
        entry = RunEntry(query_id=query_id, document_id=document_id, rank=int(rank), score=float(score))
    except ValueError:
        raise TrecError(f"{where}: rank and score must be numbers, were {rank!r} and {score!r}") from None
    if entry.rank < 1 or not math.isfinite(entry.score):
        raise TrecError(f"{where}: rank must be 1 or more and score finite, were {rank!r} and {score!r}")
    return entry
