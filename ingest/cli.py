"""The command `es-rerank ingest`. Reads its secrets from the environment, prints, and returns an exit code.

0: every document is in the index. 1: some are not. 2: nothing was loaded, for a reason that the user can correct.
130: the user ended it.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from es_rerank.errors import EsRerankError
from es_rerank.official.login import API_KEY_VARIABLE, PASSWORD_VARIABLE, read_login
from es_rerank.trec import TrecError, read_judgments, read_queries
from ingest.corpora import Corpus, Document, find_corpus, holds_actions, read_documents
from ingest.errors import LoadStoppedError
from ingest.mapping import DEFAULT_ANALYZER, read_mapping, text_mapping

if TYPE_CHECKING:
    from ingest.load import LoadReport

DESCRIPTION = """\
Load documents into an index of Elasticsearch (8 or later) or OpenSearch, make them searchable, and
say what became of each. A busy engine is waited for.
"""
EPILOG = f"""\
examples:
  es-rerank ingest nfcorpus/ --index papers-1 --url http://127.0.0.1:9200
  es-rerank ingest films.jsonl.gz --index films-1 --url https://host:9200 --user ann --id-field sku
  es-rerank ingest films.jsonl.gz --index films-1 --url http://127.0.0.1:9200 --resume

SOURCE is one of
  a BEIR folder   corpus.jsonl or corpus.jsonl.gz; queries.jsonl and qrels beside it are counted
  JSON lines      one object on each line: a document
  a bulk body     action lines (index or create) and documents by turns; all go to --index,
                  whatever _index they name

A document's id is the field --id-field; or else the _id of its action, its _id or its id; or else
it is made from its fields, so that it is never there twice.

The password of --user is read from {PASSWORD_VARIABLE}; an API key, in its encoded form, from
{API_KEY_VARIABLE}.

exit code: 0 all documents are in the index, 1 some are not, 2 nothing was loaded, 130 you ended it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ingest`."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="a BEIR folder, or a file of JSON lines or bulk actions, .gz or not"
    )
    parser.add_argument("--index", required=True, metavar="NAME", help="the index to load into; made if missing")
    parser.add_argument("--url", required=True, metavar="URL", help="the engine, as in http://127.0.0.1:9200")
    there = parser.add_mutually_exclusive_group()
    there.add_argument(
        "--recreate", action="store_true",
        help="make the index anew; the old one is deleted once SOURCE was read and the engine takes the new settings. "
        "Without it, documents of the same id are replaced and others stay",
    )  # fmt: skip
    there.add_argument(
        "--resume", action="store_true",
        help="go on with a load that stopped: a document whose id the index has is passed over, not replaced",
    )  # fmt: skip
    parser.add_argument(
        "--max-wait", type=_seconds, default=math.inf, metavar="SECONDS",
        help="how long to wait, at most, for an engine that takes nothing (until you press Ctrl-C)",
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
    except KeyboardInterrupt:
        _say("es-rerank ingest: ended. To go on where it stopped, load again with --resume, and without --recreate")
        return 130
    _show(report, options.index)
    return 1 if report.refused or report.unreadable else 0


def _load(corpus: Corpus, options: argparse.Namespace) -> LoadReport:
    # The clients take half a second to import, which every other command would pay too.
    from es_rerank.official.client import connect, ignore_engine_warnings  # noqa: PLC0415
    from es_rerank.official.patience import Patience  # noqa: PLC0415
    from ingest.load import load_documents  # noqa: PLC0415

    mapping = read_mapping(options.mapping) if options.mapping else text_mapping(analyzer=options.analyzer)
    login = read_login(options.user, os.environ)
    if holds_actions(corpus.documents):
        _say(f"it has bulk actions: their documents go to {options.index}, whatever _index an action names")
    total_count = _count(corpus, options.id_field) if options.recreate else None
    documents = read_documents(corpus.documents, id_field=options.id_field)
    patience = Patience(max_wait_s=options.max_wait)
    with warnings.catch_warnings():
        ignore_engine_warnings()
        client = connect(options.url, login=login, ca_file=options.ca_file, patience=patience)
        with closing(client):
            return load_documents(
                client,
                options.index,
                documents,
                mapping,
                recreate=options.recreate,
                resume=options.resume,
                total_count=total_count,
                share_read=None if options.recreate else documents.share_read,
                patience=patience,
            )


def _count(corpus: Corpus, id_field: str | None) -> int:
    """How many documents there are. A file that breaks off is an error here, before an index is deleted for it."""
    return sum(isinstance(item, Document) for item in read_documents(corpus.documents, id_field=id_field))


def _beside(corpus: Corpus) -> str:
    """The queries and judgments of a corpus, counted. They are not loaded, so one that can't be read is only told."""
    parts = []
    try:
        if corpus.queries:
            parts.append(f"{len(read_queries(corpus.queries)):,} queries")
    except TrecError as error:
        _say(f"the queries beside the documents can't be read: {error}")
    judgments = 0
    for file in corpus.judgments:
        try:
            judgments += len(read_judgments(file))
        except TrecError as error:
            _say(f"judgments beside the documents can't be read: {error}")
    if judgments:
        parts.append(f"{judgments:,} judgments")
    return f"; beside it lie {' and '.join(parts)}" if parts else ""


def _show(report: LoadReport, index: str) -> None:
    for problem in report.examples:
        _say(f"{problem.kind} {problem.name}: {problem.reason}")
    shown = len(report.examples)
    others = report.refused + report.unreadable - shown
    if others:
        _say(f"and {others:,} more")
    made = "made" if report.created else "was there and keeps its own mapping"
    count = "an unknown number of" if report.in_index is None else f"{report.in_index:,}"
    there = f"; {report.there:,} were there already" if report.there else ""
    print(
        f"{count} documents are in {index} ({made}), after {report.took_s:.1f} s: {report.indexed:,} loaded, "
        f"of which {report.replaced:,} replaced one with the same id{there}; {report.refused:,} refused, "
        f"{report.unreadable:,} unreadable"
    )


def _seconds(text: str) -> float:
    """A number of seconds. Raises ArgumentTypeError, which argparse prints."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more, was {text!r}")
    return seconds


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
