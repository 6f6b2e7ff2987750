"""The commands `judgments ...`: files into lists and back, and what is done with files alone."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from es_rerank.cli import _make_parser, main
from tests.proxy.own.asked import asked_on
from tests.tuning.cases import by_chance, write_recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import System

QUERIES = '{"_id": "q1", "text": "red shoes"}\n{"_id": "q2", "text": "blue"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t1\n"


@pytest.mark.parametrize("engine", ["osmem", "elasticsearch"])
def test_a_file_goes_into_a_list_and_back(
    engine: str,
    request: pytest.FixtureRequest,
    run_system: Callable[..., System],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Import with the queries' words, export in each form, and clicks that are missing are an error."""
    ask = asked_on(engine, request, run_system)
    (tmp_path / "queries.jsonl").write_text(QUERIES)
    (tmp_path / "qrels.tsv.gz").write_bytes(gzip.compress(QRELS.encode()))
    there = ["--name", "by command", "--url", ask.system.url]
    options = ["--queries", str(tmp_path / "queries.jsonl"), "--index", "films"]
    assert main(["judgments", "import", str(tmp_path / "qrels.tsv.gz"), *there, *options]) == 0
    assert "3 judgments are in by command, 3 of them new" in capsys.readouterr().err
    assert main(["judgments", "export", *there, "--form", "trec"]) == 0
    assert capsys.readouterr().out == "q1\t0\td1\t2\nq1\t0\td2\t0\nq2\t0\td1\t1\n"
    assert main(["judgments", "export", *there, "--source", "people"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert [(one["user_query"], one["index"]) for one in exported] == [("red shoes", "films")] * 2 + [("blue", "films")]
    assert main(["judgments", "from-clicks", *there, "--since", "now-30d"]) == 1
    assert "404" in capsys.readouterr().err
    ask("DELETE", "/_es_rerank/judgments/by%20command")
    assert main(["judgments", "export", *there]) == 1
    assert "there is no judgment list [by command]" in capsys.readouterr().err


def test_a_wrong_file_is_refused_before_anything_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names file, line and reason; nobody listens at the URL."""
    file = tmp_path / "case.csv"
    file.write_text("query,docid,rating\nred,d1,good\n")
    assert main(["judgments", "import", str(file), "--name", "a", "--url", "http://127.0.0.1:1"]) == 1
    assert f"{file}, line 2: the grade must be a number" in capsys.readouterr().err
    assert main(["judgments", "import", str(tmp_path / "no"), "--name", "a", "--url", "http://127.0.0.1:1"]) == 1
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_a_model_judges_and_is_compared_on_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The grades of a recording's model are printed, and their agreement with people's is a sentence."""
    recording, judgments = by_chance(3, queries=20, window=15)
    write_recording(tmp_path / "run.jsonl", recording)
    lines = [f"{one.query_id}\t0\t{one.object_id}\t{one.grade:g}\n" for one in judgments.grades]
    (tmp_path / "qrels.tsv").write_text("".join(lines))
    for form, name in (("csv", "model.csv"), ("json", "model.json")):
        assert main(["judgments", "from-model", str(tmp_path / "run.jsonl"), "--form", form, "--max-grade", "4"]) == 0
        (tmp_path / name).write_text(capsys.readouterr().out)
        assert main(["judgments", "agreement", str(tmp_path / "qrels.tsv"), str(tmp_path / name)]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"people and llm:{recording.head.scorer} have both judged ")
        assert "kappa" in said


def test_the_commands_of_the_manual_are_understood() -> None:
    """Each command in docs/judgments.md has options that exist."""
    manual = Path(__file__).parents[2] / "docs" / "judgments.md"
    commands = re.findall(r"^es-rerank (.+)$", manual.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        assert _make_parser().parse_args(shlex.split(command.partition(" > ")[0])).run
