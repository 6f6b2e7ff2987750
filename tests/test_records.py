"""The values that cross between folders: a request keeps its bytes, headers are found without regard to case."""

from __future__ import annotations

import pytest

from es_rerank.records import Request, first_header, without_headers

HEADERS = ((b"Host", b"a"), (b"X-Twice", b"1"), (b"accept", b"*/*"), (b"x-twice", b"2"))


@pytest.mark.parametrize(
    ("target", "path", "query_string"),
    [
        (b"/index/_search", b"/index/_search", b""),
        (b"/index/_search?", b"/index/_search", b""),
        (b"/index/_search?q=a&size=5", b"/index/_search", b"q=a&size=5"),
        (b"/%3Clogs-%7Bnow%2Fd%7D%3E/_search?q=%3F?", b"/%3Clogs-%7Bnow%2Fd%7D%3E/_search", b"q=%3F?"),
        (b"/index//_search/?a=b?c", b"/index//_search/", b"a=b?c"),
    ],
)
def test_a_target_is_cut_at_its_first_question_mark_only(target: bytes, path: bytes, query_string: bytes) -> None:
    """Path and query string are the raw bytes, never decoded, joined or tidied."""
    request = Request(method="GET", target=target, headers=())
    assert (request.path, request.query_string) == (path, query_string)


@pytest.mark.parametrize("name", [b"x-twice", b"X-TWICE", b"X-Twice"])
def test_the_first_value_of_a_header_is_found_in_any_case(name: bytes) -> None:
    """Header names have no case, and of a repeated header the first value counts."""
    assert first_header(HEADERS, name) == b"1"
    assert Request(method="GET", target=b"/", headers=HEADERS).header(name) == b"1"


def test_a_missing_header_is_none() -> None:
    """A header that is missing is None, and not an empty value."""
    assert first_header(HEADERS, b"cookie") is None
    assert first_header(((b"cookie", b""),), b"cookie") == b""


def test_headers_left_out_leave_the_others_in_order() -> None:
    """All fields of the named headers are left out, in any case; the others stay as they were, names included."""
    assert without_headers(HEADERS, b"x-twice", b"cookie") == ((b"Host", b"a"), (b"accept", b"*/*"))
    assert without_headers(HEADERS) == HEADERS
