"""The manual's page on dashboards says what is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from es_rerank.cli import _make_parser
from es_rerank.dashboards.patterns import UBI_EVENTS

if TYPE_CHECKING:
    from tests.dashboards.asked import Saved

PAGE = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text(encoding="utf-8")


def test_every_command_of_the_page_is_understood() -> None:
    """Each command parses, and each option of `install` has its row."""
    [block] = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    for line in block.splitlines():
        assert _make_parser().parse_args(shlex.split(line)[1:]).run
    rows = set(re.findall(r"^\| `(--[a-z-]+) ", PAGE, flags=re.MULTILINE))
    assert rows == {"--user", "--space", "--tenant", "--ca-file"}


def test_the_index_of_clicks_is_made_as_the_panels_need_it() -> None:
    """The mapping on the page is the one of the index pattern."""
    [block] = re.findall(r"^```json\nPUT /ubi_events\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert json.loads(block) == {"mappings": {"properties": UBI_EVENTS}}


def test_every_panel_is_on_the_page(saved_objects: list[Saved]) -> None:
    """Each panel's title, as far as its first comma, colon or bracket, is named, and Vega panels are marked."""
    titles = {
        one["attributes"]["title"].removeprefix("es-rerank: "): one["attributes"].get("visState", {}).get("type")
        for one in saved_objects
        if one["type"] in ("visualization", "search")
    }
    for title, kind in titles.items():
        if kind == "markdown":
            continue
        start = re.split(r"[,:(]", title)[0].strip()
        assert start in PAGE, title
        if kind == "vega":
            assert re.search(rf"{re.escape(start)}[^|]*\*", PAGE), title
