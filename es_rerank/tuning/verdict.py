"""The verdict of a sweep in one sentence, and what has to be said with it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from es_rerank.tuning.grid import FIELDS
from es_rerank.tuning.metrics import SHOWN_JUDGED

if TYPE_CHECKING:
    from es_rerank.tuning.findings import Findings
    from es_rerank.tuning.recording import Setting

SIGNIFICANT = 0.05
LEAST_QUERIES = 10
LEAST_JUDGED = 0.5
SAME = 0.0005  # figures that are nearer are printed alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a verdict rests on: means of the metric, and the p of the best setting, corrected for their number.

    `warning` is that of `GradedRecording`.
    """

    metric: str
    present: Setting
    best: Setting
    present_mean: float
    held_out_mean: float
    p: float
    queries: int
    settings: int
    judged_at_10: float
    warning: str | None


def case_of(findings: Findings) -> Case:
    """The case that a sweep's findings make. Judged@10 is that of the order that has fewer hits judged."""
    metric = findings.sweep.metric
    return Case(
        metric=metric,
        present=findings.sweep.settings[findings.present],
        best=findings.sweep.settings[findings.best],
        present_mean=findings.present_figures.mean(metric),
        held_out_mean=findings.choice.held_out_mean,
        p=findings.against_present[findings.best].corrected_p,
        queries=len(findings.graded.queries),
        settings=len(findings.sweep.settings),
        judged_at_10=min(figures.mean(SHOWN_JUDGED) for figures in findings.figures[1:]),
        warning=findings.graded.warning,
    )


def verdict(case: Case) -> str:
    """The sentence, and a sentence for each thing that weakens it."""
    warnings = []
    if case.judged_at_10 < LEAST_JUDGED:
        warnings.append(
            f"Only {case.judged_at_10:.0%} of the first 10 hits are judged, and the others count as not relevant: "
            "judge more before you trust a small difference."
        )
    if case.warning is not None:
        warnings.append(case.warning)
    return " ".join((f"{_sentence(case)}.", *warnings))


def better(case: Case) -> bool:
    """Whether there is reason to change: enough queries, better on held-out ones, and hardly by luck."""
    return (
        case.best != case.present
        and case.queries >= LEAST_QUERIES
        and case.held_out_mean > case.present_mean
        and case.p < SIGNIFICANT
    )


def p_text(p: float) -> str:
    """`p = 0.21`, with two digits that count but none behind the third place; `p < 0.001` below."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def differences(best: Setting, present: Setting) -> str:
    """What differs between two settings: `alpha 0.35 (now 0.2), window 50 (now 100)`."""
    pairs = [(name, getattr(best, name), getattr(present, name)) for name in FIELDS]
    return ", ".join(f"{name} {_shown(new)} (now {_shown(now)})" for name, new, now in pairs if new != now)


def _sentence(case: Case) -> str:
    """The sentence without its full stop."""
    if case.best == case.present:
        return _staying(case)
    start = (
        f"{differences(case.best, case.present)}: {case.metric} {case.present_mean:.3f} → {case.held_out_mean:.3f} "
        f"on held-out queries, {p_text(case.p)} over {_count(case.queries)}"
    )
    if case.queries < LEAST_QUERIES:
        return f"{start}: too few queries to say anything, at least {LEAST_QUERIES} are needed"
    if better(case):
        return f"{start}: better, a reason to change"
    if case.held_out_mean < case.present_mean - SAME:
        return f"{start}: the gain does not hold on queries that did not choose it, no reason to change"
    return f"{start}: no reason to change"


def _staying(case: Case) -> str:
    """The sentence where the present setting is the best."""
    figure = f"{case.metric} {case.present_mean:.3f}"
    over = f"over {_count(case.queries)}"
    if case.settings == 1:
        return f"{case.present}: {figure} {over}; no other setting was tried"
    others = "the other setting is not better"
    if case.settings > 2:
        others = f"none of {case.settings - 1:,} other settings is better"
    end = "too few to say which setting is best" if case.queries < LEAST_QUERIES else "no reason to change"
    return f"{case.present} (now): {figure}, {others} {over}: {end}"


def _count(queries: int) -> str:
    return f"{queries:,} quer{'y' if queries == 1 else 'ies'}"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
