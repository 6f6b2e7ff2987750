"""Two orders of the same queries side by side: who wins how often, whether it is luck, and which hits moved."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.measures import measured, parse_measure
from es_rerank.tuning.metrics import SHOWN_JUDGED
from es_rerank.tuning.significance import FLIPS, sign_flip_test
from es_rerank.tuning.sweep import order_by_query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.tuning.graded import GradedQuery, GradedRecording
    from es_rerank.tuning.recording import Hit, Setting

EQUAL = 1e-9
MOST_MOVED = 10
PLACES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two orders: a recording beside the judgments, and a setting, None for the engine's own order."""

    graded: GradedRecording
    setting: Setting | None

    @property
    def name(self) -> str:
        """The recording and the setting, for a table's head."""
        return f"{self.graded.head.id}: {self.setting or 'engine'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedHit:
    """A hit with its places on both sides, counted from 1; None where it is not among the hits of that side."""

    index: str
    object_id: str
    from_place: int | None
    to_place: int | None
    grade: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryDifference:
    """The metric of one query on both sides."""

    query_id: str
    user_query: str
    group: str
    from_value: float
    to_value: float

    @property
    def difference(self) -> float:
        """What the query gains by the change."""
        return self.to_value - self.from_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a change from one side to the other does to a metric.

    `queries` are all judged queries, in the order of the judgments. `moved` are those that changed most, the largest
    change first, each with its hits that moved within or out of the first 10 places, the best new place first.
    `from_judged` and `to_judged` are Judged@10 of both sides.
    """

    metric: str
    from_name: str
    to_name: str
    queries: tuple[QueryDifference, ...]
    from_judged: float
    to_judged: float
    p: float
    exact: bool
    moved: tuple[tuple[QueryDifference, tuple[MovedHit, ...]], ...]

    @property
    def wins(self) -> int:
        """How many queries gain."""
        return sum(query.difference > EQUAL for query in self.queries)

    @property
    def losses(self) -> int:
        """How many queries lose."""
        return sum(query.difference < -EQUAL for query in self.queries)

    @property
    def ties(self) -> int:
        """How many queries stay as they are."""
        return len(self.queries) - self.wins - self.losses

    @property
    def from_mean(self) -> float:
        """The metric of the first side."""
        return fmean(query.from_value for query in self.queries)

    @property
    def to_mean(self) -> float:
        """The metric of the second side."""
        return fmean(query.to_value for query in self.queries)


def compare(
    before: Side, after: Side, metric: str, *, most: int = MOST_MOVED, flips: int = FLIPS, seed: int = 0
) -> Comparison:
    """Compare two sides that are graded by the same judgments; `most` is how many queries are shown with their hits.

    Raises TuningError where the judged queries differ, for a metric that is not taken, or for a setting that its
    recording can't tell of.
    """
    ids = [query.query_id for query in before.graded.queries]
    if ids != [query.query_id for query in after.graded.queries]:
        raise TuningError("both sides of a comparison must be graded by the same judgments, on the same queries")
    measure, judged = parse_measure(metric), parse_measure(SHOWN_JUDGED)
    from_orders = order_by_query(before.graded, before.setting)
    to_orders = order_by_query(after.graded, after.setting)
    from_values = measured(measure, before.graded.queries, from_orders)
    to_values = measured(measure, after.graded.queries, to_orders)
    queries = [
        QueryDifference(
            query_id=query.query_id,
            user_query=query.user_query,
            group=query.group,
            from_value=from_value,
            to_value=to_value,
        )
        for query, from_value, to_value in zip(before.graded.queries, from_values, to_values, strict=True)
    ]
    test = sign_flip_test(np.array([[query.difference for query in queries]]), flips=flips, seed=seed)
    changed = [place for place, query in enumerate(queries) if abs(query.difference) > EQUAL]
    changed.sort(key=lambda place: (-abs(queries[place].difference), place))
    return Comparison(
        metric=measure.name,
        from_name=before.name,
        to_name=after.name,
        queries=tuple(queries),
        from_judged=fmean(measured(judged, before.graded.queries, from_orders)),
        to_judged=fmean(measured(judged, after.graded.queries, to_orders)),
        p=test.p[0],
        exact=test.exact,
        moved=tuple(
            [
                (
                    queries[place],
                    moved_hits(
                        _shown(before.graded.queries[place], from_orders[place]),
                        _shown(after.graded.queries[place], to_orders[place]),
                    ),
                )
                for place in changed[:most]
            ]
        ),
    )


def moved_hits(
    before: Sequence[tuple[Hit, float | None]], after: Sequence[tuple[Hit, float | None]], *, places: int = PLACES
) -> tuple[MovedHit, ...]:
    """The hits that are among the first places of one side and have another place on the other.

    Both arguments are the hits of a side with their grades, best first. The best new place comes first, and hits that
    are gone come last.
    """
    from_places = {hit: place for place, (hit, _) in enumerate(before, start=1)}
    to_places = {hit: place for place, (hit, _) in enumerate(after, start=1)}
    grades = dict((*before, *after))
    last = len(to_places) + 1
    shown = [hit for hit, _ in (*after[:places], *before[:places])]
    return tuple(
        [
            MovedHit(
                index=hit[0],
                object_id=hit[1],
                from_place=from_places.get(hit),
                to_place=to_places.get(hit),
                grade=grades[hit],
            )
            for hit in sorted(dict.fromkeys(shown), key=lambda hit: to_places.get(hit, last))
            if from_places.get(hit) != to_places.get(hit)
        ]
    )


def _shown(query: GradedQuery, order: Sequence[int]) -> list[tuple[Hit, float | None]]:
    """The hits of a query in an order, with their grades."""
    if query.recorded is None:
        return []
    return [(query.recorded.ids[index], query.grades[index]) for index in order]
