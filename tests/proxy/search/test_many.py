"""The searches of an `_msearch` as calls of their own: what is not changed keeps its bytes, on the way in and out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.many import (
    MAX_SEARCHES,
    joined,
    named_expressions,
    read_many,
    read_responses,
    split_lines,
)
from es_rerank.records import LongBody, Request
from tests.proxy.search.calls import MAX_BYTES, endless

if TYPE_CHECKING:
    from es_rerank.proxy.search.call import SearchCall

ROOT = Path(__file__).parents[3]
LINES = (b"content-type", b"application/x-ndjson")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
# Headers and searches as clients write them, and anything at all that is one line.
OBJECT_LINES = st.dictionaries(
    st.sampled_from(["index", "indices", "preference", "query", "size", "_source", "ext", "é"]), JSON, max_size=3
).map(lambda members: json.dumps(members).encode())
ANY_LINES = OBJECT_LINES | st.binary(max_size=20).map(lambda line: line.replace(b"\n", b""))


def many(body: Any, *headers: tuple[bytes, bytes], target: bytes = b"/notes/_msearch") -> Request:
    """An `_msearch` with this raw body."""
    return Request(method="POST", target=target, headers=headers or (LINES,), body=body)


def calls_in(request: Request, max_bytes: int = MAX_BYTES) -> list[SearchCall]:
    """The searches of a request that can be read."""
    read = read_many(request, "notes", max_bytes=max_bytes)
    assert isinstance(read, tuple)
    return read[1]


def only(line: bytes, search: bytes = b"{}") -> SearchCall:
    """The one search with this header line."""
    [call] = calls_in(many(line + b"\n" + search + b"\n"))
    return call


@given(st.lists(st.tuples(ANY_LINES, ANY_LINES), min_size=1))
def test_what_is_not_changed_keeps_its_bytes(pairs: list[tuple[bytes, bytes]]) -> None:
    """Whatever the lines are, as many searches are read, and joined again they are the same bytes."""
    body = b"".join(b"%b\n%b\n" % pair for pair in pairs)
    request = many(body)
    if body.startswith(b"\n"):
        assert read_many(request, "notes", max_bytes=MAX_BYTES) == "unreadable_body"
        return
    if len(body) > MAX_BYTES:
        return
    calls = calls_in(request)
    assert len(calls) == len(pairs)
    assert joined([call.carrier.request for call in calls]) == request
    for filtered in (False, True):
        assert joined([call.carrier.asking(first=None, filtered=filtered) for call in calls]).body == body


@given(st.lists(st.tuples(OBJECT_LINES, OBJECT_LINES), min_size=2), st.data())
def test_a_window_changes_one_search_alone(pairs: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """Its page and its `_source` are set in its own line; header lines and other searches keep their bytes."""
    calls = calls_in(many(b"".join(b"%b\n%b\n" % pair for pair in pairs)))
    place = data.draw(st.integers(0, len(calls) - 1))
    asked = [call.carrier.asking(first=None, filtered=False) for call in calls]
    source = {"_source_includes": "title,a.*", "_source_excludes": "vector"}
    asked[place] = calls[place].carrier.asking(first=50, filtered=False, source=source)
    body = joined(asked).body
    assert isinstance(body, bytes)
    lines = body[:-1].split(b"\n")
    expected = [line for pair in pairs for line in pair]
    changed = lines.pop(2 * place + 1)
    before = json.loads(expected.pop(2 * place + 1))
    assert lines == expected
    wanted = {"from": 0, "size": 50, "_source": {"includes": ["title", "a.*"], "excludes": ["vector"]}}
    assert json.loads(changed) == {**before, **wanted}


@given(st.binary(max_size=60))
def test_any_body_is_read_or_left_alone(body: bytes) -> None:
    """No body breaks the reading."""
    read = read_many(many(body), "notes", max_bytes=MAX_BYTES)
    assert read == "unreadable_body" or isinstance(read, tuple)
    assert all(isinstance(named, str) for named in named_expressions(body, "notes"))
    answers = read_responses(body)
    assert answers is None or isinstance(answers, tuple)


@pytest.mark.parametrize("body", [b"", b"\n", b"{}", b"{}\n", b"{}\n{}", b"{}\n{}\n{}\n", b"\n{}\n", b"\n{}\n{}\n{}\n"])
def test_lines_that_engines_read_in_their_own_way_are_theirs(body: bytes) -> None:
    """A line without an end or a partner, and an empty line first, which engines read differently."""
    assert split_lines(body) is None


def test_as_many_searches_are_read_as_the_manual_says() -> None:
    """One more, and the request goes through as it is."""
    assert f"more than {MAX_SEARCHES} searches" in " ".join((ROOT / "docs" / "search.md").read_text("utf-8").split())
    assert len(calls_in(many(b"{}\n{}\n" * MAX_SEARCHES), max_bytes=10**6)) == MAX_SEARCHES
    assert split_lines(b"{}\n{}\n" * (MAX_SEARCHES + 1)) is None


@pytest.mark.parametrize(
    ("line", "expression"),
    [
        (b"", "notes"),
        (b"{}", "notes"),
        (b'{"index":"films"}', "films"),
        (b'{"index":["films","new*"]}', "films,new*"),
        (b'{"indices":["films"],"preference":"x","odd":1}', "films"),
        (b'{"index":""}', ""),
        (b'{"index":[]}', ""),
        (b' {"index":"films"}\r', "films"),
    ],
)
def test_a_header_line_says_what_its_search_is_about(line: bytes, expression: str) -> None:
    """Its indices take the place of the path's."""
    first = b'{}\n{"query":{}}\n'
    call = calls_in(many(first + line + b"\n{}\n"))[1]
    assert (call.expression, call.search) == (expression, {})
    assert expression in set(named_expressions(first + line + b"\n{}\n", "notes"))


