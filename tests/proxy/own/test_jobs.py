"""What a job's document says of itself: its state by its age, when it will end, and nothing that is empty."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from es_rerank.clock import utc_text
from es_rerank.proxy.own.call import EngineRefusedError
from es_rerank.proxy.own.counts import Counts
from es_rerank.proxy.own.jobs import STALE_S, Job, new_id, outline, shown, state_of, words_of
from es_rerank.records import Reply
from es_rerank.store.indices import JOBS

NOW = datetime(2026, 11, 28, 9, tzinfo=UTC)
JOB = Job(
    id="r1", kind="replay", state="running", timestamp=utc_text(NOW), updated=utc_text(NOW), total=10, took_ms=2000
)


@pytest.mark.parametrize(
    ("state", "age_s", "expected"),
    [
        ("running", 0, "running"),
        ("running", STALE_S - 1, "running"),
        ("running", -STALE_S, "running"),
        ("running", STALE_S + 1, "interrupted"),
        ("done", 10 * STALE_S, "done"),
        ("cancelled", 10 * STALE_S, "cancelled"),
    ],
)
def test_a_job_that_nobody_runs_is_interrupted(state: Any, age_s: float, expected: str) -> None:
    """One that says that it runs, and has not said so for long, does not run any more."""
    job = msgspec.structs.replace(JOB, state=state)
    assert state_of(job, NOW + timedelta(seconds=age_s)) == expected


def test_a_running_job_says_when_it_will_end() -> None:
    """By what a query has taken so far: 2 s for 4 of 10 queries, so 3 s more."""
    job = shown(msgspec.structs.replace(JOB, done=4), NOW)
    assert job["estimated_end"] == utc_text(NOW + timedelta(seconds=3))
    assert "estimated_end" not in shown(JOB, NOW)


def test_what_is_empty_is_left_out_and_numbers_never() -> None:
    """A job that has just begun has done 0 of 10."""
    assert shown(JOB, NOW) == {
        "id": "r1",
        "kind": "replay",
        "state": "running",
        "timestamp": utc_text(NOW),
        "updated": utc_text(NOW),
        "done": 0,
        "total": 10,
        "took_ms": 2000,
    }
    long = msgspec.structs.replace(JOB, request={"index": "films"}, result={"head": {}}, statuses={"full": 1})
    assert outline(long).keys() == outline(JOB).keys()


def test_every_field_of_a_job_is_in_the_definition_of_its_index() -> None:
    """So that each can be charted, and none is kept by chance."""
    assert set(Job.__struct_fields__) == set(JOBS.fields)


def test_ids_sort_by_time_and_never_meet() -> None:
    """The same second gives different ids."""
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(one[:15].replace("-", "").isdecimal() for one in ids)


def test_counts_go_on_from_where_they_were() -> None:
    """Statuses and reasons are counted on top of what was counted before."""
    counts = Counts(done=2, statuses={"full": 1, "skipped": 1}, reasons={"language": 1})
    counts.add([("full", None), ("skipped", "language")])
    assert counts.fields() == {"done": 4, "statuses": {"full": 2, "skipped": 2}, "reasons": {"language": 2}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":{"reason":"no such index [x]"}}', "the engine answered 404: no such index [x]"),
        (b'{"error":"x"}', "the engine answered 404"),
        (b"\x1f\x8b", "the engine answered 404"),
    ],
)
def test_a_refusal_is_told_in_the_engines_words(body: bytes, said: str) -> None:
    """Where it has words."""
    assert words_of(EngineRefusedError(Reply(status=404, headers=(), body=body))) == said
