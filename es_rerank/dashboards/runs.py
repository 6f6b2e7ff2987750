"""The drawings of what replays and sweeps found: every setting, and every query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from es_rerank.dashboards.charts import vega
from es_rerank.dashboards.patterns import RUNS_PATTERN
from es_rerank.dashboards.vega import GREY, calculated, drawing, opened, shown

if TYPE_CHECKING:
    from es_rerank.dashboards.saved import SavedObject

MAX_SETTINGS = 5000
MAX_QUERIES = 1000
# Settings that are shown side by side.
MAX_SHOWN = 5


def every_setting(query: str) -> SavedObject:
    """The metric by alpha: a line for each method, window and score, among the rows that `query` finds."""
    # No expression says `window`: OpenSearch Dashboards has versions that take it for the browser's.
    keys = {"method": "method", "score": "score", "size": "window", "alpha": "alpha"}
    aggregations = {
        "whole": {
            "filter": _filter(query),
            "aggs": {
                "engine": {"avg": {"field": "engine_value"}},
                "settings": {
                    "composite": {
                        "size": MAX_SETTINGS,
                        "sources": [{key: {"terms": {"field": name}}} for key, name in keys.items()],
                    },
                    "aggs": {"value": {"avg": {"field": "value"}}},
                },
            },
        }
    }
    transform = [
        *opened("datum.aggregations.whole.settings.buckets", "one"),
        *calculated(
            alpha="datum.one.key.alpha",
            method="datum.one.key.method",
            size="datum.one.key.size",
            score="datum.one.key.score",
            value="datum.one.value.value",
            engine="datum.aggregations.whole.engine.value",
        ),
        {"window": [{"op": "row_number", "as": "rank"}], "sort": [{"field": "value", "order": "descending"}]},
    ]
    x = {
        "field": "alpha",
        "type": "quantitative",
        "title": "alpha (0: the model alone, 1: the engine alone)",
        "scale": {"domain": [0, 1]},
    }
    # The padding is room for the label above the best setting.
    y = {
        "field": "value",
        "type": "quantitative",
        "title": "mean of the metric",
        "scale": {"zero": False, "padding": 24},
    }
    best = [{"filter": "datum.rank == 1"}]
    label = "'best: ' + format(datum.value, '.4f') + ' at alpha ' + datum.alpha + ', window ' + datum.size"
    spec = drawing(
        RUNS_PATTERN.title,
        aggregations,
        transform,
        layer=[
            {
                "mark": {"type": "line", "point": {"size": 25}, "strokeWidth": 1.5, "opacity": 0.8},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": {"field": "method", "type": "nominal", "title": "method"},
                    "strokeDash": {"field": "size", "type": "nominal", "title": "window"},
                    "detail": {"field": "score"},
                    "tooltip": shown(
                        ("alpha", "Alpha", "~g"),
                        ("method", "Method", ""),
                        ("size", "Window", ""),
                        ("score", "Score", ""),
                        ("value", "Mean", ".4f"),
                        ("engine", "Engine's order", ".4f"),
                    ),
                },
            },
            {
                "mark": {"type": "rule", "color": GREY, "strokeDash": [4, 4]},
                "encoding": {"y": {"field": "engine", "type": "quantitative", "aggregate": "mean"}},
            },
            {
                "transform": best,
                "mark": {"type": "point", "filled": False, "size": 160, "strokeWidth": 2, "color": GREY},
                "encoding": {"x": x, "y": y},
            },
            {
                "transform": [*best, *calculated(label=label)],
                "mark": {"type": "text", "align": "center", "dy": -16, "fontSize": 12, "color": GREY},
                "encoding": {"x": {"datum": 0.5}, "y": y, "text": {"field": "label"}},
            },
        ],
    )
    return vega("es-rerank-relevance-settings", "Every setting that was tried (dashes: the engine's own order)", spec)


def every_query(query: str) -> SavedObject:
    """The change of each query, a series for each setting, among the rows that `query` finds."""
    by_query = {
        "terms": {"field": "query_id", "size": MAX_QUERIES, "order": {"change": "desc"}},
        "aggs": {
            "change": {"avg": {"field": "change"}},
            "words": {"terms": {"field": "user_query.keyword", "size": 1}},
        },
    }
    aggregations = {
        "queries": {
            "filter": _filter(query),
            "aggs": {"setting": {"terms": {"field": "setting", "size": MAX_SHOWN}, "aggs": {"query": by_query}}},
        }
    }
    transform = [
        *opened("datum.aggregations.queries.setting.buckets", "one"),
        *calculated(setting="datum.one.key", query="datum.one.query.buckets"),
        {"flatten": ["query"]},
        {"filter": "isValid(datum.query.change.value)"},
        *calculated(
            change="datum.query.change.value",
            words="length(datum.query.words.buckets) ? datum.query.words.buckets[0].key : datum.query.key",
            win="datum.change > 0 ? 1 : 0",
            loss="datum.change < 0 ? 1 : 0",
        ),
        {
            "window": [{"op": "row_number", "as": "place"}],
            "sort": [{"field": "change", "order": "descending"}],
            "groupby": ["setting"],
        },
        {
            "joinaggregate": [
                {"op": "sum", "field": "win", "as": "wins"},
                {"op": "sum", "field": "loss", "as": "losses"},
                {"op": "count", "as": "all"},
            ],
            "groupby": ["setting"],
        },
        *calculated(
            same="datum.all - datum.wins - datum.losses",
            tally="datum.wins + ' better, ' + datum.losses + ' worse, ' + datum.same + ' the same'",
            series="datum.setting + ': ' + datum.tally",
        ),
    ]
    spec = drawing(
        RUNS_PATTERN.title,
        aggregations,
        transform,
        mark={"type": "line", "point": {"size": 30}, "strokeWidth": 2},
        encoding={
            "x": {
                "field": "place",
                "type": "quantitative",
                "title": "queries, the largest win of each setting first",
                "axis": {"labels": False, "ticks": False, "grid": False},
            },
            "y": {
                "field": "change",
                "type": "quantitative",
                "title": "change against the engine's order",
            },
            "color": {
                "field": "series",
                "type": "nominal",
                # Without a title, an empty legend has no bounds, and Vega draws nothing at all.
                "title": "setting",
                "legend": {"columns": 1, "labelLimit": 600},
            },
            "tooltip": shown(("words", "Query", ""), ("setting", "Setting", ""), ("change", "Change", "+.4f")),
        },
    )
    return vega("es-rerank-relevance-changes", "Each query against the engine's order", spec)


def _filter(query: str) -> dict[str, Any]:
    """The query for an aggregation: beside the dashboard's filters a drawing may have no query of its own."""
    return {"query_string": {"query": query}}
