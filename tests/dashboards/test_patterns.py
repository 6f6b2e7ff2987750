"""The fields of index patterns are those of the mappings, and panels name no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from es_rerank.dashboards.patterns import PATTERNS, UBI_EVENTS, flat
from es_rerank.store.indices import OWN_INDICES
from tests.conftest import send_json
from tests.dashboards.asked import fields_in, spec_of, words_fields

if TYPE_CHECKING:
    from es_rerank.dashboards.patterns import Pattern
    from tests.conftest import Engine
    from tests.dashboards.asked import Saved

# What no panel shows and Discover would have nothing to show of.
NO_PATTERN = {"es-rerank-windows"}


def test_there_is_a_pattern_for_each_of_our_indices() -> None:
    """An index pattern asks the indices that the store makes, all of them."""
    titles = {pattern.title for pattern in PATTERNS}
    assert titles == {index.pattern for index in OWN_INDICES if index.name not in NO_PATTERN} | {"ubi_events"}


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.id)
def test_a_pattern_lists_every_field_of_its_mapping(pattern: Pattern, saved_objects: list[Saved]) -> None:
    """Fields within objects and the keyword of a text too, and the time field is among them."""
    [saved] = [one for one in saved_objects if one["type"] == "index-pattern" and one["id"] == pattern.id]
    fields = {field["name"]: field for field in saved["attributes"]["fields"]}
    expected = dict(flat(pattern.mapping))
    assert set(fields) == set(expected) | {"_id", "_index", "_score", "_source"}
    assert fields[saved["attributes"]["timeFieldName"]]["type"] == "date"
    assert set(saved["attributes"]["fieldFormatMap"]) <= set(expected)


def test_only_what_the_engine_can_aggregate_is_aggregatable(sampled_engine: Engine, saved_objects: list[Saved]) -> None:
    """Type, searchable and aggregatable of each field are what the engine says of it."""
    for saved in (one for one in saved_objects if one["type"] == "index-pattern"):
        target = f"{sampled_engine.url}/{saved['attributes']['title']}/_field_caps?fields=*"
        told = send_json(target)["fields"]
        for field in saved["attributes"]["fields"]:
            if field["name"].startswith("_"):
                continue
            [(kind, can)] = told[field["name"]].items()
            assert [kind] == field["esTypes"], field
            assert can["aggregatable"] == field["aggregatable"], field
            assert can["searchable"] == field["searchable"], field


def test_panels_name_no_field_that_is_not_in_the_mapping(saved_objects: list[Saved]) -> None:
    """Metrics, buckets, queries, columns and the requests of drawings use fields that exist, each of the right form."""
    fields = {
        one["id"]: {field["name"]: field for field in one["attributes"]["fields"]}
        for one in saved_objects
        if one["type"] == "index-pattern"
    }
    everywhere = {name for names in fields.values() for name in names}
    for saved in saved_objects:
        attributes = saved["attributes"]
        if saved["type"] == "dashboard":
            assert set(words_fields(attributes["search"]["query"]["query"])) <= everywhere
        elif saved["type"] == "search":
            known = fields[saved["references"][0]["id"]]
            assert set(attributes["columns"]) | {attributes["sort"][0][0]} <= set(known)
        elif saved["type"] == "visualization" and attributes["visState"]["type"] == "vega":
            assert set(fields_in(spec_of(saved)["data"]["url"]["body"])) <= everywhere
        elif saved["references"]:
            known = fields[saved["references"][0]["id"]]
            used = {agg["params"]["field"] for agg in attributes["visState"]["aggs"] if "field" in agg["params"]}
            assert all(known[name]["aggregatable"] for name in used)
            assert set(words_fields(attributes["search"]["query"]["query"])) <= set(known)


def test_clicks_have_the_names_of_user_behavior_insights() -> None:
    """The fields of `ubi_events` that panels and patterns use are those that its plug-in maps, with their types."""
    kinds = {name: mapping["type"] for name, mapping in flat(UBI_EVENTS)}
    assert kinds == {
        "application": "keyword",
        "action_name": "keyword",
        "client_id": "keyword",
        "query_id": "keyword",
        "timestamp": "date",
        "event_attributes.position.ordinal": "integer",
        "event_attributes.object.object_id": "keyword",
        "event_attributes.object.object_id_field": "keyword",
    }
