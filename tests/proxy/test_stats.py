"""The counters of a process add up."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.status import SearchStatus
from es_rerank.proxy.stats import SearchStats
from tests.virtual import VirtualClock

STATUSES = st.builds(
    SearchStatus,
    status=st.sampled_from(["full", "partial", "failed", "skipped"]),
    reason=st.sampled_from([None, "deadline", "sort"]),
    rule=st.sampled_from([None, "films", "notes"]),
    window=st.integers(0, 100),
    scored=st.integers(0, 100),
    cached=st.integers(0, 100),
    took_ms=st.dictionaries(st.sampled_from(["engine", "score", "total"]), st.floats(0, 1e4)),
)


@given(st.lists(STATUSES, max_size=12))
def test_every_search_is_counted_once(statuses: list[SearchStatus]) -> None:
    """Totals are those of the parts, and each step has the sum and the largest of its times."""
    stats = SearchStats(VirtualClock())
    for status in statuses:
        stats.count(status)
    block = stats.block()
    searches = block["searches"]
    assert searches["total"] == len(statuses) == sum(searches["status"].values())
    assert sum(searches["reason"].values()) == sum(status.reason is not None for status in statuses)
    assert sum(rule["total"] for rule in searches["rule"].values()) == len(statuses)
    assert block["hits"]["scored"] == sum(status.scored for status in statuses)
    for step, took in block["took_ms"].items():
        times = [status.took_ms[step] for status in statuses if step in status.took_ms]
        assert took["count"] == len(times)
        assert took["sum"] == pytest.approx(sum(times), abs=0.1)
        assert took["max"] == pytest.approx(max(times), abs=0.1)


async def test_what_is_being_answered_is_in_flight() -> None:
    """A search is in flight until its block ends, however it ends; the uptime runs from the start."""
    clock = VirtualClock()
    stats = SearchStats(clock)
    with contextlib.suppress(ZeroDivisionError), stats.in_flight():
        assert stats.block()["searches"]["in_flight"] == 1
        raise ZeroDivisionError
    assert stats.block()["searches"]["in_flight"] == 0
    assert stats.block()["hits"]["cache_hit_ratio"] is None
