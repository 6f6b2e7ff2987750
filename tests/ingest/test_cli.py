"""The command: what it prints, and its exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ingest.conftest import FakeEngine

    Output = pytest.CaptureFixture[str]


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A BEIR folder."""
    folder = tmp_path / "birds"
    folder.mkdir()
    documents = [{"_id": str(n), "title": f"Bird {n}", "text": "It flies."} for n in range(3)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "wings"}')
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\nq\t2\t0\n")
    return folder


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take logins out of the environment in which the tests run."""
    for name in ("ES_RERANK_INGEST_PASSWORD", "ES_RERANK_INGEST_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_beir_folder_is_loaded(osmem_url: str, collection: Path, capsys: Output) -> None:
    """A folder is loaded under its mapping, queries and judgments beside it are reported, and 0 is returned."""
    body = collection / "body.json"
    body.write_text('{"mappings": {"properties": {"title": {"type": "keyword"}}}}')
    command = ["ingest", str(collection), "--index", "birds", "--url", osmem_url]
    assert main([*command, "--mapping", str(body)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("3 documents are in birds (made), after ")
    assert said.out.endswith("; 0 refused, 0 unreadable\n")
    assert said.err == f"reading {collection / 'corpus.jsonl'}; beside it lie 1 queries and 2 judgments\n"
    assert main(command) == 0
    assert "3 documents are in birds (was there and keeps its own mapping)" in capsys.readouterr().out


def test_what_was_left_out_is_shown(fake_engine: FakeEngine, tmp_path: Path, capsys: Output) -> None:
    """Refused documents and unreadable lines are shown, those beyond the first are counted, and 1 is returned."""
    file = tmp_path / "x.jsonl"
    file.write_text("no json\n" + "\n".join(json.dumps({"sku": f"s{n}"}) for n in range(8)))
    fake_engine.bulk_answers.append({n: {"status": 400, "error": {"reason": "too odd"}} for n in range(7)})
    assert main(["ingest", str(file), "--index", "x", "--url", fake_engine.url, "--id-field", "sku"]) == 1
    said = capsys.readouterr()
    _, *problems, more = said.err.splitlines()
    assert problems == [
        "unreadable x.jsonl, line 1: is not JSON: JSON is malformed: invalid character (byte 4)",
        *(f"refused s{n}: too odd" for n in range(5)),
    ]
    assert more == "and 2 more"
    assert said.out.startswith("1 documents are in x (made)")
    assert said.out.endswith("; 7 refused, 1 unreadable\n")


@pytest.mark.parametrize(
    ("setting", "header"),
    [
        ("ES_RERANK_INGEST_PASSWORD=pw", "Basic YW5uOnB3"),
        ("ES_RERANK_INGEST_API_KEY=a2V5", "ApiKey a2V5"),
    ],
)
def test_secrets_come_from_the_environment(
    fake_engine: FakeEngine, collection: Path, monkeypatch: pytest.MonkeyPatch, setting: str, header: str
) -> None:
    """A password or an API key is read from the environment and is what the engine gets."""
    fake_engine.login = header
    monkeypatch.setenv(*setting.split("="))
    user = ["--user", "ann"] if "PASSWORD" in setting else []
    assert main(["ingest", str(collection), "--index", "x", "--url", fake_engine.url, *user]) == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--user", "ann"], "--user ann: its password must be in the environment, as ES_RERANK_INGEST_PASSWORD"),
        (["--mapping", "/none.json"], "/none.json: cannot be read: No such file"),
        (["--index", "BIRDS"], "the index name 'BIRDS'"),
        (["--url", "http://127.0.0.1:1"], "the engine at http://127.0.0.1:1 cannot be reached"),
        (["--url", "nonsense"], "the URL 'nonsense'"),
        (["--ca-file", "/none.pem"], "the CA file '/none.pem': no such file"),
        (["--analyzer", "klingon"], "the engine refuses the settings or the mapping of x"),
        (["--id-field", "sku"], "of the first 3 lines none is a document; corpus.jsonl, line 1: has no field 'sku'"),
    ],
)
def test_what_the_user_can_mend_is_told_in_a_line(
    osmem_url: str, collection: Path, capsys: Output, options: list[str], problem: str
) -> None:
    """A mistake of the user's is one line for people, without a traceback, and 2 is returned."""
    assert main(["ingest", str(collection), "--index", "x", "--url", osmem_url, *options]) == 2
    said = capsys.readouterr()
    [_, line] = said.err.splitlines()
    assert line.startswith(f"es-rerank ingest: {problem}")
    assert said.out == ""


def test_two_logins_are_one_too_many(
    fake_engine: FakeEngine, collection: Path, capsys: Output, monkeypatch: Any
) -> None:
    """A user and an API key at once is a mistake, since only one of them could be used."""
    monkeypatch.setenv("ES_RERANK_INGEST_API_KEY", "a2V5")
    assert main(["ingest", str(collection), "--index", "x", "--url", fake_engine.url, "--user", "ann"]) == 2
    said = capsys.readouterr().err
    assert "--user and ES_RERANK_INGEST_API_KEY are two logins" in said
    assert "a2V5" not in said


def test_a_broken_query_set_stops_before_the_load(fake_engine: FakeEngine, collection: Path, capsys: Output) -> None:
    """Judgments that can't be read are told before anything is loaded."""
    (collection / "qrels.tsv").write_text("q 1 1\n")
    assert main(["ingest", str(collection), "--index", "x", "--url", fake_engine.url]) == 2
    assert "qrels.tsv, line 1: must be query, document and grade" in capsys.readouterr().err
    assert fake_engine.requests == []


def test_a_load_that_stops_half_way_is_no_mistake_of_the_user(
    fake_engine: FakeEngine, collection: Path, capsys: Output
) -> None:
    """An engine that stops taking documents is told in a line, and 1 is returned."""
    fake_engine.bulk_answers.append(503)
    assert main(["ingest", str(collection), "--index", "x", "--url", fake_engine.url]) == 1
    assert "es-rerank ingest: the engine stopped taking documents: (503)" in capsys.readouterr().err


def test_a_bar_is_drawn_on_a_terminal(osmem_url: str, collection: Path) -> None:
    """On a terminal the progress is shown on standard error, and standard output stays the report's alone."""
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    command = [sys.executable, "-m", "es_rerank", "ingest", str(collection), "--index", "bar", "--url", osmem_url]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, timeout=60, check=True)
    os.close(end)
    shown = ""
    with contextlib.suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as screen:
        while piece := screen.read(1000):
            shown += piece.decode()
    assert "3 documents [" in shown
    assert done.stdout.startswith(b"3 documents are in bar")
