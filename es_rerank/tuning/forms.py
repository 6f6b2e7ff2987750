"""The forms in which grades come as text: TREC, BEIR, CSV (Quepid's too) and JSON. Read whole, or refused. Pure."""

from __future__ import annotations

import re
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING, Any, Literal, get_args

from es_rerank.rawjson import RAW_LIST, read_object
from es_rerank.trec import NUMBER, Row, TrecError, cells_in, grade_in, lines_in, names_in, queries_in, rows_in
from es_rerank.tuning.documents import check_fields, check_time, read_grade, unique
from es_rerank.tuning.judged import PEOPLE, Grade, JudgmentListError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Form = Literal["json", "trec", "beir", "csv", "book"]
FORMS: tuple[Form, ...] = get_args(Form)
# Beyond Quepid's three columns, what a CSV of ours says. Columns of these names count nowhere else: there, `index` may
# be the number of a row.
OWN_START = ("query", "docid", "rating", "query_id")
OWN_REST = (
    "group", "index", "source", "fingerprint", "impressions", "clicks", "expected_clicks", "timestamp", "who",
)  # fmt: skip
OWN_START_NAMES, OWN_REST_NAMES = names_in(OWN_START), names_in(OWN_REST)  # as a row has them
# The header of a book as Quepid exports it: then come the names of those who judged.
BOOK_START = ("query", "docid")
# Columns of Quepid's detailed export, whose writer doubles the quotes of a value that it does not put in quotes.
DETAIL = {"caseid", "querytext"}
WHOLE = re.compile(r"[0-9]{1,18}")
JSON_STARTS = (b"{", b"[")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def form_of(text: bytes, *, is_csv: bool = False) -> Form:
    """The form of a text whose sender does not name it.

    One that begins with `{` or `[` is `json`, or `beir` if its first line is a query of BEIR. Anything else is `csv` if
    its sender says so, and else `trec`, which stands for any table whose first line shows its columns.
    """
    start = text.removeprefix(BYTE_ORDER_MARK).lstrip()
    if start.startswith(JSON_STARTS):
        first = read_object(start.partition(b"\n")[0])
        return "beir" if first is not None and {"_id", "text"} <= first.keys() else "json"
    return "csv" if is_csv else "trec"


def read_grades(name: str, text: bytes, form: Form, *, source: str = PEOPLE, index: str = "") -> tuple[Grade, ...]:
    """The grades of a text, in its order, a pair that is judged twice alike once. Errors call the text `name`.

    `source` and `index` are for grades that do not say their own. Raises JudgmentListError, with the line and the
    reason, for anything that is wrong, for a pair that one source judges twice with different grades, and for a text
    without any grade.
    """
    try:
        grades = unique(_graded(_documents(name, text, form), source=source, index=index))
    except TrecError as error:
        raise JudgmentListError(str(error)) from error
    if not grades:
        raise JudgmentListError(f"{name}: holds no judgment")
    return grades


def _graded(placed: Iterable[tuple[str, Any]], *, source: str, index: str) -> Iterator[tuple[str, Grade]]:
    for place, document in placed:
        try:
            check_fields(document)
            grade = read_grade(document, source=source, index=index)
            check_time(grade)
        except JudgmentListError as error:
            raise JudgmentListError(f"{place}: {error}") from error
        yield place, grade


def _documents(name: str, text: bytes, form: Form) -> Iterator[tuple[str, Any]]:
    """Each judgment as a document, behind its place."""
    if form == "json":
        return _of_json(name, text)
    lines = lines_in(name, text)
    if form == "book":
        return _of_book(name, lines)
    if form == "beir":
        return _of_beir(name, list(lines))
    return (_of_row(row) for row in rows_in(name, lines, is_csv=form == "csv"))


def _of_json(name: str, text: bytes) -> Iterator[tuple[str, Any]]:
    """An object on each line, one object over several lines, or a list of objects."""
    body = text.removeprefix(BYTE_ORDER_MARK).strip()
    if body.startswith(b"["):
        try:
            items = RAW_LIST.decode(body)
        except (ValueError, RecursionError) as error:
            raise JudgmentListError(f"{name}: is not JSON: {error}") from error
        for number, item in enumerate(items, start=1):
            yield _of_object(f"{name}, item {number}", bytes(item))
        return
    whole = read_object(body)
    if whole is not None:
        yield name, whole
        return
    for number, line in enumerate(text.removeprefix(BYTE_ORDER_MARK).split(b"\n"), start=1):
        if line.strip():
            yield _of_object(f"{name}, line {number}", line)


def _of_object(place: str, text: bytes) -> tuple[str, Any]:
    document = read_object(text)
    if document is None:
        raise JudgmentListError(f"{place}: must be one JSON object, in which no key comes twice")
    return place, document


def _of_row(row: Row) -> tuple[str, Any]:
    """The document of a row. Columns that are not ours are left out."""
    judged, others = row.judgment, row.others
    document: dict[str, Any] = {
        "query_id": judged.query_id,
        "object_id": judged.document_id,
        "grade": judged.grade,
        "user_query": row.query_text,
    }
    if tuple(others)[: len(OWN_START)] == OWN_START_NAMES:
        cells = {field: others.get(key, "") for field, key in zip(OWN_REST, OWN_REST_NAMES, strict=True)}
        document |= {field: _cell(field, cell) for field, cell in cells.items() if cell}
    elif others.keys() >= DETAIL:
        document |= {field: document[field].replace('""', '"') for field in ("query_id", "user_query")}
    return row.place, document


def _cell(field: str, text: str) -> int | float | str:
    """What a cell means; one that is no number where one belongs stays a text, which is refused by its place."""
    if field in ("impressions", "clicks") and WHOLE.fullmatch(text):
        return int(text)
    if field == "expected_clicks" and NUMBER.fullmatch(text):
        return float(text)
    return text


def _of_beir(name: str, lines: list[str]) -> Iterator[tuple[str, Any]]:
    """BEIR's queries.jsonl, if it is there, and behind it the qrels, whose words it has."""
    queries = list(takewhile(_is_of_queries, lines))
    words = {query.id: query.text for query in queries_in(name, queries)} if any(map(str.strip, queries)) else None
    # The lines of the queries stay, as blank ones, so that the qrels keep their numbers.
    judged = ["\n"] * len(queries) + list(dropwhile(_is_of_queries, lines))
    for row in rows_in(name, judged):
        place, document = _of_row(row)
        if words is not None:
            if document["query_id"] not in words:
                raise JudgmentListError(f"{place}: the query {document['query_id']!r} is not among the queries before")
            document["user_query"] = words[document["query_id"]]
        yield place, document


def _is_of_queries(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("{")


def _of_book(name: str, lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """A book of Quepid: a column for each person. The grade is the mean of those who judged, as Quepid takes it."""
    rows = cells_in(name, ",", lines)
    place, header = next(rows, (name, []))
    people = header[len(BOOK_START) :]
    if tuple(header[: len(BOOK_START)]) != BOOK_START or not people or not all(people):
        raise JudgmentListError(f"{place}: a book of Quepid begins with query,docid and the names of those who judged")
    for where, cells in rows:
        if len(cells) != len(header):
            raise JudgmentListError(f"{where}: must be {len(header)} columns, as the first line has, has {len(cells)}")
        query, document_id, *ratings = cells
        given = {one: grade_in(where, rating) for one, rating in zip(people, ratings, strict=True) if rating}
        if given:
            mean = sum(given.values()) / len(given)
            who = ", ".join(given)
            yield where, {"query_id": query, "object_id": document_id, "user_query": query, "grade": mean, "who": who}
