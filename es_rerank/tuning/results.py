"""What a run found as flat documents for the index of runs (`RUNS` in es_rerank/store/indices.py). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.tuning.metrics import SHOWN_JUDGED
from es_rerank.tuning.verdict import better, case_of, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from es_rerank.tuning.findings import Figures, Findings
    from es_rerank.tuning.graded import GradedRecording
    from es_rerank.tuning.recording import Setting

ENGINE = "engine"


def result_rows(findings: Findings, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All documents of a sweep.

    `run` holds what all documents have in common and a sweep does not know, by the index's field names: `run`,
    `timestamp`, and perhaps `job` and `label`. There is a document for

    - each query, metric, and order that is shown in full: the engine's, the present setting's and the best one's;
    - the mean of each metric for each of these orders, over all queries and over each group (`aggregate`);
    - the mean of the first metric for each setting of the sweep (`aggregate`);
    - the figure that the best setting has on held-out queries (`aggregate` and `held_out`).

    `change` is `value` less `engine_value`.
    """
    swept = findings.sweep
    rows = figures_rows(findings.graded, findings.figures, run)
    base = _common(findings.graded, run)
    count = len(findings.graded.queries)
    engine = float(swept.engine.mean())
    shown = {figures.setting for figures in findings.figures}
    rows += [
        {**base, **_of_setting(setting), **_mean(swept.metric, float(value), engine, count)}
        for setting, value in zip(swept.settings, swept.values.mean(axis=1), strict=True)
        if setting not in shown
    ]
    held_out = _mean(swept.metric, findings.choice.held_out_mean, engine, count)
    return [*rows, {**base, **_of_setting(swept.settings[findings.best]), **held_out, "held_out": True}]


def summary_of(findings: Findings) -> dict[str, Any]:
    """What a sweep found, in short, as JSON: the verdict and all that it rests on. Both p are corrected."""
    case = case_of(findings)
    return {
        "verdict": verdict(case),
        "better": better(case),
        "metric": case.metric,
        "best": msgspec.to_builtins(case.best),
        "present": msgspec.to_builtins(case.present),
        "held_out": case.held_out_mean,
        "present_value": case.present_mean,
        "engine_value": findings.engine_figures.mean(case.metric),
        "p": case.p,
        "p_to_engine": findings.against_engine[findings.best].corrected_p,
        "queries": case.queries,
        "settings": case.settings,
        "judged_at_10": case.judged_at_10,
        "missing": list(findings.graded.missing),
        "without_relevant": list(findings.graded.without_relevant),
        "unjudged": list(findings.graded.unjudged),
    }


def figures_rows(graded: GradedRecording, figures: Sequence[Figures], run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The documents of some orders, each shown in full; the first of `figures` is the engine's own order."""
    base = _common(graded, run)
    return [
        {**base, **_of_setting(one.setting), **row}
        for one in figures
        for row in (*_query_rows(graded, one, figures[0]), *_mean_rows(graded, one, figures[0]))
    ]


def _query_rows(graded: GradedRecording, figures: Figures, engine: Figures) -> Iterable[dict[str, Any]]:
    judged = figures.values[SHOWN_JUDGED]
    for metric, values in figures.values.items():
        for place, query in enumerate(graded.queries):
            yield {
                **_value(metric, values[place], engine.values[metric][place]),
                "query_id": query.query_id,
                "user_query": query.user_query,
                "group": query.group,
                "judged_at_10": judged[place],
                "aggregate": False,
                "held_out": False,
            }


def _mean_rows(graded: GradedRecording, figures: Figures, engine: Figures) -> Iterable[dict[str, Any]]:
    groups = [query.group for query in graded.queries]
    for metric in figures.values:
        yield {
            **_mean(metric, figures.mean(metric), engine.mean(metric), len(groups)),
            "judged_at_10": figures.mean(SHOWN_JUDGED),
        }
        for group in dict.fromkeys(filter(None, groups)):
            value, engine_value = (one.mean_of_group(metric, groups, group) for one in (figures, engine))
            yield {
                **_mean(metric, value, engine_value, groups.count(group)),
                "judged_at_10": figures.mean_of_group(SHOWN_JUDGED, groups, group),
                "group": group,
            }


def _common(graded: GradedRecording, run: Mapping[str, Any]) -> dict[str, Any]:
    head = graded.head
    return {
        **run,
        "recording": head.id,
        "index": head.index,
        "rule": head.rule,
        "rules_version": head.rules_version,
        "scorer": head.scorer,
        "judgments": graded.judgments,
    }


def _of_setting(setting: Setting | None) -> dict[str, Any]:
    if setting is None:
        return {"setting": ENGINE}
    return {
        "setting": str(setting),
        "window": setting.window,
        "method": setting.method,
        "alpha": setting.alpha,
        "score": setting.score,
    }


def _mean(metric: str, value: float, engine_value: float, queries: int) -> dict[str, Any]:
    return {**_value(metric, value, engine_value), "aggregate": True, "queries": queries, "held_out": False}


def _value(metric: str, value: float, engine_value: float) -> dict[str, Any]:
    return {"metric": metric, "value": value, "engine_value": engine_value, "change": value - engine_value}
