"""Query sets and judgments as text: BEIR's queries.jsonl and qrels.tsv, TREC's qrels, and CSV with a header.

Knows no engine and computes no measure. A text is read whole or not at all: every error names it (a file by its path),
and the line where there is one. All texts are UTF-8, with or without a byte order mark, with any line ends; a file
whose name ends in .gz is unpacked.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from es_rerank.errors import EsRerankError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

# The words of a header, without case and signs. Where a header has several of a list, the first of the list counts: an
# id comes before a text, and `score`, which may be the engine's, comes last.
QUERY_WORDS = ("queryid", "qid", "topicid", "query", "topic", "querytext")
DOCUMENT_WORDS = ("corpusid", "docid", "documentid", "objectid", "docno", "pid", "passageid", "doc", "document")
# What a person typed. A query that has no id has its words as its id.
TEXT_WORDS = ("userquery", "querytext", "query")
GRADE_WORDS = ("rating", "grade", "relevance", "rel", "judgment", "judgement", "label", "score")
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
# The second column of TREC's four. It has no meaning today, and is 0 or Q0 in practice.
ITERATION = re.compile(r"Q?[0-9]+")
BLANKS = " \t"
WHITE_SPACE = " \t\r\n"
MAX_GRADE_CHARACTERS = 32
MAX_SHOWN_CHARACTERS = 100
EXPECTED = (
    "query, document and grade, or query, 0, document and grade, with tabs, commas, semicolons or blanks between them"
)


class TrecError(EsRerankError):
    """A query set or judgments cannot be read; the text names the file, the line and the expected form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of a set."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """How relevant one document is to one query: `grade` 0 is not relevant, a larger grade is more relevant.

    A whole grade is an int, also where the file has `2.0`; any other is a float. So code that takes ints only, as
    trec_eval's measures do, refuses a fractional grade and never cuts it.
    """

    query_id: str
    document_id: str
    grade: int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One judgment as it stands in a text: at which place, and with what in the row's other columns.

    `query_text` are the query's words, '' where no column has them. `others` are all cells of the row by the names of
    the header in small letters and digits alone (`Doc ID` is `docid`); a name that comes twice is left out, and without
    a header there are none.
    """

    place: str
    judgment: Judgment
    query_text: str = ""
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the columns of a judgment are, of `width` in all. `names` are those of a header, () without one."""

    query: int
    document: int
    grade: int
    width: int
    names: tuple[str, ...] = ()

    @property
    def header(self) -> bool:
        """Whether the first line is a header."""
        return bool(self.names)

    @property
    def text(self) -> int | None:
        """Where the query's words are; None if no column has them."""
        return _place(TEXT_WORDS, self.names)


def read_queries(file: Path) -> tuple[Query, ...]:
    """The queries of a BEIR queries.jsonl (`_id` and `text`; other fields are ignored), in order of the file.

    An `_id` that is a whole number is read as its digits. Raises TrecError, also for an id that comes twice and for a
    file without any query.
    """
    return queries_in(str(file), lines_of(file))


def queries_in(name: str, lines: Iterable[str]) -> tuple[Query, ...]:
    """The same for the lines of a text. Errors call it `name`."""
    queries: dict[str, Query] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip(WHITE_SPACE):
            continue
        where = f"{name}, line {number}"
        query = _query(where, line)
        if query.id in queries:
            raise TrecError(f"{where}: the query {query.id!r} is there twice")
        queries[query.id] = query
    if not queries:
        raise TrecError(f"{name}: holds no query; a line is an object with _id and text")
    return tuple(queries.values())


