"""The query set of a replay: each query once, with its words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError
from es_rerank.tuning.judged import JudgedQuery

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_QUERIES = 10_000
MAX_ID_CHARACTERS = 512
MAX_WORDS_CHARACTERS = 10_000
LONGEST = {"query_id": MAX_ID_CHARACTERS, "user_query": MAX_WORDS_CHARACTERS, "group": MAX_ID_CHARACTERS}
NEEDED = ("query_id", "user_query")
NAMED = 5


def read_queries(value: Any) -> tuple[JudgedQuery, ...]:
    """Queries from JSON: `[{"query_id": "1", "user_query": "running shoes", "group": "head"}]`, the group optional.

    Raises CallerError that names the first wrong place.
    """
    if not isinstance(value, list) or not value or len(value) > MAX_QUERIES:
        raise CallerError(f"[queries] must be a list of 1 to {MAX_QUERIES} queries")
    found: dict[str, JudgedQuery] = {}
    for position, item in enumerate(value):
        query = read_query(item, f"queries[{position}]")
        if query.query_id in found:
            raise CallerError(f"[queries[{position}].query_id] is there twice: [{query.query_id}]")
        found[query.query_id] = query
    return tuple(found.values())


def read_query(item: Any, place: str) -> JudgedQuery:
    """One query from JSON; `place` is where it stands. Raises CallerError."""
    if not isinstance(item, dict):
        raise CallerError(f"[{place}] must be an object with query_id, user_query and, if it is in one, group")
    for key in item:
        if key not in LONGEST:
            raise CallerError(f"[{place}] unknown field [{key}]; allowed are [{', '.join(LONGEST)}]")
    for key, longest in LONGEST.items():
        text = item.get(key, "")
        needed = key in NEEDED
        if not isinstance(text, str) or len(text) > longest or (needed and not text.strip()):
            raise CallerError(f"[{place}.{key}] must be a text of {int(needed)} to {longest} characters")
    return JudgedQuery(query_id=item["query_id"], user_query=item["user_query"], group=item.get("group", ""))


def with_words(queries: Iterable[JudgedQuery]) -> tuple[JudgedQuery, ...]:
    """The queries of a judgment list. Raises CallerError if one of them has no words to search for."""
    found = tuple(queries)
    silent = [query.query_id for query in found if not query.user_query.strip()]
    if silent:
        named = ", ".join(silent[:NAMED]) + (", ..." if len(silent) > NAMED else "")
        raise CallerError(
            f"[judgments] {len(silent)} of its {len(found)} queries have no words ({named}): give all as [queries]"
        )
    return found
