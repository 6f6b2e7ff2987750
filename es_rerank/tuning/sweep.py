"""The sweep itself: one measure of every judged query under every setting. Arithmetic over a recording, no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from es_rerank.tuning.order import check_settings, engine_order, orders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from es_rerank.tuning.graded import GradedQuery, GradedRecording
    from es_rerank.tuning.measures import Measure, View
    from es_rerank.tuning.recording import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a measure says of every setting.

    `values` has a row for each setting and a column for each judged query, both in the order in which they were given;
    `engine` is parallel to the columns and holds what the engine's own order is worth.
    """

    metric: str
    settings: tuple[Setting, ...]
    values: npt.NDArray[np.float64]
    engine: npt.NDArray[np.float64]


def sweep(
    graded: GradedRecording,
    settings: Sequence[Setting],
    measure: Measure,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Measure every setting on every query. A query that the recording lacks is 0 under all of them.

    `progress` is called with the number of queries done, and of all; what it raises ends the sweep. Raises TuningError
    for a setting that the recording can't tell of.
    """
    check_settings(graded.head, settings)
    queries = graded.queries
    gains = [measure.gains(query) for query in queries]
    seen: list[dict[View, int]] = [{} for _ in queries]  # each view of a query, with its number
    numbers = np.zeros((len(settings) + 1, len(queries)), dtype=np.intp)  # the view of each order; the engine's is last
    for column, query in enumerate(queries):
        known = seen[column]
        for row, order in enumerate(_orders(query, settings)):
            numbers[row, column] = known.setdefault(measure.view(gains[column], order), len(known))
        if progress is not None:
            progress(column + 1, len(queries))
    values = np.zeros(numbers.shape)
    for column, found in enumerate(measure.values(gains, seen)):
        by_number = np.array([found[view] for view in seen[column]])
        values[:, column] = by_number[numbers[:, column]]
    return Sweep(metric=measure.name, settings=tuple(settings), values=values[:-1], engine=values[-1])


def order_by_query(graded: GradedRecording, setting: Setting | None) -> list[tuple[int, ...]]:
    """The order of each judged query under one setting, None for the engine's own; see `orders`.

    Raises TuningError for a setting that the recording can't tell of.
    """
    settings = () if setting is None else (setting,)
    check_settings(graded.head, settings)
    return [_orders(query, settings)[0] for query in graded.queries]


def _orders(query: GradedQuery, settings: Sequence[Setting]) -> list[tuple[int, ...]]:
    """The orders of a query under all settings, and the engine's as the last; empty ones where it was not recorded."""
    if query.recorded is None:
        return [()] * (len(settings) + 1)
    return [*orders(query.recorded, settings), engine_order(query.recorded)]
