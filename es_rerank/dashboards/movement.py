"""The dashboard Movement: what reranking changes in the answers that people get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.dashboards.aggregations import average, by_key, count, largest, over_time, terms, total, whole_numbers
from es_rerank.dashboards.board import Board, Row
from es_rerank.dashboards.charts import markdown, numbers, table, vega, xy
from es_rerank.dashboards.patterns import EVENTS_PATTERN, HITS_PATTERN
from es_rerank.dashboards.vega import BLUE, calculated, drawing, opened, shown

if TYPE_CHECKING:
    from es_rerank.dashboards.saved import SavedObject

PLACES = 20
NOTES = """\
Compares each answer with the engine's own order. *Overlap* is the share of the engine's first ten hits that are still
among the first ten. *Moved* is the engine's rank minus the place shown: 7 means seven places up.

- **Overlap near 100 %**: reranking changes little. Alpha may be too near the engine, or the model agrees with it.
- **Overlap near 0 %**: the model decides almost alone. Look at a few queries before you trust it.
- Panels about *hits* rest on a sample, `events.hits_sample_rate`. The query's words are there with
  `events.query_text = "plain"` only.

Next, in Dev Tools: why a query's hits moved.
```
POST /_es_rerank/INDEX/_explain
{"query": {"match": {"text": "WORDS OF THE QUERY"}}}
```
"""


def movement() -> Board:
    """How far reranked answers are from the engine's order."""
    return Board(
        id="es-rerank-movement",
        title="es-rerank: Movement",
        description="What reranking changes live: how far answers are from the engine's own order.",
        since="now-7d",
        rows=(
            Row(height=12, panels=((24, _notes()), (24, _numbers()))),
            Row(height=14, panels=((24, _overlap_over_time()), (24, _overlaps()))),
            Row(height=18, panels=((24, _places()), (24, _moves()))),
            Row(height=14, panels=((24, _rules()), (24, _queries()))),
            Row(height=14, panels=((24, _raised()), (24, _lowered()))),
        ),
    )


def _notes() -> SavedObject:
    return markdown("es-rerank-movement-notes", "About this dashboard", NOTES)


def _numbers() -> SavedObject:
    return numbers(
        "es-rerank-movement-numbers",
        "In this time range",
        EVENTS_PATTERN,
        metrics=[
            count("searches"),
            average("overlap_at_10", "mean overlap of the first ten"),
            average("moved_mean", "places that a hit moves, mean"),
            largest("moved_max", "places, largest move"),
        ],
    )


def _overlap_over_time() -> SavedObject:
    return xy(
        "es-rerank-movement-overlap-over-time",
        "Overlap of the first ten, by rule",
        EVENTS_PATTERN,
        draw="line",
        metrics=[average("overlap_at_10", "overlap")],
        x=over_time(),
        split=terms("rule", "rule", size=8),
        y_title="mean overlap",
    )


def _overlaps() -> SavedObject:
    return xy(
        "es-rerank-movement-overlaps",
        "Searches by overlap of the first ten",
        EVENTS_PATTERN,
        draw="histogram",
        metrics=[count("searches")],
        x=by_key("overlap_at_10", "overlap with the engine's first ten", size=50),
        y_title="searches",
    )


def _places() -> SavedObject:
    ranks = {"terms": {"field": "engine_rank", "size": 200, "order": {"_key": "asc"}}}
    aggregations = {
        "first": {
            "filter": {"range": {"position": {"lte": PLACES}}},
            "aggs": {
                "place": {
                    "terms": {"field": "position", "size": PLACES, "order": {"_key": "asc"}},
                    "aggs": {"rank": ranks},
                }
            },
        }
    }
    transform = [
        *opened("datum.aggregations.first.place.buckets", "place"),
        *calculated(rank="datum.place.rank.buckets"),
        {"flatten": ["rank"]},
        *calculated(
            shown_at="datum.place.key",
            shown="datum.place.doc_count",
            from_rank="datum.rank.key",
            came_from=f"datum.from_rank <= {PLACES} ? '' + datum.from_rank : datum.from_rank <= 50 ? '21-50' : '51+'",
            some="datum.rank.doc_count",
        ),
        {
            "aggregate": [
                {"op": "sum", "field": "some", "as": "hits"},
                {"op": "min", "field": "from_rank", "as": "first_rank"},
                {"op": "max", "field": "shown", "as": "shown"},
            ],
            "groupby": ["shown_at", "came_from"],
        },
        *calculated(share="datum.hits / datum.shown"),
    ]
    spec = drawing(
        HITS_PATTERN.title,
        aggregations,
        transform,
        mark={"type": "rect", "color": BLUE},
        encoding={
            "x": {
                "field": "came_from",
                "type": "ordinal",
                "sort": {"field": "first_rank", "op": "min"},
                "title": "rank in the engine's order",
                "axis": {"labelAngle": 0},
            },
            "y": {"field": "shown_at", "type": "ordinal", "title": "place shown"},
            # Not a scale of colours, which would be the wrong way round on a dark ground.
            "opacity": {
                "field": "share",
                "type": "quantitative",
                "title": "share of the place's hits",
                "scale": {"domainMin": 0, "range": [0.04, 1]},
                "legend": {"format": ".0%"},
            },
            "tooltip": shown(
                ("shown_at", "Place shown", ""),
                ("came_from", "Rank in the engine's order", ""),
                ("share", "Share of the place's hits", ".1%"),
                ("hits", "Hits", ","),
            ),
        },
    )
    return vega("es-rerank-movement-places", "Where the hit at each place came from (unmoved: the diagonal)", spec)


def _moves() -> SavedObject:
    return xy(
        "es-rerank-movement-moves",
        "How far the hits shown moved (right of 0: up)",
        HITS_PATTERN,
        draw="histogram",
        metrics=[count("hits")],
        x=whole_numbers("moved", "places moved", interval=5),
        y_title="hits shown",
    )


def _rules() -> SavedObject:
    return table(
        "es-rerank-movement-rules",
        "By rule and scorer",
        EVENTS_PATTERN,
        metrics=[
            count("Searches"),
            average("overlap_at_10", "Mean overlap"),
            average("moved_mean", "Mean places moved"),
            largest("moved_max", "Largest move"),
            average("alpha", "Mean alpha"),
        ],
        rows=[terms("rule", "Rule", size=20), terms("scorer", "Scorer", size=5)],
    )


def _queries() -> SavedObject:
    return table(
        "es-rerank-movement-queries",
        "Queries that changed most",
        EVENTS_PATTERN,
        metrics=[
            average("overlap_at_10", "Mean overlap"),
            average("moved_mean", "Mean places moved"),
            count("Searches"),
        ],
        rows=[terms("user_query.keyword", "Query", size=50, ascending=True)],
    )


def _raised() -> SavedObject:
    return table(
        "es-rerank-movement-raised",
        "Documents raised most",
        HITS_PATTERN,
        metrics=[total("moved", "Places up, in all"), average("position", "Mean place shown"), count("Times shown")],
        rows=[terms("object_id", "Document", size=50), terms("hit_index", "Index", size=3)],
    )


def _lowered() -> SavedObject:
    return table(
        "es-rerank-movement-lowered",
        "Documents lowered most",
        HITS_PATTERN,
        metrics=[total("moved", "Places up, in all"), average("position", "Mean place shown"), count("Times shown")],
        rows=[terms("object_id", "Document", size=50, ascending=True), terms("hit_index", "Index", size=3)],
    )
