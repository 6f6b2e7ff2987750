"""Every panel finds what it asks for on every engine, and every drawing can be drawn."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import vl_convert

from tests.conftest import send_json
from tests.dashboards.asked import View, aggregations_of, answered, search_of, spec_of, spec_search

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Engine
    from tests.dashboards.asked import Saved

# The oldest Vega-Lite that draws here, nearest to that of OpenSearch Dashboards 2, and the newest 5.
VEGA_LITE = ("5.8", "5.21")
# What is drawn at least: bars, points, cells or lines beside the axes.
LEAST_MARKS = 6


def panels_with_views(saved_objects: list[Saved], view: View) -> Iterator[tuple[Saved, View]]:
    """Each panel, and the view of the dashboard that it is on as it opens."""
    by_key = {(saved["type"], saved["id"]): saved for saved in saved_objects}
    for board in (one for one in saved_objects if one["type"] == "dashboard"):
        query = board["attributes"]["search"]["query"]["query"]
        filters = [{"query_string": {"query": query, "analyze_wildcard": True}}] if query else []
        for reference in board["references"]:
            yield by_key[reference["type"], reference["id"]], replace(view, filters=filters)


def kind_of(panel: Saved) -> str:
    """The kind of a visualization, or `search`."""
    return str(panel["attributes"]["visState"]["type"]) if panel["type"] == "visualization" else "search"


def drawings(saved_objects: list[Saved], view: View) -> list[tuple[Saved, View]]:
    """The panels in Vega-Lite."""
    return [(panel, on) for panel, on in panels_with_views(saved_objects, view) if kind_of(panel) == "vega"]


def ask(engine: Engine, indices: str, body: dict[str, Any]) -> Any:
    """The engine's answer to a panel."""
    target = f"{engine.url}/{indices}/_search?ignore_unavailable=true&track_total_hits=true"
    return send_json(target, body, method="POST")


def lists_of_buckets(aggregations: Any) -> Iterator[list[Any]]:
    """Each list of buckets in an answer, however deep."""
    if isinstance(aggregations, dict):
        for key, value in aggregations.items():
            if key == "buckets":
                yield value
            yield from lists_of_buckets(value)
    elif isinstance(aggregations, list):
        for one in aggregations:
            yield from lists_of_buckets(one)


def numbers_in(aggregations: Any) -> Iterator[tuple[str, float]]:
    """Each value of a metric in an answer, with the number of the metric."""
    if isinstance(aggregations, dict):
        for key, value in aggregations.items():
            if isinstance(value, dict) and ("value" in value or "values" in value):
                numbers = [value["value"]] if "value" in value else [one["value"] for one in value["values"]]
                yield from ((key, number) for number in numbers if isinstance(number, int | float))
            else:
                yield from numbers_in(value)
    elif isinstance(aggregations, list):
        for one in aggregations:
            yield from numbers_in(one)


def marks_of(drawn: Any) -> Iterator[dict[str, Any]]:
    """What is drawn for data, as Vega's scene has it: not axes, titles or legends."""
    if isinstance(drawn, dict):
        if drawn.get("role") == "mark" and drawn.get("marktype") != "group":
            yield from drawn["items"]
        for value in drawn.values():
            yield from marks_of(value)
    elif isinstance(drawn, list):
        for one in drawn:
            yield from marks_of(one)


def test_every_panel_finds_what_it_asks_for(sampled_engine: Engine, saved_objects: list[Saved], view: View) -> None:
    """No panel gets an error, an empty list of buckets, or a metric without any value."""
    titles = {one["id"]: one["attributes"]["title"] for one in saved_objects if one["type"] == "index-pattern"}
    asked = 0
    for panel, on in panels_with_views(saved_objects, view):
        if kind_of(panel) in ("markdown", "vega"):
            continue
        answer = ask(sampled_engine, titles[panel["references"][0]["id"]], search_of(panel, on))
        assert answer["_shards"]["failed"] == 0, panel["id"]
        assert answer["hits"]["total"]["value"] > 0, panel["id"]
        aggregations = answer.get("aggregations", {})
        assert all(lists_of_buckets(aggregations)), panel["id"]
        kept = panel["attributes"].get("visState", {}).get("aggs", ())
        metrics = {one["id"] for one in kept if one["schema"] == "metric" and one["type"] != "count"}
        assert {id_ for id_, _ in numbers_in(aggregations)} == metrics, panel["id"]
        asked += 1
    assert asked >= 30


