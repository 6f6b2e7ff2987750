"""Sweeps and comparisons from Dev Tools on a running system: what they find is what the proxy would answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from es_rerank.tuning.order import order_of
from es_rerank.tuning.recording import RecordedQuery, Setting
from tests.conftest import Engine, System, send_json
from tests.proxy.own.system import INDEX, QUERIES, RULES, ask, begin, finish

if TYPE_CHECKING:
    from collections.abc import Callable

REPLAYS, SWEEPS, COMPARISONS = (f"/_es_rerank/{name}" for name in ("replays", "sweeps", "comparisons"))
WINDOW = 20
PAGE = 7
START_LIMIT_S = 60.0


@pytest.fixture(scope="module", params=("osmem", "opensearch"))
def engine(request: pytest.FixtureRequest) -> Engine:
    """The embedded engine and a real OpenSearch."""
    if request.param == "osmem":
        return Engine("osmem", request.getfixturevalue("osmem_url"))
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def system(engine: Engine, tuned_on: Callable[[Engine], System]) -> System:
    """The system before it."""
    return tuned_on(engine)


@pytest.fixture(scope="module")
def recording(system: System) -> str:
    """A recording of the judged queries."""
    identity = begin(system.url, REPLAYS, {"index": INDEX, "judgments": "people"})
    finish(system.url, f"{REPLAYS}/{identity}")
    return identity


@pytest.fixture(scope="module")
def recorded(engine: Engine, recording: str) -> list[RecordedQuery]:
    """Its queries."""
    body = {"ids": [f"{recording}@{position:06d}" for position in range(len(QUERIES))]}
    found = ask(engine.url, "POST", "/es-rerank-windows/_mget", body).value["docs"]
    return [msgspec.convert(document["_source"]["query"], RecordedQuery) for document in found]


SETTINGS = st.builds(
    Setting,
    window=st.integers(1, WINDOW),
    method=st.sampled_from(["zscore", "minmax", "rrf"]),
    alpha=st.floats(0, 1).map(lambda alpha: round(alpha, 3)),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(QUERIES) - 1), setting=SETTINGS)
def test_a_recording_is_ordered_as_the_proxy_answers(
    place: int, setting: Setting, system: System, recorded: list[RecordedQuery]
) -> None:
    """For any setting, page by page, the hits on the wire are in the order that arithmetic gives."""
    query = recorded[place]
    search = {"query": {"multi_match": {"query": query.user_query, "fields": ["title", "text"]}}, "size": PAGE}
    wishes = {"window": setting.window, "method": setting.method, "alpha": setting.alpha}
    answered: list[tuple[str, str]] = []
    for start in range(0, len(query.ids), PAGE):
        hits = system.search(INDEX, {**search, "from": start}, **wishes)["hits"]["hits"]
        answered += [(hit["_index"], hit["_id"]) for hit in hits]
    assert tuple(answered[: len(query.ids)]) == order_of(query, setting)


def test_a_sweep_finds_a_setting_and_says_whether_to_change(system: System, engine: Engine, recording: str) -> None:
    """From Dev Tools, end to end: an id at once, a verdict in one sentence, and flat documents to chart."""
    grid = {"alpha": {"from": 0, "to": 1, "step": 0.1}, "method": ["zscore", "rrf"], "window": [10, 20]}
    body = {"recording": recording, "judgments": "people", "grid": grid, "measures": ["RR@10"], "label": "first"}
    job = finish(system.url, f"{SWEEPS}/{begin(system.url, SWEEPS, body)}")
    result = job["result"]
    assert (job["done"], job["total"], job["recording"], job["scorer"]) == (12, 12, recording, "minilm")
    assert set(result["winner"]) == {"window", "method", "alpha", "score"}
    assert result["current"] == {"window": 20, "method": "zscore", "alpha": 0.4, "score": "paper"}
    assert (result["metric"], set(result["figures"])) == ("nDCG@10", {"nDCG@10", "RR@10", "Judged@10"})
    assert (result["settings"], result["queries"], set(result["groups"])) == (44, 12, {"g0", "g1"})
    now, best = result["figures"]["nDCG@10"]["current"], result["held_out"]
    assert (result["missing"], result["unjudged"], result["folds"], 0 < result["p"] <= 1) == ([], [], 5, True)
    if result["winner"] != result["current"]:
        assert f"nDCG@10 {now:.3f} → {best:.3f} on held-out queries" in job["verdict"]
    ask(engine.url, "POST", "/es-rerank-runs/_refresh")
    query = {"query": {"term": {"run": job["id"]}}, "size": 1000}
    hits = ask(engine.url, "POST", "/es-rerank-runs/_search", query).value["hits"]["hits"]
    rows = [hit["_source"] for hit in hits]
    assert len(rows) == result["rows"]
    by_setting = {row["setting"] for row in rows if row["aggregate"] and row["metric"] == "nDCG@10"}
    assert len(by_setting) == result["settings"] + 1  # and the engine's order
    assert {row["label"] for row in rows} == {"first"}
    assert ask(system.url, "DELETE", f"{SWEEPS}/{job['id']}").value["deleted"]
    ask(engine.url, "POST", "/es-rerank-runs/_refresh")
    assert not ask(engine.url, "POST", "/es-rerank-runs/_search", query).value["hits"]["hits"]


def test_wider_windows_are_tried_against_the_rules_own(system: System) -> None:
    """A replay that records more hits than the rule reranks leaves the rule's window as the current one."""
    replayed = begin(system.url, REPLAYS, {"index": INDEX, "judgments": "people", "window": 30})
    finish(system.url, f"{REPLAYS}/{replayed}")
    body = {"recording": replayed, "judgments": "people", "grid": {"window": [20, 30]}}
    result = finish(system.url, f"{SWEEPS}/{begin(system.url, SWEEPS, body)}")["result"]
    assert (result["current"]["window"], result["settings"]) == (WINDOW, 2)
    refused = ask(system.url, "POST", SWEEPS, {**body, "grid": {"window": [31]}})
    assert (refused.status, "31 is more than the 30 hits that were recorded" in refused.reason) == (400, True)


