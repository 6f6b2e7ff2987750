"""Writes a `Table` as the engines write their `_cat`: as text in columns, or as records for JSON and YAML. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.proxy.own.call import Table


def table_text(table: Table, parameters: Mapping[str, str], *, head: bool) -> str:
    """Columns as wide as their widest cell, numbers to the right, one blank between; `head` puts the names on top.

    `h` and `s` of the parameters choose columns and order. Raises CallerError for a column that does not exist.
    """
    columns = _chosen(table, parameters.get("h", ""))
    rows = _sorted(table, parameters.get("s", ""))
    lines = [[_cell(row[column]) for column in columns] for row in rows]
    if head:
        lines.insert(0, [table.columns[column] for column in columns])
    to_the_right = [_is_number(table, column) for column in columns]
    return _aligned(lines, to_the_right, " ", pad_last=False)


def table_records(table: Table, parameters: Mapping[str, str]) -> list[dict[str, str | None]]:
    """One object a row. All values are texts, as in the engines' `_cat`, and null where a cell is empty.

    `h` and `s` choose columns and order, see `table_text`.
    """
    columns = _chosen(table, parameters.get("h", ""))
    return [
        {table.columns[column]: None if row[column] is None else _cell(row[column]) for column in columns}
        for row in _sorted(table, parameters.get("s", ""))
    ]


def table_help(table: Table) -> str:
    """What the columns are, a line each: name, short name (there is none), and what is in it."""
    about = table.about or ("",) * len(table.columns)
    lines = [[name, "", said] for name, said in zip(table.columns, about, strict=True)]
    return _aligned(lines, [False, False, False], " | ", pad_last=True)


def _aligned(lines: Sequence[Sequence[str]], to_the_right: Sequence[bool], between: str, *, pad_last: bool) -> str:
    """The lines, their cells as wide as the widest of their column; a last one to the left only if `pad_last`."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if not (pad_last or to_the_right[-1]):
        widths[-1:] = [0]
    return "".join(
        between.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_the_right, strict=True)
        )
        + "\n"
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    # A line end in a cell would be another row.
    return " ".join(str(value).splitlines())


def _is_number(table: Table, column: int) -> bool:
    """Whether a column has numbers, and nothing else but empty cells."""
    cells = [row[column] for row in table.rows if row[column] is not None]
    return bool(cells) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells)


def _chosen(table: Table, names: str) -> list[int]:
    """The places of the columns that `h` names, in its order, each once; all of them for ''."""
    patterns = [name.strip() for name in names.split(",") if name.strip()] or ["*"]
    chosen: dict[int, None] = {}
    for pattern in patterns:
        # A bracket or a question mark is itself: only the star is a wildcard.
        plain = pattern.replace("[", "[[]").replace("?", "[?]")
        found = [place for place, column in enumerate(table.columns) if fnmatchcase(column, plain)]
        if not found:
            raise CallerError(f"[h] unknown column [{pattern}]; allowed are [{', '.join(table.columns)}]")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def _sorted(table: Table, keys: str) -> list[Sequence[Any]]:
    """The rows by the columns that `s` names (`name` or `name:desc`), the first one first; empty cells are last."""
    rows = list(table.rows)
    for key in reversed([key.strip() for key in keys.split(",") if key.strip()]):
        name, _, order = key.partition(":")
        if name not in table.columns:
            raise CallerError(f"[s] unknown column [{name}]; allowed are [{', '.join(table.columns)}]")
        if order not in ("", "asc", "desc"):
            raise CallerError(f"[s] the order of [{name}] must be [asc] or [desc], was [{order}]")
        column = table.columns.index(name)
        full = [row for row in rows if row[column] is not None]
        empty = [row for row in rows if row[column] is None]
        numbers = _is_number(table, column)
        full.sort(key=lambda row: row[column] if numbers else _cell(row[column]), reverse=order == "desc")
        rows = full + empty
    return rows
