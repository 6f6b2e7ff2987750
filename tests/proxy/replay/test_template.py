"""The search that a query becomes: the words are put where the body wants them, whatever is in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.errors import CallerError
from es_rerank.proxy.replay.template import SEARCH_TEXT, fill_template, read_template


def test_without_a_request_the_fields_are_searched() -> None:
    """The default is a `multi_match` on the fields of the rule, a small page, and no `_source`."""
    body = fill_template(read_template(None, ("title", "text")), "robots")
    assert body == {
        "size": 10,
        "_source": False,
        "query": {"multi_match": {"query": "robots", "fields": ["title", "text"]}},
    }


@given(words=st.text())
def test_any_words_stay_what_they_are(words: str) -> None:
    """Quotes, backslashes and line ends in the words change nothing around them, in an object and in JSON text."""
    request = {"query": {"bool": {"must": [{"match": {"title": SEARCH_TEXT}}, {"match": {"x": f"a {SEARCH_TEXT} b"}}]}}}
    expected = {"bool": {"must": [{"match": {"title": words}}, {"match": {"x": f"a {words} b"}}]}}
    for given_as in (request, json.dumps(request)):
        assert fill_template(read_template(given_as, ()), words)["query"] == expected


def test_what_a_body_says_of_itself_counts() -> None:
    """Its own size, `_source` and numbers are kept."""
    request = {"query": {"match": {"title": {"query": SEARCH_TEXT, "boost": 2}}}, "size": 3, "_source": ["title"]}
    assert fill_template(read_template(request, ()), "x") == {
        "query": {"match": {"title": {"query": "x", "boost": 2}}},
        "size": 3,
        "_source": ["title"],
    }


@pytest.mark.parametrize(
    ("request_body", "said"),
    [
        (7, r"\[request\] must be a search body"),
        ("no JSON", r"\[request\] must be a search body"),
        ('["x"]', r"\[request\] must be a search body"),
        ({"query": {"match_all": {}}}, r"\[request.query\] must hold \[%SearchText%\]"),
        ({"suggest": SEARCH_TEXT}, r"\[request.query\] must hold \[%SearchText%\]"),
        (
            {"query": {"match": {"x": SEARCH_TEXT}}, "ext": {"es_rerank": {"alpha": 1}}},
            r"\[request.ext.es_rerank\] is the replay's own",
        ),
    ],
)
def test_what_is_no_search_for_words_is_refused(request_body: Any, said: str) -> None:
    """The error names the field and what is needed."""
    with pytest.raises(CallerError, match=said):
        read_template(request_body, ())
