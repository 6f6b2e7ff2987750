"""All that a sweep finds: the best setting and its figure on held-out queries, tests, and measures beside it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from es_rerank.tuning.folds import Choice, choose
from es_rerank.tuning.measures import measured, parse_measure
from es_rerank.tuning.metrics import FOLDS, SHOWN_JUDGED, USUAL
from es_rerank.tuning.significance import FLIPS, sign_flip_test
from es_rerank.tuning.sweep import Sweep, order_by_query, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from es_rerank.tuning.graded import GradedRecording
    from es_rerank.tuning.recording import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What every measure says of one order: by its name the value of each query, parallel to the judged queries.

    `setting` is None for the engine's own order.
    """

    setting: Setting | None
    values: Mapping[str, tuple[float, ...]]

    def mean(self, metric: str) -> float:
        """The mean over all judged queries."""
        return fmean(self.values[metric])

    def mean_of_group(self, metric: str, groups: Sequence[str], group: str) -> float:
        """The mean over the queries of a group; `groups` are parallel to the judged queries."""
        return fmean(value for value, own in zip(self.values[metric], groups, strict=True) if own == group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A setting's p against a baseline, alone and corrected for the number of settings."""

    p: float
    corrected_p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a sweep found.

    `metrics` are the names of all measures, the one that chose first. `best` and `present` are rows of the sweep. The
    tests are parallel to the sweep's settings. `figures` are those of the engine's order, of the present setting and,
    where it is another one, of the best, in this order.
    """

    graded: GradedRecording
    sweep: Sweep
    metrics: tuple[str, ...]
    choice: Choice
    present: int
    against_present: tuple[Test, ...]
    against_engine: tuple[Test, ...]
    figures: tuple[Figures, ...]

    @property
    def best(self) -> int:
        """The row of the setting that is the best on all queries."""
        return self.choice.best

    @property
    def engine_figures(self) -> Figures:
        """The figures of the engine's own order."""
        return self.figures[0]

    @property
    def present_figures(self) -> Figures:
        """The figures of the present setting."""
        return self.figures[1]

    @property
    def best_figures(self) -> Figures:
        """The figures of the best setting, which may be the present one."""
        return self.figures[-1]


def find(
    graded: GradedRecording,
    settings: Sequence[Setting],
    metrics: Sequence[str] = USUAL,
    *,
    folds: int = FOLDS,
    flips: int = FLIPS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Findings:
    """Sweep the settings by the first of the metrics, and say of the best one what is to be said.

    The settings hold the present one, `graded.head.setting`, or it is put before them. Judged@10 is always measured.
    Raises TuningError for a metric that is not taken, or a setting that the recording can't tell of.
    """
    present = graded.head.setting
    tried = tuple(settings) if present in settings else (present, *settings)
    measures = {measure.name: measure for measure in map(parse_measure, (*metrics, SHOWN_JUDGED))}
    primary = next(iter(measures.values()))
    swept = sweep(graded, tried, primary, progress=progress)
    query_ids = [query.query_id for query in graded.queries]
    choice = choose(swept.values, tried, query_ids, present=present, folds=folds, seed=seed)
    row = tried.index(present)
    to_present = sign_flip_test(swept.values - swept.values[row], flips=flips, seed=seed)
    to_engine = sign_flip_test(swept.values - swept.engine, flips=flips, seed=seed)
    shown: list[Setting | None] = list(dict.fromkeys((None, present, tried[choice.best])))
    return Findings(
        graded=graded,
        sweep=swept,
        metrics=tuple(measures),
        choice=choice,
        present=row,
        against_present=_tests(to_present.p, to_present.corrected_p),
        against_engine=_tests(to_engine.p, to_engine.corrected_p),
        figures=tuple([figures_of(graded, setting, tuple(measures)) for setting in shown]),
    )


def figures_of(graded: GradedRecording, setting: Setting | None, metrics: Sequence[str]) -> Figures:
    """What every metric says of the order of one setting, None for the engine's own.

    Raises TuningError as `find` does.
    """
    found = order_by_query(graded, setting)
    return Figures(
        setting=setting,
        values={
            measure.name: tuple(measured(measure, graded.queries, found)) for measure in map(parse_measure, metrics)
        },
    )


def _tests(p: Sequence[float], corrected_p: Sequence[float]) -> tuple[Test, ...]:
    return tuple([Test(p=alone, corrected_p=corrected) for alone, corrected in zip(p, corrected_p, strict=True)])
