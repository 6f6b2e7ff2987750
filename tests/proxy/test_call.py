"""Reading a search request: its target, its parameters, its body in every form, and edits that keep the rest."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.call import (
    RAW_OBJECT,
    SearchCall,
    edit_object,
    edit_query,
    parse_query,
    read_call,
    search_expression,
)
from es_rerank.records import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MAX_BYTES = 10_000
SEARCH = b'{"query": {"match": {"text": "fox"}}}'
JSON_HEADER = (b"Content-Type", b"application/json")
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
PIECES = st.binary(max_size=8).map(
    lambda raw: raw.translate(None, delete=bytes(range(33)) + b"&;?#%+" + bytes(range(127, 256)))
)


def read(body: Any = None, *headers: tuple[bytes, bytes], target: bytes = b"/notes/_search") -> SearchCall:
    """The call of a POST with this body, JSON unless headers say otherwise."""
    request = Request(method="POST", target=target, headers=headers or (JSON_HEADER,), body=body)
    return read_call(request, "notes", max_bytes=MAX_BYTES)


@pytest.mark.parametrize(
    ("target", "expression"),
    [
        (b"/_search", ""),
        (b"/_search?q=fox", ""),
        (b"/_search/", ""),
        (b"/notes/_search", "notes"),
        (b"/notes/_search/?pretty", "notes"),
        (b"/notes,logs-*,-logs-old/_search", "notes,logs-*,-logs-old"),
        (b"/_all/_search", "_all"),
        (b"/%5Fall/_search", "_all"),
        (b"/%2Ekibana/_search", ".kibana"),
        (b"/eu:notes/_search", "eu:notes"),
        (b"/la+b/_search", "la+b"),
        (b"/%3Clogs-%7Bnow%2Fd%7D%3E/_search", "<logs-{now/d}>"),
    ],
)
def test_a_search_names_its_indices(target: bytes, expression: str) -> None:
    """The index expression is decoded as the engine does: percent signs, but no plus signs."""
    assert search_expression(Request(method="GET", target=target, headers=())) == expression


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/notes",
        b"/notes/_doc/_search",
        b"/notes//_search",
        b"//notes/_search",
        b"/notes/%5Fsearch",
        b"/notes/_msearch",
        b"/notes/_search/template",
        b"/_search/scroll",
        b"/_search/scroll/abc",
        b"/_cat/_search",
        b"/notes/_search_shards",
        b"/notes?x=/_search",
        b"/_async_search",
    ],
)
def test_other_paths_are_no_searches(target: bytes) -> None:
    """Only `/_search` and `/{index}/_search` are ours, spelt as the engines spell them."""
    assert search_expression(Request(method="GET", target=target, headers=())) is None


@pytest.mark.parametrize(("method", "ours"), [("GET", True), ("POST", True), ("HEAD", False), ("PUT", False)])
def test_only_get_and_post_search(method: str, ours: bool) -> None:
    """The engines search by GET and POST alone."""
    assert (search_expression(Request(method=method, target=b"/_search", headers=())) is not None) is ours


@pytest.mark.parametrize("body", [None, b""])
def test_no_body_is_an_empty_search(body: bytes | None) -> None:
    """A search without a body asks for everything: it is read as an object without keys."""
    call = read(body)
    assert (call.search, call.body, call.in_source) == ({}, b"", False)


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
    assert call.in_source


def test_a_body_counts_before_the_source_parameter() -> None:
    """Where both are there, the engines read the body."""
    call = read(SEARCH, target=b"/notes/_search?source=%7B%7D")
    assert call.body == SEARCH
    assert not call.in_source


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
    """A body that we can't read without doubt has no `search`, so that the engine judges it, untouched."""
    call = read(body)
    assert call.search is None
    assert call.request.body == body


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
    """Another media type, an unknown or broken coding, or too much once inflated: the engine's to judge."""
    assert read(body, *headers).search is None


def test_a_source_of_another_type_is_unreadable() -> None:
    """`source_content_type` counts as a media type does."""
    assert read(target=b"/_search?source=size:%201&source_content_type=application/yaml").search is None


