"""The figures of the bench of cached reranks, computed by hand, and the texts that it makes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.cached import Figures, cut, goals, over, read_status, read_texts, steps_table, table
from bench.system import ROOT, BenchError

if TYPE_CHECKING:
    from pathlib import Path

ENGINE = Figures(rounds=[[1, 2, 3], [2, 3, 4], [1, 1, 1]], cpu_ms=0, answer_bytes=40_400, steps=[])
PROXY = Figures(
    rounds=[[5, 5, 50], [5, 6, 7], [4, 5, 9]],
    cpu_ms=2.5,
    answer_bytes=40_600,
    steps=[{"engine": 3, "total": 5}, {"engine": 4, "total": 6}, {"engine": 8, "score": 3, "total": 9}],
)
MEASURED = {"short": {"(no proxy)": ENGINE, "es-rerank": PROXY}}


def test_the_cost_is_that_of_medians_in_each_round() -> None:
    """5 over 2, 6 over 3 and 5 over 1: 3 to 4, whatever single searches took."""
    assert over(MEASURED["short"], "es-rerank") == [3, 3, 4]
    assert goals(MEASURED).endswith("3.00 (3.00 to 4.00); the goal is at most 3: kept")


def test_the_table_has_a_line_for_each_side() -> None:
    """Percentiles are of all rounds together; the engine has no cost over itself."""
    engine, proxy = table(MEASURED).splitlines()[2:]
    assert engine.startswith("| short | (no proxy) | 2.00 | ")
    assert engine.endswith(" |  |  | 40 |")
    assert proxy.startswith("| short | es-rerank | 5.00 | ")
    assert proxy.endswith(" | 3.00 (3.00 to 4.00) | 2.50 | 41 |")


def test_steps_are_medians_of_all_searches() -> None:
    """A step that only one of three had takes nothing in the middle; the engine itself has no steps."""
    assert steps_table(MEASURED).splitlines() == [
        "| documents | proxy | engine, ms | total, ms | score, ms |",
        "| --- | --- | ---: | ---: | ---: |",
        "| short | es-rerank | 4.0 | 6.0 | 0.0 |",
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"status": "partial", "window": 100, "cached": 100},
        {"status": "full", "window": 99, "cached": 99},
        {"status": "full", "window": 100, "cached": 99},
    ],
)
def test_only_a_whole_window_from_the_cache_counts(said: dict[str, object]) -> None:
    """Anything else ends the bench, with what the status said."""
    with pytest.raises(BenchError, match="cached"):
        read_status(json.dumps({"_es_rerank": said}).encode(), cached=100)


@pytest.mark.parametrize("characters", [3, 8, 14])
def test_texts_are_cut_to_one_length_and_differ(characters: int) -> None:
    """Each begins as its own text does, and goes on with those behind it, the last with the first."""
    texts = ["one", "two two", "three"]
    made = cut(texts, characters)
    assert [len(text) for text in made] == [characters] * 3
    assert [text[:3] for text in made] == ["one", "two", "thr"]
    assert cut(texts, 14) == ["one two two th", "two two three ", "three one two "]


def test_a_collection_is_read_with_its_queries(tmp_path: Path) -> None:
    """BEIR's two files, and this Python's documentation where the folder is missing."""
    (tmp_path / "corpus.jsonl").write_text('{"_id": "1", "title": "Robots", "text": "A robot in love."}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "love"}\n')
    read = read_texts(tmp_path)
    assert (read.titles, read.texts, read.queries) == (["Robots"], ["A robot in love."], ["love"])


def test_another_folder_is_no_checkout(tmp_path: Path) -> None:
    """Said before anything is started."""
    command = [sys.executable, str(ROOT / "bench" / "cached.py"), "--before", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no checkout of es-rerank" in done.stderr
