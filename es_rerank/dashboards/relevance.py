"""The dashboard Relevance: which setting is best, for which queries, and what it wins and loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.dashboards.aggregations import average, by_key, largest, terms
from es_rerank.dashboards.board import Board, Row
from es_rerank.dashboards.charts import documents, markdown, table, xy
from es_rerank.dashboards.patterns import JOBS_PATTERN, RUNS_PATTERN
from es_rerank.dashboards.runs import MAX_SHOWN, every_query, every_setting

if TYPE_CHECKING:
    from es_rerank.dashboards.saved import SavedObject

METRIC = "nDCG@10"
# Rows of the whole query set have no group, or an empty one.
WHOLE = "aggregate:true AND NOT group:?* AND NOT held_out:true"
GROUPS = "aggregate:true AND group:?* AND NOT held_out:true"
HELD_OUT = "aggregate:true AND NOT group:?* AND held_out:true"
# A run has rows of each query for few settings: the engine's own order, the present setting and the best one.
QUERIES = "aggregate:false AND NOT setting:engine"
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
            Row(height=16, panels=((24, every_setting(WHOLE)), (24, _by_alpha()))),
            Row(height=14, panels=((24, _best()), (24, _held_out()))),
            Row(height=16, panels=((24, every_query(QUERIES)), (24, _by_group()))),
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


def _by_group() -> SavedObject:
    return xy(
        "es-rerank-relevance-by-group",
        "By group of queries",
        RUNS_PATTERN,
        draw="histogram",
        metrics=[average("value", "mean")],
        x=by_key("group", "group", size=30),
        split=terms("setting", "setting", size=MAX_SHOWN),
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
            terms("setting", "Setting", size=MAX_SHOWN, ascending=ascending),
        ],
        query=query,
    )
