"""Panels made of aggregations, which both products draw themselves, so that a click on them filters the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from es_rerank.dashboards.aggregations import numbered
from es_rerank.dashboards.saved import INDEX_REFERENCE, Reference, SavedObject, dumps, search_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.dashboards.aggregations import Bucket, Metric
    from es_rerank.dashboards.patterns import Pattern

Drawing = Literal["line", "area", "histogram"]
CATEGORY_AXIS, VALUE_AXIS = "CategoryAxis-1", "ValueAxis-1"


def xy(
    id_: str,
    title: str,
    pattern: Pattern,
    *,
    draw: Drawing,
    metrics: Sequence[Metric],
    x: Bucket,
    split: Bucket | None = None,
    y_title: str,
    query: str = "",
    stacked: bool = False,
    from_zero: bool = True,
) -> SavedObject:
    """Lines, areas or bars over the buckets `x`, one series a metric and value of `split`.

    Without `from_zero` the axis covers the values only.
    """
    buckets = [("segment", x)] + ([("group", split)] if split else [])
    params = {
        "type": draw,
        "grid": {"categoryLines": False},
        "addTooltip": True,
        "addLegend": True,
        "legendPosition": "right",
        "times": [],
        "addTimeMarker": False,
        "labels": {"show": False},
        "thresholdLine": {"show": False, "value": 10, "width": 1, "style": "full", "color": "#E7664C"},
        "categoryAxes": [_axis(CATEGORY_AXIS, "category", "bottom", x.label)],
        "valueAxes": [
            {
                **_axis(VALUE_AXIS, "value", "left", y_title),
                "name": "LeftAxis-1",
                "scale": {"type": "linear", "mode": "normal", "defaultYExtents": not from_zero},
            }
        ],
        "seriesParams": [
            {
                "show": True,
                "type": draw,
                "mode": "stacked" if stacked else "normal",
                "data": {"label": one.label, "id": str(number)},
                "valueAxis": VALUE_AXIS,
                "drawLinesBetweenPoints": True,
                "lineWidth": 2,
                "interpolate": "linear",
                "showCircles": True,
            }
            for number, one in enumerate(metrics, start=1)
        ],
    }
    return _visualization(id_, title, draw, params, numbered(metrics, buckets), pattern=pattern, query=query)


def table(
    id_: str, title: str, pattern: Pattern, *, metrics: Sequence[Metric], rows: Sequence[Bucket], query: str = ""
) -> SavedObject:
    """A table: a column for each of `rows`, then one for each metric."""
    params = {
        "perPage": 10,
        "showPartialRows": False,
        "showMetricsAtAllLevels": False,
        "showTotal": False,
        "totalFunc": "sum",
        "percentageCol": "",
        "sort": {"columnIndex": None, "direction": None},
    }
    aggregations = numbered(metrics, [("bucket", one) for one in rows])
    return _visualization(id_, title, "table", params, aggregations, pattern=pattern, query=query)


def numbers(id_: str, title: str, pattern: Pattern, *, metrics: Sequence[Metric], query: str = "") -> SavedObject:
    """Large numbers side by side."""
    params = {
        "type": "metric",
        "addTooltip": True,
        "addLegend": False,
        "metric": {
            "percentageMode": False,
            "useRanges": False,
            "colorSchema": "Green to Red",
            "metricColorMode": "None",
            "colorsRange": [{"from": 0, "to": 10000}],
            "labels": {"show": True},
            "invertColors": False,
            "style": {"bgFill": "#000", "bgColor": False, "labelColor": False, "subText": "", "fontSize": 28},
        },
    }
    return _visualization(id_, title, "metric", params, numbered(metrics, []), pattern=pattern, query=query)


def markdown(id_: str, title: str, text: str) -> SavedObject:
    """A panel of text."""
    params = {"fontSize": 12, "openLinksInNewTab": True, "markdown": text}
    return _visualization(id_, title, "markdown", params, [])


def vega(id_: str, title: str, spec: dict[str, Any]) -> SavedObject:
    """A drawing in Vega-Lite, which asks the engine itself."""
    return _visualization(id_, title, "vega", {"spec": dumps(spec)}, [])


def documents(
    id_: str, title: str, pattern: Pattern, *, columns: Sequence[str], sort: str, query: str = ""
) -> SavedObject:
    """Documents as they are, the newest by `sort` first."""
    attributes = {
        "title": f"es-rerank: {title}",
        "description": "",
        "hits": 0,
        "columns": list(columns),
        "sort": [[sort, "desc"]],
        "version": 1,
        "kibanaSavedObjectMeta": search_source(query, indexRefName=INDEX_REFERENCE),
    }
    return SavedObject(type="search", id=id_, attributes=attributes, references=(_to(pattern),))


def _axis(id_: str, kind: str, position: str, title: str) -> dict[str, Any]:
    return {
        "id": id_,
        "type": kind,
        "position": position,
        "show": True,
        "style": {},
        "scale": {"type": "linear"},
        "labels": {"show": True, "rotate": 0, "filter": kind == "category", "truncate": 100},
        "title": {"text": title},
    }


def _visualization(
    id_: str,
    title: str,
    kind: str,
    params: dict[str, Any],
    aggregations: list[dict[str, Any]],
    *,
    pattern: Pattern | None = None,
    query: str = "",
) -> SavedObject:
    source = {} if pattern is None else {"indexRefName": INDEX_REFERENCE}
    attributes = {
        "title": f"es-rerank: {title}",
        "description": "",
        "version": 1,
        "visState": dumps({"title": title, "type": kind, "params": params, "aggs": aggregations}),
        "uiStateJSON": "{}",
        "kibanaSavedObjectMeta": search_source(query, **source),
    }
    references = () if pattern is None else (_to(pattern),)
    return SavedObject(type="visualization", id=id_, attributes=attributes, references=references)


def _to(pattern: Pattern) -> Reference:
    return Reference(name=INDEX_REFERENCE, type="index-pattern", id=pattern.id)
