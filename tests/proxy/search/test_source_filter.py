"""What a search shows of `_source`: read as the engines read it, widened for the text, and cut back again.

That the engines do the same is tested on the real ones, in tests/e2e/test_source.py.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.source_filter import NO_FIELD, SourceFilter, asked_source, cut_source, left_to_cut, widened
from tests.proxy.search.calls import call_of

NOTHING = SourceFilter(shown=False)
ALL = SourceFilter()
TITLE = SourceFilter(includes=("title",))
NO_TEXT = SourceFilter(excludes=("text",))


@pytest.mark.parametrize(
    ("search", "query", "asked"),
    [
        ({}, "", ALL),
        ({"_source": True}, "", ALL),
        ({"_source": []}, "", ALL),
        ({"_source": {}}, "", ALL),
        ({"_source": {"excludes": []}}, "", ALL),
        ({"_source": False}, "", NOTHING),
        ({"_source": "title"}, "", TITLE),
        ({"_source": ["title"]}, "", TITLE),
        ({"_source": {"includes": ["title"]}}, "", TITLE),
        ({"_source": {"include": "title"}}, "", TITLE),
        ({"_source": {"exclude": ["text"]}}, "", NO_TEXT),
        ({"_source": {"excludes": "x", "exclude": ["text"]}}, "", NO_TEXT),
        ({"_source": "true"}, "", SourceFilter(includes=("true",))),
        ({"_source": [7]}, "", SourceFilter(includes=("7",))),
        ({"stored_fields": []}, "", NOTHING),
        ({"stored_fields": ["*"]}, "", NOTHING),
        ({"stored_fields": "title"}, "", NOTHING),
        ({"stored_fields": ["_source"]}, "", ALL),
        ({"stored_fields": ["_source"], "_source": False}, "", ALL),
        ({"stored_fields": ["_source"], "_source": ["title"]}, "", TITLE),
        ({"stored_fields": ["*"], "_source": True}, "", ALL),
        ({"stored_fields": ["*"], "script_fields": {}, "_source": {"excludes": []}}, "", ALL),
        ({"script_fields": {}}, "", ALL),
        ({"script_fields": {"x": {}}}, "", NOTHING),
        ({"script_fields": {"x": {}}, "_source": ["title"]}, "", TITLE),
        ({"docvalue_fields": ["year"], "fields": ["title"]}, "", ALL),
        ({"_source": False}, "_source=true", ALL),
        ({"_source": False}, "_source=", ALL),
        ({"_source": False}, "_source=title", TITLE),
        ({"_source": ["x"]}, "_source_includes=title", TITLE),
        ({"_source": ["x"]}, "_source_excludes=text", NO_TEXT),
        ({}, "_source=false&_source_includes=title", SourceFilter(shown=False, includes=("title",))),
        ({}, "_source=x&_source_includes=title", TITLE),
        ({}, "_source_includes=,", ALL),
        ({}, "stored_fields=title", NOTHING),
        ({}, "stored_fields=title,_source", ALL),
        ({}, "stored_fields=*&_source=true", ALL),
    ],
)
def test_what_is_shown_is_read_as_the_engines_do(search: dict[str, Any], query: str, asked: SourceFilter) -> None:
    """`_source` in the body or in three parameters of the URL, which win; else stored and script fields hide it."""
    assert asked_source(call_of(search, query)) == asked


@pytest.mark.parametrize("value", [None, 7, {"x": ["title"]}, {"includes": 7}, {"includes": None}, [None], [["title"]]])
def test_what_engines_refuse_is_not_understood(value: Any) -> None:
    """A value of a wrong type is left to the engine."""
    assert asked_source(call_of({"_source": value})) is None


@pytest.mark.parametrize(
    ("asked", "wider"),
    [
        (ALL, ALL),
        (NOTHING, SourceFilter(includes=("title", "a.b"))),
        (TITLE, SourceFilter(includes=("title", "a.b"))),
        (SourceFilter(includes=("t*", "a")), SourceFilter(includes=("t*", "a"))),
        (SourceFilter(includes=("*",)), SourceFilter(includes=("*",))),
        (SourceFilter(includes=("year",)), SourceFilter(includes=("year", "title", "a.b"))),
        (SourceFilter(includes=("titles", "a.b.c")), SourceFilter(includes=("titles", "a.b.c", "title", "a.b"))),
        (SourceFilter(excludes=("vector", "titles", "a.c")), SourceFilter(excludes=("vector", "titles", "a.c"))),
        (SourceFilter(excludes=("*_vector",)), SourceFilter(excludes=("*_vector",))),
        (SourceFilter(excludes=("title",)), SourceFilter(includes=("*",))),
        (SourceFilter(excludes=("a", "vector")), SourceFilter(excludes=("vector",))),
        (SourceFilter(excludes=("a.b.c",)), SourceFilter(includes=("*",))),
        (SourceFilter(excludes=("a.b.*",)), SourceFilter(excludes=(NO_FIELD,))),
        (SourceFilter(excludes=("*",)), SourceFilter(excludes=(NO_FIELD,))),
        (SourceFilter(excludes=("title", "x,y", "")), SourceFilter(includes=("*",))),
        (SourceFilter(excludes=("title", "x*")), SourceFilter(excludes=("x*",))),
        (
            SourceFilter(includes=("year",), excludes=("t*",)),
            SourceFilter(includes=("year", "title", "a.b"), excludes=(NO_FIELD,)),
        ),
    ],
)
def test_no_more_is_asked_for_than_is_read_and_shown(asked: SourceFilter, wider: SourceFilter) -> None:
    """The rule's fields are added to what is shown, and only what would leave them out is asked for too."""
    assert widened(asked, ("title", "a.b")) == wider


