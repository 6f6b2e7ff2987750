"""The bytes of an answer: however it is written, they are those of the simple way."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.filter_path import filter_answer
from es_rerank.proxy.search.pretty import pretty_print
from es_rerank.proxy.search.status import SearchStatus
from es_rerank.proxy.search.write import finish_body, start_body, writing_cost
from tests.proxy.search.calls import call_of

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS = SearchStatus(status="partial", reason="deadline", rule="a", scorer="b", window=3, took_ms={"total": 1.5})
NAMES = st.sampled_from(["took", "hits", "_shards", "_es", "reason", "{}"])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
PATHS = st.lists(
    st.sampled_from(["took", "hits", "_es_rerank", "reason", "*", "**", "_*", "x"]), min_size=1, max_size=3
)
FILTERS = st.lists(PATHS.map(".".join) | PATHS.map(".".join).map("-{}".format), max_size=4).map(",".join)
UNPACK: dict[bytes | None, Callable[[bytes], bytes]] = {
    None: bytes,
    b"gzip": gzip.decompress,
    b"deflate": zlib.decompress,
}


@given(
    st.dictionaries(NAMES, VALUES, max_size=4),
    FILTERS,
    st.sampled_from(["", "&pretty", "&pretty=false"]),
    st.sampled_from([frozenset(), frozenset({"status"})]),
    st.sampled_from([None, b"gzip", b"deflate"]),
)
def test_a_status_added_at_the_end_is_written_as_with_the_rest(
    members: dict[str, Any], filter_path: str, more: str, include: frozenset[str], coding: bytes | None
) -> None:
    """An answer that is begun without its status and finished with it has the bytes of one that is written at once."""
    call = call_of({}, f"filter_path={filter_path}{more}")
    written = finish_body(start_body(members, call, coding), call, STATUS, include)
    whole = msgspec.json.encode({**members, "_es_rerank": STATUS.block()} if include else members)
    if call.filter_path:
        whole = filter_answer(whole, filter_path)
    assert UNPACK[coding](written) == (pretty_print(whole) if call.flag("pretty") else whole)


def test_a_status_of_another_is_replaced() -> None:
    """An engine that is itself behind an es-rerank may have a status in its answer: ours takes its place, once."""
    call = call_of({})
    members = {"_es_rerank": {"status": "full"}, "took": 1}
    body = finish_body(start_body(members, call, None), call, STATUS, {"status"})
    assert body.count(b"_es_rerank") == 1
    assert json.loads(body)["_es_rerank"]["reason"] == "deadline"


@pytest.mark.parametrize("query", ["pretty", "filter_path=" + "*x*," * 100, "pretty&filter_path=" + "*x*," * 100])
def test_what_takes_longer_to_write_counts_as_more(query: str) -> None:
    """Printing, packing and long filters cost more than writing alone, and that costs what it has bytes."""
    plain, more = call_of({}), call_of({}, query)
    assert writing_cost(1_000, plain, None) == 1_000
    assert writing_cost(1_000, more, None) > 1_000
    assert writing_cost(1_000, more, b"gzip") > writing_cost(1_000, more, None)