def read_judgments(file: Path) -> tuple[Judgment, ...]:
    """The judgments of a file, in order of the file.

    The first line tells the form. Three columns are query, document and grade; four are TREC's query, iteration,
    document and grade. Tabs, commas, semicolons or blanks separate them; between the first three, a value may stand in
    double quotes. A header names the columns in any order (BEIR's `query-id corpus-id score`, Quepid's
    `query,docid,rating` and the like), and other columns of it are passed over. Blank lines are too, and under a header
    a document with an empty grade and, in CSV, a query that stands alone: nobody has judged them. Blanks around a value
    are not a part of it.

    A pair that comes twice with one grade is returned once. Raises TrecError, also for a pair that is judged twice with
    different grades and for a file without any judgment.
    """
    judgments: dict[tuple[str, str], Judgment] = {}
    for row in rows_in(str(file), lines_of(file), is_csv=is_csv(file)):
        where, judgment = row.place, row.judgment
        pair = (judgment.query_id, judgment.document_id)
        if judgments.setdefault(pair, judgment) != judgment:
            grades = f"{judgments[pair].grade} before and {judgment.grade} here"
            raise TrecError(f"{where}: query {pair[0]!r} and document {pair[1]!r} are judged twice: {grades}")
    if not judgments:
        raise TrecError(f"{file}: holds no judgment; a line is {EXPECTED}")
    return tuple(judgments.values())


def rows_in(name: str, lines: Iterable[str], *, is_csv: bool = False) -> Iterator[Row]:
    """Each judgment in the lines of a text, in the forms of `read_judgments`; `is_csv` says that commas come first.

    A pair may come twice here. Errors, which are TrecErrors, call the text `name`.
    """
    lines = iter(lines)
    start: list[str] = []
    for line in lines:
        start.append(line)
        if line.strip(WHITE_SPACE):
            break
    else:
        return
    separator, layout = _form(f"{name}, line {len(start)}", start[-1], is_csv=is_csv)
    rows = cells_in(name, separator, chain(start, lines))
    if layout.header:
        next(rows)
    text_at = layout.text
    named = [(at, name) for at, name in enumerate(layout.names) if layout.names.count(name) == 1]
    for where, cells in rows:
        judgment = _judgment(where, cells, layout, separator)
        if judgment is None:
            continue
        text = "" if text_at is None else cells[text_at]
        others = {name: cells[at] for at, name in named}
        yield Row(place=where, judgment=judgment, query_text=text, others=others)


def is_csv(file: Path) -> bool:
    """Whether a file's name says that commas or semicolons are between its columns."""
    return file.name.removesuffix(".gz").endswith(".csv")


def lines_of(file: Path) -> Iterator[str]:
    """Each line with its end, blank ones too. A byte order mark is left out, also one of a file that was appended."""
    number = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield _text(f"{file}, line {number}", line)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        where = f"breaks off behind line {number}" if number else "cannot be read"
        raise TrecError(f"{file}: {where}: {reason}") from error


def lines_in(name: str, text: bytes) -> Iterator[str]:
    """The same for a text in memory. Errors call it `name`."""
    for number, line in enumerate(io.BytesIO(text), start=1):
        yield _text(f"{name}, line {number}", line)


def _text(where: str, line: bytes) -> str:
    try:
        return line.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise TrecError(f"{where}: is not UTF-8 text: {error.reason}. Save the file as UTF-8") from error


def _form(where: str, line: str, *, is_csv: bool) -> tuple[str, _Layout]:
    """The separator of a text and the layout of its columns, by its first line. Raises TrecError.

    Commas come first in CSV. Elsewhere tabs do, since a value beside them may hold anything;
    and a line that shows columns by commas or semicolons and by blanks too is an error.
    """
    fits: list[tuple[str, _Layout]] = []
    for separator in (",", ";", "\t", BLANKS) if is_csv else ("\t", ",", ";", BLANKS):
        if separator in ",;" and "\t" in line and not is_csv:
            continue
        try:
            [(_, cells)] = cells_in(where, separator, [line])
        except (TrecError, ValueError):
            continue
        layout = _layout(cells)
        if layout is not None:
            fits.append((separator, layout))
    if len(fits) == 1 or (fits and (is_csv or fits[0][0] == "\t")):
        return fits[0]
    if fits:
        raise TrecError(
            f"{where}: has columns by blanks and by {fits[0][0]!r}: let the file's name end in .csv (of a request, say "
            f"form=csv), or put tabs between the columns; was {_shown(line.strip())}"
        )
    raise TrecError(
        f"{where}: must be {EXPECTED}, the grade being a number; or a header with such words as query-id, corpus-id, "
        f"score, or query, docid, rating; was {_shown(line.strip())}"
    )


