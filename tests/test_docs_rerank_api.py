"""The page about the rerank API names every path, key, shape and status that the code has."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path
from typing import get_args

import pytest

from es_rerank.proxy.rerank_api import read
from es_rerank.proxy.rerank_api.shapes import PATH_SHAPES, VLLM_KEYS, VOYAGE_KEYS, Shape, error_of
from es_rerank.settings import load_settings

PAGE = (Path(__file__).parents[1] / "docs" / "rerank-api.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"`([\w/]+)(?:: \w+)?`", PAGE))
# What the reader calls its methods with, where it looks at a member of a body.
READERS = {"text", "flag", "count", "names", "documents"}


def rows_under(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, cell by cell."""
    _, found, rest = PAGE.partition(f"\n## {heading}\n")
    assert found
    rows = re.findall(r"^\| (.*) \|$", rest.partition("\n## ")[0].partition("\n\n429")[0], flags=re.MULTILINE)
    return [row.split(" | ") for row in rows]


def keys_read() -> set[str]:
    """Every text that the reader's source uses as the name of a member."""
    names = {*read.WITHOUT_EFFECT, *read.NOT_DONE, *read.SIDES}
    for node in ast.walk(ast.parse(inspect.getsource(read))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READERS:
            names |= {
                one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
            }
    return names - {*get_args(Shape)}


def test_every_path_and_every_key_is_explained() -> None:
    """The page has each path, each key that tells shapes apart, and each that is read."""
    assert {path.decode() for path in PATH_SHAPES} <= WORDS
    assert {*VOYAGE_KEYS, *VLLM_KEYS} <= WORDS
    assert {"query", "texts", "top_k", "rank_fields"} < keys_read() <= WORDS


def test_every_shape_has_its_row() -> None:
    """Each table that is about products has a row for each shape, and no other."""
    for heading in ("Which shape a request has", "What comes back"):
        assert len(rows_under(heading)) == 1 + len(get_args(Shape))


@pytest.mark.parametrize("row", rows_under("Errors")[1:], ids=lambda row: row[0])
def test_every_status_is_what_the_product_gets(row: list[str]) -> None:
    """The table's numbers are those that are answered."""
    status, _, voyage, tei = (cell.strip() for cell in row)
    for shape, said in (
        ("voyage", voyage),
        ("tei", tei.replace("never", "422")),
        ("v1", status),
        ("cohere_v2", status),
    ):
        assert error_of(shape, int(status), "x")[0] == int(said)  # type: ignore[arg-type]


def test_the_pages_configuration_loads(tmp_path: Path) -> None:
    """The file that the page shows can be used, and serves the model of the page's request."""
    [block] = re.findall(r"^```toml\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    file = tmp_path / "config.toml"
    file.write_text(block, encoding="utf-8")
    api = load_settings(file, {}).bound_rerank_api()
    assert api is not None
    assert json.dumps(api.default.name) in PAGE.partition("curl")[2]


def test_the_pages_json_is_json() -> None:
    """Every example in JSON can be read, below its line of HTTP."""
    blocks = re.findall(r"^```json\n(?:[A-Z]+ /\S+\n)?(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    for block in blocks:
        json.loads(block)
