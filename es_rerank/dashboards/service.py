"""The dashboard Service: whether reranking is fast, and whether it does its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.dashboards.aggregations import average, by_key, count, over_time, percentiles, terms, total
from es_rerank.dashboards.board import Board, Row
from es_rerank.dashboards.charts import documents, markdown, numbers, table, vega, xy
from es_rerank.dashboards.patterns import EVENTS_PATTERN, RULES_PATTERN
from es_rerank.dashboards.vega import BLUE, GREY, calculated, drawing, opened, shown

if TYPE_CHECKING:
    from es_rerank.dashboards.saved import SavedObject

STAGES = {
    "engine": "engine searches",
    "read": "window is read",
    "cache": "scores are looked up",
    "score": "model scores",
    "reasoning": "reasoning is fetched",
    "fuse": "hits are ordered",
    "write": "answer is written",
}
NOTES = """\
One event for each reranked search, so all of these panels need `[store]` in the configuration.

- **Slow?** *Where the time goes* names the stage. `model scores` shrinks with more workers, a smaller window or a
  warmer cache; `engine searches` is the engine's own time.
- **Not `full`?** *Why not in full* has the reason; the manual's page on searches says what each one means.
- Click a rule or a status in any chart to see only that.

Next, in Dev Tools:
```
GET /_es_rerank/health
GET /_es_rerank/_stats
```
"""


def service() -> Board:
    """Latency by stage, outcomes and their reasons, and what the cache saves."""
    return Board(
        id="es-rerank-service",
        title="es-rerank: Service",
        description="Latency by stage, outcomes and their reasons, and what the cache saves.",
        since="now-24h",
        rows=(
            Row(height=10, panels=((18, _notes()), (30, _numbers()))),
            Row(height=14, panels=((24, _latency()), (24, _stages_over_time()))),
            Row(height=14, panels=((24, _stages()), (24, _outcomes()))),
            Row(height=14, panels=((24, _reasons()), (24, _hit_ratio()))),
            Row(height=14, panels=((24, _saved()), (24, _scorers()))),
            Row(height=12, panels=((48, _changes()),)),
        ),
    )


def _notes() -> SavedObject:
    return markdown("es-rerank-service-notes", "About this dashboard", NOTES)


def _numbers() -> SavedObject:
    return numbers(
        "es-rerank-service-numbers",
        "In this time range",
        EVENTS_PATTERN,
        metrics=[
            count("searches"),
            percentiles("took_total_ms", "total ms", 50, 95),
            average("cache_hit_ratio", "scores from the cache"),
            total("saved_score_ms", "seconds of the model saved"),
        ],
    )


def _latency() -> SavedObject:
    return xy(
        "es-rerank-service-latency",
        "Latency of reranked searches",
        EVENTS_PATTERN,
        draw="line",
        metrics=[percentiles("took_total_ms", "ms", 50, 95, 99)],
        x=over_time(),
        y_title="milliseconds",
    )


def _stages_over_time() -> SavedObject:
    return xy(
        "es-rerank-service-stages-over-time",
        "Mean time of each stage",
        EVENTS_PATTERN,
        draw="area",
        metrics=[average(f"took_{stage}_ms", label) for stage, label in STAGES.items()],
        x=over_time(),
        y_title="milliseconds",
        stacked=True,
    )


def _stages() -> SavedObject:
    fields = {stage: {"percentiles": {"field": f"took_{stage}_ms", "percents": [50, 95]}} for stage in STAGES}
    rows = ", ".join(
        f"{{stage: '{label}', median: datum.aggregations.{stage}.values['50.0'], "
        f"high: datum.aggregations.{stage}.values['95.0']}}"
        for stage, label in STAGES.items()
    )
    transform = [
        *opened(f"[{rows}]", "row"),
        *calculated(stage="datum.row.stage", median="datum.row.median", high="datum.row.high"),
        {"filter": "isValid(datum.high)"},  # without an event in the time range there are no percentiles
        {"joinaggregate": [{"op": "max", "field": "high", "as": "longest"}]},
        *calculated(
            # The longest bar leaves room for its numbers.
            room="datum.longest * 1.25",
            label="format(datum.median, ',.1f') + ' / ' + format(datum.high, ',.1f') + ' ms'",
        ),
    ]
    high = {"field": "high", "type": "quantitative", "title": "milliseconds", "axis": {"grid": False}}
    spec = drawing(
        EVENTS_PATTERN.title,
        fields,
        transform,
        encoding={
            "y": {
                "field": "stage",
                "type": "nominal",
                "sort": list(STAGES.values()),
                "title": None,
                "axis": {"labelLimit": 200},
            },
            "tooltip": shown(
                ("stage", "Stage", ""), ("median", "Median, ms", ",.1f"), ("high", "95th percentile, ms", ",.1f")
            ),
        },
        layer=[
            {"mark": {"type": "bar", "color": GREY, "opacity": 0.4}, "encoding": {"x": high}},
            {
                "mark": {"type": "bar", "color": BLUE, "size": 10},
                "encoding": {"x": {"field": "median", "type": "quantitative"}},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 12, "color": GREY},
                "encoding": {"x": high, "text": {"field": "label"}},
            },
            {
                "mark": {"type": "point", "opacity": 0},
                "encoding": {"x": {"field": "room", "type": "quantitative"}},
            },
        ],
    )
    return vega("es-rerank-service-stages", "Where the time goes: median (blue) / 95th percentile (grey)", spec)


def _outcomes() -> SavedObject:
    return xy(
        "es-rerank-service-outcomes",
        "Outcome of searches",
        EVENTS_PATTERN,
        draw="histogram",
        metrics=[count("searches")],
        x=over_time(),
        split=by_key("status", "status", size=5),
        y_title="searches",
        stacked=True,
    )


def _reasons() -> SavedObject:
    return table(
        "es-rerank-service-reasons",
        "Why not in full",
        EVENTS_PATTERN,
        metrics=[count("Searches"), average("took_total_ms", "Mean ms")],
        rows=[terms("reason", "Reason", size=20), terms("status", "Status", size=4), terms("rule", "Rule", size=10)],
    )


def _hit_ratio() -> SavedObject:
    return xy(
        "es-rerank-service-hit-ratio",
        "Share of scores from the cache, by rule",
        EVENTS_PATTERN,
        draw="line",
        metrics=[average("cache_hit_ratio", "from the cache")],
        x=over_time(),
        split=terms("rule", "rule", size=8),
        y_title="share of scores",
    )


def _saved() -> SavedObject:
    return xy(
        "es-rerank-service-saved",
        "Model time that the cache saved, by scorer",
        EVENTS_PATTERN,
        draw="histogram",
        metrics=[total("saved_score_ms", "seconds saved")],
        x=over_time(),
        split=terms("scorer", "scorer", size=5),
        y_title="seconds of the model",
        stacked=True,
    )


def _scorers() -> SavedObject:
    return table(
        "es-rerank-service-scorers",
        "What the scorers did",
        EVENTS_PATTERN,
        metrics=[
            count("Searches"),
            percentiles("took_score_ms", "ms to score", 95),
            total("scored", "Hits scored"),
            total("cached", "Of them cached"),
            total("missing", "Without a score"),
            total("truncated", "Texts cut"),
            total("cut", "Thinking cut"),
            total("think_tokens", "Thinking tokens"),
        ],
        rows=[terms("scorer", "Scorer", size=10), terms("rule", "Rule", size=10)],
    )


def _changes() -> SavedObject:
    return documents(
        "es-rerank-service-changes",
        "Changes of rules (shown while no filter is set)",
        RULES_PATTERN,
        columns=["name", "version", "action", "who", "why", "from_run", "alpha", "method", "window", "scorer"],
        sort="timestamp",
    )
