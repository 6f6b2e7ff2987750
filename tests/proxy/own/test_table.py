"""Tables look as those of the engines' `_cat`, and nothing in a cell breaks a line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.errors import CallerError
from es_rerank.proxy.own.call import Table
from es_rerank.proxy.own.table import table_help, table_records, table_text

RULES = Table(
    columns=("name", "window", "alpha", "indices"),
    about=("the name", "how many hits", "the engine's weight", "what it covers"),
    rows=[("films", 100, 0.25, "films*"), ("a longer name", 5, None, "notes"), ("b", 20, 0.5, "x")],
)
CELLS = st.none() | st.integers(-99, 10**6) | st.floats(0, 9, allow_nan=False) | st.booleans() | st.text(max_size=9)


def text(head: bool = False, **parameters: str) -> str:
    """The rules as text."""
    return table_text(RULES, parameters, head=head)


def test_columns_are_aligned() -> None:
    """Each column is as wide as its widest cell, numbers stand to the right, and no line ends in padding."""
    assert text(head=True) == (
        "name          window alpha indices\n"
        "films            100  0.25 films*\n"
        "a longer name      5       notes\n"
        "b                 20   0.5 x\n"
    )
    assert text(h="window") == "100\n  5\n 20\n"


def test_columns_are_chosen_by_name_and_star() -> None:
    """`h` gives the order, a star stands for any part of a name, and no column comes twice."""
    assert text(head=True, h="in*, name,n*").startswith("indices name\n")
    assert table_records(RULES, {"h": "*a*e*"})[0] == {"name": "films"}


def test_rows_are_sorted_by_columns() -> None:
    """`s` sorts numbers as numbers, the first column first, upwards or downwards; empty cells are last either way."""
    assert text(s="window", h="window") == "  5\n 20\n100\n"
    assert text(s="window:desc", h="window") == "100\n 20\n  5\n"
    assert text(s="alpha:desc", h="name") == "b\nfilms\na longer name\n"
    table = Table(columns=("a", "b"), rows=[("x", 2), ("y", 1), ("x", 1)])
    assert table_text(table, {"s": "a:desc,b"}, head=False) == "y 1\nx 1\nx 2\n"


def test_records_have_texts_as_the_engines_have() -> None:
    """In JSON every value is a text, and an empty cell is null."""
    assert table_records(RULES, {})[1] == {"name": "a longer name", "window": "5", "alpha": None, "indices": "notes"}


def test_help_says_what_is_in_each_column() -> None:
    """Each column has a line."""
    assert table_help(RULES).splitlines()[1] == "window  |  | how many hits      "
    assert table_help(Table(columns=("a",), rows=())) == "a |  | \n"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"h": "name,other"}, r"\[h\] unknown column \[other\]; allowed are \[name, window, alpha, indices\]"),
        ({"h": "o*"}, r"unknown column \[o\*\]"),
        ({"h": "nam?"}, r"unknown column \[nam\?\]"),
        ({"h": "[n]ame"}, r"unknown column \[\[n\]ame\]"),
        ({"s": "other:asc"}, r"\[s\] unknown column \[other\]; allowed are"),
        ({"s": "name:down"}, r"the order of \[name\] must be \[asc\] or \[desc\], was \[down\]"),
    ],
)
def test_what_is_unknown_names_what_is_allowed(parameters: dict[str, str], said: str) -> None:
    """A column or an order that does not exist is refused, with all that do."""
    with pytest.raises(CallerError, match=said):
        table_text(RULES, parameters, head=False)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=6), st.sampled_from(["", "a", "a:desc,b"]), st.booleans())
def test_any_cells_give_a_line_a_row(rows: list[tuple[Any, Any]], keys: str, head: bool) -> None:
    """Whatever is in the cells, and however it is sorted: one line a row, one record a row, none lost."""
    table = Table(columns=("a", "b"), rows=rows)
    written = table_text(table, {"s": keys}, head=head)
    assert written.count("\n") == len(rows) + head
    assert len(table_records(table, {"s": keys})) == len(rows)
