"""Grades written as text: TREC's qrels, CSV, and JSON lines. What a form can't hold is refused. Pure."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

import msgspec

from es_rerank.tuning.documents import fields_of
from es_rerank.tuning.forms import OWN_REST, OWN_START
from es_rerank.tuning.judged import JudgmentListError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from es_rerank.tuning.judged import Grade

# Blanks part the columns, and a quote or a byte order mark at the beginning means something else to readers.
NOT_IN_TREC = re.compile(r'^["\ufeff]|\s')
# Readers drop blanks around a value, and a byte order mark.
NOT_IN_CSV = re.compile(r"^[ \t\ufeff]|[ \t]$|[\r\n]")


def to_trec(grades: Iterable[Grade]) -> str:
    """TREC's qrels: query, 0, document and grade on each line, with tabs between.

    It has no words, sources or indices. Raises JudgmentListError for an id with a blank in it, as the words of a query
    have, and for a pair that has several grades.
    """
    found: dict[tuple[str, str], float] = {}
    for one in grades:
        _check("a TREC file", NOT_IN_TREC, one.query_id, one.object_id)
        if found.setdefault((one.query_id, one.object_id), one.grade) != one.grade:
            raise JudgmentListError(
                f"query {one.query_id!r} and document {one.object_id!r} have several grades, of several indices or "
                "sources, which a TREC file can't tell apart: export form=csv, or one source"
            )
    return "".join(f"{query}\t0\t{document}\t{_number(grade)}\n" for (query, document), grade in found.items())


def to_csv(grades: Iterable[Grade]) -> str:
    """CSV with a header. Its first three columns are those that Quepid imports; `query` are a query's words.

    Raises JudgmentListError for an id with a line end in it or with blanks around it.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*OWN_START, *OWN_REST))
    for one in grades:
        _check("a CSV file", NOT_IN_CSV, one.query_id, one.object_id)
        rest = [getattr(one, field) for field in OWN_REST]
        cells = [_number(cell) if isinstance(cell, float) else cell for cell in rest]
        writer.writerow((one.user_query, one.object_id, _number(one.grade), one.query_id, *cells))
    return text.getvalue()


def to_json_lines(grades: Iterable[Grade]) -> str:
    """One object on each line, with the fields that the grade knows."""
    return "".join(f"{msgspec.json.encode(fields_of(one)).decode()}\n" for one in grades)


def _check(form: str, never: re.Pattern[str], *ids: str) -> None:
    for one in ids:
        if never.search(one):
            raise JudgmentListError(f"the id {one!r} has a blank or sign that {form} can't hold: export form=json")


def _number(value: float) -> str:
    """A number so that it is read as the same one; a whole one without its fraction."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
