"""Replays from Dev Tools on a running system: what is recorded, from where it is seen, and what ends it."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import COMMAND, Engine, System
from tests.proxy.own.system import FILMS, INDEX, QUERIES, RULES, WORDS, ask, await_job, begin, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from es_rerank.demo.processes import Child, Supervisor

REPLAYS = "/_es_rerank/replays"
WARM = 5
TOTAL = 15
OTHER_RULE = """
[[rules]]
name = "other"
indices = ["other*"]
fields = ["text"]
scorer = "e5"
"""
LONG_AGO = "2026-01-01T00:00:00.000000Z"


@pytest.fixture(scope="module")
def osmem(osmem_url: str) -> Engine:
    """The embedded engine."""
    return Engine("osmem", osmem_url)


@pytest.fixture(scope="module")
def system(osmem: Engine, tuned_on: Callable[[Engine], System]) -> System:
    """The system before it."""
    return tuned_on(osmem)


def queries_about(word: str) -> list[dict[str, str]]:
    """Queries that no other test asks."""
    return [
        {"query_id": str(number), "user_query": f"{word} {WORDS[number % 8]} in {number} days"}
        for number in range(TOTAL)
    ]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two proxies before one engine, and their only worker, which can be held up."""

    engine: Engine
    system: System
    second: System
    worker: Child

    def begin_and_stall(self, on: System, word: str) -> str:
        """Begin a replay whose first queries are in the cache, and whose next ones wait for the worker; its id."""
        queries = queries_about(word)
        for query in queries[:WARM]:
            search = {"query": {"multi_match": {"query": query["user_query"], "fields": ["title", "text"]}}}
            assert self.system.search(INDEX, search)["_es_rerank"]["status"] == "full"
        self.hold_up()
        identity = begin(on.url, REPLAYS, {"index": INDEX, "queries": queries, "concurrency": 1})
        await_job(self.system.url, f"{REPLAYS}/{identity}", lambda job: job["done"] == WARM)
        return identity

    def hold_up(self) -> None:
        """Let the worker do nothing."""
        self.worker.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the worker work again."""
        self.worker.process.send_signal(signal.SIGCONT)


@pytest.fixture
def pair(
    osmem: Engine, system: System, supervisor: Supervisor, own_redis_url: str, run_system: Callable[..., System]
) -> Iterator[Pair]:
    """See `Pair`; the indices are those of `system`."""
    first, second = (run_system(osmem.url, redis=own_redis_url, extra=f"[store]\n{RULES}") for _ in range(2))
    pair = Pair(osmem, first, second, first.start_worker())
    yield pair
    pair.go_on()
    for child in (pair.worker, first.proxy, second.proxy):
        supervisor.end(child)


def windows_of(engine: Engine, recording: str, total: int) -> list[dict[str, Any]]:
    """The recorded queries in their order; that there are no others."""
    ask(engine.url, "POST", "/es-rerank-windows/_refresh")
    body = {"query": {"term": {"recording": recording}}, "size": 1000, "sort": ["position"]}
    hits = ask(engine.url, "POST", "/es-rerank-windows/_search", body).value["hits"]["hits"]
    assert [hit["_source"]["position"] for hit in hits] == list(range(total))
    return [hit["_source"]["query"] for hit in hits]


def test_a_replay_records_what_searches_give(any_engine: Engine, tuned_on: Callable[[Engine], System]) -> None:
    """For each judged query: the hits of the window with the scores that a search shows, and no text of a document."""
    system = tuned_on(any_engine)
    identity = begin(system.url, REPLAYS, {"index": INDEX, "judgments": "people", "label": "first"})
    job = finish(system.url, f"{REPLAYS}/{identity}")
    assert (job["done"], job["total"], job["statuses"]) == (12, 12, {"full": 12})
    assert (job["judgments"], job["label"], job["rule"], job["scorer"]) == ("people", "first", "films", "minilm")
    recorded = windows_of(any_engine, identity, 12)
    assert {query["query_id"] for query in recorded} == {query["query_id"] for query in QUERIES}
    for query in recorded:
        search = {"query": {"multi_match": {"query": query["user_query"], "fields": ["title", "text"]}}, "size": 20}
        answer = system.search(INDEX, search, include=["scores"], alpha=1.0)
        hits = answer["hits"]["hits"]
        assert [hit["_id"] for hit in hits] == [key for _, key in query["ids"]]
        shown = [hit["_es_rerank"] for hit in hits]
        assert [one["engine_score"] for one in shown] == query["engine_scores"]
        assert [one["rank_score"] for one in shown] == [one["rank_score"] for one in query["judgments"]]
    kept = json.dumps(recorded)
    assert not any(film["text"] in kept for film in FILMS.values())
    assert ask(system.url, "DELETE", f"{REPLAYS}/{identity}").status == 200
    windows_of(any_engine, identity, 0)
    assert ask(system.url, "GET", f"{REPLAYS}/{identity}").status == 404


def test_a_replay_may_search_in_its_own_way(system: System) -> None:
    """A search body and a window of one's own; both are kept with the job."""
    request = {"query": {"match": {"title": "%SearchText%"}}, "size": 3}
    body = {"index": INDEX, "queries": QUERIES, "request": json.dumps(request), "window": 7, "concurrency": 4}
    job = finish(system.url, f"{REPLAYS}/{begin(system.url, REPLAYS, body)}")
    assert job["result"]["head"]["setting"] == {"window": 7, "method": "zscore", "alpha": 0.4, "score": "paper"}
    assert (job["request"]["request"], "queries" in job["request"]) == (body["request"], False)
    listed = ask(system.url, "GET", REPLAYS).value["replays"]
    assert next(one for one in listed if one["id"] == job["id"])["state"] == "done"


