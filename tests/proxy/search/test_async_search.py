"""The plain search with the same hits as an async one, and what is remembered of that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from es_rerank.proxy.search.async_search import asked_by, window_call
from tests.proxy.search.calls import call_of

BODY: dict[str, Any] = {
    "query": {"match": {"text": "fox"}},
    "size": 7,
    "aggs": {"a": {}},
    "aggregations": {"b": {}},
    "suggest": {"s": {}},
    "profile": True,
    "track_total_hits": True,
    "_source": ["text"],
}
VERSION_8 = b"application/vnd.elasticsearch+json; compatible-with=8"
LEFT = {"query": {"match": {"text": "fox"}}, "size": 7, "_source": ["text"]}


@pytest.mark.parametrize(
    ("target", "window"),
    [
        (b"/notes/_async_search", b"/notes/_search?track_total_hits=false"),
        (b"/_async_search//?index=notes", b"/_search?index=notes&track_total_hits=false"),
        (b"//_async_search", b"//_search?track_total_hits=false"),
        (b"/n%2Ctes/_async_search?from=3&keep_alive=1m&wait_for_completion_timeout=2s&keep_on_completion&preference=x",
         b"/n%2Ctes/_search?from=3&preference=x&track_total_hits=false"),
        (b"/notes/_plugins/_asynchronous_search?pretty&filter_path=id&typed_keys&rest_total_hits_as_int=true",
         b"/notes/_search?track_total_hits=false"),
        (b"/_opendistro/_asynchronous_search?index=notes&routing=a",
         b"/_search?index=notes&routing=a&track_total_hits=false"),
    ],
)  # fmt: skip
def test_the_window_is_a_plain_search_on_the_same_indices(target: bytes, window: bytes) -> None:
    """What belongs to the async search, to the count of hits and to the writing of an answer is left out of the URL."""
    call = window_call(call_of(BODY, target=target), filtered=False)
    assert (call.carrier.request.method, call.carrier.request.target) == ("POST", window)
    assert json.loads(call.body) == LEFT == call.search
    assert call.carrier.request.body == call.body


def test_a_filtered_answer_takes_filtered_hits() -> None:
    """Engines rewrite the numbers of a document in a filtered answer, so these hits have to come through a filter."""
    call = window_call(call_of(BODY, "filter_path=id"), filtered=True)
    assert call.filter_path == "**"


def test_a_search_is_remembered_without_its_caller() -> None:
    """Another caller's headers take the place of those of the submit, and the search is the same."""
    call = call_of(BODY, "", (b"authorization", b"ApiKey secret"), target=b"/notes/_async_search?keep_alive=1m")
    search = asked_by(call, {"alpha": 0.5})
    assert b"secret" not in repr(search).encode()
    again = search.as_call(((b"authorization", b"ApiKey other"), (b"content-length", b"0"), (b"accept", b"*/*")))
    assert again.header(b"authorization") == b"ApiKey other"
    assert again.header(b"content-length") is None
    assert (again.search, again.expression) == (call.search, "notes")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (VERSION_8, VERSION_8),
        (b"application/json, text/plain", b"application/json"),
        (b"", b"application/json"),
    ],
)
def test_the_body_has_the_version_that_the_caller_accepts(accept: bytes, media_type: bytes) -> None:
    """Elasticsearch refuses two versions in one request."""
    search = asked_by(call_of(BODY), {})
    again = search.as_call(((b"accept", accept),))
    assert again.header(b"content-type") == media_type
    assert again.search == BODY


def test_a_body_in_the_url_becomes_one_of_the_request() -> None:
    """`source=` is read, remembered and asked as a body."""
    target = b"/notes/_async_search?source=%7B%22size%22%3A3%7D&source_content_type=application%2Fjson"
    call = call_of(target=target)
    for asked in (call, asked_by(call, {}).as_call(())):
        window = window_call(asked, filtered=False).carrier.request
        assert (window.body, window.target) == (b'{"size":3}', b"/notes/_search?track_total_hits=false")


def test_a_search_in_the_url_has_no_body() -> None:
    """`q` alone asks by the URL."""
    window = window_call(call_of(target=b"/notes/_async_search?q=fox"), filtered=False)
    assert (window.carrier.request.body, window.parameters["q"], window.search) == (None, "fox", {})
