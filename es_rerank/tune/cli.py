"""The commands `es-rerank sweep`, `es-rerank compare` and `es-rerank runs export`, on files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from es_rerank.trec import read_queries
from es_rerank.tuning.errors import TuningError, check_installed
from es_rerank.tuning.forms import FORMS
from es_rerank.tuning.grade_files import read_grade_file
from es_rerank.tuning.graded import grade_recording
from es_rerank.tuning.grid import default_grid, parse_grid, parse_setting
from es_rerank.tuning.judged import judgment_list
from es_rerank.tuning.metrics import FOLDS, PRIMARY, USUAL
from es_rerank.tuning.recordings import read_recording
from es_rerank.tuning.trec_run import trec_run

if TYPE_CHECKING:
    from es_rerank.tuning.graded import GradedRecording
    from es_rerank.tuning.grid import Grid
    from es_rerank.tuning.recording import Recording, Setting

SWEEP = """\
Tries many settings on a recording: no engine, no worker and no model is asked.
Prints what each is worth by the judgments, and whether there is reason to change.
"""
COMPARE = """\
Compares two orders of the same queries: the engine's and the recorded setting's, two
settings of a recording, or two recordings. Prints wins and losses, a test, and what moved.
"""
EXPORT = """\
Prints a recording as a TREC run, in the order of the setting that was recorded or of
another one, for trec_eval, ir_measures and the like.
"""
ENGINE = "engine"
PRESENT = "present"


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `sweep`."""
    parser.add_argument("recording", type=Path, metavar="RECORDING", help="a file of JSON lines, as a replay writes it")
    _add_judged(parser)
    parser.add_argument(
        "--grid",
        type=_grid,
        metavar="TEXT",
        help="the settings to try, such as 'alpha=0:1:0.05 method=zscore,rrf window=20,50 score=paper,expected' "
        "(default: alpha=0:1:0.05 with all methods; what is not named stays as recorded)",
    )
    parser.add_argument(
        "--folds", type=_count, default=FOLDS, metavar="N", help=f"folds of the cross-validation (default: {FOLDS})"
    )


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    parser.add_argument("recording", type=Path, metavar="A", help="a recording")
    parser.add_argument("other", type=Path, nargs="?", metavar="B", help="another one of the same queries (default: A)")
    _add_judged(parser)
    setting = "'alpha=0.35 method=rrf' (what is not named is as recorded), present (as recorded), or engine"
    parser.add_argument(
        "--from",
        dest="before",
        metavar="SETTING",
        help=f"the setting of A: {setting}; default: present, and engine where neither B nor --to is given",
    )
    parser.add_argument(
        "--to", dest="after", default=PRESENT, metavar="SETTING", help="the setting of B (default: present)"
    )


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `runs export`."""
    parser.add_argument("recording", type=Path, metavar="RECORDING", help="a file of JSON lines, as a replay writes it")
    parser.add_argument(
        "--setting",
        default=PRESENT,
        metavar="SETTING",
        help="'alpha=0.35 method=rrf', present (as recorded), or engine (default: present)",
    )
    parser.add_argument("--tag", default="es-rerank", help="the last column of each line (default: es-rerank)")


def run_sweep(options: argparse.Namespace) -> int:
    """Print the report of a sweep. Raises EsRerankError with what is wrong."""
    check_installed()
    from tqdm import tqdm  # noqa: PLC0415  as below: only here

    from es_rerank.tuning.findings import find  # noqa: PLC0415  what it needs is no base dependency
    from es_rerank.tuning.report import sweep_report  # noqa: PLC0415

    recording = read_recording(options.recording)
    [graded] = _graded(options, recording)
    settings = (options.grid or default_grid()).settings(recording.head.setting)
    metrics = (options.metric, *USUAL)
    with tqdm(total=len(graded.queries), unit="query", disable=None, leave=False, file=sys.stderr) as bar:
        findings = find(graded, settings, metrics, folds=options.folds, progress=lambda _, __: bar.update())
    print(sweep_report(findings))
    return 0


def run_compare(options: argparse.Namespace) -> int:
    """Print the report of a comparison. Raises EsRerankError with what is wrong."""
    check_installed()
    from es_rerank.tuning.compare import Side, compare  # noqa: PLC0415  what it needs is no base dependency
    from es_rerank.tuning.report import compare_report, remarks_of  # noqa: PLC0415

    first = read_recording(options.recording)
    second = first if options.other is None else read_recording(options.other)
    before = options.before or (ENGINE if options.other is None and options.after == PRESENT else PRESENT)
    graded, other = _graded(options, first, second)
    comparison = compare(
        Side(graded=graded, setting=_setting("--from", before, first)),
        Side(graded=other, setting=_setting("--to", options.after, second)),
        options.metric,
    )
    print(compare_report(comparison, remarks_of(graded, other)))
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Print a TREC run. Raises EsRerankError with what is wrong, before the first line."""
    recording = read_recording(options.recording)
    setting = _setting("--setting", options.setting, recording)
    print("".join(list(trec_run(recording, setting, options.tag))), end="")
    return 0


def _add_judged(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--judgments",
        type=Path,
        required=True,
        metavar="FILE",
        help="which document is how relevant to which query: TREC, BEIR, CSV or JSON, as `es-rerank judgments import` "
        "reads it, .gz or not",
    )
    parser.add_argument(
        "--form", choices=FORMS, help="the form of the judgments (default: as name and first line show; book: Quepid's)"
    )
    parser.add_argument(
        "--source", metavar="NAME", help="whose judgments count, such as people (default: the only ones in the file)"
    )
    parser.add_argument(
        "--queries",
        type=Path,
        metavar="FILE",
        help="BEIR's queries.jsonl: only these queries count (default: all that are judged)",
    )
    parser.add_argument(
        "--metric",
        default=PRIMARY,
        metavar="NAME",
        help=f"what is to be high, by its name in ir-measures, such as RR@10, AP@100, R@100, P@5 (default: {PRIMARY})",
    )


def _graded(options: argparse.Namespace, *recordings: Recording) -> list[GradedRecording]:
    grades = read_grade_file(options.judgments, options.form)
    judgments = judgment_list(options.judgments.name, grades, source=options.source)
    only = None if options.queries is None else {query.id for query in read_queries(options.queries)}
    return [grade_recording(recording, judgments, only=only) for recording in recordings]


def _setting(option: str, text: str, recording: Recording) -> Setting | None:
    """The setting that a text names, None for the engine's own order."""
    if text == ENGINE:
        return None
    present = recording.head.setting
    try:
        return present if text == PRESENT else parse_setting(text, present)
    except TuningError as error:
        raise TuningError(f"{option}: {error}") from error


def _grid(text: str) -> Grid:
    try:
        return parse_grid(text)
    except TuningError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"must be a whole number from 2 on, was {text!r}")
    return int(text)
