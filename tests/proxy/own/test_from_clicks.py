"""From clicks to a judgment list, end to end: hit rows and events in the engine, grades as computed by hand."""

from __future__ import annotations

import json
import random
import urllib.error
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.store.indices import HITS
from tests.conftest import System, send_json
from tests.proxy.own.asked import ENGINES, LISTS, Asked, asked_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROWS = "es-rerank-hits-2026.11"
EVENTS = "ubi_events"
SEARCHES = 300
WORDS = ("red shoes", "blue coat", "lamp")
SAME = "ten searches are too few"
# As User Behavior Insights maps them; `query_id`, which it leaves out, becomes a text with a keyword below.
EVENT_FIELDS = {
    "action_name": {"type": "keyword"},
    "timestamp": {"type": "date"},
    "event_attributes": {
        "properties": {
            "position": {"properties": {"ordinal": {"type": "integer"}}},
            "object": {"properties": {"object_id": {"type": "keyword"}}},
        }
    },
}


@pytest.fixture(scope="module", params=ENGINES)
def asked(request: pytest.FixtureRequest, run_system: Callable[..., System]) -> Asked:
    """A proxy with a store before each engine in turn."""
    return asked_on(request.param, request, run_system)


@pytest.fixture
def indices(asked: Asked) -> Iterator[str]:
    """The engine's URL, with empty indices for rows and events."""
    url = asked.engine.url
    for index in (ROWS, EVENTS):  # other tests on this engine may have left some
        with suppress(urllib.error.HTTPError):
            send_json(f"{url}/{index}", method="DELETE")
    send_json(f"{url}/{ROWS}", HITS.body(), method="PUT")
    send_json(f"{url}/{EVENTS}", {"mappings": {"properties": EVENT_FIELDS}}, method="PUT")
    yield url
    for index in (ROWS, EVENTS):
        send_json(f"{url}/{index}", method="DELETE")
    asked("DELETE", f"{LISTS}/clicked")


def load(url: str, index: str, documents: Iterable[dict[str, Any]]) -> None:
    """Index documents without ids of their own."""
    body = "".join(f'{{"index": {{}}}}\n{json.dumps(one)}\n' for one in documents).encode()
    answer = send_json(f"{url}/{index}/_bulk?refresh=true", body, method="POST")
    assert not answer["errors"]


def row(query_id: str, words: str, document: str, position: int, **more: Any) -> dict[str, Any]:
    """A hit as it was shown."""
    shown = {"query_id": query_id, "user_query": words, "object_id": document, "position": position}
    return {"timestamp": "2026-11-28T09:00:00Z", "index": "films", "hit_index": "films-1", **shown, **more}


def event(query_id: str, document: str, action: str = "click") -> dict[str, Any]:
    """What somebody did with a document."""
    return {
        "timestamp": "2026-11-28T09:00:05Z",
        "query_id": query_id,
        "action_name": action,
        "event_attributes": {"object": {"object_id": document}},
    }


def test_clicks_become_grades(asked: Asked, indices: str) -> None:
    """COEC of each pair that was shown often enough, against a computation from the rows and events themselves."""
    chance = random.Random(7)
    rows, events = [], []
    shown: Counter[tuple[str, str]] = Counter()
    clicked: Counter[tuple[str, str]] = Counter()
    at, clicked_at = Counter[int](), Counter[int]()
    places: dict[tuple[str, str], Counter[int]] = {}
    for number in range(SEARCHES):
        query_id, words = f"s{number}", WORDS[number % 3] if number >= 9 else SAME
        documents = chance.sample([f"d{n}" for n in range(6)], 4)
        for position, document in enumerate(documents, start=1):
            rows.append(row(query_id, words, document, position))
            shown[words, document] += 1
            at[position] += 1
            places.setdefault((words, document), Counter())[position] += 1
            if chance.random() < (0.6 if document == "d1" else 0.2) / position:
                # However often it is clicked in one search.
                events += [event(query_id, document)] * chance.choice([1, 2])
                clicked[words, document] += 1
                clicked_at[position] += 1
        events.append(event(query_id, "d9"))  # not among the rows
        events.append(event(query_id, documents[0], "hover"))
    events.append(event("of-another-search", "d1"))
    load(indices, ROWS, rows)
    load(indices, EVENTS, events)
    expected = {}
    for pair, count in shown.items():
        if count >= 10:
            by_chance = sum(n * clicked_at[place] / at[place] for place, n in places[pair].items())
            expected[pair] = (min(3.0, clicked[pair] / by_chance), count, clicked[pair], by_chance)
    asked("PUT", f"{LISTS}/clicked", "lamp\td1\t2\n")
    asked("PUT", f"{LISTS}/clicked?source=clicks", "gone\td1\t2\n")
    answer = asked("POST", f"{LISTS}/clicked/_from_clicks")
    assert answer.status == 200
    told = answer.value
    assert (told["source"], told["grades"], told["deleted"]) == ("clicks", len(expected), 1)
    assert (told["rows"], told["pairs"]) == (len(rows), len(shown))
    assert told["clicks"] == clicked.total()
    assert told["too_few_impressions"] == len(shown) - len(expected) > 0
    grades = asked("GET", f"{LISTS}/clicked?source=clicks").value
    found = {
        (one["query_id"], one["object_id"]): (
            one["grade"],
            one["impressions"],
            one["clicks"],
            one["expected_clicks"],
        )
        for one in grades
    }
    assert found.keys() == expected.keys()
    for pair, figures in expected.items():
        assert found[pair] == pytest.approx(figures)
    assert {one["index"] for one in grades} == {"films-1"}
    assert all(one["user_query"] == one["query_id"] for one in grades)
    assert asked("GET", f"{LISTS}/clicked?source=people").value[0]["grade"] == 2
    assert asked("POST", f"{LISTS}/clicked/_from_clicks?min_impressions=1").value["too_few_impressions"] == 0


