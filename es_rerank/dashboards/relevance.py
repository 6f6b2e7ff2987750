"""The dashboard Relevance: which setting is best, for which queries, and what it wins and loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from es_rerank.dashboards.aggregations import average, by_key, largest, terms
from es_rerank.dashboards.board import Board, Row
from es_rerank.dashboards.charts import documents, markdown, table, vega, xy
from es_rerank.dashboards.patterns import JOBS_PATTERN, RUNS_PATTERN
from es_rerank.dashboards.vega import BLUE, DARK_GREY, ORANGE, calculated, drawing, opened, shown

if TYPE_CHECKING:
    from es_rerank.dashboards.saved import SavedObject

METRIC = "nDCG@10"
# Rows of the whole query set have no group, or an empty one.
WHOLE = "aggregate:true AND NOT group:?* AND NOT held_out:true"
GROUPS = "aggregate:true AND group:?* AND NOT held_out:true"
HELD_OUT = "aggregate:true AND NOT group:?* AND held_out:true"
QUERIES = "aggregate:false"
MAX_SETTINGS = 5000
MAX_QUERIES = 1000
NOTES = f"""\
What replays and sweeps found, one row for each run, query and metric.

1. The query at the top chooses the metric: put another one in the place of `{METRIC}`.
2. Click a run in *Runs*: every chart then shows only that run. Means over several runs say little.
3. *On held-out queries* has the figures to quote: the setting was chosen on other queries than it was measured on.
   *Verdicts*, at the end, says in a sentence whether the difference is real.
4. Metrics count documents that nobody judged as not relevant: where *Judged@10* is low, don't trust them.