def test_a_killed_proxy_loses_and_doubles_no_query(pair: Pair) -> None:
    """Killed in the middle, the replay is shown as interrupted, and another proxy goes on behind the last query."""
    identity = pair.begin_and_stall(pair.second, "killed")
    path = f"{REPLAYS}/{identity}"
    assert ask(pair.system.url, "POST", f"{path}/_resume").status == 409
    pair.second.proxy.process.kill()
    pair.second.proxy.process.wait()
    # Only its age tells that nobody runs it any more.
    update = {"doc": {"updated": LONG_AGO}}
    assert ask(pair.engine.url, "POST", f"/es-rerank-jobs/_update/{identity}?refresh=true", update).status == 200
    job = ask(pair.system.url, "GET", path).value
    assert (job["state"], job["done"]) == ("interrupted", WARM)
    refused = ask(pair.system.url, "POST", "/_es_rerank/sweeps", {"recording": identity, "judgments": "people"})
    assert (refused.status, "_resume" in refused.reason) == (409, True)
    pair.go_on()
    answer = ask(pair.system.url, "POST", f"{path}/_resume")
    assert (answer.status, answer.value["done"], answer.value["total"]) == (202, WARM, TOTAL)
    job = finish(pair.system.url, path)
    assert (job["done"], job["statuses"]) == (TOTAL, {"full": TOTAL})
    recorded = windows_of(pair.engine, identity, TOTAL)
    assert [query["query_id"] for query in recorded] == [str(number) for number in range(TOTAL)]


def test_a_replay_is_cancelled_through_another_proxy(pair: Pair) -> None:
    """The one that runs it ends it; what was recorded stays, and it can be resumed."""
    identity = pair.begin_and_stall(pair.system, "cancelled")
    path = f"{REPLAYS}/{identity}"
    assert ask(pair.second.url, "DELETE", path).status == 409
    # Even if its document is old, since it could not be written for long, it runs once.
    ask(pair.engine.url, "POST", f"/es-rerank-jobs/_update/{identity}", {"doc": {"updated": LONG_AGO}})
    assert ask(pair.system.url, "POST", f"{path}/_resume").status == 409
    assert ask(pair.second.url, "POST", f"{path}/_cancel").value["cancel"]
    job = finish(pair.second.url, path, state="cancelled")
    assert job["done"] == WARM
    assert ask(pair.second.url, "POST", f"{path}/_cancel").status == 409
    pair.go_on()
    assert ask(pair.second.url, "POST", f"{path}/_resume").status == 202
    assert finish(pair.system.url, path)["statuses"] == {"full": TOTAL}


def test_a_stopped_proxy_says_so(pair: Pair) -> None:
    """SIGTERM ends a replay at once, and its document says that it was interrupted, and why."""
    identity = pair.begin_and_stall(pair.second, "stopped")
    pair.second.proxy.process.terminate()
    assert pair.second.proxy.process.wait() == 0
    job = ask(pair.system.url, "GET", f"{REPLAYS}/{identity}").value
    assert (job["state"], job["error"]) == ("interrupted", "the proxy that ran it was stopped")


def test_a_proxy_runs_two_replays_at_a_time(pair: Pair) -> None:
    """A third is refused, so that live searches are not slowed, until one has ended."""
    body = {"index": INDEX, "queries": queries_about("two")}
    first = pair.begin_and_stall(pair.system, "two")
    other = begin(pair.system.url, REPLAYS, body)
    refused = ask(pair.system.url, "POST", REPLAYS, body)
    assert (refused.status, "2 replays run in this proxy" in refused.reason) == (503, True)
    for identity in (first, other):
        ask(pair.second.url, "POST", f"{REPLAYS}/{identity}/_cancel")
        finish(pair.second.url, f"{REPLAYS}/{identity}", state="cancelled")
    pair.go_on()
    finish(pair.system.url, f"{REPLAYS}/{begin(pair.system.url, REPLAYS, body)}")


