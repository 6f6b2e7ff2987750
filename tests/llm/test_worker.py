"""The whole system with a worker on real vLLM: modes, reasoning, deadlines, and what is left when processes die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.demo.processes import free_port
from tests.conftest import COMMAND, Engine
from tests.llm.rig import await_true

if TYPE_CHECKING:
    from collections.abc import Callable

    from es_rerank.demo.processes import Child
    from tests.conftest import System

WORKER_LIMIT_S = 240.0
END_LIMIT_S = 120.0
# About such a text the small model thinks on and on, until something stops it.
FILMS = {
    str(number): {
        "title": f"Film {number}",
        "text": f"Document number {number}. " + "The sea is blue and the film is about a ship. " * 6,
    }
    for number in range(12)
}
LANE = """
[limits]
deadline_s = 100.0
max_deadline_s = 120.0
[metrics]
port = {metrics_port}
[scorers.small]
kind = "vllm"
model = "{model}"
dtype = "float32"
max_query_tokens = 256
max_document_tokens = 512
max_think_tokens = 256
check_answer = false
max_num_seqs = 64
max_batched_tokens = 4096
compile = false
cpu_kv_cache_gib = 1
[[rules]]
name = "films"
indices = ["films*"]
fields = ["title", "text"]
scorer = "small"
budget_tokens = 16
"""


class Lane:
    """A proxy and one worker on vLLM before the embedded engine."""

    def __init__(self, system: System, worker: Child, metrics_port: int) -> None:
        self.system = system
        self.worker = worker
        self.metrics_port = metrics_port

    def search(self, text: str, **controls: Any) -> Any:
        """Films about something, all of them, with scores and status."""
        body = {"query": {"match": {"text": f"film {text}"}}, "size": 12}
        return self.system.search("films", body, **{"include": ["status", "scores"], **controls})

    def metric(self, name: str) -> float:
        """The sum of one figure of the worker's exporter."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        values = [float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name]
        assert values, f"the worker has no figure {name}"
        return sum(values)


@pytest.fixture(scope="module")
def start_lane(
    osmem_url: str, run_system: Callable[..., System], smollm2: Path, redis_url: str
) -> Callable[[int], Lane]:
    """Start a system on a Redis database of its own; its worker serves once this returns."""

    def start(database: int) -> Lane:
        Engine("osmem", osmem_url).load("films", FILMS)
        port = free_port()
        redis = redis_url.replace("/0", f"/{database}")
        system = run_system(osmem_url, redis=redis, extra=LANE.format(model=smollm2, metrics_port=port))
        return Lane(system, system.start_worker(limit_s=WORKER_LIMIT_S), port)

    return start


@pytest.fixture(scope="module")
def lane(start_lane: Callable[[int], Lane]) -> Lane:
    """The system that is shared by the tests that break nothing."""
    return start_lane(11)


def judged(answer: Any) -> list[dict[str, Any]]:
    """The `_es_rerank` of each hit."""
    return [hit["_es_rerank"] for hit in answer["hits"]["hits"]]


def descendants(pid: int) -> set[int]:
    """All live processes below one."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    left = [pid]
    while left:
        below = children.get(left.pop(), [])
        found.update(below)
        left += below
    return found


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def engine_core(pid: int) -> int:
    """VLLM's engine process below a worker."""
    for child in descendants(pid):
        if "EngineCore" in Path(f"/proc/{child}/comm").read_text() + Path(f"/proc/{child}/cmdline").read_text():
            return child
    raise AssertionError("the worker has no engine process")


