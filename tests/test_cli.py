"""The command: what it prints, its exit codes, and that a wrong configuration stops every start."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from es_rerank.cli import main
from es_rerank.demo.processes import free_port
from tests.conftest import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
[upstream]
urls = ["http://127.0.0.1:9200"]
[redis]
url = "redis://127.0.0.1:6379/0"
[server]
host = "127.0.0.1"
port = 9300
[[rules]]
name = "movies"
indices = ["movies-*"]
fields = ["title", "text"]
deadline_s = 3.0
"""


def test_the_readmes_configuration_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The README's configuration passes check-config, which prints its rules with their defaults, and their scorer."""
    file = tmp_path / "c.toml"
    file.write_text(GOOD)
    assert main(["check-config", str(file)]) == 0
    said = capsys.readouterr().out
    assert "rule movies: movies-*; window 100, zscore, alpha 0.3, scorer minilm (only windows in English), " in said
    assert ", deadline 3 s" in said
    assert "scorer minilm: minilm-" in said


@pytest.mark.parametrize("command", ["check-config", "serve", "worker"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("alpha = 2.0", "rules[0].alpha = 2.0"),
        ("windw = 100", "rules[0].windw: unknown key; did you mean 'window'?"),
        ('scorer = "erank"', "rules[0].scorer = 'erank': known are minilm"),
    ],
)
def test_a_wrong_configuration_stops_the_start(
    command: str, wrong: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command names key, value and what is allowed, and exits with 2."""
    file = tmp_path / "c.toml"
    file.write_text(GOOD + wrong + "\n")
    where = [str(file)] if command == "check-config" else ["--config", str(file)]
    assert main([command, *where]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("think", "mode think, at most 64 tokens, score paper"),
        ("direct", "mode direct, score paper"),
        ("cascade", "mode cascade, at most 64 tokens about the best 20, score paper"),
    ],
)
def test_what_thinking_means_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str, says: str) -> None:
    """check-config shows how a rule's documents are thought about, with the budget that holds."""
    file = tmp_path / "c.toml"
    file.write_text(
        '[upstream]\nurls = ["http://127.0.0.1:1"]\n[redis]\nurl = "redis://127.0.0.1:1/0"\n'
        '[scorers.s]\nkind = "vllm"\nmodel = "m"\nmax_think_tokens = 64\n'
        f'[[rules]]\nname = "a"\nindices = ["a"]\nfields = ["t"]\nscorer = "s"\nmode = "{mode}"\n'
    )
    assert main(["check-config", str(file)]) == 0
    assert says in capsys.readouterr().out


def test_a_missing_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file is named in the error, without a traceback."""
    assert main(["check-config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("with_redis", [True, False])
def test_a_taken_port_stops_the_proxy(tmp_path: Path, redis_url: str, *, with_redis: bool) -> None:
    """A proxy whose port is taken says so and exits with 1, while it reaches Redis and while it does not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        file = tmp_path / "c.toml"
        redis = redis_url if with_redis else "redis://127.0.0.1:1/0"
        file.write_text(GOOD.replace("9300", str(listener.getsockname()[1])).replace("redis://127.0.0.1:6379/0", redis))
        ended = subprocess.run(
            [*COMMAND, "serve", "--config", str(file)], capture_output=True, text=True, check=False, timeout=60
        )
    assert ended.returncode == 1
    assert "address already in use" in ended.stderr


def test_a_proxy_without_redis_or_engine_starts_and_stops(tmp_path: Path) -> None:
    """What is down at the start may come up later: the proxy serves, says what is missing, and SIGTERM ends it."""
    port = free_port()
    file = tmp_path / "c.toml"
    file.write_text(GOOD.replace("9300", str(port)).replace("9200", "1").replace("6379", "1"))
    with subprocess.Popen([*COMMAND, "serve", "--config", str(file)], stderr=subprocess.PIPE) as process:
        give_up_s = time.monotonic() + 60
        while True:
            assert time.monotonic() < give_up_s
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_es_rerank/health")
            except urllib.error.HTTPError as error:
                with error:
                    health = json.load(error)
                break
            except OSError:
                time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert (health["live"], health["ready"], health["reranking"]) == (True, False, False)
    assert health["parts"]["redis"] == {"reachable": False}
