"""The relevance bench, run as its command on the smallest collection."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Engine

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench" / "relevance.py"


def write_lines(file: Path, values: list[dict[str, str]]) -> None:
    """A file of JSON lines."""
    file.write_text("".join(f"{json.dumps(value)}\n" for value in values))


@pytest.mark.engines
def test_the_running_system_ranks_as_its_formula_says(opensearch: Engine) -> None:
    """On all queries of adi the systems' orders are the recomputed ones, and the default beats the engine's."""
    command = [sys.executable, str(BENCH), "--collections", "adi", "--engine", opensearch.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| adi ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [(*row[:3], row[4]) for row in cells] == [
        ("adi", "82", "35", order) for order in ("engine", "default", "e5")
    ]
    engine, default, _ = (float(row[5]) for row in cells)
    assert default > engine
    for row in cells[1:]:
        skipped, not_full, difference, other_lists = map(float, row[8:])
        assert difference <= 0.0005
        assert other_lists == 0, "some list differs from the recomputed one"
        assert not_full == 0, "some query was not scored in full"
        assert skipped == 0, "some English window was held back"


@pytest.mark.engines
def test_a_query_without_hits_counts_nothing(opensearch: Engine, tmp_path: Path) -> None:
    """A judged query that finds nothing is a 0 in every mean; one without a relevant document is left out."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    write_lines(folder / "corpus.jsonl", [{"_id": "1", "title": "Robots", "text": "A robot in love."}])
    asked = {"found": "robot", "lost": "submarine", "ungraded": "love"}
    write_lines(folder / "queries.jsonl", [{"_id": key, "text": text} for key, text in asked.items()])
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nfound\t1\t1\nlost\t1\t2\nungraded\t1\t0\n")
    command = [sys.executable, str(BENCH), "--collections", "tiny", "--data", str(tmp_path), "--engine", opensearch.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "| tiny | 1 | 3 | 0.500 | engine | 0.5000 | | 0.500 | | | | |" in done.stdout
    figures = "0.5000 | +0.0000 to +0.0000 | 0.500 | 0 | 0 | 0.0000 | 0"
    assert f"| tiny | 1 | 3 | 0.500 | default | {figures} |" in done.stdout


def test_the_bench_imports_nothing_of_what_it_measures() -> None:
    """Its figures come from the outside: no line imports es_rerank, workers or ingest."""
    imported = re.findall(r"^\s*(?:from|import) +(\w+)", BENCH.read_text(), re.MULTILINE)
    assert "ir_measures" in imported
    assert not {"es_rerank", "workers", "ingest"} & set(imported)


def test_a_collection_that_is_missing_is_named(tmp_path: Path) -> None:
    """Without the collections the bench ends with 2 before it starts anything, and says what it looked for."""
    command = [sys.executable, str(BENCH), "--collections", "adi", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"{tmp_path / 'adi'}: no such folder" in done.stderr
