"""The command: what it prints, its exit codes, and that a wrong configuration stops every start."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from es_rerank.cli import _make_parser, main
from es_rerank.demo.processes import free_port
from tests.conftest import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

    Output = pytest.CaptureFixture[str]

READING = ("check-config", "serve", "worker", "front")
"""The commands that read a configuration."""

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
    assert main(["check-config", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert "rule movies: movies-*; window 100, zscore, alpha 0.3, scorer minilm (only windows in English), " in said
    assert ", deadline 3 s" in said
    assert "scorer minilm: minilm-" in said


def test_check_config_takes_a_file_without_an_option(tmp_path: Path, capsys: Output) -> None:
    """`check-config FILE` means `check-config --config FILE`; one of them is needed, and only one is allowed."""
    file = tmp_path / "c.toml"
    file.write_text(GOOD)
    assert main(["check-config", "--config", str(file)]) == 0
    said = capsys.readouterr()
    assert main(["check-config", str(file)]) == 0
    assert capsys.readouterr() == said
    for arguments in (["check-config"], ["check-config", str(file), "--config", str(file)]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "--config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD + "alpha = 2.0", "rules[0].alpha = 2.0"),
        (GOOD + "windw = 100", "rules[0].windw: unknown key; did you mean 'window'?"),
        (GOOD + 'scorer = "erank"', "rules[0].scorer = 'erank': known are minilm"),
        (GOOD.replace("movies-*", "my movies"), "'my movies': can match no index: no name has a blank"),
        (GOOD + GOOD[GOOD.index("[[rules]]") :].replace('"movies"', '"b"'), "this rule is never used"),
        (GOOD.replace(":9200", ":9300"), "upstream.urls[0]: is the proxy itself"),
        (GOOD.replace("6379/0", "6379/a"), "redis.url = (hidden): must end in the number of the database"),
        (GOOD.replace("[redis]", 'ca_file = "/none.pem"\n[redis]'), 'upstream.ca_file = "/none.pem": no such file'),
        (GOOD + "[", "c.toml: is not TOML: "),
        ("", "c.toml: the file is empty, so the configuration cannot be used"),
        (b"\xff", "c.toml: is not TOML: it is not UTF-8 text"),
        (None, "c.toml: cannot be read: No such file"),
    ],
)
def test_what_one_command_refuses_the_others_refuse(
    content: str | bytes | None, says: str, tmp_path: Path, capsys: Output
) -> None:
    """Each command that reads a configuration says the same about a wrong one, prints nothing, and exits with 2."""
    file = tmp_path / "c.toml"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    said = []
    for command in READING:
        assert main([command, "--config", str(file)]) == 2
        said.append(capsys.readouterr())
    assert says in said[0].err
    assert said[0].out == ""
    assert said == [said[0]] * len(READING)


def test_doubts_are_said_and_the_configuration_is_used(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that prints says its doubts on standard error, and ends as if it had none."""
    file = tmp_path / "c.toml"
    file.write_text(GOOD.replace("movies-*", "Movies-*"))
    monkeypatch.setenv("ES_RERANK_REDIS_URL", "redis://:hunter2@other")
    for command in ("check-config", "front"):
        assert main([command, "--config", str(file)]) == 0
        said = capsys.readouterr().err
        assert "es-rerank: warning: rules[0].indices[0] = 'Movies-*': can match an alias only" in said
        assert "warning: the variable ES_RERANK_REDIS_URL is not read: did you mean ES_RERANK__REDIS__URL?" in said
        assert "hunter2" not in said


