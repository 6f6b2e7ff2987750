"""What may be sent to an engine twice: nothing that may change something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from es_rerank.records import Request
from es_rerank.repeatable import changes_nothing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READS = (
    "/_search", "//_search", "/films/_search/", "/films,b*/_msearch", "/_msearch/template", "/films/_search/template",
    "/films/_count", "/_mget", "/films/_field_caps", "/films/_validate/query", "/films/_explain/a%2Fb",
    "/films/_termvectors", "/films/_termvectors/1", "/_render/template", "/_rank_eval", "/_analyze",
    "/%3Clogs-%7Bnow%2Fd%7D%3E/_search", "/_all/_search",
)  # fmt: skip
WRITES = (
    "/films/_doc", "/films/_doc/_search", "/films/_doc/_count", "/films/_create/_msearch", "/films/_update/_mget",
    "/_bulk", "/films/_delete_by_query", "/_search/scroll", "/films/_pit", "/films/_search/point_in_time",
    "/films/_async_search",
    "/films/_explain/1/_search", "/_reindex", "/_scripts/_search", "/%5Fscripts/_search",
    "/films/_refresh",
)  # fmt: skip


def asked(method: str, target: str, body: bytes | AsyncIterator[bytes] | None = b"{}", coding: str = "") -> Request:
    """A request; its body is held if it is bytes."""
    headers = ((b"Content-Encoding", coding.encode()),) if coding else ()
    return Request(method=method, target=target.encode(), headers=headers, body=body)


async def _stream() -> AsyncIterator[bytes]:
    yield b"{}"


@pytest.mark.parametrize("path", READS)
def test_what_only_reads_may_be_sent_twice(path: str) -> None:
    """A search or the like may be repeated with its body, by GET or POST and with parameters, if the body is held."""
    assert changes_nothing(asked("POST", path))
    assert changes_nothing(asked("GET", f"{path}?routing=/_doc"))
    assert not changes_nothing(asked("POST", path, _stream()))
    assert not changes_nothing(asked("PUT", path))
    assert not changes_nothing(asked("DELETE", path))


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_write_is_never_repeated(path: str, method: str) -> None:
    """Whatever may change something is sent once, even if it ends in a search's name."""
    assert not changes_nothing(asked(method, path))
    assert not changes_nothing(asked(method, f"{path}?/_search"))
    assert not changes_nothing(asked(method, path, None))


def test_a_get_without_a_body_may_be_sent_twice_unless_it_scrolls() -> None:
    """GET and HEAD read; only a scroll moves on."""
    assert changes_nothing(asked("GET", "/films/_doc/1", None))
    assert changes_nothing(asked("HEAD", "/films", None))
    assert not changes_nothing(asked("GET", "/films/_doc/1"))
    assert not changes_nothing(asked("GET", "/_search/scroll?scroll_id=x", None))


@pytest.mark.parametrize(("coding", "may"), [("gzip", True), ("GZIP ", True), ("zstd", False), ("gzip, gzip", False)])
def test_a_body_in_a_coding_that_may_end_an_engine_is_sent_once(
    coding: str,
    *,
    may: bool,
) -> None:
    """A search in zstd ends the process of an OpenSearch, so it must not go on to the next one."""
    assert changes_nothing(asked("POST", "/films/_search", b"x", coding)) is may
