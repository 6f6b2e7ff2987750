"""The command `es-rerank replay`: a replay in a process of its own, into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from es_rerank.settings import Settings

DESCRIPTION = """\
Sends queries through the very steps that serve a search, and records the window of
each: ids and scores, no text of a document. `es-rerank sweep` tries settings on it.

The workers must run. A replay that was ended goes on where it was if the command is
given again. The password of --user comes from the variable
ES_RERANK_INGEST_PASSWORD, or an API key from ES_RERANK_INGEST_API_KEY.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--index", required=True, metavar="NAME", help="what is searched: an index, alias or pattern")
    parser.add_argument(
        "--queries", type=Path, required=True, metavar="FILE",
        help="BEIR's queries.jsonl, or JSON lines with query_id, user_query and, if you like, group",
    )  # fmt: skip
    parser.add_argument("--judgments", type=Path, metavar="FILE", help="only the queries that are judged in this file")
    parser.add_argument(
        "--request", type=Path, metavar="FILE",
        help="the search body, in which %%SearchText%% stands for the words (default: a multi_match on the fields)",
    )  # fmt: skip
    parser.add_argument(
        "--rule", metavar="JSON", default="{}", help='keys of the rule that differ, such as \'{"scorer": "e5"}\''
    )
    parser.add_argument(
        "--window", type=int, metavar="N", help="how many hits are recorded (default: as the rule says)"
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        default=2,
        metavar="N",
        help="how many searches run at a time, 1 to 16 (default: 2)",
    )
    parser.add_argument("--user", metavar="NAME", help="log in to the engine as NAME")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the recording; a file that is there is continued"
    )


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Record, and print what became of the searches. Raises EsRerankError."""
    from es_rerank.proxy.replay.command import record_file  # noqa: PLC0415  other commands need no proxy

    return record_file(settings, options)
