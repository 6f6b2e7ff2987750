"""Findings and comparisons as text for people: Markdown tables, and what has to be known to read them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from es_rerank.tuning.verdict import case_of, p_text, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from es_rerank.tuning.compare import Comparison, MovedHit
    from es_rerank.tuning.findings import Findings
    from es_rerank.tuning.graded import GradedRecording

MOST_SETTINGS = 10
MOST_IDS = 5
ORDERS = ("engine", "now", "best")  # those of `Findings.figures`


def sweep_report(findings: Findings) -> str:
    """The report of a sweep: figures, the best settings, groups, notes, and the verdict as its last line."""
    parts = [_title(findings), _figures(findings), _best_settings(findings), *_groups(findings)]
    parts += notes(findings.graded)
    return "\n\n".join((*parts, verdict(case_of(findings))))


def compare_report(comparison: Comparison, remarks: Sequence[str] = ()) -> str:
    """The report of a comparison: means, wins and losses, the queries that moved most with their hits, and remarks."""
    change = comparison.to_mean - comparison.from_mean
    how = "all sign flips" if comparison.exact else "sign flips at random"
    summary = (
        f"{comparison.metric} {comparison.from_mean:.3f} → {comparison.to_mean:.3f} ({change:+.3f}), "
        f"{p_text(comparison.p)} by {how}, over {len(comparison.queries):,} queries: "
        f"{comparison.wins} better, {comparison.losses} worse, {comparison.ties} alike. "
        f"Judged@10 {comparison.from_judged:.3f} → {comparison.to_judged:.3f}."
    )
    parts = [f"from {comparison.from_name}\nto   {comparison.to_name}", summary]
    for query, hits in comparison.moved:
        words = f" {query.user_query!r}" if query.user_query else ""
        parts.append(
            f"{query.query_id}{words}: {query.from_value:.3f} → {query.to_value:.3f} ({query.difference:+.3f})"
        )
        parts.append(table(("hit", "from", "to", "grade"), [_hit(hit) for hit in hits]))
    return "\n\n".join((*parts, *remarks))


def remarks_of(*graded: GradedRecording) -> list[str]:
    """What has to be said with a comparison of these, each once."""
    said = [note for one in graded for note in notes(one)]
    return list(dict.fromkeys((*said, *warnings_of(*graded))))


def warnings_of(*graded: GradedRecording) -> list[str]:
    """A sentence for each model among these that is measured by its own grades."""
    return list(dict.fromkeys(one.warning for one in graded if one.warning is not None))


def notes(graded: GradedRecording) -> list[str]:
    """What is missing, a sentence each; nothing is left out of the figures without one."""
    count = len(graded.queries)
    told = (
        (graded.missing, f"of {count} judged queries are not in the recording and count 0"),
        (graded.without_relevant, f"of {count} judged queries have no relevant document and count 0"),
        (graded.unjudged, "recorded queries are not judged and do not count"),
    )
    return [f"{len(ids)} {what}: {_some(ids)}." for ids, what in told if ids]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are as wide as their widest cell; all but the first are set to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * width if place == 0 else f"{'-' * (width - 1)}:" for place, width in enumerate(widths)]
    lines = [
        [cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(sized)]
        for sized in (zip(row, widths, strict=True) for row in (head, rule, *rows))
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _title(findings: Findings) -> str:
    head = findings.graded.head
    settings, queries = len(findings.sweep.settings), len(findings.graded.queries)
    return (
        f"{findings.sweep.metric} of {queries:,} queries judged by {findings.graded.judgments!r} under {settings:,} "
        f"settings; recording {head.id} of {head.index}, scorer {head.scorer}"
    )


def _figures(findings: Findings) -> str:
    rows = [
        [
            name if figures.setting is None else f"{name}: {figures.setting}",
            *(f"{figures.mean(metric):.3f}" for metric in findings.metrics),
        ]
        for name, figures in zip(ORDERS, findings.figures, strict=False)
    ]
    held_out = [f"{findings.choice.held_out_mean:.3f}", *[""] * (len(findings.metrics) - 1)]
    rows.append(["chosen on other folds", *held_out])
    return table(("order", *findings.metrics), rows)


def _best_settings(findings: Findings) -> str:
    means = findings.sweep.values.mean(axis=1)
    best = [findings.best, *[int(row) for row in np.argsort(-means, kind="stable") if row != findings.best]]
    now, engine = float(means[findings.present]), float(findings.sweep.engine.mean())
    rows = [
        [
            str(findings.sweep.settings[row]),
            f"{means[row]:.3f}",
            f"{means[row] - now:+.3f}",
            _p(findings.against_present[row].corrected_p),
            f"{means[row] - engine:+.3f}",
            _p(findings.against_engine[row].corrected_p),
        ]
        for row in best[:MOST_SETTINGS]
    ]
    head = ("best on all queries", findings.sweep.metric, "to now", "corrected p", "to engine", "corrected p")
    return table(head, rows)


def _groups(findings: Findings) -> Iterator[str]:
    groups = [query.group for query in findings.graded.queries]
    named = list(dict.fromkeys(filter(None, groups)))
    if not named:
        return
    metric = findings.sweep.metric
    rows = [
        [
            group,
            str(groups.count(group)),
            *(f"{figures.mean_of_group(metric, groups, group):.3f}" for figures in findings.figures),
        ]
        for group in named
    ]
    yield table(("group", "queries", *ORDERS[: len(findings.figures)]), rows)


def _p(p: float) -> str:
    return p_text(p).removeprefix("p ").removeprefix("= ")


def _hit(hit: MovedHit) -> tuple[str, str, str, str]:
    before, after = ("-" if place is None else str(place) for place in (hit.from_place, hit.to_place))
    return f"{hit.index}/{hit.object_id}", before, after, "-" if hit.grade is None else f"{hit.grade:g}"


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:MOST_IDS])
    return f"{shown} and others" if len(ids) > MOST_IDS else shown