def test_what_a_sweep_finds_is_what_the_proxy_gives(system: System, recording: str) -> None:
    """A setting that moves everything to the engine's order has the engine's figure, and so has the comparison."""
    body = {"recording": recording, "judgments": "people", "grid": "alpha=1"}
    sweep = finish(system.url, f"{SWEEPS}/{begin(system.url, SWEEPS, body)}")["result"]
    sides = {"a": {"recording": recording}, "b": {"recording": recording, "setting": {"alpha": 1}}}
    compared = finish(system.url, f"{COMPARISONS}/{begin(system.url, COMPARISONS, {**sides, 'judgments': 'people'})}")[
        "result"
    ]
    engine = sweep["figures"]["nDCG@10"]["engine"]
    assert compared["b"]["value"] == pytest.approx(engine)
    assert compared["a"]["value"] == pytest.approx(sweep["figures"]["nDCG@10"]["current"])
    assert compared["wins"] + compared["losses"] + compared["ties"] == len(QUERIES)


def test_two_ways_to_score_are_compared(system: System, recording: str) -> None:
    """A second replay with another text of the documents, in this replay alone; then both, on the same queries."""
    body = {"index": INDEX, "judgments": "people", "rule": {"fields": ["text"], "method": "rrf"}, "label": "text"}
    other = begin(system.url, REPLAYS, body)
    head = finish(system.url, f"{REPLAYS}/{other}")["result"]["head"]
    assert (head["setting"]["method"], head["rule"]) == ("rrf", "films")
    search = {"query": {"match": {"title": "robot"}}}
    assert system.search(INDEX, search, include=["status"])["_es_rerank"]["rule"] == "films"
    asked = {"a": {"recording": recording}, "b": {"recording": other}, "judgments": "people", "metric": "RR@5"}
    job = finish(system.url, f"{COMPARISONS}/{begin(system.url, COMPARISONS, asked)}")
    assert job["result"]["metric"] == "RR@5"
    assert job["verdict"].startswith(f"{other}: ")
    for moved in job["result"]["moved"]:
        assert all(hit["a"] != hit["b"] for hit in moved["hits"])
    rows = job["result"]["rows"]
    assert ask(system.url, "DELETE", f"{COMPARISONS}/{job['id']}").value["deleted"]
    assert rows > 0


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"recording": ...}, 400, "[recording] is missing"),
        ({"recording": "x"}, 404, "there is no replay [x]"),
        ({"judgments": ...}, 400, "[judgments] is missing"),
        ({"judgments": "nobody"}, 404, "there is no judgment list [nobody]"),
        ({"grid": {"alpha": [2]}}, 400, "grid.alpha: must be numbers from 0 to 1"),
        ({"grid": {"beta": [2]}}, 400, "grid.beta: is unknown"),
        ({"grid": "alpha"}, 400, "grid: 'alpha' must be"),
        ({"grid": {"window": [50]}}, 400, "window: 50 is more than the 20 hits"),
        ({"grid": []}, 400, "grid: must be an object"),
        ({"metric": "NDGC@10"}, 400, "metric: 'NDGC@10' is not taken"),
        ({"metric": 7}, 400, "[metric] must be the name of a metric"),
        ({"measures": "RR@10"}, 400, "[measures] must be a list"),
        ({"folds": 1}, 400, "[folds] must be a whole number from 2 to 100, was [1]"),
        ({"seed": 1}, 400, "unknown field [seed]"),
    ],
)
def test_a_wrong_sweep_begins_nothing(
    system: System, recording: str, change: dict[str, Any], status: int, said: str
) -> None:
    """The error names the field, what it was and what is allowed."""
    body = {"recording": recording, "judgments": "people", **change}
    answer = ask(system.url, "POST", SWEEPS, {key: value for key, value in body.items() if value is not ...})
    assert answer.status == status, answer.value
    assert said in answer.reason


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"a": ...}, 400, "[a] is missing"),
        ({"a": "x"}, 400, "[a] must be [engine] or an object"),
        ({"b": "engine"}, 400, "[a] and [b] are both [engine]"),
        ({"b": {"setting": {}}}, 400, "[recording] is missing"),
        ({"b": {"recording": "x"}}, 404, "there is no replay [x]"),
        ({"b": {"recording": "", "settings": 1}}, 400, "[b] unknown field [settings]"),
        ({"setting": {"alpha": 3}}, 400, "[b.setting] alpha: must be numbers"),
        ({"setting": {"beta": 3}}, 400, "[b.setting] unknown field [beta]"),
        ({"setting": {"window": 99}}, 400, "[b.setting] window: 99 is more than the 20 hits"),
        ({"metric": "x"}, 400, "metric: 'x' is not taken"),
    ],
)
def test_a_wrong_comparison_begins_nothing(
    system: System, recording: str, change: dict[str, Any], status: int, said: str
) -> None:
    """The error names the side and the field."""
    body = {"a": "engine", "b": {"recording": recording}, "judgments": "people", **change}
    if "setting" in body:
        body["b"]["setting"] = body.pop("setting")
    answer = ask(system.url, "POST", COMPARISONS, {key: value for key, value in body.items() if value is not ...})
    assert answer.status == status, answer.value
    assert said in answer.reason


