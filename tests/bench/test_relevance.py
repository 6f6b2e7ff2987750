"""The relevance bench, run as its command on the smallest collection."""

from __future__ import annotations

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
FIGURE = re.compile(r"\d\.\d{4}")


@pytest.mark.engines
def test_the_running_system_ranks_as_its_formula_says(opensearch: Engine) -> None:
    """On all queries of adi the system's order has the nDCG@10 of the recomputed one, and beats the engine's."""
    command = [sys.executable, str(BENCH), "--collections", "adi", "--engine", opensearch.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    [row] = [line for line in done.stdout.splitlines() if line.startswith("| adi ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["adi", "82", "35"]
    engine, _, fused, recomputed, difference = (float(cell) for cell in cells[3:8])
    assert abs(fused - recomputed) <= difference + 0.0001
    assert difference <= 0.0005
    assert fused > engine
    assert cells[8] == "0", "some list differs from the recomputed one"
    assert cells[11] == "0", "some query was not scored in full"


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