def test_the_models_of_the_rerank_api_are_listed(tmp_path: Path, capsys: Output) -> None:
    """check-config says which scorer each model means and which is the default, and shows no key."""
    file = tmp_path / "config.toml"
    scorers = 'scorers = { "a" = "minilm", "b" = "minilm" }'
    file.write_text(f'{GOOD}[rerank_api]\nkeys = ["a-key-of-this-test"]\n{scorers}\ndefault_model = "b"\n')
    assert main(["check-config", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert (
        "  model a of the rerank API: scorer minilm\n  model b of the rerank API: scorer minilm, the default\n" in said
    )
    assert "a-key-of-this-test" not in said


def test_the_endpoints_are_listed(tmp_path: Path, capsys: Output) -> None:
    """check-config says which scorer answers for each inference endpoint; with one, rules are not needed."""
    file = tmp_path / "config.toml"
    without_rules = GOOD.partition("[[rules]]")[0]
    file.write_text(f'{without_rules}[inference]\nscorers = {{ "mine" = "minilm" }}\nany_language = true\n')
    assert main(["check-config", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert "  endpoint mine: scorer minilm" in said
    assert "every search passes" not in said


def test_an_unused_scorer_is_a_word(tmp_path: Path, capsys: Output) -> None:
    """check-config lists a scorer that no rule uses, and does not mind."""
    file = tmp_path / "c.toml"
    file.write_text(GOOD + "[scorers.idle]\n")
    assert main(["check-config", "--config", str(file)]) == 0
    said = capsys.readouterr()
    assert "  scorer idle: no rule uses it" in said.out.splitlines()
    assert "idle" not in said.err


@pytest.mark.parametrize("table", ["server", "metrics"])
def test_check_config_warns_of_a_taken_port(table: str, tmp_path: Path, capsys: Output) -> None:
    """A port that is taken now is a warning, since a running proxy or worker takes its own."""
    file = tmp_path / "c.toml"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        file.write_text(GOOD.replace("port = 9300", "port = 0") + "[metrics]\nport = 0\n")
        assert main(["check-config", "--config", str(file)]) == 0
        assert capsys.readouterr().err == ""
        text = (
            file.read_text().replace("port = 0", f"port = {port}", 1)
            if table == "server"
            else (file.read_text().replace("[metrics]\nport = 0", f"[metrics]\nport = {port}"))
        )
        file.write_text(text)
        assert main(["check-config", "--config", str(file)]) == 0
    said = capsys.readouterr().err
    assert f"es-rerank: warning: {table}.port = {port} on 127.0.0.1: is taken on this machine" in said


def test_check_config_warns_of_an_address_of_another_machine(tmp_path: Path, capsys: Output) -> None:
    """An address that this machine does not have is a warning; a name, which only a name service knows, is not."""
    file = tmp_path / "c.toml"
    file.write_text(GOOD.replace('host = "127.0.0.1"', 'host = "192.0.2.1"'))
    assert main(["check-config", "--config", str(file)]) == 0
    assert "server.port = 9300 on 192.0.2.1: can't be listened on: this machine has no such" in capsys.readouterr().err
    file.write_text(GOOD.replace('host = "127.0.0.1"', 'host = "proxy.invalid"'))
    assert main(["check-config", "--config", str(file)]) == 0
    assert capsys.readouterr().err == ""


def test_a_user_without_the_engine_is_misuse(tmp_path: Path, capsys: Output) -> None:
    """`--user` is for `--engine`: alone it would have no effect, so it is refused."""
    file = tmp_path / "c.toml"
    file.write_text(GOOD)
    assert main(["check-config", "--config", str(file), "--user", "ann"]) == 2
    assert "--user: is for --engine" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    """A pipe that is closed early, as `| head` does it, ends the command without a traceback."""
    file = tmp_path / "c.toml"
    file.write_text(GOOD)
    command = [*COMMAND, "check-config", "--config", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


def test_a_workers_log_has_no_password(tmp_path: Path) -> None:
    """A worker that can't reach its Redis names it in its log, without the password."""
    file = tmp_path / "c.toml"
    file.write_text(GOOD.replace("redis://127.0.0.1:6379", "redis://ann:hunter2@127.0.0.1:1"))
    command = [*COMMAND, "worker", "--config", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "connect" in line.lower() and "127.0.0.1:1" in line:
                break
        process.kill()
    assert lines
    assert "127.0.0.1:1" in lines[-1]
    assert not any("hunter2" in line for line in lines)


# Help


def commands() -> list[str]:
    """The names of all commands, as the help lists them."""
    found = re.findall(r"^    ([a-z-]+)(?: +\w|$)", _make_parser().format_help(), flags=re.MULTILINE)
    assert {*READING, "demo", "ingest"} <= set(found)
    return found


@pytest.mark.parametrize("command", ["", *commands()])
def test_help_says_what_a_command_is_for(command: str, capsys: Output) -> None:
    """Help is not an error, has a description, and fits a terminal."""
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: es-rerank {command}".rstrip())
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("command", ["", *(command for command in commands() if command != "ingest")])
def test_each_example_in_a_help_can_be_typed(command: str, capsys: Output) -> None:
    """A command's help ends in examples, which the command takes."""
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    said = capsys.readouterr().out
    examples = re.findall(r"^  es-rerank (.+)$", said[said.index("\nexample") :], flags=re.MULTILINE)
    assert examples
    for example in examples:
        _make_parser().parse_args(shlex.split(example.partition(" > ")[0]))


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
    """A proxy whose port is taken says so and exits with 1, with Redis and without. Its log has the doubts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        file = tmp_path / "c.toml"
        redis = redis_url if with_redis else "redis://127.0.0.1:1/0"
        file.write_text(GOOD.replace("9300", str(listener.getsockname()[1])).replace("redis://127.0.0.1:6379/0", redis))
        ended = subprocess.run(
            [*COMMAND, "serve", "--config", str(file)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "ES_RERANK_REDIS_URL": "redis://other"},
        )
    assert ended.returncode == 1
    assert "address already in use" in ended.stderr
    assert "the variable ES_RERANK_REDIS_URL is not read" in ended.stderr


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
    assert health["parts"]["redis"]["reachable"] is False
