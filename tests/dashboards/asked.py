"""What OpenSearch Dashboards asks the engine for a panel, as it was recorded from OpenSearch Dashboards 2.13."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

Saved = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The time range of a dashboard, and its filters."""

    start: datetime
    end: datetime
    filters: Sequence[dict[str, Any]] = field(default=())

    def clauses(self) -> list[dict[str, Any]]:
        """What every search of the dashboard has to fulfil."""
        span = {
            "gte": self.start.isoformat(timespec="milliseconds"),
            "lte": self.end.isoformat(timespec="milliseconds"),
            "format": "strict_date_optional_time",
        }
        return [{"match_all": {}}, {"range": {"timestamp": span}}, *self.filters]


def parsed(saved: Saved) -> Saved:
    """A saved object whose texts of JSON are values."""
    saved = copy.deepcopy(saved)
    attributes = saved["attributes"]
    for name in ("visState", "panelsJSON", "optionsJSON", "fields", "fieldFormatMap"):
        if name in attributes:
            attributes[name] = json.loads(attributes[name])
    if "kibanaSavedObjectMeta" in attributes:
        attributes["search"] = json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])
    return saved


def search_of(panel: Saved, view: View) -> dict[str, Any]:
    """The search of a panel of aggregations or of a saved search."""
    source = panel["attributes"]["search"]
    words = source["query"]["query"]
    must = [{"query_string": {"query": words, "analyze_wildcard": True, "time_zone": "UTC"}}] if words else []
    body: dict[str, Any] = {
        "size": 0,
        "stored_fields": ["*"],
        "script_fields": {},
        "docvalue_fields": [{"field": "timestamp", "format": "date_time"}],
        "_source": {"excludes": []},
        "query": {"bool": {"must": must, "filter": view.clauses(), "should": [], "must_not": []}},
    }
    if panel["type"] == "search":
        [[sort, order]] = panel["attributes"]["sort"]
        return {**body, "size": 500, "version": True, "sort": [{sort: {"order": order, "unmapped_type": "boolean"}}]}
    return {**body, "aggs": aggregations_of(panel["attributes"]["visState"]["aggs"])}


def aggregations_of(kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The aggregations of a chart in the engine's language: buckets within buckets, the metrics in the innermost."""
    metrics = {one["id"]: one for one in kept if one["schema"] == "metric"}
    asked = {id_: _metric(one) for id_, one in metrics.items() if one["type"] != "count"}
    for one in reversed([one for one in kept if one["schema"] != "metric"]):
        params = one["params"]
        inner = dict(asked)
        if one["type"] == "terms":
            by = params["orderBy"]
            if by in metrics and metrics[by]["type"] != "count":
                inner[by] = _metric(metrics[by])
            by = "_count" if by in metrics and metrics[by]["type"] == "count" else by
            body = {"field": params["field"], "order": {by: params["order"]}, "size": params["size"]}
        elif one["type"] == "date_histogram":
            body = {"field": params["field"], "fixed_interval": "3h", "time_zone": "UTC", "min_doc_count": 1}
        else:
            assert one["type"] == "histogram"
            body = {"field": params["field"], "interval": params["interval"], "min_doc_count": 1}
        asked = {one["id"]: {one["type"]: body, **({"aggs": inner} if inner else {})}}
    return asked


def _metric(one: Mapping[str, Any]) -> dict[str, Any]:
    params = {name: value for name, value in one["params"].items() if name != "customLabel"}
    return {one["type"]: {**params, "keyed": False} if one["type"] == "percentiles" else params}


def spec_of(panel: Saved) -> dict[str, Any]:
    """The Vega-Lite of a panel."""
    return dict(json.loads(panel["attributes"]["visState"]["params"]["spec"]))


def spec_search(spec: Mapping[str, Any], view: View) -> tuple[str, dict[str, Any]]:
    """The indices and the search of a Vega panel."""
    url = spec["data"]["url"]
    assert url["%context%"] is True
    assert url["%timefield%"] == "timestamp"
    query = {"bool": {"must": [], "filter": view.clauses(), "should": [], "must_not": []}}
    return url["index"], {**url["body"], "query": query}


def answered(spec: Mapping[str, Any], answer: Any) -> dict[str, Any]:
    """The spec as both products draw it: the answer takes the place of the request, and the panel gives the size."""
    data = {name: value for name, value in spec["data"].items() if name != "url"}
    return {**spec, "data": {**data, "values": answer}, "width": 560, "height": 230}


def fields_in(body: Any) -> Iterator[str]:
    """Each field that a request of the engine's language names."""
    if isinstance(body, dict):
        for key, value in body.items():
            if key == "field":
                yield value
            elif key in ("range", "term", "wildcard", "match_phrase"):
                yield from value
            elif key == "query_string":
                yield from words_fields(value["query"])
            else:
                yield from fields_in(value)
    elif isinstance(body, list):
        for value in body:
            yield from fields_in(value)


def words_fields(words: str) -> Iterator[str]:
    """Each field that a query in Lucene's syntax names."""
    for part in words.replace("(", " ").replace(")", " ").split():
        name, colon, value = part.partition(":")
        if colon:
            yield value if name == "_exists_" else name
