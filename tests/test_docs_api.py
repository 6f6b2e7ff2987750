"""Every path of ours is in the manual, with its methods and an example, and the manual names no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from es_rerank.proxy.own.cat import RULE_COLUMNS, RUN_COLUMNS, SCORER_COLUMNS
from es_rerank.proxy.own.rank_eval_metrics import METRICS
from es_rerank.proxy.own.router import _match
from es_rerank.proxy.own.routes import ROUTES

if TYPE_CHECKING:
    from es_rerank.proxy.own.call import Route

DOCS = Path(__file__).parents[1] / "docs"
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md")))
ROW = re.compile(r"^\| `((?:[A-Z]+, )*[A-Z]+) (/_es_rerank[^` ?]*)` \|", re.MULTILINE)
EXAMPLE = re.compile(r"^(GET|POST|PUT|DELETE|HEAD) (/_es_rerank[^ ?\n]*)", re.MULTILINE)
API = (DOCS / "api.md").read_text(encoding="utf-8")


def test_the_manual_lists_what_there_is() -> None:
    """Each path has one row in some table of the manual, with all of its methods, and no row is of another path."""
    listed = [(path, tuple(methods.split(", "))) for methods, path in ROW.findall(PAGES)]
    assert sorted(listed) == sorted((route.path, route.methods) for route in ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.methods[0]} {route.path}")
def test_each_path_has_an_example(route: Route) -> None:
    """A request for it stands in the manual as it can be sent; the path over all indices is one of a pair."""
    pattern = route.path.replace("/_es_rerank/_rank_eval", "/_es_rerank/{index}/_rank_eval")
    found = [method for method, sent in EXAMPLE.findall(PAGES) if _match(pattern, sent.encode()) is not None]
    assert set(found) & set(route.methods)


def test_the_metrics_are_named_with_their_parameters() -> None:
    """Each metric of `_rank_eval` has a row, and each of its parameters is in it."""
    for name, metric in METRICS.items():
        row = re.search(rf"^\| `{name}` \|(.*)\|$", API, re.MULTILINE)
        assert row is not None
        assert set(re.findall(r"`(\w+)`", row[1])) == set(metric.__dataclass_fields__) - {"name"}


def test_columns_that_are_asked_for_exist() -> None:
    """The columns that the examples name are columns of their tables."""
    tables = {"rules": RULE_COLUMNS, "scorers": SCORER_COLUMNS, "runs": RUN_COLUMNS}
    for table, query in re.findall(r"^GET /_es_rerank/_cat/(\w+)\?(.*)$", API, re.MULTILINE):
        for names in re.findall(r"\b[hs]=([^&]*)", query):
            assert set(names.split(",")) <= set(tables[table])
