"""One rule by itself: which indices it matches, and what text it names."""

from __future__ import annotations

from typing import Any

import pytest

from es_rerank.rules.rule import Rule
from es_rerank.texts import TextSpec


@pytest.mark.parametrize(
    ("patterns", "index", "expected"),
    [
        (["movies"], "movies", True),
        (["movies"], "movies-1", False),
        (["movies-*"], "movies-1", True),
        (["movies-*"], "movies-*", True),
        (["movies-*"], "movies", False),
        (["movies-1"], "movies-*", False),
        (["*-2024", "books"], "books", True),
        (["*"], "anything", True),
        (["movies"], "MOVIES", False),
    ],
)
def test_a_rule_matches_what_lies_wholly_under_a_pattern(patterns: list[str], index: str, expected: bool) -> None:
    """A rule matches an expression that one of its patterns covers wholly, and no wider one."""
    rule = Rule.model_validate({"name": "r", "indices": patterns, "fields": ["text"]})
    assert rule.matches(index) is expected


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"fields": ["title", "text"]}, TextSpec(fields=("title", "text"))),
        ({"template": "{title}: {a.b}, {title}"}, TextSpec(template="{title}: {a.b}, {title}")),
    ],
)
def test_a_rule_says_what_text_is_scored(source: dict[str, Any], text: TextSpec) -> None:
    """A rule's text comes from its fields or its template, whichever it has."""
    assert Rule.model_validate({"name": "r", "indices": ["i"], **source}).text == text
