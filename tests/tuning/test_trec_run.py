"""TREC runs: other tools read them, and their figures are ours."""

from __future__ import annotations

import subprocess
import sys
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.findings import figures_of
from es_rerank.tuning.graded import grade_recording
from es_rerank.tuning.metrics import USUAL
from es_rerank.tuning.recording import Setting
from es_rerank.tuning.trec_run import trec_run
from tests.tuning.cases import PRESENT, by_chance, query_of, recording_of

if TYPE_CHECKING:
    from pathlib import Path

METRICS = (*USUAL, "P@5", "RR")


@pytest.mark.parametrize(
    "setting", [None, Setting(window=30, method="zscore", alpha=0.2), Setting(window=8, method="rrf", alpha=0.5)]
)
def test_ir_measures_says_the_same_of_the_exported_run(tmp_path: Path, setting: Setting | None) -> None:
    """The command line of ir-measures, given the run and the qrels, prints the means of our figures, query by query."""
    recording, judgments = by_chance(9, queries=25, window=30)
    recording = recording_of(*recording.queries[:-3], setting=recording.head.setting)
    run, qrels = tmp_path / "run.trec", tmp_path / "qrels.txt"
    run.write_text("".join(trec_run(recording, setting, "test")), encoding="utf-8")
    lines = [f"{one.query_id} 0 {one.object_id} {one.grade:g}\n" for one in judgments.grades]
    qrels.write_text("".join(lines), encoding="utf-8")
    figures = figures_of(grade_recording(recording, judgments), setting, METRICS)
    command = [sys.executable, "-m", "ir_measures", str(qrels), str(run), *METRICS, "--places", "9", "--by_query"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    told: dict[str, dict[str, float]] = {}
    for line in printed.splitlines():
        query_id, metric, value = line.split("\t")
        told.setdefault(metric, {})[query_id] = float(value)
    query_ids = [query.query_id for query in judgments.queries()]
    for metric in METRICS:
        ours = dict(zip(query_ids, figures.values[metric], strict=True))
        assert told[metric] == pytest.approx({**ours, "all": fmean(ours.values())}, abs=1e-8), metric


def test_a_line_is_trecs() -> None:
    """Query, Q0, document, rank, a falling score, and the tag."""
    recording = recording_of(query_of("q1", [1, 9]), query_of("q2", []))
    assert list(trec_run(recording, PRESENT, "mine")) == ["q1 Q0 d1 1 2 mine\n", "q1 Q0 d0 2 1 mine\n"]
    assert next(trec_run(recording, None, "mine")) == "q1 Q0 d0 1 2 mine\n"


@pytest.mark.parametrize(
    ("query_id", "ids", "tag", "message"),
    [
        ("q 1", [("notes", "d0")], "mine", "query_id: a TREC run can't hold 'q 1'"),
        ("q1", [("notes", "d\t0")], "mine", "_id: a TREC run can't hold"),
        ("q1", [("notes", "d0")], "my run", "tag: a TREC run can't hold 'my run'"),
        ("q1", [("notes", "d0"), ("films", "d0")], "mine", "query 'q1': two hits have the same _id"),
    ],
)
def test_what_the_format_can_not_hold_is_refused(
    query_id: str, ids: list[tuple[str, str]], tag: str, message: str
) -> None:
    """A run that another tool would read differently is not written."""
    recording = recording_of(query_of(query_id, [1] * len(ids), ids=ids))
    with pytest.raises(TuningError, match=message):
        list(trec_run(recording, None, tag))


def test_a_window_that_was_not_recorded_is_refused() -> None:
    """An export is no way around what a recording can tell."""
    with pytest.raises(TuningError, match="window: 50"):
        list(trec_run(recording_of(query_of("q1", [1])), Setting(window=50, method="rrf", alpha=0.5), "mine"))
