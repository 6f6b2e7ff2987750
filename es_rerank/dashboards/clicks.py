"""The dashboard Clicks: what people click, set against what was shown to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.dashboards.aggregations import average, by_key, count, largest, over_time, percentiles, terms, total
from es_rerank.dashboards.board import Board, Row
from es_rerank.dashboards.charts import markdown, numbers, table, vega, xy
from es_rerank.dashboards.patterns import CLICKS_PATTERN, HITS_PATTERN, JUDGMENTS_PATTERN
from es_rerank.dashboards.vega import BLUE, calculated, drawing, opened, shown
from es_rerank.tables import EventSettings

if TYPE_CHECKING:
    from es_rerank.dashboards.saved import SavedObject

PLACES = 20
ORDINAL = "event_attributes.position.ordinal"
OBJECT = "event_attributes.object.object_id"
CLICKS = "action_name:click"
# The share of reranked searches whose hits are recorded, as the configuration has it by default.
RECORDED: float = (
    EventSettings.model_fields["sample_rate"].default * EventSettings.model_fields["hits_sample_rate"].default
)
NOTES = f"""\
Clicks are what your application writes to `ubi_events` (User Behavior Insights): `action_name` is `click`, and
`{ORDINAL}` is the place, from 1. What was shown is in es-rerank's own hit rows.

- **Hit rows are a sample.** *Clicks per impression* must know how large it is: set *recorded* below the chart to
  `events.sample_rate` times `events.hits_sample_rate` (by default {RECORDED:g}).
- **First places get clicks because they are first.** A judgment from clicks divides a document's clicks by those that
  its places explain: a grade above 1 is more than they explain.

Next, in Dev Tools: what clicks say as judgments, ready for a replay.
```
GET /es-rerank-judgments/_search?q=source:clicks
```
"""


def clicks() -> Board:
    """Clicks by place and over time, and what they say about documents."""
    return Board(
        id="es-rerank-clicks",
        title="es-rerank: Clicks",
        description="What people click (ubi_events) set against what was shown (es-rerank's hit rows).",
        since="now-30d",
        rows=(
            Row(height=12, panels=((28, _notes()), (20, _numbers()))),
            Row(height=15, panels=((24, _rate()), (24, _over_time()))),
            Row(height=14, panels=((24, _impressions()), (24, _clicks()))),
            Row(height=14, panels=((24, _place_over_time()), (24, _documents()))),
            Row(height=14, panels=((48, _judgments()),)),
        ),
    )


def _notes() -> SavedObject:
    return markdown("es-rerank-clicks-notes", "About this dashboard", NOTES)


def _numbers() -> SavedObject:
    return numbers(
        "es-rerank-clicks-numbers",
        "In this time range",
        CLICKS_PATTERN,
        metrics=[count("clicks"), average(ORDINAL, "place clicked, mean"), percentiles(ORDINAL, "place clicked", 50)],
        query=CLICKS,
    )


def _rate() -> SavedObject:
    aggregations = {
        "shown": {
            "filter": {"range": {"position": {"lte": PLACES}}},
            "aggs": {"place": {"terms": {"field": "position", "size": PLACES, "order": {"_key": "asc"}}}},
        },
        "clicked": {
            "filter": {"query_string": {"query": CLICKS}},
            "aggs": {"place": {"terms": {"field": ORDINAL, "size": 1000, "order": {"_key": "asc"}}}},
        },
    }
    transform = [
        *opened("datum.aggregations.shown.place.buckets", "one"),
        *calculated(
            place="datum.one.key",
            clicked="datum.aggregations.clicked.place.buckets",
            found="indexof(pluck(datum.clicked, 'key'), datum.place)",
            # A slice, since OpenSearch Dashboards allows no index that is computed.
            clicks="datum.found < 0 ? 0 : slice(datum.clicked, datum.found, datum.found + 1)[0].doc_count",
            impressions="datum.one.doc_count / recorded",
            rate="datum.clicks / datum.impressions",
        ),
    ]
    spec = drawing(
        f"{HITS_PATTERN.title},{CLICKS_PATTERN.title}",
        aggregations,
        transform,
        params=[
            {
                "name": "recorded",
                "value": RECORDED,
                "bind": {"input": "range", "min": 0.01, "max": 1, "step": 0.01, "name": "recorded "},
            }
        ],
        mark={"type": "bar", "color": BLUE},
        encoding={
            "x": {"field": "place", "type": "ordinal", "title": "place shown", "axis": {"labelAngle": 0}},
            "y": {"field": "rate", "type": "quantitative", "title": "clicks per impression", "axis": {"format": "~%"}},
            "tooltip": shown(
                ("place", "Place", ""),
                ("rate", "Clicks per impression", ".2%"),
                ("clicks", "Clicks", ","),
                ("impressions", "Impressions, estimated", ",.0f"),
            ),
        },
    )
    return vega("es-rerank-clicks-rate", "Clicks per impression, by place", spec)


def _over_time() -> SavedObject:
    return xy(
        "es-rerank-clicks-over-time",
        "Events over time",
        CLICKS_PATTERN,
        draw="histogram",
        metrics=[count("events")],
        x=over_time(),
        split=terms("action_name", "action", size=6),
        y_title="events",
        stacked=True,
    )


def _impressions() -> SavedObject:
    return xy(
        "es-rerank-clicks-impressions",
        "Impressions by place (hit rows, a sample)",
        HITS_PATTERN,
        draw="histogram",
        metrics=[count("hits shown")],
        x=by_key("position", "place shown", size=PLACES),
        y_title="hit rows",
    )


def _clicks() -> SavedObject:
    return xy(
        "es-rerank-clicks-clicks",
        "Clicks by place",
        CLICKS_PATTERN,
        draw="histogram",
        metrics=[count("clicks")],
        x=by_key(ORDINAL, "place shown", size=PLACES),
        y_title="clicks",
        query=CLICKS,
    )


def _place_over_time() -> SavedObject:
    return xy(
        "es-rerank-clicks-place-over-time",
        "Mean place clicked (lower is better)",
        CLICKS_PATTERN,
        draw="line",
        metrics=[average(ORDINAL, "mean place")],
        x=over_time(),
        split=terms("application", "application", size=5),
        y_title="place",
        query=CLICKS,
    )


def _documents() -> SavedObject:
    return table(
        "es-rerank-clicks-documents",
        "Documents clicked most",
        CLICKS_PATTERN,
        metrics=[count("Clicks"), average(ORDINAL, "Mean place")],
        rows=[terms(OBJECT, "Document", size=50)],
        query=CLICKS,
    )


def _judgments() -> SavedObject:
    return table(
        "es-rerank-clicks-judgments",
        "Judgments from clicks: grade is clicks over expected clicks",
        JUDGMENTS_PATTERN,
        metrics=[
            largest("grade", "Grade"),
            total("impressions", "Impressions"),
            total("clicks", "Clicks"),
            total("expected_clicks", "Expected clicks"),
        ],
        rows=[terms("user_query.keyword", "Query", size=30), terms("object_id", "Document", size=5)],
        query="source:clicks",
    )
