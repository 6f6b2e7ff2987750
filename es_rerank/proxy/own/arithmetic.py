"""What a sweep and a comparison compute, from values to values, for a process of its own. Pure.

What measures is imported only where it is used: the proxy itself never loads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from es_rerank.tuning.graded import grade_recording
from es_rerank.tuning.metrics import SHOWN_JUDGED
from es_rerank.tuning.verdict import p_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from es_rerank.tuning.compare import Comparison
    from es_rerank.tuning.findings import Figures, Findings
    from es_rerank.tuning.graded import GradedRecording
    from es_rerank.tuning.judged import JudgmentList
    from es_rerank.tuning.recording import Recording, Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTask:
    """A sweep. `metrics` begin with the one that chooses; `run` is what all rows have in common."""

    recording: Recording
    judgments: JudgmentList
    settings: tuple[Setting, ...]
    metrics: tuple[str, ...]
    folds: int
    run: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonTask:
    """A comparison of two sides, each a recording and a setting; no setting is the engine's own order."""

    before: Recording
    before_setting: Setting | None
    after: Recording
    after_setting: Setting | None
    judgments: JudgmentList
    metric: str
    run: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """What was found: documents for the index of runs, one sentence, and what the job's document keeps of it."""

    rows: list[dict[str, Any]]
    verdict: str
    result: dict[str, Any]


def compute_sweep(task: SweepTask, progress: Callable[[int, int], None]) -> Computed:
    """The sweep. Raises TuningError."""
    from es_rerank.tuning.findings import find  # noqa: PLC0415
    from es_rerank.tuning.results import result_rows, summary_of  # noqa: PLC0415

    graded = grade_recording(task.recording, task.judgments)
    findings = find(graded, task.settings, task.metrics, folds=task.folds, progress=progress)
    summary = summary_of(findings)
    sentence = summary.pop("verdict")
    result = {
        "winner": summary.pop("best"),
        "current": summary.pop("present"),
        **summary,
        "folds": len(findings.choice.best_without),
        "figures": _figures(findings),
        "groups": _groups(findings),
    }
    return Computed(rows=result_rows(findings, task.run), verdict=sentence, result=result)


def compute_comparison(task: ComparisonTask, progress: Callable[[int, int], None]) -> Computed:
    """The comparison. Raises TuningError."""
    from es_rerank.tuning.compare import Side, compare  # noqa: PLC0415
    from es_rerank.tuning.findings import figures_of  # noqa: PLC0415
    from es_rerank.tuning.report import warnings_of  # noqa: PLC0415
    from es_rerank.tuning.results import figures_rows  # noqa: PLC0415

    before = Side(graded=grade_recording(task.before, task.judgments), setting=task.before_setting)
    after = Side(graded=grade_recording(task.after, task.judgments), setting=task.after_setting)
    found = compare(before, after, task.metric)
    metrics = tuple(dict.fromkeys((found.metric, SHOWN_JUDGED)))
    rows: list[dict[str, Any]] = []
    shown: dict[str, list[Setting | None]] = {}
    for side in (before, after):
        settings = shown.setdefault(side.graded.head.id, [None])
        settings += [side.setting] if side.setting not in settings else []
    for graded in {side.graded.head.id: side.graded for side in (before, after)}.values():
        figures = [figures_of(graded, setting, metrics) for setting in shown[graded.head.id]]
        rows += figures_rows(graded, figures, task.run)
    progress(1, 1)
    verdict = " ".join((_sentence(found), *warnings_of(before.graded, after.graded)))
    return Computed(rows=rows, verdict=verdict, result=_compared(found, before.graded, after.graded))


def name_metrics(asked: tuple[str, ...], progress: Callable[[int, int], None]) -> tuple[str, ...]:
    """The metrics' full names, each once. Raises TuningError for one that is not taken."""
    from es_rerank.tuning.measures import parse_measure  # noqa: PLC0415

    progress(1, 1)
    return tuple(dict.fromkeys(parse_measure(name).name for name in asked))


def _figures(findings: Findings) -> dict[str, Any]:
    """By metric: the means of the engine's order, of the present setting and of the best one."""
    return {metric: _of_orders(findings, methodcaller("mean", metric)) for metric in findings.metrics}


def _groups(findings: Findings) -> dict[str, Any]:
    """The same of the first metric, by group of queries, and how many queries each group has."""
    groups = [query.group for query in findings.graded.queries]
    metric = findings.sweep.metric
    return {
        group: {
            "queries": groups.count(group),
            **_of_orders(findings, methodcaller("mean_of_group", metric, groups, group)),
        }
        for group in dict.fromkeys(filter(None, groups))
    }


def _of_orders(findings: Findings, figure: Callable[[Figures], float]) -> dict[str, float]:
    return {
        "engine": figure(findings.engine_figures),
        "current": figure(findings.present_figures),
        "winner": figure(findings.best_figures),
    }


def _compared(found: Comparison, before: GradedRecording, after: GradedRecording) -> dict[str, Any]:
    """What a comparison found, as JSON. Queries that count 0, or not at all, are named for both recordings."""

    def named(kind: Callable[[GradedRecording], tuple[str, ...]]) -> list[str]:
        return list(dict.fromkeys((*kind(before), *kind(after))))

    return {
        "metric": found.metric,
        "a": {"name": found.from_name, "value": found.from_mean},
        "b": {"name": found.to_name, "value": found.to_mean},
        "wins": found.wins,
        "losses": found.losses,
        "ties": found.ties,
        "p": found.p,
        "queries": len(found.queries),
        "missing": named(lambda graded: graded.missing),
        "without_relevant": named(lambda graded: graded.without_relevant),
        "unjudged": named(lambda graded: graded.unjudged),
        "moved": [
            {
                "query_id": query.query_id,
                "user_query": query.user_query,
                "a": query.from_value,
                "b": query.to_value,
                "hits": [
                    {
                        "index": hit.index,
                        "id": hit.object_id,
                        "a": hit.from_place,
                        "b": hit.to_place,
                        "grade": hit.grade,
                    }
                    for hit in hits
                ],
            }
            for query, hits in found.moved
        ],
    }


def _sentence(found: Comparison) -> str:
    return (
        f"{found.to_name} (b) against {found.from_name} (a): {found.metric} {found.from_mean:.3f} → {found.to_mean:.3f}"
        f", {found.wins} wins, {found.losses} losses, {found.ties} ties over {len(found.queries):,} queries, "
        f"{p_text(found.p)}."
    )
