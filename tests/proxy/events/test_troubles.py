"""What the log says while events are not written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from es_rerank.proxy.events.bulk import Refusal
from es_rerank.proxy.events.troubles import MAX_SAID, Troubles

if TYPE_CHECKING:
    import pytest

BUSY = Refusal("es_rejected_execution_exception", "(429) busy", may_pass=True)
READ_ONLY = Refusal("cluster_block_exception", "(403) index blocked")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the log, up to the reason."""
    return [record.message.split(":")[0] for record in caplog.records]


def test_each_reason_is_logged_once_until_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    """A reason is said when it is new, a request that goes well ends the trouble, and then it may be said again."""
    caplog.set_level(logging.INFO)
    troubles = Troubles()
    for answer in (BUSY, BUSY, READ_ONLY, BUSY, None, None, BUSY):
        troubles.note(["events", "events"], [None, answer])
    assert said(caplog) == [
        "events-* is not written",
        "events-* is not written",
        "events-* is written again",
        "events-* is not written",
    ]
    assert "the engine says cluster_block_exception: (403) index blocked" in caplog.text


def test_an_index_that_is_well_does_not_hide_one_that_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """Requests that go well because they have no rows say nothing about the rows: their trouble is not said again."""
    caplog.set_level(logging.INFO)
    troubles = Troubles()
    for _ in range(3):
        troubles.note(["events", "hits"], [None, READ_ONLY])
        troubles.note(["events"], [None])
    assert said(caplog) == ["hits-* is not written"]
    troubles.note(["events", "hits"], [None, None])
    assert said(caplog) == ["hits-* is not written", "hits-* is written again"]


def test_words_without_end_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Of an engine that always says something else, only so many lines are written."""
    troubles = Troubles()
    for number in range(5 * MAX_SAID):
        troubles.note(["events"], [Refusal(f"error-{number}", "x")])
    assert len(caplog.records) == MAX_SAID


def test_a_full_buffer_is_said_again_only_after_it_was_empty(caplog: pytest.LogCaptureFixture) -> None:
    """Under steady overload it is full again and again, which is one trouble."""
    troubles = Troubles()
    for dropped, waiting in ((0, 5), (3, 9), (3, 9), (7, 9), (7, 0), (9, 9)):
        troubles.note_dropped(dropped, waiting=waiting)
    assert said(caplog) == ["events are dropped"] * 2
