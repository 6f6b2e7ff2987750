"""Grades written as text: TREC's qrels, CSV, and JSON. What a form can't hold is refused. Pure."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from es_rerank.tuning.documents import fields_of
from es_rerank.tuning.forms import OWN_REST, OWN_START
from es_rerank.tuning.judged import JudgmentListError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from es_rerank.tuning.judged import Grade

EXPORT_FORMS = ("json", "csv", "trec")
# Blanks part the columns, and a quote or a byte order mark at the beginning means something else to readers.
NOT_IN_TREC = re.compile(r'^["\ufeff]|\s')
KEPT_IN_TREC = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
# Readers drop blanks around a value, and a byte order mark where a line begins.
NOT_IN_CSV = re.compile(r"^[ \t]|[ \t]$|[\r\n\ufeff]")


def to_trec(grades: Iterable[Grade]) -> str:
    """TREC's qrels: query, 0, document and grade on each line, with tabs between.

    It has no words, sources or indices. An id that it can't hold, such as words with blanks, is written as `trec_id`
    has it. Raises JudgmentListError for a pair that would have several grades.
    """
    found: dict[tuple[str, str], float] = {}
    for one in grades:
        if found.setdefault((trec_id(one.query_id), trec_id(one.object_id)), one.grade) != one.grade:
            raise JudgmentListError(
                f"query {one.query_id!r} and document {one.object_id!r} have several grades, of several indices or "
                "sources, which a TREC file can't tell apart: export form=csv, or one source"
            )
    return "".join(f"{query}\t0\t{document}\t{_number(grade)}\n" for (query, document), grade in found.items())


def trec_id(text: str) -> str:
    """An id as TREC's files hold it: as it is, or percent-encoded where it has blanks or begins with a quote.

    A run that is measured against exported qrels needs the same ids.
    """
    return quote(text, safe=KEPT_IN_TREC) if NOT_IN_TREC.search(text) else text


def to_csv(grades: Iterable[Grade]) -> str:
    """CSV with a header. Its first three columns are those that Quepid imports; `query` are a query's words.

    Raises JudgmentListError for an id with a line end in it or with blanks around it.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow((*OWN_START, *OWN_REST))
    for one in grades:
        wrong = next((text for text in (one.query_id, one.object_id) if NOT_IN_CSV.search(text)), None)
        if wrong is not None:
            raise JudgmentListError(f"the id {wrong!r} has a blank or sign that CSV can't hold: export form=json")
        rest = [_cell(getattr(one, field)) for field in OWN_REST]
        writer.writerow((_cell(one.user_query), one.object_id, _number(one.grade), one.query_id, *rest))
    return text.getvalue()


def to_json(grades: Iterable[Grade]) -> bytes:
    """A list of objects with the fields that each grade knows."""
    return msgspec.json.encode([fields_of(one) for one in grades])


def _cell(value: float | str | None) -> int | str | None:
    if isinstance(value, str):
        return value.replace("\ufeff", "")
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> str:
    """A number so that it is read as the same one; a whole one without its fraction."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