def ask_in_thread(lane: Lane, text: str, **controls: Any) -> tuple[threading.Thread, list[Any]]:
    """A search that runs, and the place for its answer."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(lane.search(text, **controls)))
    thread.start()
    return thread, answers


def test_every_mode_judges_every_hit(lane: Lane) -> None:
    """think, direct and cascade each give every hit a distribution; thinking is where the mode has it."""
    for mode, thinkers in (("think", 12), ("direct", 0), ("cascade", 4)):
        controls = {} if mode == "think" else {"mode": mode, **({"think_top": 4} if mode == "cascade" else {})}
        answer = lane.search("about a ship", **controls)
        status = answer["_es_rerank"]
        assert (status["status"], status["mode"], status["scored"]) == ("full", mode, 12)
        hits = judged(answer)
        assert sum(hit["think_tokens"] > 0 for hit in hits) == thinkers
        assert all(len(hit["distribution"]) == 11 and 0 < hit["mass"] <= 1 for hit in hits)
        # An untuned model is about to say something else: that is counted, and no hit is a silent zero.
        assert status["low_mass"] == sum(hit["mass"] < 0.5 for hit in hits) > 0
        assert all(hit["rank_score"] > 0 for hit in hits)


def test_both_scores_come_from_one_entry(lane: Lane) -> None:
    """The other score of a query that was scored needs no worker: everything comes from the cache."""
    paper = lane.search("of two scores")
    expected = lane.search("of two scores", score="expected")
    assert (paper["_es_rerank"]["cached"], expected["_es_rerank"]["cached"]) == (0, 12)
    by_id = {hit["_id"]: hit["_es_rerank"] for hit in paper["hits"]["hits"]}
    for hit in expected["hits"]["hits"]:
        one = hit["_es_rerank"]
        assert one["distribution"] == by_id[hit["_id"]]["distribution"]
        mean = sum(answer * share for answer, share in enumerate(one["distribution"])) / one["mass"]
        assert one["rank_score"] == pytest.approx(mean, rel=1e-3)
        answer = max(range(11), key=one["distribution"].__getitem__)
        assert by_id[hit["_id"]]["rank_score"] == pytest.approx(answer * one["distribution"][answer], rel=1e-3)


def test_reasoning_is_shown_where_it_is_asked_for(lane: Lane) -> None:
    """Hits carry the reasoning behind their score, also of scores that came from the cache without it."""
    assert all("reasoning" not in hit for hit in judged(lane.search("that reasons")))
    for _ in range(2):
        answer = lane.search("that reasons", include=["status", "scores", "reasoning"])
        assert answer["_es_rerank"]["status"] == "full"
        assert all(hit["reasoning"] for hit in judged(answer))


def test_another_instruction_is_another_score(lane: Lane) -> None:
    """The instruction of a request is part of the prompt and of the key."""
    lane.search("with a goal")
    other = lane.search("with a goal", instruction="Retrieve documents that contradict the query.")
    assert (other["_es_rerank"]["status"], other["_es_rerank"]["cached"]) == ("full", 0)


def test_a_deadline_cuts_thinking_and_no_hit_is_missing(lane: Lane) -> None:
    """Cut judgments are sent and marked, do not count as full for the next search, and become full with more time."""
    lane.search("with little time", mode="direct")  # so that the prompts are known to the engine
    answer = lane.search("with little time", budget_tokens=250, deadline_s=5)
    status = answer["_es_rerank"]
    assert (status["scored"], status["missing"], status["status"]) == (12, 0, "partial")
    assert status["reason"] == "deadline"
    assert status["cut"] == sum(hit["cut"] == "deadline" for hit in judged(answer)) > 0
    again = lane.search("with little time", budget_tokens=250)
    assert (again["_es_rerank"]["status"], "cut" in again["_es_rerank"]) == ("full", False)
    assert again["_es_rerank"]["cached"] == 12 - status["cut"]


def test_who_leaves_takes_the_work_along(lane: Lane) -> None:
    """A caller who closes the connection leaves the engine with nothing to do."""
    host, _, port = lane.system.url.rpartition("/")[2].partition(":")
    body = (
        b'{"query": {"match": {"text": "film whose caller leaves"}}, "size": 12,'
        b' "ext": {"es_rerank": {"budget_tokens": 256}}}'
    )
    before = lane.metric("es_rerank_queries_total")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(
            b"POST /films/_search HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        await_true(lambda: lane.metric("es_rerank_queries_running") == 1)
    await_true(lambda: lane.metric("es_rerank_queries_running") == 0, limit_s=10)
    assert lane.metric("es_rerank_queries_total") == before + 1
    tokens = lane.metric("vllm:generation_tokens_total")
    time.sleep(3)
    assert lane.metric("vllm:generation_tokens_total") - tokens <= 12 * 2
    assert lane.search("after one has left", mode="direct")["_es_rerank"]["status"] == "full"


def test_the_worker_tells_prometheus_of_every_stage(lane: Lane) -> None:
    """Queue wait, prefill and decode tokens, cache hits, thinking, cuts and malformed answers are figures."""
    lane.search("to be measured")
    lane.search("to be measured", mode="direct")
    for name in (
        "es_rerank_queue_wait_seconds_count",
        "es_rerank_scoring_seconds_count",
        "es_rerank_prefill_tokens_total",
        "es_rerank_decode_tokens_total",
        "es_rerank_documents_total",
        "es_rerank_thinking_tokens_count",
        "es_rerank_cut_total",
        "es_rerank_low_mass_total",
        "es_rerank_judgments_total",
        "vllm:prompt_tokens_total",
    ):
        assert lane.metric(name) > 0


def test_sigterm_finishes_what_runs_and_leaves_nothing(lane: Lane) -> None:
    """A worker told to stop answers the query it has, exits with 0, and no engine process is left."""
    below = descendants(lane.worker.process.pid)
    thread, answers = ask_in_thread(lane, "while the worker is told to stop", budget_tokens=64)
    await_true(lambda: lane.metric("es_rerank_queries_running") == 1)
    lane.worker.process.send_signal(signal.SIGTERM)
    thread.join(END_LIMIT_S)
    assert answers[0]["_es_rerank"]["status"] == "full"
    assert lane.worker.process.wait(END_LIMIT_S) == 0
    await_true(lambda: not any(map(is_alive, below)), limit_s=END_LIMIT_S)


def test_the_engines_death_ends_the_worker_and_no_search(start_lane: Callable[[int], Lane]) -> None:
    """The query that runs is answered in engine order at once, and the process ends with a code."""
    lane = start_lane(12)
    pid = lane.worker.process.pid
    thread, answers = ask_in_thread(lane, "when the engine dies", budget_tokens=256)
    await_true(lambda: lane.metric("es_rerank_queries_running") == 1)
    below = descendants(pid)
    os.kill(engine_core(pid), signal.SIGKILL)
    thread.join(END_LIMIT_S)
    status = answers[0]["_es_rerank"]
    assert (status["status"], status["reason"]) == ("failed", "scorer_failed")
    assert len(answers[0]["hits"]["hits"]) == 12
    assert lane.worker.process.wait(END_LIMIT_S) == 1
    await_true(lambda: not any(map(is_alive, below)), limit_s=END_LIMIT_S)
    assert lane.search("and after")["_es_rerank"]["reason"] == "no_worker"


def test_a_killed_worker_leaves_no_engine_behind(start_lane: Callable[[int], Lane]) -> None:
    """SIGKILL in mid-query: the search is answered, and vLLM's processes end with their worker."""
    lane = start_lane(13)
    pid = lane.worker.process.pid
    thread, answers = ask_in_thread(lane, "when the worker is killed", budget_tokens=256, deadline_s=5)
    await_true(lambda: lane.metric("es_rerank_queries_running") == 1)
    below = descendants(pid)
    assert below
    os.kill(pid, signal.SIGKILL)
    await_true(lambda: not any(map(is_alive, below)), limit_s=END_LIMIT_S)
    thread.join(END_LIMIT_S)
    assert len(answers[0]["hits"]["hits"]) == 12
    assert answers[0]["_es_rerank"]["status"] == "failed"


@pytest.mark.parametrize(
    ("model", "said"),
    [("/no/such/folder", "no such folder"), ("nobody/no-such-model", "copy the model's folder here")],
)
def test_a_model_that_cannot_be_had_ends_the_start(tmp_path: Path, redis_url: str, model: str, said: str) -> None:
    """A missing model ends the worker with 1 before it takes a task, and says what to do."""
    config = tmp_path / "c.toml"
    config.write_text(
        f'[upstream]\nurls = ["http://127.0.0.1:1"]\n[redis]\nurl = "{redis_url}"\n'
        f'[scorers.s]\nkind = "vllm"\nmodel = "{model}"\n'
        '[[rules]]\nname = "a"\nindices = ["a"]\nfields = ["a"]\nscorer = "s"\n'
    )
    ended = subprocess.run(
        [*COMMAND, "worker", "--config", str(config)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WORKER_LIMIT_S,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert said in ended.stderr