def test_judgments_that_fit_no_query_fail_the_job_and_say_why(system: System, engine: Engine, recording: str) -> None:
    """What only the computing finds out is in the job: failed, in words."""
    line = {"name": "foreign", "query_id": "z", "user_query": "z", "object_id": "1", "grade": 1}
    body = b'{"index":{}}\n' + json.dumps(line).encode() + b"\n"
    ask(engine.url, "POST", "/es-rerank-judgments/_bulk?refresh=true", body)
    identity = begin(system.url, SWEEPS, {"recording": recording, "judgments": "foreign"})
    job = finish(system.url, f"{SWEEPS}/{identity}", state="failed")
    assert "do the ids of the queries agree?" in job["error"]


def test_what_a_failed_sweep_has_written_is_deleted_with_it(system: System, engine: Engine, recording: str) -> None:
    """The engine takes some rows and refuses others; the job says how many there may be, and none is left behind."""
    runs = f"{engine.url}/es-rerank-runs"
    narrow = {"mappings": {"dynamic": False, "properties": {"window": {"type": "ip"}, "run": {"type": "keyword"}}}}
    send_json(runs, method="DELETE")
    send_json(runs, narrow, method="PUT")
    try:
        identity = begin(system.url, SWEEPS, {"recording": recording, "judgments": "people"})
        job = finish(system.url, f"{SWEEPS}/{identity}", state="failed")
        assert job["error"].startswith("es-rerank-runs: ")
        send_json(f"{runs}/_refresh", method="POST")
        assert 0 < send_json(f"{runs}/_count")["count"] < job["result"]["rows"]
        assert ask(system.url, "DELETE", f"{SWEEPS}/{identity}").value["deleted"]
        send_json(f"{runs}/_refresh", method="POST")
        assert send_json(f"{runs}/_count")["count"] == 0
    finally:
        send_json(runs, method="DELETE")


def computing_in(system: System) -> int:
    """The number of the process that computes for a proxy, as soon as there is one."""
    threads = Path(f"/proc/{system.proxy.process.pid}/task")
    due_s = time.monotonic() + START_LIMIT_S
    while True:
        with contextlib.suppress(OSError):  # threads and processes end while they are looked at
            for number in " ".join(file.read_text() for file in threads.glob("*/children")).split():
                if b"spawn_main" in Path(f"/proc/{number}/cmdline").read_bytes():
                    return int(number)
        assert time.monotonic() < due_s
        time.sleep(0.002)


def test_a_sweep_that_is_cancelled_computes_no_more(
    system: System, engine: Engine, recording: str, redis_url: str, run_system: Callable[..., System]
) -> None:
    """Through another proxy, one that computes and one that waits for it; the process is gone, and the next begins."""
    second = run_system(engine.url, redis=redis_url, extra=f"[store]\n{RULES}")
    body = {"recording": recording, "judgments": "people"}
    first = begin(system.url, SWEEPS, {**body, "grid": "alpha=0:1:0.0004 method=zscore,minmax,rrf"})
    number = computing_in(system)
    os.kill(number, signal.SIGSTOP)
    waiting = begin(system.url, SWEEPS, body)
    for identity in (waiting, first):
        assert ask(second.url, "GET", f"{SWEEPS}/{identity}").value["state"] == "running"
        assert ask(second.url, "POST", f"{SWEEPS}/{identity}/_cancel").status == 200
        assert "result" not in finish(second.url, f"{SWEEPS}/{identity}", state="cancelled")
    assert not Path(f"/proc/{number}").exists()
    finish(system.url, f"{SWEEPS}/{begin(system.url, SWEEPS, body)}")
