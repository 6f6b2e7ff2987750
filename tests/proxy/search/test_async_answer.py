"""How far an async search is, as the answers of both engines say it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.async_answer import COMPLETE_STATES, AsyncAnswer, read_async, same_hits, with_status

HIT = {"_index": "notes", "_id": "a", "_score": 1.0}
RESPONSE: dict[str, Any] = {
    "took": 1,
    "timed_out": False,
    "_shards": {"total": 2, "failed": 0},
    "hits": {"total": {"value": 9, "relation": "eq"}, "max_score": 1.0, "hits": [HIT]},
    "aggregations": {},
}


def read(**members: Any) -> AsyncAnswer:
    """An answer with these members."""
    answer = read_async(json.dumps(members).encode())
    assert answer is not None
    return answer


@pytest.mark.parametrize(
    ("members", "running", "complete"),
    [
        ({"is_running": True, "is_partial": True}, True, False),
        ({"is_running": False, "is_partial": True}, False, False),
        ({"is_running": False, "is_partial": False}, False, True),
        ({"is_running": False, "is_partial": False, "error": {}}, False, False),
        ({"state": "INIT"}, True, False),
        ({"state": "RUNNING"}, True, False),
        ({"state": "FAILED"}, False, False),
        ({"state": "CLOSED"}, False, False),
        *(({"state": state}, False, True) for state in COMPLETE_STATES),
    ],
)
def test_both_engines_say_how_far_a_search_is(members: dict[str, Any], running: bool, complete: bool) -> None:
    """By two flags, or by a state."""
    answer = read(id="x", **members, response=RESPONSE)
    assert (answer.search_id, answer.running, answer.complete) == ("x", running, complete)


@pytest.mark.parametrize(
    "change",
    [{"_shards": {"total": 2, "failed": 1}}, {"timed_out": True}, {"_clusters": {"total": 2, "successful": 1}}],
)
def test_what_lacks_shards_is_not_complete(change: dict[str, Any]) -> None:
    """OpenSearch calls such a search succeeded."""
    assert not read(state="SUCCEEDED", response={**RESPONSE, **change}).complete


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"id":"x"}', b'{"error":{},"status":404}', b'{"is_running":1}', b'{"state":"INIT","id":7}'],
)
def test_other_answers_are_not_of_async_searches(body: bytes) -> None:
    """An error, or anything else."""
    assert read_async(body) is None


def test_a_search_without_a_response_is_not_complete() -> None:
    """There is nothing to rerank."""
    answer = read(state="SUCCEEDED")
    assert not answer.complete
    assert with_status(answer.top, {"status": "skipped"}) == answer.top


def test_hits_are_replaced_and_nothing_else() -> None:
    """The hits and the best score are another answer's; totals, and all members in their order, stay."""
    answer = read(id="x", is_partial=False, is_running=False, start=1.50, response=RESPONSE)
    members = answer.with_hits({"total": {"value": 1}, "max_score": 2.5, "hits": []})
    assert list(members) == ["id", "is_partial", "is_running", "start", "response"]
    assert list(members["response"]) == list(RESPONSE)
    assert list(members["response"]["hits"]) == ["total", "max_score", "hits"]
    assert json.loads(bytes(members["response"]["hits"]["total"])) == RESPONSE["hits"]["total"]
    assert (members["response"]["hits"]["max_score"], members["response"]["hits"]["hits"]) == (2.5, [])
    said = with_status(members, {"status": "full"})
    assert list(said["response"])[-1] == "_es_rerank"


def test_a_page_takes_the_place_of_one_as_long_whose_hits_are_in_the_window() -> None:
    """In any place of it."""
    found = read(state="SUCCEEDED", response=RESPONSE).found
    assert found is not None
    assert same_hits(found, [("notes", "b"), ("notes", "a")], [{}])
    assert not same_hits(found, [("notes", "b"), ("notes", "a")], [])
    assert not same_hits(found, [("notes", "b"), ("other", "a")], [{}])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(COMPLETE_STATES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*RESPONSE, "_score"]), inner),
    max_leaves=12,
)
NAMES = st.sampled_from(["id", "state", "is_running", "is_partial", "response", "error", "_shards"])


@given(st.dictionaries(NAMES, VALUES | st.just(RESPONSE)), st.binary(max_size=3))
def test_no_answer_breaks_the_reading(members: dict[str, Any], rest: bytes) -> None:
    """Whatever an engine answers is read or left, and a status finds its place in it or none."""
    body = json.dumps(members).encode()
    for sent in (body, body + rest, body[: len(body) // 2]):
        answer = read_async(sent)
        if answer is not None:
            with_status(answer.top, {"status": "skipped"})
            if answer.found is not None:
                answer.with_hits({"hits": []})


def test_a_status_finds_no_place_in_what_is_no_object() -> None:
    """The members stay."""
    assert with_status({"response": b"[1]"}, {"status": "full"}) == {"response": b"[1]"}