def test_rows_are_chosen_by_index_and_time(asked: Asked, indices: str) -> None:
    """`index` is what was searched or where a hit is; `since` is a time; what is left must be enough."""
    rows = [row(f"a{n}", "red", "d", 1) for n in range(10)]
    rows += [row(f"b{n}", "red", "d", 1, index="shoes", hit_index="shoes-1") for n in range(10)]
    rows += [row(f"c{n}", "red", "e", 1, timestamp="2020-01-01T00:00:00Z") for n in range(10)]
    load(indices, ROWS, rows)
    load(indices, EVENTS, [event("a0", "d"), event("b0", "d"), event("b1", "d"), event("c1", "e")])
    for query, grades in (
        ("", [("films-1", "d"), ("films-1", "e"), ("shoes-1", "d")]),
        ("?index=films", [("films-1", "d"), ("films-1", "e")]),
        ("?index=shoes-1", [("shoes-1", "d")]),
        ("?since=2026-01-01", [("films-1", "d"), ("shoes-1", "d")]),
    ):
        assert asked("POST", f"{LISTS}/clicked/_from_clicks{query}").status == 200
        found = asked("GET", f"{LISTS}/clicked").value
        assert sorted((one["index"], one["object_id"]) for one in found) == grades
    answer = asked("POST", f"{LISTS}/clicked/_from_clicks?min_impressions=11")
    assert answer.status == 404
    assert answer.reason.startswith(
        "no judgment comes from the clicks, and nothing was changed: 30 hit rows of 3 pairs"
    )
    assert asked("POST", f"{LISTS}/clicked/_from_clicks?since=yesterday").status == 400


def test_rows_with_hashes_make_a_list_without_words(asked: Asked, indices: str) -> None:
    """Where the operator keeps hashes alone, they are the ids; rows without either are counted and told."""
    rows = [row(f"a{n}", "red", "d", 1, user_query_hash="h1") for n in range(10)]
    for one in rows:
        del one["user_query"]
    bare = dict(rows[0])
    del bare["user_query_hash"]
    load(indices, ROWS, [*rows, bare])
    load(indices, EVENTS, [event("a1", "d")])
    answer = asked("POST", f"{LISTS}/clicked/_from_clicks")
    assert (answer.status, answer.value["rows"]) == (200, 10)
    assert asked("GET", f"{LISTS}/clicked").value[0]["query_id"] == "h1"
    assert "user_query" not in asked("GET", f"{LISTS}/clicked").value[0]


def test_what_is_missing_is_said(asked: Asked, indices: str) -> None:
    """No rows, rows without queries, and no index with events are errors that say so."""
    answer = asked("POST", f"{LISTS}/clicked/_from_clicks")
    assert (answer.status, answer.reason) == (
        404,
        "[es-rerank-hits-*] tells nothing of what was shown: it has no such row",
    )
    bare = row("a", "red", "d", 1)
    del bare["user_query"]
    load(indices, ROWS, [bare])
    assert "set events.query_text" in asked("POST", f"{LISTS}/clicked/_from_clicks").reason
    load(indices, ROWS, [row("a", "red", "d", 1)])
    answer = asked("POST", f"{LISTS}/clicked/_from_clicks?events=clicks-of-the-shop")
    assert (answer.status, answer.reason) == (404, "there is no index [clicks-of-the-shop], so there are no clicks")
    send_json(f"{indices}/{EVENTS}", method="DELETE")
    send_json(f"{indices}/{EVENTS}", {"mappings": {"properties": {"query_id": {"type": "text"}}}}, method="PUT")
    answer = asked("POST", f"{LISTS}/clicked/_from_clicks")
    assert (answer.status, answer.reason.partition(" of type")[0]) == (400, "[ubi_events] has no field [query_id]")