async def test_a_streamed_body_is_unreadable_and_stays_unread() -> None:
    """A body too large to hold has no `search`, and its stream is still whole."""

    async def stream() -> AsyncIterator[bytes]:
        yield SEARCH

    call = read(stream(), target=b"/notes/_search?source=%7B%7D")
    assert call.search is None
    assert not isinstance(call.request.body, bytes | None)
    assert [chunk async for chunk in call.request.body] == [SEARCH]


def deeper(frames: int, act: Callable[[], Any]) -> Any:
    """What `act` gives when called so many frames down the stack."""
    return act() if frames == 0 else deeper(frames - 1, act)


def test_a_body_that_was_read_can_be_edited_deeper_on_the_stack() -> None:
    """However deep a body nests, the first reading decides: a later one never runs out of stack."""
    depths = [depth for depth in range(0, 1000, 20) if read(nested(depth)).search is not None]
    assert 400 < max(depths) < 980
    assert deeper(150, lambda: edit_object(nested(max(depths)), {"size": 1}))


def nested(depth: int) -> bytes:
    """A body that nests so deep."""
    return b'{"query": ' + b"[" * depth + b"]" * depth + b"}"


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
    """Valueless and `true` are on, and the last of several counts; what the engines refuse is off."""
    assert read(target=b"/_search?" + query).flag("pretty") is on


def test_parameters_are_decoded_and_the_last_of_several_counts() -> None:
    """Names and values are decoded, a semicolon parts them like an ampersand, the last of a name counts."""
    query = b"size=3&q=a+b%20c%3Dd=e;s%69ze=4&&empty=&bare&caf%C3%A9=%E9;x=1%3B2"
    assert parse_query(query) == {
        "size": "4",
        "q": "a b c=d=e",
        "empty": "",
        "bare": "",
        "café": "\ufffd",
        "x": "1;2",
    }


@given(st.lists(st.tuples(PIECES, st.sampled_from([b"&", b";"]))), st.sets(st.sampled_from("abc")))
def test_editing_a_query_keeps_every_other_byte(pieces: list[tuple[bytes, bytes]], drop: set[str]) -> None:
    """What is not dropped stays as it is, in order; what is added can be read at the end."""
    query = b"".join(piece + end for piece, end in pieces)
    kept = b"".join(piece + end for piece, end in pieces if piece.split(b"=")[0].decode() not in drop)
    edited = edit_query(b"/a%20b/_search?" + query, drop=drop, add={"n w": "1&2"})
    path, _, rest = edited.partition(b"?")
    assert path == b"/a%20b/_search"
    assert rest == kept + (b"&" if kept and kept[-1:] not in b"&;" else b"") + b"n%20w=1%262"
    assert parse_query(rest)["n w"] == "1&2"


@pytest.mark.parametrize(
    ("target", "edited"),
    [
        (b"/_search", b"/_search"),
        (b"/_search?from=1", b"/_search"),
        (b"/_search?q=a", b"/_search?q=a"),
        (b"/_search?from=1&q=a?b;fr%6Fm=2", b"/_search?q=a?b;"),
    ],
)
def test_dropping_parameters(target: bytes, edited: bytes) -> None:
    """A dropped name goes however it is spelt, and the question mark with the last of them."""
    assert edit_query(target, drop={"from"}, add={}) == edited


@given(
    st.dictionaries(st.text(), JSON_VALUES, max_size=5),
    st.dictionaries(st.sampled_from(["ext", "fields", "size"]), JSON_VALUES, max_size=3),
    st.sampled_from([None, 1, 3]),
)
def test_editing_an_object_keeps_every_other_value(
    search: dict[str, Any], changes: dict[str, Any], indent: int | None
) -> None:
    """Keys keep their place and values their bytes, also as a client laid them out."""
    body = json.dumps(search, indent=indent).encode()
    edited = edit_object(body, changes)
    expected = {**search, **changes}
    for key, value in changes.items():
        if value is None:
            del expected[key]
    assert json.loads(edited) == expected
    assert list(json.loads(edited)) == list(expected)
    before, after = RAW_OBJECT.decode(body), RAW_OBJECT.decode(edited)
    for key in search.keys() - changes.keys():
        assert bytes(after[key]) == bytes(before[key])


