"""The carriers of a search: another body takes the place of the first, and a page is asked for in the URL."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.call import read_call
from es_rerank.proxy.search.carrier import BodyCarrier, SourceCarrier
from es_rerank.proxy.search.query_string import parse_query
from es_rerank.records import Request
from tests.proxy.search.calls import JSON_HEADER, raw_call

if TYPE_CHECKING:
    from es_rerank.proxy.search.carrier import Carrier

SEARCH = b'{"query": {"match": {"text": "fox"}}}'
IN_BODY = Request(method="POST", target=b"/notes/_search", headers=(JSON_HEADER,), body=SEARCH)
IN_URL = Request(method="GET", target=b"/notes/_search?source=%7B%7D", headers=())
CARRIERS: list[Carrier] = [BodyCarrier(IN_BODY), SourceCarrier(IN_URL)]


def test_another_body_replaces_coding_and_length() -> None:
    """The new body goes out without a content coding, and the client's other headers stay."""
    headers = (JSON_HEADER, (b"Content-Encoding", b"gzip"), (b"Content-Length", b"9"), (b"X-Opaque-Id", b"7"))
    request = raw_call(gzip.compress(SEARCH), *headers).carrier.carrying(b'{"size":2}').request
    assert request.body == b'{"size":2}'
    assert request.headers == (JSON_HEADER, (b"X-Opaque-Id", b"7"))
    assert raw_call(request.body, *request.headers).search == {"size": 2}


def test_another_body_replaces_the_source_parameter() -> None:
    """Where the body came in the URL, the new one goes there too, and the other parameters stay."""
    target = b"/_search?source=%7B%7D&source_content_type=application/json&pretty"
    request = raw_call(target=target).carrier.carrying(b'{"size":2}').request
    assert request.target == b"/_search?source_content_type=application/json&pretty&source=%7B%22size%22%3A2%7D"
    assert request.body is None
    assert raw_call(target=request.target).search == {"size": 2}


@given(st.dictionaries(st.text(), st.text() | st.integers()))
def test_the_body_that_is_carried_is_read_again(search: dict[str, Any]) -> None:
    """Whatever JSON is put into a body or a URL, a reader of the request finds that JSON again."""
    body = json.dumps(search, ensure_ascii=False).encode()
    for carrier in CARRIERS:
        call = read_call(carrier.carrying(body).request, "notes", max_bytes=1_000_000)
        assert type(call.carrier) is type(carrier)
        assert (call.body, call.search) == (body, search)


@pytest.mark.parametrize("carrier", CARRIERS, ids=["body", "source"])
def test_a_header_goes_and_the_carrier_stays(carrier: Carrier) -> None:
    """A header is dropped whatever the case of its name, and nothing else changes."""
    headers = ((b"X-Opaque-Id", b"7"), (b"ES-Rerank", b"off"))
    asked = replace(carrier.request, headers=(*carrier.request.headers, *headers))
    left = type(carrier)(asked).without_header(b"es-rerank")  # type: ignore[call-arg]  # both are made of a request
    assert type(left) is type(carrier)
    assert left.request == replace(asked, headers=(*carrier.request.headers, headers[0]))


@pytest.mark.parametrize("carrier", CARRIERS, ids=["body", "source"])
@pytest.mark.parametrize(
    ("query", "first", "filtered", "asked"),
    [
        (b"", None, False, {}),
        (b"from=3&size=4&pretty", None, False, {"from": "3", "size": "4", "pretty": ""}),
        (b"from=3&size=4&pretty", 100, False, {"pretty": "", "from": "0", "size": "100"}),
        (b"filter_path=took&from=3", None, True, {"from": "3", "filter_path": "**"}),
        (b"filter_path=took&s%69ze=3", 7, True, {"filter_path": "**", "from": "0", "size": "7"}),
        (b"filter_path=,&size=3", 7, False, {"from": "0", "size": "7"}),
    ],
)
def test_a_page_is_asked_for_in_the_url(
    carrier: Carrier, query: bytes, first: int | None, filtered: bool, asked: dict[str, str]
) -> None:
    """First hits and a filter that keeps everything take the place of the client's own; all else stays."""
    request = carrier.request
    joint = b"&" if request.query_string else b"?"
    wanted = type(carrier)(replace(request, target=request.target + joint + query))  # type: ignore[call-arg]  # as above
    sent = wanted.asking(first=first, filtered=filtered)
    assert parse_query(sent.query_string) == {**parse_query(request.query_string), **asked}
    assert (sent.path, sent.headers, sent.body) == (request.path, request.headers, request.body)


@pytest.mark.parametrize("carrier", CARRIERS, ids=["body", "source"])
def test_another_filter_for_the_source_takes_the_place_of_the_first(carrier: Carrier) -> None:
    """Parameters for `_source` are replaced together, whatever their spelling; None leaves the client's own."""
    joint = b"&" if carrier.request.query_string else b"?"
    own = b"_source=a&_source_%69ncludes=b&_source_excludes=c&_sources=d"
    wanted = type(carrier)(replace(carrier.request, target=carrier.request.target + joint + own))  # type: ignore[call-arg]  # as above
    sent = parse_query(wanted.asking(first=None, filtered=False, source={"_source_includes": "x,y"}).query_string)
    sent.pop("source", None)
    assert sent == {"_sources": "d", "_source_includes": "x,y"}
    assert wanted.asking(first=None, filtered=False).target == wanted.request.target
