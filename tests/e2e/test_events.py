"""What a search leaves in the indices of events, through a real proxy on the embedded engine and on the real ones."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.store.indices import EVENTS, HITS
from tests.conftest import RULES, send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System

EVENTS_ON = '[store]\n[events]\nhits_sample_rate = 1.0\nquery_text = "plain"\nflush_s = 0.2\n'
FILMS = {
    str(number): {"title": f"film {number}", "text": f"a film about the {word}, and about film number {number}"}
    for number, word in enumerate(["moon", "rain", "fire", "ice", "sun", "sea", "wind", "stone", "wood", "night"] * 3)
}
LIMIT_S = 60.0


def find(engine: Engine, index: str, query: dict[str, Any], *, size: int = 100) -> list[dict[str, Any]]:
    """The documents that match, in the order of `position`; [] while there is no such index."""
    with contextlib.suppress(urllib.error.HTTPError):
        send_json(f"{engine.url}/{index}-*/_refresh", method="POST")
        answer = send_json(f"{engine.url}/{index}-*/_search", {"query": query, "size": size}, method="POST")
        found = [hit["_source"] for hit in answer["hits"]["hits"]]
        return sorted(found, key=lambda one: one.get("position", 0))
    return []


def await_documents(engine: Engine, index: str, query: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """So many documents that match, once they are there."""
    give_up_s = time.monotonic() + LIMIT_S
    while len(found := find(engine, index, query)) < count:
        assert time.monotonic() < give_up_s, f"{len(found)} of {count} in {index} for {query}"
        time.sleep(0.1)
    return found


@pytest.fixture
def told(any_engine: Engine, run_system: Callable[..., System]) -> Iterator[tuple[Engine, System]]:
    """A proxy that tells of its searches, with a worker, before an engine with films; afterwards no event is left."""
    any_engine.load("films", FILMS)
    system = run_system(any_engine.url, extra=EVENTS_ON + RULES)
    if not system.workers():
        system.start_worker()
    yield any_engine, system
    system.supervisor.end(system.proxy)
    for index in (EVENTS, HITS):
        for name in send_json(f"{any_engine.url}/{index.pattern}/_alias"):
            send_json(f"{any_engine.url}/{name}", method="DELETE")


def test_a_search_leaves_an_event_and_its_rows(told: tuple[Engine, System]) -> None:
    """The event has the status that the caller got, and each shown hit has a row with its scores and its places.

    Clicks as User Behavior Insights keeps them join on the id that the search gave itself.
    """
    engine, system = told
    body = {"query": {"match": {"text": "film about the moon"}}, "size": 5, "from": 2}
    names = {"query_id": "q-1", "client_id": "c-1", "application": "shop"}
    answer = system.search("films", body, **names, include=["status", "scores"])
    status = answer["_es_rerank"]
    assert (status["status"], status["query_id"]) == ("full", "q-1")
    [event] = await_documents(engine, EVENTS.name, {"term": {"query_id": "q-1"}}, 1)
    assert event.items() >= {**names, "user_query": "film about the moon", "index": "films", "rule": "films"}.items()
    same = ("status", "rule", "scorer", "window", "scored", "cached", "missing")
    assert {name: event[name] for name in same} == {name: status[name] for name in same}
    assert event["took_total_ms"] == status["took_ms"]["total"]
    assert (event["page_from"], event["page_size"], event["rules_version"]) == (
        2,
        5,
        system.health()["rules"]["version"],
    )
    assert 0 <= event["overlap_at_10"] <= 1
    assert event["moved_max"] >= event["moved_mean"] > 0

    rows = await_documents(engine, HITS.name, {"term": {"query_id": "q-1"}}, 5)
    hits = answer["hits"]["hits"]
    assert [(row["object_id"], row["hit_index"]) for row in rows] == [(hit["_id"], "films") for hit in hits]
    assert [row["position"] for row in rows] == [3, 4, 5, 6, 7]
    for row, hit in zip(rows, hits, strict=True):
        shown = hit["_es_rerank"]
        assert {name: row[name] for name in shown} == pytest.approx(shown)
        assert row["moved"] == row["engine_rank"] - row["position"]

    # A click on the second hit of the page, as `ubi_events` keeps it.
    clicked_id = hits[1]["_id"]
    joined = {"bool": {"filter": [{"term": {"query_id": "q-1"}}, {"term": {"object_id": clicked_id}}]}}
    assert [row["position"] for row in find(engine, HITS.name, joined)] == [4]

    # No text of a document is anywhere in what was written.
    assert "and about" not in json.dumps([event, rows])


def test_only_reranked_searches_leave_events(told: tuple[Engine, System]) -> None:
    """A search that is only relayed leaves none, nor does one on our own indices, named or found by a pattern."""
    engine, system = told
    text = {"query": {"match": {"text": "film about the rain"}}}
    system.search("films", {**text, "sort": ["_doc"]}, query_id="relayed-1")
    system.search("films", {**text, "size": 0}, query_id="relayed-2")
    system.search("films", text, query_id="reranked")
    await_documents(engine, EVENTS.name, {"term": {"query_id": "reranked"}}, 1)
    about = {"query": {"match": {"user_query": "film"}}}
    assert system.search("es-rerank-events-*", about)["_es_rerank"]["reason"] == "system_index"
    system.search("films", text, query_id="reranked-2")
    await_documents(engine, EVENTS.name, {"term": {"query_id": "reranked-2"}}, 1)
    counts = system.health()["parts"]["events"]
    assert counts["failed"] == {}
    found = {event["query_id"] for event in find(engine, EVENTS.name, {"match_all": {}})}
    assert found == {"reranked", "reranked-2"}


def test_a_search_that_the_engine_refuses_leaves_an_event(told: tuple[Engine, System]) -> None:
    """The caller gets the engine's error; the event says that the search was refused, and knows no hits."""
    engine, system = told
    wrong = {"query": {"match": {"text": {"query": "film about the wind", "operator": "neither"}}}}
    with pytest.raises(urllib.error.HTTPError) as refused:
        system.search("films", wrong, query_id="wrong")
    assert refused.value.code == 400
    refused.value.close()
    [event] = await_documents(engine, EVENTS.name, {"term": {"query_id": "wrong"}}, 1)
    assert (event["status"], event["reason"], event["window"]) == ("skipped", "engine_refused", 0)
    assert "overlap_at_10" not in event
    assert find(engine, HITS.name, {"term": {"query_id": "wrong"}}) == []


def test_what_waits_is_written_before_the_process_ends(told: tuple[Engine, System]) -> None:
    """A proxy that is told to stop right after a search has written its event when it has ended."""
    engine, system = told
    search = {"query": {"match": {"text": "film about the fire"}}}
    system.search("films", search, query_id="first")
    await_documents(engine, EVENTS.name, {"term": {"query_id": "first"}}, 1)  # from here on, events may be written
    system.search("films", search, query_id="last")
    system.supervisor.end(system.proxy)
    assert len(find(engine, EVENTS.name, {"term": {"query_id": "last"}})) == 1
