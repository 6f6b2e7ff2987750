"""The page about search features names, row by row, tests that exist, and links to sections that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PAGE = (DOCS / "contract.md").read_text(encoding="utf-8")
HEAD = "| Feature | What a client gets | Held by |"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and line != HEAD
]
NAME = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)(?:\[([^]]+)\])?`")


@cache
def module(path: str) -> ast.Module:
    """A file of tests."""
    return ast.parse((TESTS / path).read_text(encoding="utf-8"))


@cache
def functions_in(path: str) -> frozenset[str]:
    """The names of the test functions in a file."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in module(path).body if isinstance(node, functions))


@cache
def words_in(path: str) -> frozenset[str]:
    """The texts that a file, or one of the tests' own that it imports, has as literals: names of cases are among them.

    Those of files that such a file imports in turn are not.
    """
    tree = module(path)
    names = (node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    imported = [name.removeprefix("tests.").replace(".", "/") + ".py" for name in names if name.startswith("tests.")]
    nodes = (node for one in (tree, *map(module, imported)) for node in ast.walk(one))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant))
    return frozenset(text for text in texts if isinstance(text, str))


def test_the_page_has_rows_in_tables_of_one_form() -> None:
    """Each section has a table of the same three columns, and each row has three cells, none of them empty."""
    assert PAGE.count(f"\n{HEAD}\n|---|---|---|\n") == PAGE.count("\n## ") > 1
    assert all(len(row) == 3 and all(row) for row in ROWS)


def test_no_feature_is_there_twice() -> None:
    """What becomes of a feature is said in one place."""
    features = [row[0] for row in ROWS]
    assert sorted(set(features)) == sorted(features)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_names_tests_that_exist(row: list[str]) -> None:
    """At least one, each once, by file, function and case, and nothing else in that cell."""
    named = NAME.findall(row[-1])
    assert named
    assert len(set(named)) == len(named)
    assert NAME.sub("", row[-1]).replace(",", "").split() == []
    for path, function, case in named:
        assert (TESTS / path).is_file(), path
        assert function in functions_in(path), f"{path} has no {function}"
        assert not case or case in words_in(path), f"{path} has no case [{case}]"


def test_links_lead_to_sections() -> None:
    """Each link names a page beside this one and, behind `#`, a heading in it."""
    links = re.findall(r"\]\(([a-z-]+\.md)(?:#([^)]+))?\)", PAGE)
    assert links
    for page, anchor in links:
        headings = re.findall(r"^#+ (.+)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, f"{page}#{anchor}"