def test_editing_keeps_numbers_as_they_were_written() -> None:
    """No digit, sign or exponent of an untouched value changes."""
    body = b'{"a":1E10,"b":1.0,"c":12345678901234567890123,"d":-0.0,"e":"\\u00e9\\/","f":[ 1 , 2 ],"size":5}'
    assert edit_object(body, {"size": None}) == body.replace(b',"size":5', b"")


def test_no_body_can_be_edited() -> None:
    """A key can be set where there is no body yet."""
    assert edit_object(b"", {"fields": ["text"]}) == b'{"fields":["text"]}'


def test_another_body_replaces_coding_and_length() -> None:
    """The new body goes out plain, under the client's other headers."""
    headers = (JSON_HEADER, (b"Content-Encoding", b"gzip"), (b"Content-Length", b"9"), (b"X-Opaque-Id", b"7"))
    call = read(gzip.compress(SEARCH), *headers).with_body(b'{"size":2}')
    assert call.request.body == call.body == b'{"size":2}'
    assert call.search == {"size": 2}
    assert call.request.headers == (JSON_HEADER, (b"X-Opaque-Id", b"7"))


def test_another_body_replaces_the_source_parameter() -> None:
    """Where the body came in the URL, the new one goes there too, and the other parameters stay."""
    target = b"/_search?source=%7B%7D&source_content_type=application/json&pretty"
    call = read(target=target).with_body(b'{"size":2}')
    assert call.request.target == b"/_search?source_content_type=application/json&pretty&source=%7B%22size%22%3A2%7D"
    assert call.request.body is None
    assert read(target=call.request.target).search == {"size": 2}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, b"application/json"),
        (b"*/*", b"application/json"),
        (b"application/json, text/plain", b"application/json"),
        (
            b"application/vnd.elasticsearch+json;compatible-with=9",
            b"application/vnd.elasticsearch+json;compatible-with=9",
        ),
    ],
)
def test_a_body_that_we_add_has_the_media_type_of_accept(accept: bytes | None, media_type: bytes) -> None:
    """Elasticsearch refuses a Content-Type of another version than Accept."""
    headers = () if accept is None else ((b"accept", accept),)
    request = Request(method="GET", target=b"/_search?q=fox", headers=headers)
    call = read_call(request, "", max_bytes=MAX_BYTES).with_body(b"{}")
    assert call.request.header(b"content-type") == media_type


@given(st.binary(), st.binary().map(lambda raw: raw.replace(b"?", b"")), st.sampled_from([b"gzip", b"deflate", b""]))
def test_reading_never_fails(body: bytes, query: bytes, coding: bytes) -> None:
    """Whatever bytes come, there is a call."""
    call = read(body, JSON_HEADER, (b"content-encoding", coding), target=b"/_search?" + query)
    assert call.search is None or isinstance(call.search, dict)


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_json_objects_are_read_as_they_are(search: dict[str, Any]) -> None:
    """Every JSON object without half surrogates is readable."""
    assert read(json.dumps(search, ensure_ascii=False).encode()).search == json.loads(json.dumps(search))


@pytest.mark.parametrize("named", [None, b"application/octet-stream", b"text/plain"])
def test_a_body_that_we_add_is_named_as_json(named: bytes | None) -> None:
    """Where a client sent no body, the type that it named, if any, gives way to that of ours."""
    headers = ((b"accept", b"*/*"),) if named is None else ((b"content-type", named),)
    request = Request(method="POST", target=b"/films/_search?q=x", headers=headers, body=b"")
    call = read_call(request, "films", max_bytes=1000).with_body(b'{"fields":["a"]}')
    assert [value for name, value in call.request.headers if name == b"content-type"] == [b"application/json"]