def test_another_scorer_is_tried_in_one_replay_alone(
    osmem: Engine, system: System, redis_url: str, supervisor: Supervisor, run_system: Callable[..., System]
) -> None:
    """The same queries by MiniLM and by E5: two recordings of the same hits, which a comparison puts side by side."""
    both = run_system(osmem.url, redis=redis_url, extra=f'[store]\n[scorers.e5]\nkind = "e5"\n{RULES}{OTHER_RULE}')
    command = [*COMMAND, "worker", "--config", str(both.config), "--scorer", "e5"]
    worker = supervisor.start("worker-e5", command)
    supervisor.await_ready(worker, lambda: bool(both.health()["parts"]["scorers"]["e5"]["workers"]), limit_s=60.0)
    body = {"index": INDEX, "judgments": "people"}
    ids = [begin(both.url, REPLAYS, {**body, "rule": rule}) for rule in ({}, {"scorer": "e5"})]
    minilm, e5 = (finish(both.url, f"{REPLAYS}/{identity}") for identity in ids)
    supervisor.end(worker)
    assert (minilm["scorer"], e5["scorer"], e5["statuses"]) == ("minilm", "e5", {"full": 12})
    first, second = (windows_of(osmem, identity, 12) for identity in ids)
    assert [query["ids"] for query in first] == [query["ids"] for query in second]
    assert [query["judgments"] for query in first] != [query["judgments"] for query in second]
    sides = {"a": {"recording": ids[0]}, "b": {"recording": ids[1]}, "judgments": "people"}
    compared = finish(both.url, f"/_es_rerank/comparisons/{begin(both.url, '/_es_rerank/comparisons', sides)}")
    assert (compared["scorer"], compared["result"]["queries"]) == ("e5", 12)
    # A resume by another model would mix two scorers in one recording.
    update = {"doc": {"state": "cancelled", "result": {"head": {"fingerprint": "minilm-of-old"}}}}
    ask(osmem.url, "POST", f"/es-rerank-jobs/_update/{ids[0]}", update)
    refused = ask(both.url, "POST", f"{REPLAYS}/{ids[0]}/_resume")
    assert (refused.status, "is another one now; begin anew" in refused.reason) == (409, True)


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"index": ...}, 400, "[index] is missing"),
        ({"index": 7}, 400, "[index] must be a text of 1 to 512 characters, was [7]"),
        ({"index": "other"}, 400, "[index] no rule holds for [other] (no_rule)"),
        ({"index": ".kibana"}, 400, "(system_index)"),
        ({"index": "films-gone"}, 404, "no such index [films-gone]"),
        ({"queries": ...}, 400, "exactly one of [judgments] and [queries]"),
        ({"judgments": "people"}, 400, "exactly one of [judgments] and [queries]"),
        ({"queries": ..., "judgments": "nobody"}, 404, "there is no judgment list [nobody]"),
        ({"queries": ..., "judgments": "people", "source": "clicks"}, 404, "no grade of the source [clicks]"),
        ({"queries": ..., "judgments": ["people"]}, 400, "[judgments] must be a text"),
        ({"queries": [{"query_id": "1"}]}, 400, "[queries[0].user_query] must be a text"),
        ({"request": {"query": {"match_all": {}}}}, 400, "[request.query] must hold [%SearchText%]"),
        ({"rule": ["alpha"]}, 400, "[rule] must be an object"),
        ({"rule": {"alpha": 7}}, 400, "[rule] alpha = 7"),
        ({"rule": {"scorer": "x"}}, 400, "[rule] scorer = 'x': known are minilm"),
        ({"window": 0}, 400, "[window] must be a whole number from 1 to 200, was [0]"),
        ({"window": 201}, 400, "[window] must be a whole number from 1 to 200, was [201]"),
        ({"concurrency": 17}, 400, "[concurrency] must be a whole number from 1 to 16, was [17]"),
        ({"concurrency": True}, 400, "[concurrency] must be a whole number from 1 to 16, was [true]"),
        ({"label": None}, 400, "[label]"),
        ({"labels": "x"}, 400, "unknown field [labels]; allowed are [index, judgments, "),
    ],
)
def test_a_wrong_request_begins_nothing(system: System, change: dict[str, Any], status: int, said: str) -> None:
    """The error names the field, what it was and what is allowed; no job is there afterwards."""
    body = {"index": INDEX, "queries": QUERIES, **change}
    before = ids_of_replays(system)
    answer = ask(system.url, "POST", REPLAYS, {key: value for key, value in body.items() if value is not ...})
    assert answer.status == status, answer.value
    assert said in answer.reason
    assert ids_of_replays(system) == before


def ids_of_replays(system: System) -> list[str]:
    """The ids of all replays."""
    return [one["id"] for one in ask(system.url, "GET", REPLAYS).value["replays"]]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/x"), ("POST", "/x/_cancel"), ("POST", "/x/_resume"), ("DELETE", "/x")],
)
def test_a_replay_that_does_not_exist_is_not_found(system: System, method: str, path: str) -> None:
    """404, for a job of another kind too."""
    answer = ask(system.url, method, REPLAYS + path)
    assert (answer.status, answer.reason) == (404, "there is no replay [x]")


def test_without_a_store_there_are_no_jobs(osmem: Engine, run_system: Callable[..., System]) -> None:
    """501, with what to put into the configuration."""
    bare = run_system(osmem.url)
    for method, path in (("GET", REPLAYS), ("POST", "/_es_rerank/sweeps"), ("POST", "/_es_rerank/comparisons")):
        answer = ask(bare.url, method, path, None if method == "GET" else {})
        assert (answer.status, "[store]" in answer.reason) == (501, True)
