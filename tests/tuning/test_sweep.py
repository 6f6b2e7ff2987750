"""A sweep and its findings: the matrix, the figures beside it, and the documents that are kept of it."""

from __future__ import annotations

import json

import msgspec
import pytest

from es_rerank.store.indices import RUNS
from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.findings import Findings, figures_of, find
from es_rerank.tuning.graded import grade_recording
from es_rerank.tuning.grid import parse_grid
from es_rerank.tuning.measures import parse_measure
from es_rerank.tuning.metrics import USUAL
from es_rerank.tuning.recording import Setting
from es_rerank.tuning.report import sweep_report, table
from es_rerank.tuning.results import result_rows, summary_of
from es_rerank.tuning.sweep import sweep
from es_rerank.tuning.verdict import case_of, verdict
from tests.tuning.cases import by_chance, judged_as, query_of, recording_of

RUN = {"run": "sweep-1", "timestamp": "2026-11-28T10:00:00Z", "job": "j1", "label": "first try"}


def found_by_chance() -> Findings:
    """The findings of a small sweep over two groups of queries, two of them not recorded."""
    recording, judgments = by_chance(2, queries=14, window=20)
    recording = recording_of(*recording.queries[:-2], setting=recording.head.setting)
    settings = parse_grid("alpha=0:1:0.25 method=zscore,rrf window=10,20").settings(recording.head.setting)
    return find(grade_recording(recording, judgments), settings, flips=200)


def test_the_matrix_has_the_value_of_each_setting_and_query() -> None:
    """Rows are settings and columns are judged queries, in the order given; a query that is not recorded is 0."""
    recording = recording_of(query_of("q1", [0, 9, 5]), query_of("q2", [0, 9, 5]))
    judgments = judged_as({"q2": {"d1": 1}, "q1": {"d2": 1}, "gone": {"d0": 1}})
    tried = [Setting(window=10, method="zscore", alpha=alpha) for alpha in (0.0, 1.0)]
    seen: list[tuple[int, int]] = []
    swept = sweep(
        grade_recording(recording, judgments),
        tried,
        parse_measure("RR@10"),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert swept.values.tolist() == [[1.0, 0.5, 0.0], pytest.approx([1 / 2, 1 / 3, 0])]
    assert swept.engine.tolist() == pytest.approx([1 / 2, 1 / 3, 0])
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_what_a_recording_can_not_tell_is_refused() -> None:
    """A window that was not recorded is an error, before anything is computed."""
    graded = grade_recording(recording_of(query_of("q1", [1])), judged_as({"q1": {"d0": 1}}))
    with pytest.raises(TuningError, match="window: 11"):
        find(graded, [Setting(window=11, method="zscore", alpha=0.2)])


def test_findings_agree_with_each_other() -> None:
    """Best, present and engine have the same figures in the matrix and beside it; the present is always in."""
    found = found_by_chance()
    metric = found.sweep.metric
    assert metric == "nDCG@10"
    assert found.metrics == USUAL
    assert found.sweep.values[found.best].mean() == pytest.approx(found.best_figures.mean(metric))
    assert found.sweep.values[found.present].mean() == pytest.approx(found.present_figures.mean(metric))
    assert found.sweep.engine.mean() == pytest.approx(found.engine_figures.mean(metric))
    assert found.sweep.settings[found.present] == found.graded.head.setting
    assert found.sweep.values.mean(axis=1).max() == pytest.approx(found.best_figures.mean(metric))
    assert found.against_present[found.present].corrected_p == 1.0
    assert figures_of(found.graded, None, USUAL) == found.engine_figures
    without = find(found.graded, [Setting(window=20, method="rrf", alpha=0.5)], ("RR@10",), flips=200)
    assert without.sweep.settings[without.present] == found.graded.head.setting
    assert without.metrics == ("RR@10", "Judged@10")


def test_every_key_of_a_document_is_in_the_mapping() -> None:
    """Documents are flat, and the index of runs has a field for each of their keys."""
    rows = result_rows(found_by_chance(), RUN)
    assert {key for row in rows for key in row} <= set(RUNS.fields)
    assert all(isinstance(value, str | int | float | bool) for row in rows for value in row.values())


def test_documents_hold_every_query_every_setting_and_every_group() -> None:
    """There is one for each query and metric of the orders shown, and means by setting, by group and held out."""
    found = found_by_chance()
    rows = result_rows(found, RUN)
    queries, shown, groups = len(found.graded.queries), len(found.figures), 2
    single = [row for row in rows if not row["aggregate"]]
    assert len(single) == shown * queries * len(USUAL)
    assert len({(row["setting"], row["query_id"], row["metric"]) for row in single}) == len(single)
    assert all(row["change"] == row["value"] - row["engine_value"] for row in rows)
    means = [row for row in rows if row["aggregate"] and not row["held_out"]]
    assert len(means) == shown * len(USUAL) * (1 + groups) + len(found.sweep.settings) - (shown - 1)
    by_setting = [row for row in means if row["metric"] == "nDCG@10" and "group" not in row and "alpha" in row]
    assert {row["setting"] for row in by_setting} == {str(setting) for setting in found.sweep.settings}
    [held_out] = [row for row in rows if row["held_out"]]
    assert held_out["value"] == found.choice.held_out_mean
    tail = next(row for row in means if row.get("group") == "tail" and row["setting"] == "engine")
    own = [row["value"] for row in single if row["group"] == "tail" and row["setting"] == "engine"]
    assert tail["queries"] == len(own) // len(USUAL)
    assert tail["value"] == pytest.approx(sum(own[: tail["queries"]]) / tail["queries"])


def test_a_summary_holds_the_verdict_and_what_it_rests_on() -> None:
    """It is JSON, its settings can be read again, and its figures are those of the findings."""
    found = found_by_chance()
    summary = json.loads(msgspec.json.encode(summary_of(found)))
    assert msgspec.convert(summary["best"], Setting) == found.sweep.settings[found.best]
    assert msgspec.convert(summary["present"], Setting) == found.graded.head.setting
    assert summary["verdict"] == verdict(case_of(found))
    assert summary["held_out"] == found.choice.held_out_mean
    assert summary["missing"] == ["q12", "q13"]


def test_the_report_shows_figures_and_ends_in_the_verdict() -> None:
    """Every metric, the best settings, the groups, and what is missing are there."""
    text = sweep_report(found_by_chance())
    for part in (
        "Judged@10",
        "corrected p",
        "| group",
        "2 of 14 judged queries are not in the recording and count 0: ",
    ):
        assert part in text
    assert text.splitlines()[-1].endswith(".")
    assert "over 14 queries" in text.splitlines()[-1]


def test_a_table_is_markdown() -> None:
    """Columns are as wide as their widest cell, numbers to the right."""
    assert table(("a", "value"), [("long", "1")]) == "| a    | value |\n| ---- | ----: |\n| long |     1 |"