@pytest.mark.parametrize(
    "line", [b"[]", b"{", b'{"index":7}', b'{"index":null}', b'{"index":"a","indices":"b"}', b'{"index":1,"index":2}']
)
def test_a_search_whose_header_line_is_odd_is_not_read(line: bytes) -> None:
    """The engine judges it, and its search is as one that can't be read."""
    assert only(line).search is None
    assert list(named_expressions(line + b"\n{}\n", "notes")) == []


@pytest.mark.parametrize("search", [b"[]", b'{"size":1,"size":2}', b'{"a":NaN}', b"nothing", b'{"a":"\xff"}'])
def test_a_search_that_is_not_strict_json_is_not_read(search: bytes) -> None:
    """As for a search that comes alone."""
    assert only(b"{}", search).search is None


def test_a_search_has_the_parameters_that_say_how_to_write() -> None:
    """Of the URL those alone, since an engine takes no others of one search there; and its header's pipeline."""
    target = b"/_msearch?pretty&filter_path=responses.took&max_concurrent_searches=2&typed_keys"
    [call] = calls_in(many(b'{"search_pipeline":"p","preference":"x"}\n{}\n', target=target))
    assert call.parameters == {"pretty": "", "filter_path": "responses.took", "search_pipeline": "p"}


def test_the_window_is_asked_for_with_everything_in_the_answer() -> None:
    """The client's filter is left to us, its other parameters stay, and so does a compression that we can read."""
    target = b"/_msearch?filter_path=responses.took&max_concurrent_searches=2"
    headers = (LINES, (b"accept-encoding", b"br, gzip"))
    [call] = calls_in(many(b'{}\n{"size":3}\n', *headers, target=target))
    asked = call.carrier.asking(first=9, filtered=True, source={"_source": "false"})
    assert asked.target == b"/_msearch?max_concurrent_searches=2&filter_path=%2A%2A"
    assert asked.headers == (LINES, (b"accept-encoding", b"gzip"))
    assert asked.body == b'{}\n{"size":9,"from":0,"_source":false}\n'


@pytest.mark.parametrize(
    "media_type",
    [
        b"application/x-ndjson",
        b"application/json; charset=UTF-8",
        b"application/vnd.elasticsearch+x-ndjson;compatible-with=8",
        b"application/vnd.elasticsearch+json; compatible-with=9",
        b"application/vnd.opensearch+json",
    ],
)
def test_lines_come_under_several_media_types(media_type: bytes) -> None:
    """All that the engines take for lines of JSON."""
    assert len(calls_in(many(b"{}\n{}\n", (b"content-type", media_type)))) == 1


def test_what_cant_be_read_says_why() -> None:
    """Another media type, an unknown or broken coding, too much of it, no room, no body."""
    body = b"{}\n{}\n"

    def why(body: Any, *headers: tuple[bytes, bytes]) -> object:
        return read_many(many(body, *headers), "notes", max_bytes=MAX_BYTES)

    assert why(body, (b"content-type", b"application/smile")) == "unreadable_body"
    assert why(body, LINES, (b"content-encoding", b"br")) == "unreadable_body"
    assert why(body, LINES, (b"content-encoding", b"gzip")) == "unreadable_body"
    assert why(gzip.compress(b" " * (MAX_BYTES + 1)), LINES, (b"content-encoding", b"gzip")) == "body_too_large"
    assert why(None) == "unreadable_body"
    assert why(LongBody(b"{}", endless(), on_head_sent=lambda: None)) == "body_too_large"
    assert why(LongBody(b"{}", endless(), on_head_sent=lambda: None, no_room=True)) == "memory_full"


def test_a_compressed_body_is_read_and_goes_on_inflated() -> None:
    """Its length is dropped with its coding."""
    headers = (LINES, (b"Content-Encoding", b"gzip"), (b"Content-Length", b"9"))
    [call] = calls_in(many(gzip.compress(b'{}\n{"size":1}\n'), *headers))
    assert (call.search, call.carrier.request.headers) == ({"size": 1}, (LINES,))


def test_the_answers_are_found_as_they_are() -> None:
    """Each with its own bytes; what is no answer to many searches has none."""
    read = read_responses(b'{"took":1, "responses" : [ {"a": 1.0} ,{"b":[]}]}')
    assert read is not None
    assert [bytes(one) for one in read[1]] == [b'{"a": 1.0}', b'{"b":[]}']
    assert read_responses(b'{"error":{}}') is None
    assert read_responses(b'{"responses":{}}') is None
