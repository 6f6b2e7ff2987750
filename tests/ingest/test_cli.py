"""The command: what it prints, and its exit codes."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import re
import signal
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
    body.write_text('\ufeff{"mappings": {"properties": {"title": {"type": "keyword"}}}}')
    command = ["ingest", str(collection), "--index", "birds", "--url", osmem_url]
    assert main([*command, "--mapping", str(body)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("3 documents are in birds (made), after ")
    assert said.out.endswith(" s: 3 loaded, of which 0 replaced one with the same id; 0 refused, 0 unreadable\n")
    assert said.err == f"reading {collection / 'corpus.jsonl'}; beside it lie 1 queries and 2 judgments\n"
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out.startswith("3 documents are in birds (was there and keeps its own mapping), after ")
    assert ": 3 loaded, of which 3 replaced one with the same id;" in said.out


def test_a_load_that_resumes_says_what_was_there(osmem_url: str, collection: Path, capsys: Output) -> None:
    """With --resume, documents that are there are passed over and counted, and 0 is returned."""
    command = ["ingest", str(collection), "--index", "resumed", "--url", osmem_url]
    assert main(command) == 0
    with (collection / "corpus.jsonl").open("a") as corpus:
        corpus.write('\n{"_id": "9", "title": "Bird 9"}\n')
    assert main([*command, "--resume"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("4 documents are in resumed (was there and keeps its own mapping)")
    assert ": 1 loaded, of which 0 replaced one with the same id; 3 were there already; 0 refused" in said


def test_a_bulk_body_is_said_to_be_one(osmem_url: str, tmp_path: Path, capsys: Output) -> None:
    """A file of bulk actions is loaded into the named index, which is said, and what can't be loaded costs the 0."""
    file = tmp_path / "dump.ndjson"
    lines = [{"index": {"_index": "elsewhere", "_id": "1"}}, {"t": "a"}, {"delete": {"_id": "2"}}]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert main(["ingest", str(file), "--index", "dumped", "--url", osmem_url]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("1 documents are in dumped (made)")
    _, bulk, problem = said.err.splitlines()
    assert bulk == "it has bulk actions: their documents go to dumped, whatever _index an action names"
    assert problem.startswith("unreadable dump.ndjson, line 3: is the action 'delete'; only index and create")


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


def test_a_broken_query_set_stops_no_load(osmem_url: str, collection: Path, capsys: Output) -> None:
    """Queries and judgments are only counted: one that can't be read is told with its line, and the rest is loaded."""
    (collection / "queries.jsonl").write_text("no json")
    (collection / "qrels.tsv").write_text("q\t1\tgood\n")
    (collection / "qrels").mkdir()
    (collection / "qrels" / "test.tsv").write_text("q 0 1 1\n")
    assert main(["ingest", str(collection), "--index", "broken-queries", "--url", osmem_url]) == 0
    said = capsys.readouterr()
    queries, judgments, reading = said.err.splitlines()
    assert queries.startswith("the queries beside the documents can't be read: ")
    assert "queries.jsonl, line 1: is not JSON" in queries
    assert judgments.startswith("judgments beside the documents can't be read: ")
    assert "qrels.tsv, line 1: must be query, document and grade" in judgments
    assert reading.endswith("beside it lie 1 judgments")
    assert said.out.startswith("3 documents are in broken-queries (made)")


def test_a_file_that_breaks_off_keeps_the_old_index(osmem_url: str, tmp_path: Path, capsys: Output) -> None:
    """A broken file is found before an index is deleted for it; without --recreate its first part is loaded."""
    lines = b"".join(b'{"_id": "%d", "t": "%d"}\n' % (n, hash(str(n))) for n in range(5000))
    whole, broken = tmp_path / "c.jsonl.gz", tmp_path / "broken.jsonl.gz"
    whole.write_bytes(gzip.compress(lines))
    broken.write_bytes(whole.read_bytes()[:-20_000])
    options = ["--index", "breaking", "--url", osmem_url]
    assert main(["ingest", str(whole), *options, "--recreate"]) == 0
    assert main(["ingest", str(broken), *options, "--recreate"]) == 2
    said = capsys.readouterr()
    assert "broken.jsonl.gz: breaks off behind line" in said.err.splitlines()[-1]
    assert main(["ingest", str(broken), *options]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(r"breaks off behind line (\d+): .* The index has \1 documents of this load so far", said.err)
    assert main(["ingest", str(whole), *options, "--resume"]) == 0
    assert "; 5,000 were there already;" in capsys.readouterr().out


def test_a_load_that_stops_half_way_is_no_mistake_of_the_user(
    fake_engine: FakeEngine, collection: Path, capsys: Output
) -> None:
    """An engine that takes no documents for longer than --max-wait is told in a line, and 1 is returned."""
    fake_engine.bulk_answers.append(503)
    command = ["ingest", str(collection), "--index", "x", "--url", fake_engine.url, "--max-wait", "0"]
    assert main(command) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "es-rerank ingest: the engine stopped taking documents: (503) as it was told. The index has 0"
    )
    assert said.endswith("To go on where it stopped, load again with --resume, and without --recreate")


def test_a_wait_is_said(fake_engine: FakeEngine, collection: Path, capsys: Output) -> None:
    """A busy engine is waited for, from the first contact on, and each wait is a line."""
    fake_engine.other_answers.append((429, "0.01"))
    fake_engine.bulk_answers.append((429, "0.01"))
    assert main(["ingest", str(collection), "--index", "x", "--url", fake_engine.url]) == 0
    _, *waits = capsys.readouterr().err.splitlines()
    assert (
        waits
        == ["the engine takes nothing now: (429) as it was told. Trying again in 0 s, as it asks for (Ctrl-C ends it)"]
        * 2
    )


def test_ctrl_c_ends_a_load_in_words(fake_engine: FakeEngine, collection: Path) -> None:
    """A load that the user ends says how to go on, without a traceback, and returns 130."""
    fake_engine.hangs_after = 1
    command = [sys.executable, "-m", "es_rerank", "ingest", str(collection), "--index", "x", "--url", fake_engine.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert fake_engine.hung.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    [_, ended] = err.splitlines()
    assert ended.startswith("es-rerank ingest: ended. To go on where it stopped, load again with --resume")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--recreate", "--resume"], "argument --resume: not allowed with argument --recreate"),
        (["--max-wait", "-1"], "argument --max-wait: must be a number of seconds, 0 or more, was '-1'"),
        (["--max-wait", "long"], "argument --max-wait: must be a number of seconds, 0 or more, was 'long'"),
        (["--max-wait", "nan"], "argument --max-wait: must be a number of seconds, 0 or more, was 'nan'"),
    ],
)
def test_wrong_options_are_named(collection: Path, capsys: Output, options: list[str], problem: str) -> None:
    """An option that can't be is told with what it was."""
    with pytest.raises(SystemExit, match="2"):
        main(["ingest", str(collection), "--index", "x", "--url", "http://127.0.0.1:1", *options])
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--recreate"]])
def test_a_bar_is_drawn_on_a_terminal(osmem_url: str, collection: Path, options: list[str]) -> None:
    """On a terminal the progress is shown on standard error with its end, and standard output is the report's alone."""
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    command = [sys.executable, "-m", "es_rerank", "ingest", str(collection), "--index", "bar", "--url", osmem_url]
    done = subprocess.run([*command, *options], stdout=subprocess.PIPE, stderr=end, timeout=60, check=True)
    os.close(end)
    shown = ""
    with contextlib.suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as screen:
        while piece := screen.read(1000):
            shown += piece.decode()
    assert "100%" in shown
    assert "| 3/3 [" in shown
    assert done.stdout.startswith(b"3 documents are in bar")
