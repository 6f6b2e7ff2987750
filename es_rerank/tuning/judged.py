"""Judgment lists as values: which document is how relevant to which query, who says so, and how hits are looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from es_rerank.errors import EsRerankError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from es_rerank.tuning.recording import Hit

PEOPLE = "people"
CLICKS = "clicks"
MODEL_PREFIX = "llm:"
"""Before the name of the scorer whose judgments these are."""


class JudgmentListError(EsRerankError):
    """A judgment list can't be used as asked; the text says what it holds and what to choose."""


class Grade(msgspec.Struct, frozen=True, kw_only=True):
    """How relevant one document is to one query: 0 is not relevant, a larger grade is more relevant.

    `index` is '' where the list does not say it. `source` is `people`, `clicks`, or `llm:` and the name of a scorer,
    whose `fingerprint` is then known. Grades from clicks keep the `impressions` that they rest on.
    """

    query_id: str
    object_id: str
    grade: float
    user_query: str = ""
    group: str = ""
    index: str = ""
    source: str = PEOPLE
    fingerprint: str = ""
    impressions: int | None = None
    clicks: int | None = None
    expected_clicks: float | None = None
    timestamp: str = ""
    who: str = ""


class JudgedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One query of a judgment list, with its words and its group; either may be ''."""

    query_id: str
    user_query: str = ""
    group: str = ""


class JudgmentList(msgspec.Struct, frozen=True, kw_only=True):
    """A named list of grades of one source, each pair of query and document once. Made by `judgment_list`."""

    name: str
    source: str
    grades: tuple[Grade, ...]

    def queries(self) -> tuple[JudgedQuery, ...]:
        """The queries in the order in which they come first; words and group from the first grade that has them."""
        found: dict[str, JudgedQuery] = {}
        for one in self.grades:
            known = found.get(one.query_id, JudgedQuery(query_id=one.query_id))
            found[one.query_id] = JudgedQuery(
                query_id=one.query_id,
                user_query=known.user_query or one.user_query,
                group=known.group or one.group,
            )
        return tuple(found.values())

    def by_query(self) -> Mapping[str, Mapping[Hit, float]]:
        """The grades by query, and by (index, id) of the document; the index is '' where the list does not say it."""
        found: dict[str, dict[Hit, float]] = {}
        for one in self.grades:
            found.setdefault(one.query_id, {})[one.index, one.object_id] = one.grade
        return found


def judgment_list(name: str, grades: Iterable[Grade], *, source: str | None = None) -> JudgmentList:
    """The grades of one source as a list; without `source`, the only one that there is.

    Raises JudgmentListError where several sources are mixed and none is chosen, or the chosen one has no grade.
    """
    given = tuple(grades)
    sources = sorted({one.source for one in given})
    if source is None and len(sources) > 1:
        raise JudgmentListError(
            f"the judgment list {name!r} has grades of several sources, which are never mixed: choose one of "
            f"{', '.join(sources)}"
        )
    chosen = source if source is not None else next(iter(sources), PEOPLE)
    kept = tuple([one for one in given if one.source == chosen])
    if not kept:
        known = f"; it has {', '.join(sources)}" if sources else ""
        raise JudgmentListError(f"the judgment list {name!r} has no grade of the source {chosen!r}{known}")
    return JudgmentList(name=name, source=chosen, grades=kept)


def keys_of(hit: Hit, graded: Mapping[Hit, float], index: str) -> list[Hit]:
    """The keys of the grades that hold for a hit, the one that counts first; [] for a hit that nobody has judged.

    `graded` are the grades of one query. A grade holds for a hit whose `_index` it names, for a search of the index
    expression `index` that it names (an alias, say), or for any index where it names none.
    """
    object_id = hit[1]
    return [key for key in dict.fromkeys((hit, (index, object_id), ("", object_id))) if key in graded]
