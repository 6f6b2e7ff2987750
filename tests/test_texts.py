"""The text of a document: composed in a fixed way, since the cache knows a document by its text."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.texts import TextSpec, texts_of

SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


def text_in(source: Any, *fields: str, template: str = "") -> str | None:
    """The text of a document with this source, by these fields or this template."""
    [text] = texts_of([msgspec.Raw(json.dumps(source).encode())], TextSpec(fields=fields, template=template)).texts
    return text


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (TextSpec(fields=("title", "text")), ("title", "text")),
        (TextSpec(fields=("text", "title", "text")), ("text", "title")),
        (TextSpec(template="{title}: {a.b}, {title}"), ("title", "a.b")),
    ],
)
def test_fields_are_named_once_in_order_of_use(spec: TextSpec, names: tuple[str, ...]) -> None:
    """`names` has each field of the text once, in order of use."""
    assert spec.names == names


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"title": "Fox", "text": "It jumps."}, "Fox\nIt jumps."),
        ({"text": "It jumps.", "title": "Fox"}, "Fox\nIt jumps."),
        ({"text": "It jumps."}, "It jumps."),
        ({"title": None, "text": "It jumps."}, "It jumps."),
        ({"title": "", "text": " \n"}, None),
        ({"title": [], "text": {}}, None),
        ({"title": [None, ""], "text": {"a": None}}, None),
        ({}, None),
        ({"title": ["Fox", ["two", None], "three"]}, "Fox two three"),
        ({"title": {"en": "Fox", "de": "Fuchs", "n": {"x": 1}}}, "Fuchs Fox 1"),
        ({"title": {"n": {"x": 1}, "de": "Fuchs", "en": "Fox"}}, "Fuchs Fox 1"),
        ({"title": [{"en": "Fox"}, {"en": "Dog"}]}, "Fox Dog"),
        ({"title": 7, "text": 1.0}, "7\n1.0"),
        ({"title": 12345678901234567890123, "text": True}, "12345678901234567890123\ntrue"),
        ({"title": 0, "text": False}, "0\nfalse"),
    ],
)
def test_text_is_joined_in_a_fixed_way(source: dict[str, Any], text: str | None) -> None:
    """Fields by line ends, values by blanks, objects by their names; null, empty and missing are the same."""
    assert text_in(source, "title", "text") == text


@pytest.mark.parametrize(
    "source",
    [
        {"a.b.c": "fox"},
        {"a": {"b": {"c": "fox"}}},
        {"a": {"b.c": "fox"}},
        {"a.b": {"c": "fox"}},
        {"a": [{"b": [{"c": "fox"}]}]},
        {"a": [{"b.c": ["fox"]}, {"b": None}, {}, 7, None]},
    ],
)
def test_a_dotted_field_is_found_in_every_form(source: dict[str, Any]) -> None:
    """A dotted field is found as a dotted key or in nested objects, through lists too, in `_source` and in `fields`."""
    assert text_in(source, "a.b.c") == "fox"


def test_a_dotted_field_that_is_missing_has_no_text() -> None:
    """A dotted field whose path ends early has no text."""
    assert text_in({"a": {"x": 1}}, "a.b.c") is None
    assert text_in({"a": "fox"}, "a.b") is None


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"title": "Fox", "text": "It jumps."}, "Fox: It jumps. (Fox)"),
        ({"title": "Fox"}, "Fox:  (Fox)"),
        ({"title": "{text}", "text": "x"}, "{text}: x ({text})"),
        ({"other": "x"}, None),
    ],
)
def test_a_template_is_filled(source: dict[str, Any], text: str | None) -> None:
    """Missing fields are empty in a template; if all are missing, there is no text; braces in values mean nothing."""
    assert text_in(source, template="{title}: {text} ({title})") == text


def test_each_document_has_a_text_of_its_own_or_none() -> None:
    """A document that is missing, not an object, not Unicode or nested too deep has no text; the others have theirs."""
    documents = [
        b'{"text":"a"}',
        None,
        b"7",
        b"null",
        b"[]",
        b'{"text":"\xff"}',
        b'{"text":"\\ud800"}',
        b'{"text":' + b"[" * 700 + b"]" * 700 + b"}",
        b'{"t\\u0065xt":"b"}',
    ]
    raw = [None if document is None else msgspec.Raw(document) for document in documents]
    for fields in (("text",), ("text", "no.such")):
        assert texts_of(raw, TextSpec(fields=fields)).texts == ("a", *[None] * 7, "b")
    assert texts_of([], TextSpec(fields=("text",))).texts == ()


def test_fields_that_documents_lack_are_counted() -> None:
    """By field, the documents without a value for it; a field that none lacks is not named."""
    documents = [
        b'{"title":"a","text":"b"}',
        b'{"title":" ","text":"b"}',
        b'{"text":7}',
        b'{"title":[],"text":null}',
        None,
    ]
    raw = [None if document is None else msgspec.Raw(document) for document in documents]
    assert texts_of(raw, TextSpec(fields=("title", "text"))).missing_fields == {"title": 4, "text": 2}
    assert texts_of(raw[:1], TextSpec(template="{title} {text}")).missing_fields == {}
    assert texts_of([], TextSpec(fields=("title",))).missing_fields == {}


def test_a_field_that_is_named_twice_counts_twice() -> None:
    """A field that a rule names twice is in the text twice, at the places where it is named."""
    assert text_in({"title": "Fox", "text": "It jumps."}, "title", "text", "title") == "Fox\nIt jumps.\nFox"
    assert text_in({"title": " ", "text": "It jumps."}, "title", "text", "title") == "It jumps."


NAMES = st.sampled_from(["a", "b", "é", "a b", "field_0", 'a"b', "a\\b", "a\nb"])


@given(st.dictionaries(NAMES, SOME_JSON, max_size=4), st.lists(NAMES, min_size=1, max_size=4))
def test_a_text_is_made_of_the_texts_of_its_fields(source: dict[str, Any], fields: list[str]) -> None:
    """A field adds the same text whatever characters its name has, and whatever other fields are read with it."""
    alone = [text_in(source, field, "no.such") for field in fields]
    said = [text for text in alone if text is not None]
    assert text_in(source, *fields) == ("\n".join(said) if said else None)
    assert text_in(source, *fields, "no.such") == ("\n".join(said) if said else None)


@given(st.dictionaries(st.sampled_from(["a", "b", "a.b", "c"]), SOME_JSON, max_size=4))
def test_reading_a_text_never_fails(source: dict[str, Any]) -> None:
    """Whatever a document holds, its text is None or not blank."""
    for text in (text_in(source, "a", "a.b", "a.b.c"), text_in(source, template="{a} {a.b.c}")):
        assert text is None or text.strip()
