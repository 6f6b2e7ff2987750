"""The page about searches names every reason, field and limit that the code has."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from es_rerank.fusion.fuse import Method
from es_rerank.proxy import classify
from es_rerank.proxy.control import ALLOWED, Controls, Include
from es_rerank.proxy.question import BODY_TEXT, FIELD_TEXT, INNER_QUERY, MAX_SYNTAX_CHARS, SYNTAX_TEXT
from es_rerank.proxy.status import Outcome, SearchStatus
from es_rerank.settings import LimitSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[1] / "docs" / "search.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"`\"?([a-z_0-9]+)\"?`", PAGE))


def results(expression: ast.expr | None) -> Iterator[str]:
    """The texts that an expression may be, without those that it only compares with."""
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        yield expression.value
    elif isinstance(expression, ast.IfExp):
        yield from results(expression.body)
        yield from results(expression.orelse)
    elif isinstance(expression, ast.BoolOp):
        for value in expression.values:
            yield from results(value)


def reason_words() -> set[str]:
    """Every word that `classify` can give as a reason, read from its source."""
    words = {*classify.FOREIGN_BODY_KEYS, *classify.FOREIGN_PARAMETERS}
    for node in ast.walk(ast.parse(Path(classify.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Return | ast.Assign):
            words |= set(results(node.value))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Relay":
            words |= {word for argument in node.args for word in results(argument)}
    return words - {""}


def test_the_source_was_read() -> None:
    """The words are found in all the ways that the code gives them."""
    assert {"no_rule", "system_index", "asked_off", "sort", "size_zero", "past_window", "scroll"} < reason_words()
    assert {"format", "unreadable_body", "body_too_large", "unreadable_page"} < reason_words()
    assert "json" not in reason_words()


@pytest.mark.parametrize("word", sorted(reason_words()))
def test_every_reason_for_passing_is_explained(word: str) -> None:
    """A search that is not reranked gives a word that its reader can look up."""
    assert word in WORDS


def test_every_field_of_the_status_is_explained() -> None:
    """Each key of the block and each outcome has a line."""
    block = SearchStatus(
        status="partial", window=2, scored=1, missing_text=1, mode="think", cut=1, low_mass=1, truncated=1
    ).block()
    for word in (*block, *get_args(Outcome)):
        assert f"| `{word}` |" in PAGE or f"`{word}`:" in PAGE


def test_every_wish_is_explained_with_its_limits() -> None:
    """Each field of `ext.es_rerank` has a line, with the words and the default limits that hold for it."""
    assert {field.name for field in fields(Controls)} == set(ALLOWED)
    for word in (*ALLOWED, *get_args(Method), *get_args(Include)):
        assert word in WORDS
    assert f"`limits.max_window` ({LimitSettings().max_window})" in PAGE
    assert f"`limits.max_deadline_s` ({LimitSettings().max_deadline_s:g})" in PAGE


def test_every_text_query_is_explained() -> None:
    """What gives a question, and what is followed to find one, is listed."""
    assert {*FIELD_TEXT, *BODY_TEXT, *SYNTAX_TEXT, *INNER_QUERY} <= WORDS
    assert f"{MAX_SYNTAX_CHARS} characters" in PAGE


def test_the_warnings_are_quoted() -> None:
    """The page's Warning headers are what is sent."""
    for status in (
        SearchStatus(status="failed", reason="no_worker", window=100),
        SearchStatus(status="partial", reason="deadline", window=100, scored=40),
        SearchStatus(status="partial", reason="deadline", window=100, scored=100, cut=60),
    ):
        assert f"\nWarning: {(status.warning() or b'').decode()}\n" in PAGE


def test_the_example_is_json() -> None:
    """The example body can be sent as it is, and asks only what is allowed."""
    example = re.search(r"```json\n(\{\n.*?)```", PAGE, re.DOTALL)
    assert example is not None
    assert json.loads(example[1])["ext"]["es_rerank"].keys() <= set(ALLOWED)
