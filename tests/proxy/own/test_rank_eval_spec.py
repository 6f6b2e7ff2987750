"""The body of a `_rank_eval` is read whole, or refused with the place. What the engine says of odd ones: tests/e2e."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.errors import CallerError
from es_rerank.proxy.own.rank_eval_metrics import Dcg
from es_rerank.proxy.own.rank_eval_spec import read_spec

BODY: dict[str, Any] = {
    "requests": [{"id": "a", "request": {"query": {}}, "ratings": [{"_index": "i", "_id": "1", "rating": "2.9"}]}],
    "metric": {"dcg": {"k": 3.0, "normalize": "true"}},
}
SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "1", "x", "dcg", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "k", "dcg", "x"]), inner),
    max_leaves=5,
)
PATHS = (
    ("requests",),
    ("metric",),
    ("templates",),
    ("max_concurrent_searches",),
    ("metric", "dcg"),
    ("metric", "dcg", "k"),
    ("requests", 0),
    ("requests", 0, "id"),
    ("requests", 0, "request"),
    ("requests", 0, "ratings"),
    ("requests", 0, "params"),
    ("requests", 0, "template_id"),
    ("requests", 0, "summary_fields"),
    ("requests", 0, "ratings", 0),
    ("requests", 0, "ratings", 0, "rating"),
)


def test_numbers_are_read_as_the_engines_do() -> None:
    """A text that is a number and a fraction are whole numbers; the search keeps its bytes."""
    body = json.dumps(BODY).replace('"request": {"query": {}}', '"request": { "query":{"a":1.50} }')
    spec = read_spec(body.encode())
    assert spec.metric == Dcg(k=3, normalize=True)
    assert spec.max_concurrent_searches == 10
    assert spec.requests[0].ratings == {("i", "1"): 2}
    assert spec.requests[0].search == b'{ "query":{"a":1.50} }'


@given(st.sampled_from(PATHS), SOME_JSON)
def test_any_other_value_is_read_or_refused(path: tuple[str | int, ...], value: Any) -> None:
    """Nothing but a CallerError comes of a value that makes no sense in its place."""
    body = json.loads(json.dumps(BODY))
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with contextlib.suppress(CallerError):
        read_spec(json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"", b"  ", b"[]", b"{", b'{"metric":{},"metric":{}}'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """No body, another shape and a key that comes twice are refused."""
    with pytest.raises(CallerError):
        read_spec(body)