def cells_in(name: str, separator: str, lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """The cells of each row that is not blank, after its place. Raises TrecError for quotes that don't match."""
    if separator == BLANKS:
        for number, line in enumerate(lines, start=1):
            words = [word for word in re.split(f"[{WHITE_SPACE}]+", line) if word]
            if any(word.startswith('"') for word in words):
                raise TrecError(f"{name}, line {number}: has a quote: put tabs or commas between the columns")
            if words:
                yield f"{name}, line {number}", words
        return
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        where = f"{name}, line {reader.line_num + 1}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise TrecError(f"{where}: cannot be taken apart: {error}") from error
        if row is None:
            return
        cells = [cell.strip(WHITE_SPACE) for cell in row]
        if separator == "\t" and any("\n" in cell for cell in cells):
            raise TrecError(f"{where}: a value goes over several lines; is a quote not closed?")
        if any(cells):
            yield where, cells


def _layout(cells: Sequence[str]) -> _Layout | None:
    """The layout that a first line shows, as a judgment or as a header; None if it is neither."""
    width = len(cells)
    if NUMBER.fullmatch(cells[-1]):
        if width == 3:
            return _Layout(0, 1, 2, width)
        if width == 4 and ITERATION.fullmatch(cells[1]):
            return _Layout(0, 2, 3, width)
        return None
    names = names_in(cells)
    places = [_place(words, names) for words in (QUERY_WORDS, DOCUMENT_WORDS, GRADE_WORDS)]
    query, document, grade = places
    if query is None or document is None or grade is None:
        return None
    return _Layout(query, document, grade, width, names)


def names_in(header: Sequence[str]) -> tuple[str, ...]:
    """The names of a header as they are compared: small letters and digits alone."""
    return tuple([re.sub(r"[^0-9a-z]", "", cell.casefold()) for cell in header])


def _place(words: Sequence[str], names: Sequence[str]) -> int | None:
    """Where the first of the words stands among the names of a header; None if none does, or one does twice."""
    word = next((word for word in words if word in names), None)
    return names.index(word) if word is not None and names.count(word) == 1 else None


def _judgment(where: str, cells: Sequence[str], layout: _Layout, separator: str) -> Judgment | None:
    """The judgment of a row, None for one that judges nothing."""
    if layout.header and separator in ",;" and len(cells) < layout.width and not any(cells[1:]):
        return None
    if len(cells) != layout.width:
        shape = f"{layout.width} columns, as the first line has" if layout.header or layout.width == 4 else EXPECTED
        raise TrecError(f"{where}: must be {shape}, was {_shown(tuple(cells))}")
    query_id, document_id, grade = cells[layout.query], cells[layout.document], cells[layout.grade]
    if layout.header and query_id and not grade:
        return None
    if not query_id or not document_id:
        raise TrecError(f"{where}: must be {EXPECTED}, and no value may be empty, was {_shown(tuple(cells))}")
    return Judgment(query_id=query_id, document_id=document_id, grade=grade_in(where, grade))


def grade_in(where: str, text: str) -> int | float:
    """The grade that a cell holds, an int where it is whole. Raises TrecError, which names the place `where`."""
    value = float(text) if len(text) <= MAX_GRADE_CHARACTERS and NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise TrecError(f"{where}: the grade must be a number, such as 2 or 0.5, was {_shown(text)}")
    if WHOLE_NUMBER.fullmatch(text):
        return int(text)
    return int(value) if value.is_integer() else value


def _query(where: str, line: str) -> Query:
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise TrecError(f"{where}: is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise TrecError(f"{where}: must be an object with _id and text, was {type(record).__name__}")
    key, text = record.get("_id"), record.get("text")
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str) or not key:
        raise TrecError(f"{where}: _id must be a text that is not empty, or a whole number, was {_shown(key)}")
    if not isinstance(text, str) or not text:
        raise TrecError(f"{where}: text must be a text that is not empty, was {_shown(text)}")
    return Query(id=key, text=text)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."