@pytest.mark.parametrize("version", VEGA_LITE)
def test_every_drawing_is_drawn(version: str, sampled_engine: Engine, saved_objects: list[Saved], view: View) -> None:
    """The engine's answer in the place of the request gives marks at finite places, and text without a gap."""
    found = drawings(saved_objects, view)
    assert len(found) == 5
    for panel, on in found:
        spec = spec_of(panel)
        indices, body = spec_search(spec, on)
        drawn = vl_convert.vegalite_to_scenegraph(
            answered(spec, ask(sampled_engine, indices, body)), vl_version=version
        )
        marks = list(marks_of(drawn))
        assert len(marks) >= LEAST_MARKS, panel["id"]
        assert all(math.isfinite(mark["x"]) and math.isfinite(mark["y"]) for mark in marks if "x" in mark), panel["id"]
        text = json.dumps(drawn)
        assert not any(word in text for word in ("NaN", "undefined", "Infinity")), panel["id"]


def test_a_drawing_becomes_a_picture(sampled_engine: Engine, saved_objects: list[Saved], view: View) -> None:
    """The picture of data is larger than that of the same axes without any."""
    for panel, on in drawings(saved_objects, view):
        spec = spec_of(panel)
        indices, body = spec_search(spec, on)
        picture = vl_convert.vegalite_to_png(answered(spec, ask(sampled_engine, indices, body)))
        blank = vl_convert.vegalite_to_png(answered(spec, {"hits": {}}))
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > len(blank) + 500, panel["id"]


def test_a_drawing_of_an_index_that_does_not_exist_is_empty(
    any_engine: Engine, saved_objects: list[Saved], view: View
) -> None:
    """Before the first event or click there is an empty drawing, not an error."""
    for panel, on in drawings(saved_objects, view):
        spec = spec_of(panel)
        indices, body = spec_search(spec, on)
        nowhere = ",".join(f"nowhere-{name}" for name in indices.split(","))
        drawn = vl_convert.vegalite_to_scenegraph(answered(spec, ask(any_engine, nowhere, body)))
        assert not list(marks_of(drawn)), panel["id"]


def test_clicks_without_an_index_of_clicks_are_none(saved_objects: list[Saved], view: View) -> None:
    """Where only hit rows are there, every place has a rate of 0."""
    [spec] = [spec_of(one) for one, _ in drawings(saved_objects, view) if one["id"] == "es-rerank-clicks-rate"]
    answer = {"aggregations": {"shown": {"place": {"buckets": [{"key": 1, "doc_count": 9}]}}}}
    answer["aggregations"]["clicked"] = {"place": {"buckets": []}}
    [bar] = marks_of(vl_convert.vegalite_to_scenegraph(answered(spec, answer)))
    assert bar["height"] == 0


def test_panels_are_asked_as_recorded() -> None:
    """The search of a chart is the one that OpenSearch Dashboards 2.13 sent for such a chart."""
    label = {"customLabel": "ms"}
    latency = [
        {"id": "1", "type": "percentiles", "schema": "metric", "params": {"field": "took", "percents": [50], **label}},
        {"id": "2", "type": "date_histogram", "schema": "segment", "params": {"field": "time"}},
    ]
    inner = {"1": {"percentiles": {"field": "took", "percents": [50], "keyed": False}}}
    over_time = {"field": "time", "fixed_interval": "3h", "time_zone": "UTC", "min_doc_count": 1}
    assert aggregations_of(latency) == {"2": {"date_histogram": over_time, "aggs": inner}}
    moved = [
        {"id": "1", "type": "sum", "schema": "metric", "params": {"field": "moved"}},
        {"id": "2", "type": "count", "schema": "metric", "params": {}},
        {"id": "3", "type": "max", "schema": "metric", "params": {"field": "most"}},
        {
            "id": "4",
            "type": "terms",
            "schema": "bucket",
            "params": {"field": "q", "orderBy": "1", "order": "desc", "size": 9},
        },
    ]
    assert aggregations_of(moved) == {
        "4": {
            "terms": {"field": "q", "order": {"1": "desc"}, "size": 9},
            "aggs": {"1": {"sum": {"field": "moved"}}, "3": {"max": {"field": "most"}}},
        }
    }
