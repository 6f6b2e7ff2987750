"""What is recorded of searches, and how many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.events.buffer import EventBuffer
from es_rerank.proxy.events.event import SearchEvent, ShownHit
from es_rerank.proxy.events.names import Names
from es_rerank.proxy.events.opening import open_recorder
from es_rerank.proxy.events.recorder import EventRecorder, draw
from es_rerank.proxy.events.writer import EventWriter
from es_rerank.settings import Settings
from es_rerank.tables import EventSettings
from tests.proxy.events.samples import searched_with, status_with
from tests.proxy.events.test_writer import FakeSender

if TYPE_CHECKING:
    from es_rerank.proxy.events.buffer import Waiting


def recorder_with(**settings: Any) -> tuple[EventRecorder, EventBuffer]:
    """A recorder by these settings, whose thread does not run, and its buffer."""
    events = EventSettings(**settings)
    buffer = EventBuffer(events.max_waiting)
    writer = EventWriter(buffer, FakeSender(), flush_s=events.flush_s)
    return EventRecorder(events, buffer, writer, proxy="here:1"), buffer


def recorded(count: int, **settings: Any) -> list[Waiting]:
    """What so many searches with ids of their own leave, of three hits each."""
    recorder, buffer = recorder_with(**settings)
    for number in range(count):
        names = Names(query_id=f"q-{number}", user_query="moon")
        recorder.record(searched_with(names=names), status_with())
    found: list[Waiting] = []
    while batch := buffer.take():
        found += batch
    return found


def test_every_search_leaves_an_event_by_default_and_a_tenth_its_rows() -> None:
    """The rows of an event are those of its hits, and come with it."""
    found = recorded(1_000)
    events = [one for one in found if isinstance(one, SearchEvent)]
    rows = [one for one in found if isinstance(one, ShownHit)]
    assert [event.query_id for event in events] == [f"q-{number}" for number in range(1_000)]
    assert 0.05 < len(rows) / 3_000 < 0.15
    assert len(rows) == 3 * len({row.query_id for row in rows})


def test_a_sample_is_a_share_of_the_searches() -> None:
    """Half of the searches leave events, and half of those rows."""
    found = recorded(2_000, sample_rate=0.5, hits_sample_rate=0.5)
    events = {one.query_id for one in found if isinstance(one, SearchEvent)}
    with_rows = {one.query_id for one in found if isinstance(one, ShownHit)}
    assert 0.4 < len(events) / 2_000 < 0.6
    assert 0.4 < len(with_rows) / len(events) < 0.6
    assert with_rows < events


def test_all_pages_of_a_query_are_in_a_sample_or_none() -> None:
    """The id decides, so that whoever sees it decides alike."""
    recorder, buffer = recorder_with(sample_rate=0.5, hits_sample_rate=0.0)
    for _ in range(3):
        for number in range(50):
            recorder.record(searched_with(names=Names(query_id=f"q-{number}", user_query="x")), status_with())
    times = [event.query_id for event in buffer.take()]
    assert {times.count(query_id) for query_id in times} == {3}


@given(st.text(max_size=256))
def test_a_draw_is_a_share(query_id: str) -> None:
    """Any id, whatever it is written with, gives a number from 0 up to 1, each time the same."""
    assert 0 <= draw(query_id) < 1
    assert draw(query_id) == draw(query_id)


def test_rates_of_one_and_zero_are_all_and_none() -> None:
    """The whole sample has everything, an empty one nothing."""
    assert len(recorded(50, hits_sample_rate=1.0)) == 50 * 4
    assert len(recorded(50, hits_sample_rate=0.0)) == 50


def test_a_search_that_found_system_indices_leaves_nothing() -> None:
    """Not even where everything is in the sample."""
    recorder, buffer = recorder_with(hits_sample_rate=1.0)
    recorder.record(searched_with(), status_with(status="skipped", reason="system_index"))
    assert not len(buffer)


def test_words_are_kept_as_configured() -> None:
    """In the event and in its rows."""
    [event, *rows] = recorded(1, hits_sample_rate=1.0, query_text="plain")
    assert {event.user_query, *(row.user_query for row in rows)} == {"moon"}
    [event, *rows] = recorded(1, hits_sample_rate=1.0)
    assert {event.user_query, *(row.user_query_hash for row in rows)} == {None}


def test_cached_scores_have_saved_what_others_cost() -> None:
    """Once a search was scored, the next says what its cached hits saved."""
    recorder, buffer = recorder_with(hits_sample_rate=0.0)
    recorder.record(searched_with(), status_with())  # 3 hits in 30 ms
    recorder.record(searched_with(), status_with(cached=2, took_ms={}))
    assert [getattr(event, "saved_score_ms", None) for event in buffer.take()] == [0.0, 20.0]


def test_a_fault_costs_the_event_and_not_the_search(caplog: pytest.LogCaptureFixture) -> None:
    """What can't be recorded is logged; nothing is raised."""
    recorder, buffer = recorder_with()
    recorder.record(searched_with(decision=None), status_with())
    assert "an event broke" in caplog.text
    assert not len(buffer)


def test_every_document_is_accounted_for() -> None:
    """What was recorded is written, dropped, failed or waiting."""
    recorder, buffer = recorder_with(hits_sample_rate=0.0, max_waiting=5)
    for _ in range(8):
        recorder.record(searched_with(), status_with())
    assert recorder.counts().block() == {"recorded": 8, "written": 0, "dropped": 3, "failed": {}, "waiting": 5}
    assert len(buffer) == 5


SETTINGS: dict[str, Any] = {"upstream": {"urls": ["http://127.0.0.1:1"]}, "redis": {"url": "redis://127.0.0.1:1"}}


@pytest.mark.parametrize(
    ("tables", "on"),
    [({}, False), ({"store": {}}, True), ({"store": {}, "events": {"sample_rate": 0.0}}, False)],
)
async def test_events_need_a_store_and_a_sample(tables: dict[str, Any], on: bool) -> None:
    """Without [store], or with an empty sample, there is no recorder, and so no thread."""
    async with open_recorder(Settings.model_validate({**SETTINGS, **tables})) as recorder:
        assert (recorder is not None) is on
