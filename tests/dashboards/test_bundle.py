"""The shipped file is what the code makes, and keeps the rules of all four products."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from es_rerank.dashboards.bundle import render
from es_rerank.dashboards.shipped import shipped
from tests.dashboards.asked import spec_of
from tests.dashboards.fake_server import KEYS, NEWEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.dashboards.asked import Saved

ROOT = Path(__file__).parents[2]
COLUMNS = 48
# Of its src/plugins/vis_type_vega/public/data_model/vega_validation.ts, what an expression could name by chance.
BLOCKED = {"view", "top", "parent", "self", "frames", "global", "window", "document", "prototype", "constructor"}
KINDS = {"line", "area", "histogram", "table", "metric", "markdown", "vega"}


def raw_objects() -> list[dict[str, Any]]:
    """The shipped lines as they are."""
    return [json.loads(line) for line in shipped().splitlines()]


def test_the_shipped_file_is_what_the_code_makes() -> None:
    """Whoever changes a panel or a mapping writes the file anew: python -m es_rerank.dashboards."""
    assert shipped().decode() == render() == render()


def test_the_wheel_has_the_file() -> None:
    """The file lies in a package that the wheel takes whole."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert "es_rerank" in build["targets"]["wheel"]["packages"]
    assert (ROOT / "es_rerank" / "dashboards" / "es-rerank.ndjson").is_file()


def test_there_are_four_dashboards(saved_objects: list[Saved]) -> None:
    """Service, Relevance, Movement and Clicks, each with panels."""
    boards = {one["id"]: one["attributes"] for one in saved_objects if one["type"] == "dashboard"}
    assert set(boards) == {f"es-rerank-{name}" for name in ("service", "relevance", "movement", "clicks")}
    assert all(len(board["panelsJSON"]) >= 8 for board in boards.values())


def test_no_object_is_newer_than_the_oldest_product_knows() -> None:
    """Versions stay at what OpenSearch Dashboards takes, and no key of Kibana's newer forms is there."""
    for saved in raw_objects():
        assert set(saved) == {"id", "type", "attributes", "references", "migrationVersion"}
        [(kind, version)] = saved["migrationVersion"].items()
        assert kind == saved["type"]
        assert tuple(map(int, version.split("."))) <= NEWEST[kind]
        assert set(saved["attributes"]) <= KEYS[kind]
        text = json.dumps(saved)
        assert not any(word in text for word in ("controlGroupInput", "coreMigrationVersion", "lens", "tsvb"))


def test_ids_are_ours_and_there_once() -> None:
    """Each object has a fixed id with our name, so that an import replaces only what is ours."""
    keys = [(saved["type"], saved["id"]) for saved in raw_objects()]
    assert len(keys) == len(set(keys))
    assert all(id_.startswith("es-rerank-") for _, id_ in keys)


def test_references_are_closed_and_used() -> None:
    """Each reference leads to an object earlier in the file, and its name is used in the attributes."""
    known: set[tuple[str, str]] = set()
    for saved in raw_objects():
        attributes = json.dumps(saved["attributes"])
        for reference in saved["references"]:
            assert (reference["type"], reference["id"]) in known
            assert reference["name"] in attributes
        known.add((saved["type"], saved["id"]))


def test_every_object_is_on_a_dashboard_or_asked_by_a_panel(saved_objects: list[Saved]) -> None:
    """Nothing is installed that nobody sees."""
    used = {(one["type"], one["id"]) for saved in saved_objects for one in saved["references"]}
    asked_by_vega = {"es-rerank-events", "es-rerank-hits", "es-rerank-runs", "es-rerank-ubi-events"}
    for saved in saved_objects:
        if saved["type"] != "dashboard":
            assert (saved["type"], saved["id"]) in used or saved["id"] in asked_by_vega


def test_panels_are_by_reference_on_a_grid_without_overlap(saved_objects: list[Saved]) -> None:
    """Each panel is within 48 columns, has a version and a reference of its own, and covers no other."""
    for board in (one for one in saved_objects if one["type"] == "dashboard"):
        panels = board["attributes"]["panelsJSON"]
        assert [panel["panelRefName"] for panel in panels] == [one["name"] for one in board["references"]]
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            assert panel["version"]
            grid = panel["gridData"]
            assert grid["i"] == panel["panelIndex"]
            assert 0 <= grid["x"] < grid["x"] + grid["w"] <= COLUMNS
            cells = set(
                itertools.product(range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"]))
            )
            assert not cells & taken
            taken |= cells
        # No hole either: each row is full.
        assert len(taken) == COLUMNS * (1 + max(y for _, y in taken))


def test_panels_are_of_kinds_that_both_products_draw(saved_objects: list[Saved]) -> None:
    """Only charts of aggregations, text and Vega-Lite 5, with no interval that one product alone fills in."""
    for saved in (one for one in saved_objects if one["type"] == "visualization"):
        state = saved["attributes"]["visState"]
        assert state["type"] in KINDS
        if state["type"] == "vega":
            spec = json.loads(state["params"]["spec"])
            assert spec["$schema"] == "https://vega.github.io/schema/vega-lite/v5.json"
            assert "%autointerval%" not in state["params"]["spec"]
            assert "query" not in spec["data"]["url"]["body"]  # not beside %context%


def test_expressions_are_allowed_by_opensearch_dashboards(saved_objects: list[Saved]) -> None:
    """No index is computed, and no name is one that its check of Vega expressions blocks."""
    drawings = [spec_of(one) for one in saved_objects if "%context%" in json.dumps(one)]
    assert len(drawings) == 5
    expressions = [text for spec in drawings for text in expressions_in(spec)]
    assert len(expressions) > 20
    for text in expressions:
        assert not re.search(r"""[\w)\]]\[(?!\d+\]|'[^']*'\])""", text), text
        assert not BLOCKED & set(re.findall(r"[A-Za-z_]+", re.sub(r"'[^']*'", "", text))), text


def expressions_in(spec: Any) -> Iterator[str]:
    """Each expression of a drawing."""
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key in ("calculate", "filter", "test", "expr") and isinstance(value, str):
                yield value
            yield from expressions_in(value)
    elif isinstance(spec, list):
        for one in spec:
            yield from expressions_in(one)


def test_fractions_are_terms_in_order_and_no_histogram(saved_objects: list[Saved]) -> None:
    """Alpha and overlap are split by their values: a histogram of floats puts 0.3 into the bucket of 0.2."""
    charts = [one["attributes"]["visState"] for one in saved_objects if one["type"] == "visualization"]
    buckets = [agg for chart in charts for agg in chart["aggs"] if agg["schema"] != "metric"]
    for field in ("alpha", "overlap_at_10"):
        splits = [agg for agg in buckets if agg["params"]["field"] == field]
        assert splits
        assert all(agg["type"] == "terms" and agg["params"]["orderBy"] == "_key" for agg in splits)
    assert {agg["params"]["field"] for agg in buckets if agg["type"] == "histogram"} == {"moved"}


def test_each_dashboard_says_what_it_shows_and_what_to_do_next(saved_objects: list[Saved]) -> None:
    """The first panel is text with a request for Dev Tools."""
    by_id = {saved["id"]: saved for saved in saved_objects}
    for board in (one for one in saved_objects if one["type"] == "dashboard"):
        state = by_id[board["references"][0]["id"]]["attributes"]["visState"]
        assert state["type"] == "markdown"
        assert "Next, in Dev Tools" in state["params"]["markdown"]
        assert "```\n" in state["params"]["markdown"]
