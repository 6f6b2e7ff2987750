"""What an event and its rows say of a search."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.events.event import SearchEvent, ShownHit, leaves_event, shown_hits_of
from es_rerank.proxy.events.privacy import KeptQuery
from es_rerank.store.indices import EVENTS, HITS
from tests.proxy.events.samples import event_with, searched_with, status_with

SCORES = st.lists(st.none() | st.floats(0, 10), min_size=1, max_size=30)


def test_the_fields_are_those_of_the_mapping() -> None:
    """Nothing is written that has no mapping, and every field of the mapping is written by somebody."""
    assert list(SearchEvent.__struct_fields__) == list(EVENTS.fields)
    assert list(ShownHit.__struct_fields__) == list(HITS.fields)


def test_an_event_has_what_became_of_the_search() -> None:
    """Counts and times are those of the status, the rest is what was decided."""
    searched = searched_with(opaque_id="op", start=20)
    status = status_with(
        status="partial", reason="deadline", window=100, scored=60, cached=45, missing_text=10, cut=3, low_mass=2
    )
    event = event_with(searched, status, kept=KeptQuery(user_query="moon"))
    assert (event.status, event.reason, event.window, event.scored, event.missing) == (
        "partial",
        "deadline",
        100,
        60,
        40,
    )
    assert (event.cut, event.low_mass, event.truncated, event.missing_text) == (3, 2, 0, 10)
    assert event.cache_hit_ratio == 0.5  # of the 90 hits that have text
    assert (event.took_total_ms, event.took_engine_ms, event.took_score_ms) == (40.0, 4.0, 30.0)
    assert event.took_reasoning_ms is None
    assert (event.page_from, event.page_size, event.index, event.rules_version) == (20, 10, "films", "v1")
    assert (event.query_id, event.user_query, event.opaque_id, event.proxy) == ("q-1", "moon", "op", "here:1")


def test_what_does_not_apply_is_not_written() -> None:
    """A search that passed on has no hits, so it says nothing of them."""
    event = event_with(searched_with(found=None, verdict=None), status_with(status="failed", window=0, scored=0))
    written = msgspec.json.decode(msgspec.json.encode(event))
    absent = {"overlap_at_10", "moved_mean", "moved_max", "cache_hit_ratio", "think_tokens", "user_query", "reason"}
    assert not absent & written.keys()
    assert written["scored"] == 0
    assert shown_hits_of(searched_with(found=None, verdict=None), event) == []


def test_only_a_reranked_window_has_moved() -> None:
    """Where no hit has a rank score, nothing is said of moves: zeros would hide what reranking changes elsewhere."""
    assert event_with(searched_with([None, None])).overlap_at_10 is None
    assert event_with(searched_with([1.0, 2.0])).moved_max == 1


def test_thinking_is_counted_for_a_scorer_that_thinks() -> None:
    """The tokens of the whole window, None for a scorer that does not think."""
    searched = searched_with()
    assert event_with(searched).think_tokens is None
    assert event_with(replace(searched, decision=replace(searched.decision, mode="think"))).think_tokens == 21


def test_each_shown_hit_has_its_scores_and_places() -> None:
    """Three hits of a window, one of them without text, and one behind it, as the page shows them."""
    searched = searched_with([1.0, None, 9.0], behind=2, start=1, size=3)
    rows = shown_hits_of(searched, event_with(searched, kept=KeptQuery(user_query_hash="ab")))
    assert [(row.object_id, row.position, row.engine_rank, row.moved) for row in rows] == [
        ("1", 2, 2, 0),
        ("0", 3, 1, -2),
        ("3", 4, 4, 0),
    ]
    assert [row.rank_score for row in rows] == [None, 1.0, None]
    assert [row.rank_score_rank for row in rows] == [None, 2, None]
    assert [row.engine_score for row in rows] == [4.0, 5.0, 2.0]
    assert rows[1].fused_score is not None
    assert rows[2].fused_score is None
    assert {(row.query_id, row.hit_index, row.user_query_hash) for row in rows} == {("q-1", "films", "ab")}


@given(SCORES, st.integers(0, 12), st.integers(0, 35), st.integers(1, 20))
def test_rows_are_the_page(scores: list[float | None], behind: int, start: int, size: int) -> None:
    """Positions go on by one, each hit is there once, and `moved` is the way between its ranks."""
    searched = searched_with(scores, behind=behind, start=start, size=size)
    rows = shown_hits_of(searched, event_with(searched))
    count = len(scores) + behind
    assert [row.position for row in rows] == list(range(start + 1, min(start + size, count) + 1))
    assert len({row.object_id for row in rows}) == len(rows)
    assert all(row.moved == row.engine_rank - row.position for row in rows)
    assert all((row.rank_score is None) == (row.rank_score_rank is None) for row in rows)


@pytest.mark.parametrize(("reason", "leaves"), [("language", True), ("no_redis", True), ("system_index", False)])
def test_system_indices_leave_no_event(reason: str, leaves: bool) -> None:
    """A search that could find a system index, and did, tells nothing: the events themselves may be what it found."""
    assert leaves_event(status_with(status="skipped", reason=reason)) is leaves


def test_no_text_of_a_document_can_be_in_an_event() -> None:
    """Of a hit, its ids, scores and places are written, and nothing of its source."""
    searched = searched_with()
    assert searched.found is not None
    with_text = replace(searched.found, hits=({"_source": msgspec.Raw(b'{"text":"secret words"}')},) * 3)
    searched = replace(searched, found=with_text)
    event = event_with(searched)
    assert b"secret" not in msgspec.json.encode([event, *shown_hits_of(searched, event)])
