"""The command `es-rerank ingest`. Reads its secrets from the environment, prints, and returns an exit code.

0: every document is in the index. 1: some are not. 2: nothing was loaded, for a reason that the user can correct.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from es_rerank.errors import EsRerankError
from es_rerank.trec import read_judgments, read_queries
from ingest.corpora import Corpus, find_corpus, read_documents
from ingest.errors import LoadStoppedError
from ingest.login import API_KEY_VARIABLE, PASSWORD_VARIABLE, read_login
from ingest.mapping import DEFAULT_ANALYZER, read_mapping, text_mapping

if TYPE_CHECKING:
    import argparse

    from ingest.load import LoadReport

EPILOG = f"""\
The password of --user is read from {PASSWORD_VARIABLE}; an API key, in its encoded form, from
{API_KEY_VARIABLE}.
Exit code: 0 all documents are in the index, 1 some are not, 2 nothing was loaded.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ingest`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "source", type=Path, metavar="SOURCE",
        help="a BEIR folder (corpus.jsonl or corpus.jsonl.gz), or a file of JSON lines, .gz or not",
    )  # fmt: skip
    parser.add_argument("--index", required=True, metavar="NAME", help="the index to load into; made if missing")
    parser.add_argument("--url", required=True, metavar="URL", help="the engine, as in http://127.0.0.1:9200")
    parser.add_argument(
        "--recreate", action="store_true",
        help="delete the index first; without it, documents of the same id are replaced and others stay",
    )  # fmt: skip
    parser.add_argument(
        "--id-field", metavar="FIELD", help="the field that holds a document's id (_id or else id, if there is one)"
    )
    body = parser.add_mutually_exclusive_group()
    body.add_argument(
        "--analyzer", default=DEFAULT_ANALYZER, metavar="NAME",
        help=f"the analyzer of all text fields of a new index ({DEFAULT_ANALYZER})",
    )  # fmt: skip
    body.add_argument(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="a JSON file with the body of a new index, as PUT /index takes it",
    )
    parser.add_argument("--user", metavar="NAME", help=f"log in as NAME with the password in {PASSWORD_VARIABLE}")
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="the authority that signed the engine's certificate"
    )


def run(options: argparse.Namespace) -> int:
    """Load, report, and return the exit code. An error that the user can correct is printed without a traceback."""
    try:
        corpus = find_corpus(options.source)
        _say(f"reading {corpus.documents}{_beside(corpus)}")
        report = _load(corpus, options)
    except EsRerankError as error:
        _say(f"es-rerank ingest: {error}")
        return 1 if isinstance(error, LoadStoppedError) else 2
    _show(report, options.index)
    return 1 if report.refused or report.unreadable else 0


def _load(corpus: Corpus, options: argparse.Namespace) -> LoadReport:
    # The clients take half a second to import, which every other command would pay too.
    from ingest.engine import connect  # noqa: PLC0415
    from ingest.load import load_documents  # noqa: PLC0415

    mapping = read_mapping(options.mapping) if options.mapping else text_mapping(analyzer=options.analyzer)
    login = read_login(options.user, os.environ)
    documents = read_documents(corpus.documents, id_field=options.id_field)
    with closing(connect(options.url, login=login, ca_file=options.ca_file)) as client:
        return load_documents(client, options.index, documents, mapping, recreate=options.recreate)


def _beside(corpus: Corpus) -> str:
    """The queries and judgments of a corpus, counted. Reading them now shows a broken file before the load."""
    parts = []
    if corpus.queries:
        parts.append(f"{len(read_queries(corpus.queries)):,} queries")
    if corpus.judgments:
        parts.append(f"{sum(len(read_judgments(file)) for file in corpus.judgments):,} judgments")
    return f"; beside it lie {' and '.join(parts)}" if parts else ""


def _show(report: LoadReport, index: str) -> None:
    for problem in report.examples:
        _say(f"{problem.kind} {problem.name}: {problem.reason}")
    shown = len(report.examples)
    others = report.refused + report.unreadable - shown
    if others:
        _say(f"and {others:,} more")
    made = "made" if report.created else "was there and keeps its own mapping"
    print(
        f"{report.indexed:,} documents are in {index} ({made}), after {report.took_s:.1f} s; "
        f"{report.refused:,} refused, {report.unreadable:,} unreadable"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