Next, in Dev Tools: put a run's setting live, or take it back.
```
GET  /_es_rerank/_cat/runs?v
PUT  /_es_rerank/rules/RULE?from_run=RUN
POST /_es_rerank/rules/RULE/_rollback
```
"""


def relevance() -> Board:
    """The metrics of replays and sweeps."""
    return Board(
        id="es-rerank-relevance",
        title="es-rerank: Relevance",
        description="Replays and sweeps: the metric by setting and by group, the biggest wins and losses.",
        since="now-90d",
        # Verdicts have no metric, and would else go with it.
        query=f'metric:"{METRIC}" OR _exists_:verdict',
        rows=(
            Row(height=15, panels=((20, _notes()), (28, _runs()))),
            Row(height=16, panels=((24, _settings()), (24, _by_alpha()))),
            Row(height=14, panels=((24, _best()), (24, _held_out()))),
            Row(height=16, panels=((24, _changes()), (24, _by_group()))),
            Row(height=14, panels=((24, _wins()), (24, _losses()))),
            Row(height=12, panels=((48, _verdicts()),)),
        ),
    )


def _notes() -> SavedObject:
    return markdown("es-rerank-relevance-notes", "About this dashboard", NOTES)


def _runs() -> SavedObject:
    return table(
        "es-rerank-relevance-runs",
        "Runs: click one to see only it",
        RUNS_PATTERN,
        metrics=[
            largest("timestamp", "When"),
            largest("value", "Best mean"),
            average("engine_value", "Engine's order"),
            largest("queries", "Queries"),
            average("judged_at_10", "Judged@10"),
        ],
        rows=[
            terms("run", "Run", size=20),
            terms("index", "Index", size=1),
            terms("scorer", "Scorer", size=3),
            terms("judgments", "Judgments", size=3),
        ],
        query=WHOLE,
    )


def _verdicts() -> SavedObject:
    return documents(
        "es-rerank-relevance-verdicts",
        "Verdicts (shown while no filter is set)",
        JOBS_PATTERN,
        columns=["kind", "state", "index", "rule", "scorer", "judgments", "verdict"],
        sort="timestamp",
        query="_exists_:verdict",
    )


def _settings() -> SavedObject:
    keys = ("method", "score", "window", "alpha")
    aggregations = {
        "whole": {
            "filter": _filter(WHOLE),
            "aggs": {
                "engine": {"avg": {"field": "engine_value"}},
                "settings": {
                    "composite": {
                        "size": MAX_SETTINGS,
                        "sources": [{key: {"terms": {"field": key}}} for key in keys],
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
            window="datum.one.key.window",
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
    label = "'best: ' + format(datum.value, '.4f') + ' at alpha ' + datum.alpha + ', window ' + datum.window"
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
                    "strokeDash": {"field": "window", "type": "nominal", "title": "window"},
                    "detail": {"field": "score"},
                    "tooltip": shown(
                        ("alpha", "Alpha", "~g"),
                        ("method", "Method", ""),
                        ("window", "Window", ""),
                        ("score", "Score", ""),
                        ("value", "Mean", ".4f"),
                        ("engine", "Engine's order", ".4f"),
                    ),
                },
            },
            {
                "mark": {"type": "rule", "color": DARK_GREY, "strokeDash": [4, 4]},
                "encoding": {"y": {"field": "engine", "type": "quantitative", "aggregate": "mean"}},
            },
            {
                "transform": best,
                "mark": {"type": "point", "filled": False, "size": 160, "strokeWidth": 2, "color": DARK_GREY},
                "encoding": {"x": x, "y": y},
            },
            {
                "transform": [*best, *calculated(label=label)],
                "mark": {"type": "text", "align": "center", "dy": -16, "color": DARK_GREY},
                "encoding": {"x": {"datum": 0.5}, "y": y, "text": {"field": "label"}},
            },
        ],
    )
    return vega("es-rerank-relevance-settings", "Every setting that was tried (dashes: the engine's own order)", spec)


def _by_alpha() -> SavedObject:
    return xy(
        "es-rerank-relevance-by-alpha",
        "Best mean at each alpha, over windows and scores",
        RUNS_PATTERN,
        draw="line",
        metrics=[largest("value", "best mean")],
        x=by_key("alpha", "alpha", size=200),
        split=terms("method", "method", size=5),
        y_title="mean of the metric",
        query=WHOLE,
        from_zero=False,
    )


def _best() -> SavedObject:
    return table(
        "es-rerank-relevance-best",
        "Best settings, on all queries",
        RUNS_PATTERN,
        metrics=[
            average("value", "Mean"),
            average("engine_value", "Engine's order"),
            average("change", "Change"),
            average("judged_at_10", "Judged@10"),
        ],
        rows=[terms("setting", "Setting", size=20)],
        query=WHOLE,
    )


def _held_out() -> SavedObject:
    return table(
        "es-rerank-relevance-held-out",
        "On held-out queries",
        RUNS_PATTERN,
        metrics=[
            average("value", "Mean"),
            average("engine_value", "Engine's order"),
            average("change", "Change"),
            largest("queries", "Queries"),
        ],
        rows=[terms("run", "Run", size=20), terms("setting", "Setting", size=5)],
        query=HELD_OUT,
    )


def _changes() -> SavedObject:
    aggregations = {
        "queries": {
            "filter": _filter(QUERIES),
            "aggs": {
                "query": {
                    "terms": {"field": "query_id", "size": MAX_QUERIES, "order": {"change": "desc"}},
                    "aggs": {
                        "change": {"avg": {"field": "change"}},
                        "words": {"terms": {"field": "user_query.keyword", "size": 1}},
                    },
                }
            },
        }
    }
    tally = (
        "datum.wins + ' better, ' + datum.losses + ' worse, ' + (datum.all - datum.wins - datum.losses) + ' the same'"
    )
    transform = [
        *opened("datum.aggregations.queries.query.buckets", "one"),
        {"filter": "isValid(datum.one.change.value)"},
        *calculated(
            change="datum.one.change.value",
            words="length(datum.one.words.buckets) ? datum.one.words.buckets[0].key : datum.one.key",
            win="datum.change > 0 ? 1 : 0",
            loss="datum.change < 0 ? 1 : 0",
        ),
        {
            "window": [{"op": "row_number", "as": "place"}],
            "sort": [{"field": "change", "order": "descending"}],
        },
        {
            "joinaggregate": [
                {"op": "sum", "field": "win", "as": "wins"},
                {"op": "sum", "field": "loss", "as": "losses"},
                {"op": "count", "as": "all"},
            ]
        },
        *calculated(tally=tally),
    ]
    spec = drawing(
        RUNS_PATTERN.title,
        aggregations,
        transform,
        layer=[
            {
                "mark": {"type": "bar"},
                "encoding": {
                    "x": {
                        "field": "place",
                        "type": "ordinal",
                        "title": "queries, the largest win first",
                        "axis": {"labels": False, "ticks": False},
                    },
                    "y": {"field": "change", "type": "quantitative", "title": "change against the engine's order"},
                    "color": {
                        "condition": {"test": "datum.change < 0", "value": ORANGE},
                        "value": BLUE,
                    },
                    "tooltip": shown(("words", "Query", ""), ("change", "Change", "+.4f")),
                },
            },
            {
                "transform": [{"filter": "datum.place == 1"}],
                "mark": {"type": "text", "align": "right", "baseline": "top", "fontSize": 12, "color": DARK_GREY},
                "encoding": {
                    "x": {"value": "width"},
                    "y": {"value": 4},
                    "text": {"field": "tally"},
                },
            },
        ],
    )
    return vega("es-rerank-relevance-changes", "Each query against the engine's order", spec)


def _by_group() -> SavedObject:
    return xy(
        "es-rerank-relevance-by-group",
        "By group of queries (mean of the settings in view)",
        RUNS_PATTERN,
        draw="histogram",
        metrics=[average("value", "reranked"), average("engine_value", "engine's order")],
        x=by_key("group", "group", size=30),
        y_title="mean of the metric",
        query=GROUPS,
    )


def _wins() -> SavedObject:
    return _queries("es-rerank-relevance-wins", "Biggest wins", f"{QUERIES} AND change:>0", ascending=False)


def _losses() -> SavedObject:
    return _queries("es-rerank-relevance-losses", "Biggest losses", f"{QUERIES} AND change:<0", ascending=True)


def _queries(id_: str, title: str, query: str, *, ascending: bool) -> SavedObject:
    return table(
        id_,
        title,
        RUNS_PATTERN,
        metrics=[
            average("change", "Change"),
            average("value", "Reranked"),
            average("engine_value", "Engine's order"),
            average("judged_at_10", "Judged@10"),
        ],
        rows=[
            terms("user_query.keyword", "Query", size=50, ascending=ascending),
            terms("query_id", "Query id", size=1),
        ],
        query=query,
    )


def _filter(query: str) -> dict[str, Any]:
    """The query for an aggregation: beside the dashboard's filters a drawing may have no query of its own."""
    return {"query_string": {"query": query}}
