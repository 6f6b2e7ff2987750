"""TREC runs: other tools read them, and their figures are ours."""

from __future__ import annotations

import subprocess
import sys
from statistics import fmean
from typing import TYPE_CHECKING

import msgspec
import pytest

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.exports import to_trec, trec_id
from es_rerank.tuning.findings import figures_of
from es_rerank.tuning.graded import grade_recording
from es_rerank.tuning.judged import judgment_list
from es_rerank.tuning.metrics import USUAL
from es_rerank.tuning.recording import Setting
from es_rerank.tuning.trec_run import trec_run
from tests.tuning.cases import PRESENT, by_chance, query_of, recording_of

if TYPE_CHECKING:
    from pathlib import Path

    from es_rerank.tuning.judged import JudgmentList
    from es_rerank.tuning.recording import Recording

METRICS = (*USUAL, "P@5", "RR")


@pytest.mark.parametrize(
    "setting", [None, Setting(window=30, method="zscore", alpha=0.2), Setting(window=8, method="rrf", alpha=0.5)]
)
def test_ir_measures_says_the_same_of_the_exported_run(tmp_path: Path, setting: Setting | None) -> None:
    """The command line of ir-measures, given the run and the qrels, prints the means of our figures, query by query."""
    recording, judgments = by_chance(9, queries=25, window=30)
    recording = recording_of(*recording.queries[:-3], setting=recording.head.setting)
    assert_same(tmp_path, recording, judgments, setting)


def test_ids_with_blanks_are_the_same_in_the_run_and_in_the_qrels(tmp_path: Path) -> None:
    """Queries that have their words as ids, and odd ids of documents, are measured as by us."""
    recording, judgments = by_chance(4, queries=8, window=10)

    def odd(object_id: str) -> str:
        return f'"{object_id}\u2003 100%' if object_id[-1] in "02468" else f"{object_id}%20"

    queries = [
        msgspec.structs.replace(
            query, query_id=f"red {query.query_id}", ids=tuple([(index, odd(name)) for index, name in query.ids])
        )
        for query in recording.queries
    ]
    grades = [
        msgspec.structs.replace(one, query_id=f"red {one.query_id}", object_id=odd(one.object_id))
        for one in judgments.grades
    ]
    recording = recording_of(*queries, setting=recording.head.setting)
    assert_same(tmp_path, recording, judgment_list("odd", grades), recording.head.setting)


def assert_same(folder: Path, recording: Recording, judgments: JudgmentList, setting: Setting | None) -> None:
    """ir-measures says of the exported run and qrels what we say."""
    run, qrels = folder / "run.trec", folder / "qrels.txt"
    run.write_text("".join(trec_run(recording, setting, "test")), encoding="utf-8")
    qrels.write_text(to_trec(judgments.grades), encoding="utf-8")
    figures = figures_of(grade_recording(recording, judgments), setting, METRICS)
    command = [sys.executable, "-m", "ir_measures", str(qrels), str(run), *METRICS, "--places", "9", "--by_query"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    told: dict[str, dict[str, float]] = {}
    for line in printed.splitlines():
        query_id, metric, value = line.split("\t")
        told.setdefault(metric, {})[query_id] = float(value)
    query_ids = [trec_id(query.query_id) for query in judgments.queries()]
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
        ("q1", [("notes", "d0")], "my run", "tag: a TREC run can't hold 'my run'"),
        ("q1", [("notes", "d0"), ("films", "d0")], "mine", "query 'q1': two hits have the same _id"),
        ("q1", [("notes", "d 0"), ("notes", "d%200")], "mine", "query 'q1': two hits have the same _id"),
        ("q 2", [("notes", "d0")], "mine", "query 'q 2': another one's id is written as 'q%202' too"),
    ],
)
def test_what_the_format_can_not_hold_is_refused(
    query_id: str, ids: list[tuple[str, str]], tag: str, message: str
) -> None:
    """A run that another tool would read differently is not written."""
    recording = recording_of(query_of("q%202", []), query_of(query_id, [1] * len(ids), ids=ids))
    with pytest.raises(TuningError, match=message):
        list(trec_run(recording, None, tag))


def test_a_window_that_was_not_recorded_is_refused() -> None:
    """An export is no way around what a recording can tell."""
    with pytest.raises(TuningError, match="window: 50"):
        list(trec_run(recording_of(query_of("q1", [1])), Setting(window=50, method="rrf", alpha=0.5), "mine"))
