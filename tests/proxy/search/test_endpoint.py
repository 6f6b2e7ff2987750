"""Which way to search a request takes, as the engines read its path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from es_rerank.proxy.search.endpoint import Endpoint, endpoint_of
from es_rerank.records import Request

if TYPE_CHECKING:
    from es_rerank.proxy.search.endpoint import SearchKind


@pytest.mark.parametrize(
    ("target", "expression"),
    [
        (b"/_search", ""),
        (b"/_search?q=fox", ""),
        (b"/_search/", ""),
        (b"/_search//", ""),
        (b"//_search", ""),
        (b"//_search/?index=notes", ""),
        (b"/_search/?index=notes", "notes"),
        (b"/notes/_search///?q=fox", "notes"),
        (b"/notes/_search", "notes"),
        (b"/notes/_search/?pretty", "notes"),
        (b"/notes,logs-*,-logs-old/_search", "notes,logs-*,-logs-old"),
        (b"/_all/_search", "_all"),
        (b"/%5Fall/_search", "_all"),
        (b"/%2Ekibana/_search", ".kibana"),
        (b"/eu:notes/_search", "eu:notes"),
        (b"/la+b/_search", "la+b"),
        (b"/caf\xe9/_search", "caf\xe9"),
        (b"/caf\xc3\xa9/_search", "caf\xc3\xa9"),
        (b"/caf\xc3\xa9%2Cb/_search", "caf\u00e9,b"),
        (b"/%3Clogs-%7Bnow%2Fd%7D%3E/_search", "<logs-{now/d}>"),
    ],
)
def test_a_search_names_its_indices(target: bytes, expression: str) -> None:
    """The index expression is decoded as the engine does: percent signs, but no plus signs."""
    assert endpoint_of(Request(method="GET", target=target, headers=())) == Endpoint(kind="one", expression=expression)


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/notes",
        b"/notes/_doc/_search",
        b"/notes//_search",
        b"//notes/_search",
        b"///_search",
        b"//_all//_search",
        b"/%5Fsearch",
        b"/notes/_search%2F",
        b"/notes/%5Fsearch",
        b"/notes/_search//template",
        b"/notes/_search/templates",
        b"/_search/template/x",
        b"/_render/template",
        b"/_search/scroll",
        b"/_search/scroll/abc",
        b"/_cat/_search",
        b"/notes/_search_shards",
        b"/notes?x=/_search",
        b"/_async_search",
    ],
)
def test_other_paths_are_no_searches(target: bytes) -> None:
    """Only what the engines take as a search is ours, spelt as they spell it."""
    assert endpoint_of(Request(method="GET", target=target, headers=())) is None


@pytest.mark.parametrize(("method", "ours"), [("GET", True), ("POST", True), ("HEAD", False), ("PUT", False)])
def test_only_get_and_post_search(method: str, ours: bool) -> None:
    """The engines search by GET and POST alone."""
    assert (endpoint_of(Request(method=method, target=b"/_search", headers=())) is not None) is ours


@pytest.mark.parametrize(
    ("target", "expression"),
    [
        (b"/_msearch", ""),
        (b"/notes/_msearch", "notes"),
        (b"/a,b*/_msearch//", "a,b*"),
        (b"/_all/_msearch?pretty", "_all"),
        (b"/_msearch?index=films", "films"),
        (b"//_msearch", ""),
    ],
)
def test_the_indices_of_the_path_hold_for_all_searches_of_many(target: bytes, expression: str) -> None:
    """An `_msearch` names indices as a search does."""
    assert endpoint_of(Request(method="POST", target=target, headers=())) == Endpoint(
        kind="many", expression=expression
    )


@pytest.mark.parametrize(
    ("target", "kind", "expression"),
    [
        (b"/_search/template", "template", ""),
        (b"//_search/template/?index=films", "template", ""),
        (b"/_search/template?index=films", "template", "films"),
        (b"/notes/_search/template//?pretty", "template", "notes"),
        (b"/_all/_msearch/template", "templates", "_all"),
        (b"/_msearch/template?index=films", "templates", "films"),
    ],
)
def test_templates_name_indices_as_searches_do(target: bytes, kind: SearchKind, expression: str) -> None:
    """One template as a search, and many as an `_msearch`."""
    found = endpoint_of(Request(method="POST", target=target, headers=()))
    assert found == Endpoint(kind=kind, expression=expression)
    assert (found.is_template, found.is_many) == (True, kind == "templates")


def test_a_target_that_engines_refuse_is_no_search() -> None:
    """One longer than both engines take by default is theirs to judge."""
    for path in (b"/_search?", b"/_msearch?"):
        assert endpoint_of(Request(method="GET", target=path + b"x" * 4096, headers=())) is None


@pytest.mark.parametrize(
    ("target", "expression"),
    [
        (b"/_async_search", ""),
        (b"/notes/_async_search/?keep_alive=1m", "notes"),
        (b"//_async_search", ""),
        (b"/_plugins/_asynchronous_search?index=notes", "notes"),
        (b"/a,b*/_plugins/_asynchronous_search", "a,b*"),
        (b"/_opendistro/_asynchronous_search", ""),
    ],
)
def test_an_async_search_is_submitted_by_post_alone(target: bytes, expression: str) -> None:
    """By Elasticsearch's name and by OpenSearch's, with the indices of a search."""
    submit = Request(method="POST", target=target, headers=())
    assert endpoint_of(submit) == Endpoint(kind="async", expression=expression)
    assert endpoint_of(Request(method="GET", target=target, headers=())) is None


@pytest.mark.parametrize(
    "target",
    [
        b"/_async_search/Fm%3D%3D?wait_for_completion_timeout=200ms",
        b"/_plugins/_asynchronous_search/Fm==",
        b"/_opendistro/_asynchronous_search/Fm==/",
    ],
)
def test_the_result_of_an_async_search_is_asked_for_by_get(target: bytes) -> None:
    """With its id, decoded; a DELETE or a POST there is no search."""
    asked = Request(method="GET", target=target, headers=())
    assert endpoint_of(asked) == Endpoint(kind="async_result", expression="", search_id="Fm==")
    for method in ("DELETE", "POST", "HEAD"):
        assert endpoint_of(Request(method=method, target=target, headers=())) is None


@pytest.mark.parametrize("target", [b"/_async_search/status/Fm", b"/notes/_async_search/Fm", b"/_async_search/"])
def test_other_paths_of_async_searches_are_none(target: bytes) -> None:
    """A status, and what engines don't know."""
    assert endpoint_of(Request(method="GET", target=target, headers=())) is None
