"""Measures what a sweep costs: 1,000 settings on 200 queries with windows of 100 hits, on one core.

    python bench/sweep.py
    python bench/sweep.py --settings 10000 --queries 50

The recording is made up: distributions as a model that thinks gives them, grades from 0 to 3, a tenth of the hits of a
window without a judgment. Prints a Markdown table. Exit code: 0; 1 where the 1,000 settings take more than 10 s.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from itertools import product
from random import Random
from typing import TYPE_CHECKING

from es_rerank.judgment import Judgment
from es_rerank.tuning.findings import find
from es_rerank.tuning.graded import GradedRecording, grade_recording
from es_rerank.tuning.judged import Grade, judgment_list
from es_rerank.tuning.measures import parse_measure
from es_rerank.tuning.recording import RecordedQuery, Recording, RecordingHead, Setting
from es_rerank.tuning.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from es_rerank.fusion.fuse import Method
    from es_rerank.judgment import ScoreRule


WINDOW = 100
LIMIT_S = 10.0
METHODS: tuple[Method, ...] = ("zscore", "minmax", "rrf")
SCORES: tuple[ScoreRule, ...] = ("paper", "expected")
METRICS = ("nDCG@10", "RR@10", "AP@100", "R@100")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    graded = _graded(options.queries)
    settings = _settings(options.settings, graded.head.setting)
    print(
        f"Python {platform.python_version()}, ir-measures {version('ir_measures')}, numpy {version('numpy')}; "
        f"1 core, {len(settings):,} settings, {options.queries} queries, window {WINDOW}.\n"
    )
    print("| what | CPU s | ms a setting | µs a setting and query |\n| --- | ---: | ---: | ---: |")
    for metric in METRICS:
        measure = parse_measure(metric)
        _row(f"matrix of {metric}", _timed(lambda measure=measure: sweep(graded, settings, measure)), settings, graded)
    whole_s = _timed(lambda: find(graded, settings))
    _row("all: matrix of nDCG@10, folds, two tests of 10,000 flips, five metrics", whole_s, settings, graded)
    return 1 if whole_s > LIMIT_S and len(settings) <= 1000 and options.queries <= 200 else 0


def _row(what: str, cpu_s: float, settings: tuple[Setting, ...], graded: GradedRecording) -> None:
    count = len(settings)
    print(f"| {what} | {cpu_s:.1f} | {1e3 * cpu_s / count:.1f} | {1e6 * cpu_s / count / len(graded.queries):.0f} |")


def _timed(work: Callable[[], object]) -> float:
    """CPU seconds, which do not depend on what else the machine does."""
    started_s = time.process_time()
    work()
    return time.process_time() - started_s


def _settings(count: int, present: Setting) -> tuple[Setting, ...]:
    """So many settings: three methods, two windows, two scores, and alphas for the rest."""
    kinds = list(product(SCORES, (WINDOW, WINDOW // 2), METHODS))
    steps = count // len(kinds)
    made = [
        Setting(score=score, window=window, method=method, alpha=step / steps)
        for (score, window, method), step in product(kinds, range(steps + 1))
    ]
    return (present, *[setting for setting in made if setting != present][: count - 1])


def _graded(queries: int) -> GradedRecording:
    random = Random(1)
    recorded: list[RecordedQuery] = []
    grades: list[Grade] = []
    for number in range(queries):
        relevance = [random.choices((0, 1, 2, 3), (85, 8, 4, 3))[0] for _ in range(WINDOW)]
        engine = sorted((random.gauss(12, 4) for _ in relevance), reverse=True)
        ids = tuple(("bench", f"q{number}-d{place}") for place in range(WINDOW))
        recorded.append(
            RecordedQuery(
                query_id=f"q{number}",
                user_query="",
                status="partial",
                ids=ids,
                engine_scores=tuple(engine),
                judgments=tuple(None if random.random() < 0.1 else _judgment(random, grade) for grade in relevance),
            )
        )
        grades += [
            Grade(query_id=f"q{number}", object_id=object_id, grade=grade)
            for (_, object_id), grade in zip(ids, relevance, strict=True)
            if grade or random.random() < 0.5
        ]
    head = RecordingHead(
        id="bench", time="", index="bench", rule="bench", rules_version="1", scorer="bench", fingerprint="bench",
        window=WINDOW, setting=Setting(window=WINDOW, method="zscore", alpha=0.2),
    )  # fmt: skip
    return grade_recording(Recording(head=head, queries=tuple(recorded)), judgment_list("bench", grades))


def _judgment(random: Random, grade: int) -> Judgment:
    center = random.gauss(2 + 2 * grade, 2.5)
    shares = [1 / (1 + (answer - center) ** 2) for answer in range(11)]
    return Judgment(distribution=tuple(share / sum(shares) for share in shares))


if __name__ == "__main__":
    sys.exit(main())
