"""The command `es-rerank replay` on real parts: what it records, and that it goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from es_rerank.cli import main
from es_rerank.tuning.recordings import read_recording
from tests.conftest import COMMAND, Engine
from tests.proxy.own.system import FILMS, QUERIES, RULES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import System

START_LIMIT_S = 60.0
SECRET = "correct-horse-battery"


@pytest.fixture
def system(osmem_url: str, own_redis_url: str, run_system: Callable[..., System]) -> System:
    """A proxy with films and without a worker, on a Redis of its own."""
    Engine("osmem", osmem_url).load("films-command", FILMS)
    return run_system(osmem_url, redis=own_redis_url, extra=RULES)


def arguments(system: System, folder: Path, *more: str) -> list[str]:
    """The command line."""
    file = folder / "queries.jsonl"
    file.write_text("".join(json.dumps(query) + "\n" for query in QUERIES))
    out = str(folder / "run.jsonl")
    named = ("--index", "films-command", "--queries", str(file), "--user", "ann", "--out", out)
    return [*COMMAND, "replay", "--config", str(system.config), *named, *more]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """The command, run to its end."""
    environment = {**os.environ, "ES_RERANK_INGEST_PASSWORD": SECRET}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_replay_ended_by_ctrl_c_goes_on_where_it_was(system: System, tmp_path: Path) -> None:
    """Without a worker it waits; Ctrl-C leaves a file; with a worker the same command ends it, once and for all."""
    command, file = arguments(system, tmp_path), tmp_path / "run.jsonl"
    environment = {**os.environ, "ES_RERANK_INGEST_PASSWORD": SECRET}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as waiting:
        due_s = time.monotonic() + START_LIMIT_S
        while not file.exists():
            assert time.monotonic() < due_s
            time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=START_LIMIT_S)
    assert (waiting.returncode, "give the same command again" in said) == (130, True)
    system.start_worker()
    ended = run(command)
    assert (ended.returncode, ended.stdout) == (0, f"{file}: 12 queries recorded: 12 full\n")
    whole = file.read_bytes()
    recording = read_recording(file)
    assert [query.query_id for query in recording.queries] == [query["query_id"] for query in QUERIES]
    assert (recording.head.id, recording.head.index, recording.head.window) == ("run", "films-command", 20)
    assert all(len(query.ids) == 20 and None not in query.judgments for query in recording.queries)
    # What is recorded again is the same; what is whole is not touched.
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:6]) + b'{"query')
    assert run(command).returncode == 0
    assert file.read_bytes() == whole
    other = run(arguments(system, tmp_path, "--rule", '{"method": "rrf"}'))
    assert (other.returncode, "is of another replay, whose rules_version, setting differ" in other.stderr) == (1, True)
    assert SECRET not in file.read_text() + said + ended.stderr + ended.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--rule", "[]"), "--rule: must be one JSON object"),
        (("--rule", '{"alpha": 3}'), "[rule] alpha = 3"),
        (("--window", "0"), "[rule] window = 0"),
        (("--concurrency", "17"), "--concurrency must be 1 to 16, was 17"),
        (("--index", "other"), "no rule holds for [other]"),
        (("--request", "/dev/null"), "--request: must be one JSON object"),
        (("--request", "/dev/missing"), "/dev/missing: cannot be read: No such file"),
        (("--queries", "/dev/missing"), "/dev/missing: "),
        (("--user", "ann"), "its password must be in the environment"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    tmp_path: Path, more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no file then."""
    config, queries, out = (tmp_path / name for name in ("es-rerank.toml", "queries.jsonl", "run.jsonl"))
    config.write_text(f'[upstream]\nurls = ["http://127.0.0.1:1"]\n[redis]\nurl = "redis://127.0.0.1:1/0"\n{RULES}')
    queries.write_text(json.dumps(QUERIES[0]) + "\n")
    files = ("--config", str(config), "--index", "films", "--queries", str(queries), "--out", str(out))
    assert main(["replay", *files, *more]) in (1, 2)
    assert said in capsys.readouterr().err
    assert not out.exists()
