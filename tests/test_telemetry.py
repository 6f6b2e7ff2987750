"""Log lines: one JSON object each, and what must never be in them."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import queue
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from es_rerank.demo.processes import free_port, is_listening
from es_rerank.telemetry import JsonLines, LineQueue, LineWriter, log_event
from tests.conftest import COMMAND, Engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.conftest import System

SECRET = "c2VjcmV0LWtleQ=="


def test_a_record_is_one_line_of_json(caplog: pytest.LogCaptureFixture) -> None:
    """Message, level, logger and the record's own fields are one JSON object, line breaks escaped."""
    logger = logging.getLogger("some.logger")
    with caplog.at_level(logging.INFO):
        log_event(logger, logging.INFO, "a\nb", index="x", took_ms={"total": 1.5})
    line = JsonLines().format(caplog.records[0])
    assert "\n" not in line
    said = json.loads(line)
    assert (said["message"], said["level"], said["logger"]) == ("a\nb", "info", "some.logger")
    assert (said["index"], said["took_ms"]) == ("x", {"total": 1.5})
    assert said["time"].endswith("Z")


def test_a_traceback_is_in_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """An exception's traceback is a field."""
    error = ValueError("why")
    logging.getLogger("x").error("failed", exc_info=error)
    assert "ValueError: why" in json.loads(JsonLines().format(caplog.records[0]))["traceback"]


def test_lines_that_nobody_takes_are_dropped_and_counted() -> None:
    """If standard error is stuck, lines are dropped instead of filling the memory, and the next line counts them."""
    waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(2)
    handler = LineQueue(waiting)
    for number in range(5):
        handler.handle(logging.makeLogRecord({"msg": f"line {number}", "levelno": logging.INFO}))

    def taken() -> str:
        record = waiting.get_nowait()
        assert record is not None
        return record.getMessage()

    assert [taken(), taken()] == ["line 0", "line 1"]
    handler.handle(logging.makeLogRecord({"msg": "line 5", "levelno": logging.INFO}))
    assert taken() == "3 log lines were dropped: standard error is too slow"
    assert taken() == "line 5"


def test_what_waits_is_written_before_the_end() -> None:
    """Stopping the writer writes everything that came before it, tracebacks included."""
    waiting: queue.Queue[logging.LogRecord | None] = queue.Queue()
    written: list[bytes] = []
    writer = LineWriter(waiting, written.append)
    error = ValueError("why")
    handler = LineQueue(waiting)
    handler.handle(logging.makeLogRecord({"msg": "first", "levelno": logging.INFO}))
    handler.handle(logging.makeLogRecord({"msg": "second", "exc_info": (ValueError, error, None)}))
    writer.start()
    writer.stop()
    lines = [json.loads(line) for line in written]
    assert [line["message"] for line in lines] == ["first", "second"]
    assert "ValueError: why" in lines[1]["traceback"]


def test_a_standard_error_that_is_stuck_keeps_no_proxy_from_ending(osmem_url: str, tmp_path: Path) -> None:
    """Nobody reads the log: every search is answered, and SIGTERM ends the process all the same."""
    port = free_port()
    config = tmp_path / "c.toml"
    config.write_text(
        f'[upstream]\nurls = ["{osmem_url}"]\n[redis]\nurl = "redis://127.0.0.1:1/0"\n[server]\nport = {port}\n'
        '[[rules]]\nname = "all"\nindices = ["*"]\nfields = ["text"]\n'
    )
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen([*COMMAND, "serve", "--config", str(config)], stderr=writing) as process:
        try:
            give_up_s = time.monotonic() + 60
            while not is_listening(port):
                assert time.monotonic() < give_up_s
                time.sleep(0.05)
            for _ in range(60):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_search?q=x", timeout=60) as answer:
                    assert answer.status == 200
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(reading)
            os.close(writing)


def test_every_search_has_one_line_without_secrets_or_texts(
    osmem_url: str, run_system: Callable[..., System], own_redis_url: str
) -> None:
    """A search under a rule logs one line, other searches log none; no line has credentials, queries or documents."""
    Engine("osmem", osmem_url).load("films-log", {"1": {"title": "t", "text": "unspeakable"}})
    Engine("osmem", osmem_url).load("uncovered", {"1": {"title": "t", "text": "unspeakable"}})
    system = run_system(osmem_url, redis=own_redis_url)

    def search(body: dict[str, Any], index: str = "films-log") -> None:
        request = urllib.request.Request(
            f"{system.url}/{index}/_search",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"ApiKey {SECRET}", "x-opaque-id": "me"},
        )
        with urllib.request.urlopen(request) as reply:
            reply.read()

    search({"query": {"match": {"text": "unspeakable"}}}, index="uncovered")
    search({"query": {"match": {"text": "unspeakable"}}})
    search({"query": {"match_all": {}}})
    searches: list[dict[str, Any]] = []
    give_up_s = time.monotonic() + 30
    while len(searches) < 2:  # the line is written after the answer
        assert time.monotonic() < give_up_s
        searches = [line for line in system.log_lines() if line["logger"] == "es_rerank.search"]
    assert [line["status"] for line in searches] == ["failed", "skipped"]
    assert [line["reason"] for line in searches] == ["no_worker", "no_text_query"]
    assert {line["index"] for line in searches} == {"films-log"}
    assert {line["opaque_id"] for line in searches} == {"me"}
    assert [line["level"] for line in searches] == ["warning", "info"]
    assert SECRET not in system.proxy.log.read_text()
    assert "unspeakable" not in system.proxy.log.read_text()


def test_a_redis_password_is_never_said(osmem_url: str, tmp_path: Any) -> None:
    """Neither check-config nor a bad start shows the password in the Redis URL."""
    config = tmp_path / "c.toml"
    text = f'[upstream]\nurls = ["{osmem_url}"]\n[redis]\nurl = "redis://:{SECRET}@127.0.0.1:1/0"\n'
    config.write_text(text)
    good = subprocess.run([*COMMAND, "check-config", str(config)], capture_output=True, text=True, check=False)
    assert good.returncode == 0
    config.write_text(text.replace("redis://", "http://") + "[bad]\n")
    bad = subprocess.run([*COMMAND, "check-config", str(config)], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert SECRET not in good.stdout + good.stderr + bad.stdout + bad.stderr
