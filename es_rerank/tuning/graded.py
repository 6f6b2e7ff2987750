"""A recording beside a judgment list: which hits of each window are judged, and which queries count. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.judged import keys_of
from es_rerank.tuning.model_grades import warning_about

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from es_rerank.tuning.judged import JudgedQuery, JudgmentList
    from es_rerank.tuning.recording import Hit, RecordedQuery, Recording, RecordingHead


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedQuery:
    """A judged query with its window.

    `recorded` is None where the recording lacks the query; every measure of it is then 0. `grades` are parallel to the
    recorded window, None for a hit that nobody has judged. `others` are the grades of judged documents outside it.
    """

    query_id: str
    user_query: str
    group: str
    recorded: RecordedQuery | None
    grades: tuple[float | None, ...]
    others: tuple[float, ...]

    @property
    def has_relevant(self) -> bool:
        """Whether any document is judged relevant; without one, no order can be better than another."""
        return any(grade is not None and grade > 0 for grade in (*self.grades, *self.others))


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedRecording:
    """The judged queries, in the order of the judgment list, with their windows.

    `warning` is a sentence where the recorded model is measured by its own grades, else None. `unjudged` are the ids of
    recorded queries that nobody has judged: they count in no figure.
    """

    head: RecordingHead
    judgments: str
    source: str
    warning: str | None
    queries: tuple[GradedQuery, ...]
    unjudged: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The ids of judged queries that the recording lacks: they count 0."""
        return tuple([query.query_id for query in self.queries if query.recorded is None])

    @property
    def without_relevant(self) -> tuple[str, ...]:
        """The ids of queries that have no document judged relevant: they count 0, in any order."""
        return tuple([query.query_id for query in self.queries if not query.has_relevant])


def grade_recording(
    recording: Recording, judgments: JudgmentList, *, only: AbstractSet[str] | None = None
) -> GradedRecording:
    """The queries of the judgment list, or `only` those of them, each with its window and grades.

    Raises TuningError where no query is left, or where one grade would hold for two hits of a query.
    """
    recorded = {query.query_id: query for query in recording.queries}
    graded = judgments.by_query()
    queries = judgments.queries()
    judged = [query for query in queries if only is None or query.query_id in only]
    if not judged:
        raise TuningError(f"the judgment list {judgments.name!r} judges none of the chosen queries")
    if not any(query.query_id in recorded for query in judged):
        raise TuningError(
            f"the recording {recording.head.id!r} has none of the {len(judged)} queries of the list "
            f"{judgments.name!r}: do the ids of the queries agree? "
            f"It has such as {', '.join(map(repr, list(recorded)[:3])) or 'none'}, "
            f"and the list {', '.join(repr(query.query_id) for query in judged[:3])}"
        )
    known = {query.query_id for query in queries}
    return GradedRecording(
        head=recording.head,
        judgments=judgments.name,
        source=judgments.source,
        warning=warning_about(judgments, recording.head),
        queries=tuple(
            [_graded(query, recorded.get(query.query_id), graded[query.query_id], recording.head) for query in judged]
        ),
        unjudged=tuple([query_id for query_id in recorded if query_id not in known]),
    )


def _graded(
    judged: JudgedQuery, recorded: RecordedQuery | None, graded: Mapping[Hit, float], head: RecordingHead
) -> GradedQuery:
    """One query with the grades of its hits, and those of the documents that its window lacks.

    A grade that names no index, for a hit whose grade for its own index counts, belongs to no document any more.
    """
    used: dict[Hit, Hit] = {}
    shadowed: set[Hit] = set()
    grades: list[float | None] = []
    for hit in recorded.ids if recorded is not None else ():
        fitting = keys_of(hit, graded, head.index)
        grades.append(graded[fitting[0]] if fitting else None)
        if not fitting:
            continue
        if fitting[0] in used:
            raise TuningError(
                f"query {judged.query_id!r}: the grade of {hit[1]!r} holds for two hits, in {used[fitting[0]][0]!r} "
                f"and in {hit[0]!r}: the judgments must name the indices of the documents"
            )
        used[fitting[0]] = hit
        shadowed.update(fitting[1:])
    return GradedQuery(
        query_id=judged.query_id,
        user_query=judged.user_query or (recorded.user_query if recorded is not None else ""),
        group=judged.group or (recorded.group if recorded is not None else ""),
        recorded=recorded,
        grades=tuple(grades),
        others=tuple([grade for key, grade in graded.items() if key not in used and key not in shadowed]),
    )
