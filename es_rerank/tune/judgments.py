"""The commands `es-rerank judgments ...`: between files and the lists that es-rerank keeps, and on files alone.

What concerns a list is asked of a running proxy, over the paths that Dev Tools uses, by the official client.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec

from es_rerank.official.login import API_KEY_VARIABLE, PASSWORD_VARIABLE, read_login
from es_rerank.tuning.agreement import agreement_of
from es_rerank.tuning.documents import fields_of, read_grade
from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.exports import EXPORT_FORMS, to_csv, to_json, to_trec
from es_rerank.tuning.forms import FORMS
from es_rerank.tuning.grade_files import read_grade_file
from es_rerank.tuning.judged import PEOPLE, judgment_list
from es_rerank.tuning.model_grades import MAX_GRADE, model_grades
from es_rerank.tuning.recordings import read_recording

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from es_rerank.tuning.judged import Grade

DESCRIPTION = """\
Judgment lists: which document is how relevant to which query, and who says so.
"""
IMPORT = """\
Reads a file of judgments (TREC, BEIR, CSV, JSON lines) whole, or refuses it with line
and reason, and puts them into a list of es-rerank.
"""
EXPORT = """\
Prints a judgment list.
"""
FROM_CLICKS = """\
Makes judgments from the clicks in ubi_events and the hit rows of es-rerank.
"""
FROM_MODEL = """\
Prints what the model of a recording says of its hits, as judgments. No model is asked.
"""
AGREEMENT = """\
Says how far two files of judgments agree, as Cohen's kappa.
"""
PATH = "/_es_rerank/judgments"
CHUNK_GRADES = 2000


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `judgments import`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the judgments, .gz or not")
    _add_list(parser)
    parser.add_argument(
        "--form", choices=FORMS, help="the form of FILE (default: as its name and first line show; book: Quepid's)"
    )
    parser.add_argument(
        "--queries", type=Path, metavar="FILE", help="BEIR's queries.jsonl, which has the words of a FILE with ids"
    )
    parser.add_argument("--source", default=PEOPLE, metavar="NAME", help=f"who judges (default: {PEOPLE})")
    parser.add_argument(
        "--index", default="", metavar="NAME", help="the index or alias of the documents (default: any)"
    )


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `judgments export`."""
    _add_list(parser)
    parser.add_argument("--source", metavar="NAME", help="what one source says (default: all; TREC needs one)")
    _add_printed(parser)


def add_click_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `judgments from-clicks`."""
    _add_list(parser)
    parser.add_argument("--min-impressions", type=int, metavar="N", help="fewer are no judgment (default: 10)")
    parser.add_argument("--index", metavar="NAME", help="only what was searched, or found, there")
    parser.add_argument("--since", metavar="TIME", help="only what is newer, such as now-30d or 2026-11-01")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `judgments from-model`."""
    parser.add_argument("recording", type=Path, metavar="RECORDING", help="a file of JSON lines, as a replay writes it")
    parser.add_argument(
        "--max-grade",
        type=int,
        choices=range(1, 11),
        default=MAX_GRADE,
        metavar="N",
        help=f"the best grade, from 1 to 10 (default: {MAX_GRADE})",
    )
    _add_printed(parser)


def add_agreement_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `judgments agreement`."""
    parser.add_argument("one", type=Path, metavar="A", help="a file of judgments")
    parser.add_argument("other", type=Path, metavar="B", help="another one")


def run_import(options: argparse.Namespace) -> int:
    """Put a file into a list. Raises EsRerankError; what is wrong in the file is found before anything is sent."""
    grades = read_grade_file(
        options.file, options.form, queries=options.queries, source=options.source, index=options.index
    )
    created = 0
    with closing(_Lists(options)) as lists:
        for start in range(0, len(grades), CHUNK_GRADES):
            chunk = [fields_of(one) for one in grades[start : start + CHUNK_GRADES]]
            created += lists.ask("POST", options.name, body=msgspec.json.encode(chunk).decode())["created"]
    _say(f"{len(grades)} judgments are in {options.name}, {created} of them new")
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Print a list. Raises EsRerankError."""
    with closing(_Lists(options)) as lists:
        given = {} if options.source is None else {"source": options.source}
        found = [read_grade(document) for document in lists.ask("GET", options.name, given)]
    if options.form == "trec":
        found = list(judgment_list(options.name, found, source=options.source).grades)
    _print(found, options.form)
    return 0


def run_from_clicks(options: argparse.Namespace) -> int:
    """Make judgments from clicks, and say what was counted. Raises EsRerankError."""
    wishes = {"min_impressions": options.min_impressions, "index": options.index, "since": options.since}
    with closing(_Lists(options)) as lists:
        given = {name: str(wish) for name, wish in wishes.items() if wish is not None}
        told = lists.ask("POST", options.name, given, below="/_from_clicks")
    _say(
        f"{told['grades']} judgments are in {options.name}, from {told['clicks']} clicks and {told['rows']} hits "
        f"shown; {told['too_few_impressions']} pairs were shown too few times"
    )
    return 0


def run_from_model(options: argparse.Namespace) -> int:
    """Print the grades of a recording's model. Raises EsRerankError."""
    recording = read_recording(options.recording)
    grades = [
        grade
        for query in recording.queries
        for grade in model_grades(recording.head, query, max_grade=options.max_grade)
    ]
    if not grades:
        raise TuningError(f"{options.recording}: has no judgment of its scorer {recording.head.scorer}")
    _print(grades, options.form)
    return 0


def run_agreement(options: argparse.Namespace) -> int:
    """Say how far two files agree. Raises EsRerankError."""
    lists = [judgment_list(file.name, read_grade_file(file)) for file in (options.one, options.other)]
    print(agreement_of(*lists).sentence)
    return 0


class _Lists:
    """The judgment lists of a running proxy."""

    def __init__(self, options: argparse.Namespace) -> None:
        # The clients take half a second to import, which every other command would pay too.
        from es_rerank.official.client import connect, ignore_engine_warnings  # noqa: PLC0415

        ignore_engine_warnings()
        self._url = options.url
        login = read_login(options.user, os.environ)
        self._client = connect(options.url, login=login, ca_file=options.ca_file)

    def ask(
        self, method: str, name: str, given: dict[str, str] | None = None, *, body: str = "", below: str = ""
    ) -> Any:
        """What the proxy answers about a list. Raises EngineError."""
        from es_rerank.official.client import engine_errors, request  # noqa: PLC0415  as above

        target = f"{PATH}/{quote(name, safe='')}{below}" + (f"?{urlencode(given)}" if given else "")
        with engine_errors(f"es-rerank at {self._url}"):
            return request(self._client, method, target, body or None)

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, metavar="NAME", help="the list's name")
    parser.add_argument("--url", required=True, metavar="URL", help="es-rerank itself, as in http://127.0.0.1:9300")
    parser.add_argument(
        "--user",
        metavar="NAME",
        help=f"log in as NAME with the password in {PASSWORD_VARIABLE}, or without it by {API_KEY_VARIABLE}",
    )
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="the authority that signed the URL's certificate")


def _add_printed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--form", choices=EXPORT_FORMS, default="json", help="what to print (default: json)")


def _print(grades: Sequence[Grade], form: str) -> None:
    if form == "json":
        print(to_json(grades).decode())
    else:
        print(to_csv(grades) if form == "csv" else to_trec(grades), end="")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
