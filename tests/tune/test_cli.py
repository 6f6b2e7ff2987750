"""The commands `sweep`, `compare` and `runs export`, on files."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from es_rerank.cli import main
from es_rerank.tuning import errors
from tests.tuning.cases import by_chance, write_recording

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A recording and its judgments."""
    recording, judgments = by_chance(3, queries=20, window=15)
    write_recording(tmp_path / "run.jsonl", recording)
    lines = [f"{one.query_id}\t0\t{one.object_id}\t{one.grade:g}\n" for one in judgments.grades]
    (tmp_path / "qrels.tsv").write_text("".join(lines), encoding="utf-8")
    return str(tmp_path / "run.jsonl"), str(tmp_path / "qrels.tsv")


def test_sweep_prints_figures_and_a_verdict(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """The last line is the verdict; the figures of the engine, the present and the best setting stand before it."""
    run, qrels = files
    assert main(["sweep", run, "--judgments", qrels, "--grid", "alpha=0:1:0.1", "--metric", "RR@10"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(
        "RR@10 of 20 queries judged by 'qrels.tsv' under 11 settings; recording run-1 of notes"
    )
    assert "| engine " in printed.out
    assert "| now: alpha 0.2, zscore, window 15, paper " in printed.out
    assert "over 20 queries: " in printed.out.splitlines()[-1]
    assert not printed.err
    assert main(["sweep", run, "--judgments", qrels]) == 0
    assert "under 63 settings" in capsys.readouterr().out


def test_only_the_queries_of_a_set_count(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--queries`, judged queries outside the set are left out."""
    run, qrels = files
    lines = [json.dumps({"_id": f"q{number}", "text": "words"}) for number in range(12)]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines), encoding="utf-8")
    options = ["--judgments", qrels, "--queries", str(tmp_path / "queries.jsonl"), "--grid", "alpha=0,0.5"]
    assert main(["sweep", run, *options]) == 0
    assert "nDCG@10 of 12 queries" in capsys.readouterr().out


def test_judgments_come_in_each_form_that_is_imported(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON packed by gzip gives what TREC gives; of several sources one is chosen; Quepid's book is named."""
    run, qrels = files
    compared = ["--grid", "alpha=0,0.5", "--metric", "nDCG@10"]
    assert main(["sweep", run, "--judgments", qrels, *compared]) == 0
    said = capsys.readouterr().out.replace("qrels.tsv", "grades.json.gz")
    grades = [msgspec.to_builtins(one) for one in by_chance(3, queries=20, window=15)[1].grades]
    clicks = {"query_id": "q1", "object_id": "d1", "grade": 1, "source": "clicks"}
    file = tmp_path / "grades.json.gz"
    file.write_bytes(gzip.compress(json.dumps([*grades, clicks]).encode()))
    assert main(["sweep", run, "--judgments", str(file), *compared, "--source", "people"]) == 0
    assert capsys.readouterr().out == said
    assert main(["compare", run, "--judgments", str(file)]) == 1
    assert "choose one of clicks, people" in capsys.readouterr().err
    book = tmp_path / "book.csv"
    book.write_text("query,docid,Ann,Bob\nq1,d1,2,1\n", encoding="utf-8")
    assert main(["compare", run, "--judgments", str(book), "--form", "book"]) == 0
    assert "0 better, 1 worse, 0 alike" in capsys.readouterr().out


def test_a_model_is_not_measured_by_itself_without_a_word(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judgments made from the recording come with a sentence, in both commands."""
    assert main(["judgments", "from-model", files[0]]) == 0
    own = tmp_path / "own.json"
    own.write_text(capsys.readouterr().out, encoding="utf-8")
    for command in ("sweep", "compare"):
        assert main([command, files[0], "--judgments", str(own)]) == 0
        said = capsys.readouterr().out.splitlines()[-1]
        assert "The judgments 'own.json' (llm:erank) are those of the scorer 'erank' itself: " in said


def test_compare_prints_both_sides(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without more, the engine's order is compared with the recorded setting; with it, whatever is named."""
    run, qrels = files
    present = "run-1: alpha 0.2, zscore, window 15, paper"
    for options, sides in (
        ([], ("run-1: engine", present)),
        (["--to", "alpha=0.5 method=rrf"], (present, "run-1: alpha 0.5, rrf, window 15, paper")),
        (["--from", "engine", "--to", "window=5"], ("run-1: engine", "run-1: alpha 0.2, zscore, window 5, paper")),
        ([run], (present, present)),
    ):
        given = [run, *[one for one in options if one == run], "--judgments", qrels]
        assert main(["compare", *given, *[one for one in options if one != run]]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"from {sides[0]}\nto   {sides[1]}\n\nnDCG@10 ")


def test_export_prints_a_trec_run(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each hit is a line; the tag and the setting are chosen."""
    assert main(["runs", "export", files[0], "--setting", "engine", "--tag", "bm25"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20 * 15
    assert lines[0] == "q0 Q0 d0 1 15 bm25"
    assert main(["runs", "export", files[0]]) == 0
    assert capsys.readouterr().out.splitlines() != lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "ndcg"], "metric: 'ndcg' is not taken"),
        (["--grid", "window=99"], "window: 99 is more than the 15 hits that were recorded"),
    ],
)
def test_what_is_wrong_is_said(
    files: tuple[str, str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error names the field, and nothing else is printed."""
    assert main(["sweep", files[0], "--judgments", files[1], *arguments]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert not printed.out


@pytest.mark.parametrize("arguments", [["--grid", "beta=1"], ["--grid", "alpha=2"], ["--folds", "1"]])
def test_misuse_is_told_apart(files: tuple[str, str], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A grid or a number that can't be read ends with code 2, as any option does."""
    with pytest.raises(SystemExit) as ended:
        main(["sweep", files[0], "--judgments", files[1], *arguments])
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_the_commands_are_there_without_the_extra() -> None:
    """Nothing of the command line's start needs the packages for measures."""
    code = "import sys, es_rerank.cli; print({'numpy', 'ir_measures'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_packages_that_are_missing_are_named(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the extra, a command says what to install."""
    monkeypatch.setattr(errors, "PACKAGES", ("ir_measures_of_the_moon",))
    assert main(["compare", files[0], "--judgments", files[1]]) == 1
    assert "ir_measures_of_the_moon missing: measures need `pip install 'es-rerank[tuning]'`" in capsys.readouterr().err
