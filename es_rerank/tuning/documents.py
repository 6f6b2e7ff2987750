"""One grade as one flat JSON document, as it lies in `es-rerank-judgments`, in JSON lines and in a request. Pure."""

from __future__ import annotations

import hashlib
import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.tuning.judged import PEOPLE, Grade, JudgmentListError

if TYPE_CHECKING:
    from collections.abc import Iterable

# Longer ones are not indexed (`ignore_above` of the fields), so nothing would find the document again.
MAX_KEY_CHARACTERS = 1024
MAX_SHOWN_CHARACTERS = 100
# How many wrong documents one error names.
MAX_NAMED = 5
IDS = ("query_id", "object_id")
KEYS = ("group", "index", "source", "fingerprint", "who")
COUNTS = ("impressions", "clicks")
FIELDS = tuple(field.name for field in msgspec.structs.fields(Grade))
# Of what the engines' `strict_date_optional_time` reads, as much as Python reads the same.
TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?)?")


def read_grade(document: Any, *, source: str = PEOPLE, index: str = "") -> Grade:
    """The grade that a document holds; `source` and `index` are for one that does not say its own.

    A null is a field that is missing; fields that no grade has are not looked at. Raises JudgmentListError, whose text
    names the field, what it was and what it must be.
    """
    if not isinstance(document, dict):
        raise JudgmentListError(f"must be an object with query_id, object_id and grade, was {_shown(document)}")
    given = {name: value for name in FIELDS if (value := document.get(name)) is not None}
    missing = [name for name in (*IDS, "grade") if name not in given]
    if missing:
        raise JudgmentListError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    found: dict[str, Any] = {"source": source, "index": index}
    for name, value in given.items():
        found[name] = _value(name, value)
    if not found["source"]:
        raise JudgmentListError("source must not be empty")
    if "," in found["source"] or found["source"] != found["source"].strip():
        raise JudgmentListError(f"source must have no comma and no blank around it, was {_shown(found['source'])}")
    return Grade(**found)


def check_fields(document: Any) -> None:
    """Refuse what a document of another shape may hold: a field that no grade has. Raises JudgmentListError."""
    unknown = [name for name in document if name not in FIELDS] if isinstance(document, dict) else []
    if unknown:
        raise JudgmentListError(f"unknown field {unknown[0]}; allowed are {', '.join(FIELDS)}")


def check_time(grade: Grade) -> None:
    """Refuse a timestamp that an engine may refuse or read differently. Raises JudgmentListError."""
    try:
        if not grade.timestamp or (TIME.fullmatch(grade.timestamp) and datetime.fromisoformat(grade.timestamp)):
            return
    except ValueError:
        pass
    raise JudgmentListError(f"timestamp must be a time as in 2026-11-28T09:00:00Z, was {_shown(grade.timestamp)}")


def document_of(name: str, grade: Grade) -> dict[str, Any]:
    """The document of a grade in the list `name`. Fields that the grade does not know are left out."""
    return {"name": name, **fields_of(grade)}


def fields_of(grade: Grade) -> dict[str, Any]:
    """The fields that the grade knows, without the list's name."""
    fields = msgspec.structs.asdict(grade)
    return {key: value for key, value in fields.items() if value not in ("", None)}


def document_id(name: str, grade: Grade) -> str:
    """The `_id` of a grade's document: the same for the same pair, list and source, so that nothing is there twice."""
    key = msgspec.json.encode((name, grade.source, grade.query_id, grade.index, grade.object_id))
    return hashlib.blake2b(key, digest_size=16).hexdigest()


def unique(placed: Iterable[tuple[str, Grade]]) -> tuple[Grade, ...]:
    """The grades, each given behind its place, in order. A pair that comes twice with the same grade is there once.

    Raises JudgmentListError for a pair that one source judges twice with different grades.
    """
    found: dict[tuple[str, str, str, str], tuple[str, Grade]] = {}
    for place, one in placed:
        first_place, first = found.setdefault((one.source, one.query_id, one.index, one.object_id), (place, one))
        if first.grade != one.grade:
            raise JudgmentListError(
                f"{place}: query {_shown(one.query_id)} and document {_shown(one.object_id)} are judged twice by "
                f"{one.source}: {first.grade:g} ({first_place}) and {one.grade:g}"
            )
    return tuple([grade for _, grade in found.values()])


def refusal_of(problems: Iterable[str]) -> JudgmentListError | None:
    """One error for all documents that are wrong: the first few in words, and how many more; None for none."""
    said = list(problems)
    if not said:
        return None
    more = f"; and {len(said) - MAX_NAMED} more" if len(said) > MAX_NAMED else ""
    return JudgmentListError("; ".join(said[:MAX_NAMED]) + more)


def _value(name: str, value: Any) -> Any:
    if name in ("grade", "expected_clicks"):
        return _number(name, value)
    if name in COUNTS:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise JudgmentListError(f"{name} must be a whole number from 0, was {_shown(value)}")
        return value
    if name in (*IDS, "timestamp") and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise JudgmentListError(f"{name} must be a text, was {_shown(value)}")
    if name in IDS and not value:
        raise JudgmentListError(f"{name} must not be empty")
    if name in (*IDS, *KEYS) and len(value) > MAX_KEY_CHARACTERS:
        raise JudgmentListError(f"{name} must have at most {MAX_KEY_CHARACTERS} characters, has {len(value)}")
    return value


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        number = math.nan
    if not math.isfinite(number) or (name != "grade" and number < 0):
        raise JudgmentListError(f"{name} must be a number, such as 2 or 0.5, was {_shown(value)}")
    return number


def _shown(value: object) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."
