"""The aggregations of a chart, as both products keep them: metrics first, numbered from 1, then the buckets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from es_rerank.dashboards.patterns import TIME_FIELD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number of each bucket. `label` is what people read."""

    type: str
    label: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A split of the documents."""

    type: str
    label: str
    params: Mapping[str, Any]


def count(label: str) -> Metric:
    """How many documents."""
    return Metric(type="count", label=label)


def average(name: str, label: str) -> Metric:
    """The mean of a field."""
    return Metric(type="avg", label=label, params={"field": name})


def total(name: str, label: str) -> Metric:
    """The sum of a field."""
    return Metric(type="sum", label=label, params={"field": name})


def largest(name: str, label: str) -> Metric:
    """The largest value of a field."""
    return Metric(type="max", label=label, params={"field": name})


def percentiles(name: str, label: str, *percents: int) -> Metric:
    """Some percentiles of a field; each is shown as `95th percentile of LABEL`, in the product's own words."""
    return Metric(type="percentiles", label=label, params={"field": name, "percents": list(percents)})


def terms(name: str, label: str, *, size: int, by: str = "1", ascending: bool = False) -> Bucket:
    """A bucket for each value of a field. `by` is the number of a metric, or `_key` for the values themselves.

    Numbers as 0.3 are values of this kind too: in a histogram of floats they fall into the bucket before.
    """
    params = {
        "field": name,
        "orderBy": by,
        "order": "asc" if ascending else "desc",
        "size": size,
        "otherBucket": False,
        "otherBucketLabel": "Other",
        "missingBucket": False,
        "missingBucketLabel": "Missing",
    }
    return Bucket(type="terms", label=label, params=params)


def by_key(name: str, label: str, *, size: int) -> Bucket:
    """A bucket for each value of a field, in the order of the values."""
    return terms(name, label, size=size, by="_key", ascending=True)


def over_time() -> Bucket:
    """A bucket for each span of time, as long as suits the time range."""
    params = {
        "field": TIME_FIELD,
        "timeRange": {"from": "now-24h", "to": "now"},
        # The same setting, under the name that each product gives it.
        "useNormalizedEsInterval": True,
        "useNormalizedOpenSearchInterval": True,
        "scaleMetricValues": False,
        "interval": "auto",
        "drop_partials": False,
        "min_doc_count": 1,
        "extended_bounds": {},
    }
    return Bucket(type="date_histogram", label="", params=params)


def whole_numbers(name: str, label: str, *, interval: int) -> Bucket:
    """A bucket for each `interval` whole numbers of a field of whole numbers."""
    params = {"field": name, "interval": interval, "min_doc_count": False, "has_extended_bounds": False}
    return Bucket(type="histogram", label=label, params={**params, "extended_bounds": {"min": "", "max": ""}})


def numbered(metrics: Sequence[Metric], buckets: Sequence[tuple[str, Bucket]]) -> list[dict[str, Any]]:
    """All of them as the products keep them; each bucket comes with its part in the chart (`segment`, `group`, …)."""
    parts = [("metric", one) for one in metrics] + list(buckets)
    return [
        {
            "id": str(number),
            "enabled": True,
            "type": one.type,
            "schema": schema,
            "params": {**one.params, "customLabel": one.label} if one.label else dict(one.params),
        }
        for number, (schema, one) in enumerate(parts, start=1)
    ]
