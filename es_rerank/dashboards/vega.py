"""Drawings in Vega-Lite 5 that ask the engine: what is common to all of them.

A drawing takes the engine's whole answer as one row and opens its lists itself. So an index that does not exist yet,
whose answer has no aggregations, gives an empty drawing; Vega's own `format.property` would fail there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from es_rerank.dashboards.patterns import TIME_FIELD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
# Seen well on a light and on a dark ground.
BLUE, GREY = "#4C90D6", "#7F8794"


def drawing(
    indices: str, aggregations: Mapping[str, Any], transform: Sequence[Mapping[str, Any]], **parts: Any
) -> dict[str, Any]:
    """A drawing of what the aggregations give, under the dashboard's time range and filters.

    `parts` are Vega-Lite's own: `mark` and `encoding`, or `layer`. Only one view: neither product fits several into
    a panel.
    """
    return {
        "$schema": SCHEMA,
        "data": {
            "url": {
                "%context%": True,
                "%timefield%": TIME_FIELD,
                "index": indices,
                "body": {"size": 0, "aggs": aggregations},
            }
        },
        "transform": list(transform),
        "config": {
            "view": {"stroke": None},
            "legend": {"orient": "bottom"},
            # Both products read this key. Without data Vega warns of scales that have no extent; what people set in a
            # panel stays when it is refreshed.
            "kibana": {"hideWarnings": True, "restoreSignalValuesOnRefresh": True},
        },
        **parts,
    }


def opened(expression: str, name: str) -> list[dict[str, Any]]:
    """The steps that make a row of each entry of a list; the rest of the row stays beside it, in each.

    `expression` is evaluated only where the answer has aggregations.
    """
    return [{"calculate": f"datum.aggregations ? {expression} : []", "as": name}, {"flatten": [name]}]


def calculated(**columns: str) -> list[dict[str, Any]]:
    """The steps that add columns, each from an expression. A later one may use those before it."""
    return [{"calculate": expression, "as": name} for name, expression in columns.items()]


def shown(*columns: tuple[str, str, str]) -> list[dict[str, str]]:
    """What is read when the mouse rests on a mark: of each column its name, its title and the format of its numbers.

    A column of words has the format ''.
    """
    return [
        {"field": name, "title": title, **({"type": "quantitative", "format": numbers} if numbers else {})}
        for name, title, numbers in columns
    ]
