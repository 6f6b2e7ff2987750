"""What a search calls itself, under `ext.ubi` or under `ext.es_rerank`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from es_rerank.proxy.events.names import Names, answered_names, names_of
from es_rerank.proxy.search.control import take_controls
from tests.proxy.search.calls import call_of

UBI = {"query_id": "ubi-1", "user_query": "big kettle", "client_id": "client", "application": "shop"}


def named(ext: Any) -> Names:
    """The names of a search with this `ext`."""
    asked, call = take_controls(call_of({"query": {"match": {"text": "kettle"}}, "ext": ext}))
    return names_of(call, asked, new_id="new")


def test_names_of_ubi_count_first() -> None:
    """What `ext.ubi` has is taken, whatever is asked of es-rerank beside it, and stays in the body."""
    ext = {"ubi": UBI, "es_rerank": {"query_id": "ours", "client_id": "x", "application": "y"}}
    assert named(ext) == Names(query_id="ubi-1", user_query="big kettle", client_id="client", application="shop")
    _, call = take_controls(call_of({"ext": ext}))
    assert msgspec.json.decode(call.body) == {"ext": {"ubi": UBI}}


def test_names_can_be_asked_of_es_rerank() -> None:
    """Without User Behavior Insights the same names are given under our key; what the user asked is not said there."""
    ours = {"query_id": "ours", "client_id": "x", "application": "y"}
    assert named({"es_rerank": ours}) == Names(user_query=None, **ours)


@pytest.mark.parametrize(
    "ext", [None, {}, {"ubi": None}, {"ubi": [1]}, {"ubi": dict.fromkeys(UBI, 7)}, {"ubi": dict.fromkeys(UBI, "")}]
)
def test_a_search_without_names_gets_an_id(ext: Any) -> None:
    """What is no name counts as missing, and is left to whom it belongs."""
    assert named(ext) == Names(query_id="new", user_query=None)


def test_what_is_too_long_is_no_name() -> None:
    """An id of 257 characters is none."""
    assert named({"ubi": {"query_id": "q" * 257}}) == Names(query_id="new")
    assert named({"ubi": {"query_id": "q" * 256}}).query_id == "q" * 256


@pytest.mark.parametrize(
    ("ext", "query_id"),
    [
        ('{"ubi":{"query_id":"theirs"}}', "theirs"),
        ('{"ubi":{"query_id":""}}', "new"),
        ('{"ubi":null,"other":1}', "new"),
        ('{"ubi":{"query_id":3}}', "new"),
        ("[]", "new"),
    ],
)
def test_an_id_that_the_plug_in_made_counts(ext: str, query_id: str) -> None:
    """OpenSearch's plug-in answers the id that it gave a search without one: clicks will name that one."""
    names = Names(query_id="new", user_query="kettle", client_id="c")
    answered = answered_names(names, {"ext": msgspec.Raw(ext.encode())})
    assert answered == Names(query_id=query_id, user_query="kettle", client_id="c")
    assert answered_names(names, {}) == names
