"""Reading a search request: its target, its parameters, and its body in every form."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.carrier import BodyCarrier, SourceCarrier
from tests.proxy.search.calls import JSON_HEADER, MAX_BYTES
from tests.proxy.search.calls import raw_call as read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SEARCH = b'{"query": {"match": {"text": "fox"}}}'
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("body", [None, b""])
def test_no_body_is_an_empty_search(body: bytes | None) -> None:
    """A search without a body asks for everything: it is read as an object without keys."""
    call = read(body)
    assert (call.search, call.body) == ({}, b"")
    assert isinstance(call.carrier, BodyCarrier)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (SEARCH, ((b"Content-Type", b"application/json"),)),
        (SEARCH, ((b"content-type", b"APPLICATION/JSON; charset=utf-8"),)),
        (SEARCH, ((b"content-type", b"application/vnd.elasticsearch+json;compatible-with=8"),)),
        (SEARCH, ((b"content-type", b"application/vnd.opensearch+json"),)),
        (gzip.compress(SEARCH), (JSON_HEADER, (b"Content-Encoding", b"gzip"))),
        (zlib.compress(SEARCH), (JSON_HEADER, (b"Content-Encoding", b"deflate"))),
        (SEARCH, (JSON_HEADER, (b"Content-Encoding", b"identity"))),
    ],
)
def test_a_body_is_read_in_every_form_of_json(body: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    """Media type and content coding may vary; the text of the search is the same."""
    call = read(body, *headers)
    assert call.body == SEARCH
    assert call.search == {"query": {"match": {"text": "fox"}}}


def test_the_source_parameter_is_a_body() -> None:
    """`source` carries a body in the URL."""
    call = read(target=b"/notes/_search?source_content_type=application/json&source=" + quote(SEARCH).encode())
    assert call.body == SEARCH
    assert call.search == json.loads(SEARCH)
    assert isinstance(call.carrier, SourceCarrier)


def test_a_body_counts_before_the_source_parameter() -> None:
    """If a search has both a body and `source`, the body counts, as in the engines."""
    call = read(SEARCH, target=b"/notes/_search?source=%7B%7D")
    assert call.body == SEARCH
    assert isinstance(call.carrier, BodyCarrier)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'[{"query": {}}]',
        b'"text"',
        b"1",
        b"null",
        b"{",
        b'{"size": 1} {}',
        b'{"size": 1} x',
        b'{"size": NaN}',
        b'{"size": 1e999}',
        b'{"size": 01}',
        b"{'size': 1}",
        b'// said\n{"size": 1}',
        b"\xef\xbb\xbf{}",
        '{"size": 1}'.encode("utf-16"),
        b'{"query": "\xff"}',
        b'{"query": "\\ud800"}',
        b'{"query": "\t"}',
        b'{"size": 1, "size": 2}',
        b'{"size": 1, "\\u0073ize": 2}',
        b'{"query": {"bool": {"must": [], "must": []}}}',
        b'{"query": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"query": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"size": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_plain_json_object_is_left_to_the_engine(body: bytes) -> None:
    """A body that we can't read for certain has no `search`, so that it goes to the engine unchanged."""
    call = read(body)
    assert call.search is None
    assert call.carrier.request.body == body


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (SEARCH, ((b"accept", b"*/*"),)),
        (SEARCH, ((b"content-type", b"application/yaml"),)),
        (SEARCH, ((b"content-type", b"application/cbor"),)),
        (SEARCH, ((b"content-type", b"text/json"),)),
        (SEARCH, ((b"content-type", b"application/jsonp"),)),
        (SEARCH, (JSON_HEADER, (b"content-encoding", b"br"))),
        (SEARCH, (JSON_HEADER, (b"content-encoding", b"gzip"))),
        (gzip.compress(SEARCH)[:-1], (JSON_HEADER, (b"content-encoding", b"gzip"))),
        (gzip.compress(b" " * (MAX_BYTES + 1)), (JSON_HEADER, (b"content-encoding", b"gzip"))),
    ],
)
def test_media_types_and_codings_that_we_lack_are_unreadable(
    body: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    """A body of another media type, in an unknown or broken coding, or too large once inflated has no `search`."""
    assert read(body, *headers).search is None


def test_a_source_of_another_type_is_unreadable() -> None:
    """`source_content_type` counts like the media type of a body."""
    assert read(target=b"/_search?source=size:%201&source_content_type=application/yaml").search is None


async def test_a_streamed_body_is_unreadable_and_stays_unread() -> None:
    """A body too large to hold has no `search`, and its stream is still whole."""

    async def stream() -> AsyncIterator[bytes]:
        yield SEARCH

    call = read(stream(), target=b"/notes/_search?source=%7B%7D")
    assert call.search is None
    assert not call.held
    body = call.carrier.request.body
    assert not isinstance(body, bytes | None)
    assert [chunk async for chunk in body] == [SEARCH]


@pytest.mark.parametrize(
    ("query", "on"),
    [
        (b"", False),
        (b"pretty", True),
        (b"pretty=", True),
        (b"pretty=true", True),
        (b"pretty=false", False),
        (b"pretty=1", False),
        (b"pretty=TRUE", False),
        (b"pretty&pretty=false", False),
        (b"pretty=false&pretty", True),
        (b"PRETTY", False),
    ],
)
def test_flags_are_on_as_in_the_engines(query: bytes, on: bool) -> None:
    """A flag without a value or with `true` is on, the last of several counts, and what the engines refuse is off."""
    assert read(target=b"/_search?" + query).flag("pretty") is on


@given(st.binary(), st.binary().map(lambda raw: raw.replace(b"?", b"")), st.sampled_from([b"gzip", b"deflate", b""]))
def test_reading_never_fails(body: bytes, query: bytes, coding: bytes) -> None:
    """Whatever bytes come, reading gives a call and never fails."""
    call = read(body, JSON_HEADER, (b"content-encoding", coding), target=b"/_search?" + query)
    assert call.search is None or isinstance(call.search, dict)


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_json_objects_are_read_as_they_are(search: dict[str, Any]) -> None:
    """Every JSON object without half surrogates is readable."""
    assert read(json.dumps(search, ensure_ascii=False).encode()).search == json.loads(json.dumps(search))


def test_what_is_in_memory_can_be_sent_again() -> None:
    """A search is held if its body was read or if it has none."""
    assert read(SEARCH).held
    assert read().held
    assert read(target=b"/_search?source=%7B%7D").held


def test_a_call_with_another_body_says_that_one() -> None:
    """`body` and `search` change together, and the carrier's body too; everything else stays."""
    call = read(SEARCH, JSON_HEADER, (b"x-opaque-id", b"7"), target=b"/notes/_search?pretty")
    changed = call.with_body(b'{"size":2}', {"size": 2})
    assert (changed.body, changed.search, changed.carrier.request.body) == (b'{"size":2}', {"size": 2}, b'{"size":2}')
    assert (changed.expression, changed.parameters) == (call.expression, call.parameters)
    assert changed.header(b"X-Opaque-Id") == b"7"


def test_a_call_without_a_header_has_the_others() -> None:
    """A header is dropped in whatever case the client wrote it, and the others stay."""
    call = read(SEARCH, JSON_HEADER, (b"ES-Rerank", b"off"), (b"x-opaque-id", b"7")).without_header(b"es-rerank")
    assert call.header(b"es-rerank") is None
    assert call.carrier.request.headers == (JSON_HEADER, (b"x-opaque-id", b"7"))


@pytest.mark.parametrize(
    ("query", "filter_path"),
    [(b"", ""), (b"filter_path", ""), (b"filter_path=%20,%20,", ""), (b"filter_path=took,-hits", "took,-hits")],
)
def test_a_filter_without_a_path_is_none(query: bytes, filter_path: str) -> None:
    """A filter of commas and blanks alone counts as no filter."""
    assert read(target=b"/_search?" + query).filter_path == filter_path