@pytest.mark.parametrize(
    ("asked", "parameters"),
    [
        (NOTHING, {"_source": "false"}),
        (ALL, {"_source_includes": "*"}),
        (SourceFilter(includes=("a", "b c"), excludes=("d",)), {"_source_includes": "a,b c", "_source_excludes": "d"}),
        (SourceFilter(includes=("a,b", "")), {"_source_includes": "a*b"}),
    ],
)
def test_a_filter_is_asked_for_in_parameters(asked: SourceFilter, parameters: dict[str, str]) -> None:
    """What a list in a URL can't say is asked for as more, never as less."""
    assert asked.parameters == parameters


def cut(source: Any, asked: SourceFilter) -> Any:
    """What is left of a document; None for nothing."""
    left = cut_source(msgspec.Raw(json.dumps(source).encode()), asked)
    return None if left is None else json.loads(bytes(left))


# As both engines answered it.
DOCUMENT = {
    "a": {"b": 1, "c": [{"d": 1}, {"e": 2}, 3], "x": {}},
    "emp": {},
    "el": [],
    "a.b": 5,
    "l": [[1, {"q": 1}], []],
}


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        (NOTHING, None),
        (ALL, DOCUMENT),
        (SourceFilter(includes=("*",)), DOCUMENT),
        (SourceFilter(includes=("",)), {}),
        (SourceFilter(includes=("none",)), {}),
        (SourceFilter(includes=("a",)), {"a": DOCUMENT["a"], "a.b": 5}),
        (SourceFilter(includes=("a.b",)), {"a": {"b": 1}, "a.b": 5}),
        (SourceFilter(includes=("a.c",)), {"a": {"c": [{"d": 1}, {"e": 2}, 3]}}),
        (SourceFilter(includes=("a.c.d",)), {"a": {"c": [{"d": 1}]}}),
        (SourceFilter(includes=("a.x", "emp", "el")), {"a": {"x": {}}, "emp": {}, "el": []}),
        (SourceFilter(includes=("l.q",)), {"l": [[{"q": 1}]]}),
        (SourceFilter(includes=("l",)), {"l": DOCUMENT["l"]}),
        (SourceFilter(includes=("a",), excludes=("a.b",)), {"a": {"c": [{"d": 1}, {"e": 2}, 3], "x": {}}}),
        (SourceFilter(includes=("*.d", "e*"), excludes=("el",)), {"a": {"c": [{"d": 1}]}, "emp": {}}),
    ],
)
def test_a_document_is_cut_as_the_engines_cut_it(asked: SourceFilter, left: Any) -> None:
    """Names, objects and stars are matched by the engines' rules, through lists, and so is what is left empty."""
    assert cut(DOCUMENT, asked) == left


def test_what_is_cut_keeps_its_bytes() -> None:
    """What stays is spelled as it was."""
    source = msgspec.Raw(b'{"n":1.0E10,"text":"x","a":{"b":[1.0,{"c":"\\uD800"}],"d":-0.0}}')
    left = cut_source(source, SourceFilter(includes=("n", "a.b")))
    assert left is not None
    assert bytes(left) == b'{"n":1.0E10,"a":{"b":[1.0,{"c":"\\uD800"}]}}'


NAMES = ("a", "b", "ab", "title")
VALUES = st.recursive(
    st.integers(0, 3) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=10,
)
DOCUMENTS = st.dictionaries(st.sampled_from([*NAMES, "a.b"]), VALUES, max_size=4)
PATTERNS = st.lists(st.text("ab.*", min_size=1, max_size=4) | st.sampled_from(NAMES), max_size=3).map(tuple)
FILTERS = st.builds(SourceFilter, includes=PATTERNS, excludes=PATTERNS) | st.just(NOTHING)
FIELDS = st.lists(st.sampled_from([*NAMES, "a.b", "a.ab.b"]), min_size=1, max_size=3, unique=True)


@given(DOCUMENTS, FILTERS, FIELDS)
def test_a_wider_answer_is_cut_to_what_was_asked_for(source: Any, asked: SourceFilter, fields: list[str]) -> None:
    """Widening, and then doing what is left to do, shows just what the client's own filter shows."""
    wider = widened(asked, fields)
    assert cut(cut(source, wider), left_to_cut(asked, wider)) == cut(source, asked)


@given(DOCUMENTS, FILTERS, FIELDS)
def test_a_wider_answer_has_every_field_that_is_read(source: Any, asked: SourceFilter, fields: list[str]) -> None:
    """The rule's fields are in the answer to a wider filter, as they are in the whole document."""
    found = cut(source, widened(asked, fields))
    for field in fields:
        if field in source and not isinstance(source[field], list | dict):
            assert found[field] == source[field]
