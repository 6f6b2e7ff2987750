"""One rule by itself: which indices it matches, and what text it names."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("title^3", "write 'title'"),
        ("title^0.5", "write 'title'"),
        ("title^", "write 'title'"),
        ("*", "no wildcard"),
        ("meta.*", "no wildcard"),
        (" title", "without blanks"),
        ("title ", "without blanks"),
        ("", "without blanks"),
        ("a..b", "single dots"),
        (".a", "single dots"),
        ("a.", "single dots"),
        ("a. b", "without blanks"),
    ],
)
def test_what_is_no_name_of_a_field_is_refused(name: str, said: str) -> None:
    """A boost, a wildcard, blanks and empty parts are refused with a hint, in fields and in a template."""
    sources: list[dict[str, Any]] = [{"fields": ["text", name]}]
    if name:
        sources.append({"template": f"{{text}} {{{name}}}"})
    for source in sources:
        with pytest.raises(ValueError, match=said):
            Rule.model_validate({"name": "r", "indices": ["i"], **source})


@pytest.mark.parametrize("name", ["title", "a.b.c", "two words", "c++", "x^y", "é", "@timestamp", "a,b"])
def test_every_name_that_a_field_can_have_is_taken(name: str) -> None:
    """Engines allow nearly every character in a field's name."""
    assert Rule.model_validate({"name": "r", "indices": ["i"], "fields": [name]}).text.names == (name,)


@pytest.mark.parametrize("key", ["question_fields", "ignore_fields"])
def test_a_rule_names_fields_of_queries_by_name_or_pattern(key: str) -> None:
    """Names and patterns are taken; a boost, a blank around a part, and an empty part are refused by name."""
    rule = {"name": "r", "indices": ["a"], "fields": ["text"]}
    assert getattr(Rule.model_validate({**rule, key: ["title", "a.b", "na*e.*", "*"]}), key)[2] == "na*e.*"
    for wrong, said in (
        ("title^3", "write 'title'"),
        ("a..b", "single dots"),
        ("", "single dots"),
        (" a", "blanks"),
        ("x" * 257, "256"),
    ):
        with pytest.raises(ValidationError, match=said):
            Rule.model_validate({**rule, key: ["title", wrong]})
