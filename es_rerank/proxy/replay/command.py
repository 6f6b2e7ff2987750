"""Runs the command `es-rerank replay`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from es_rerank.errors import CallerError
from es_rerank.official.login import authorization, read_login
from es_rerank.proxy.parts import open_parts
from es_rerank.proxy.replay.file import RecordingFile, read_query_file
from es_rerank.proxy.replay.plan import make_plan, rule_for
from es_rerank.proxy.replay.run import MAX_CONCURRENCY, replay
from es_rerank.rawjson import read_object

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from es_rerank.official.login import ApiKey, Password
    from es_rerank.records import Headers
    from es_rerank.settings import Settings


def record_file(settings: Settings, options: argparse.Namespace) -> int:
    """Record, and print what became of the searches. Raises EsRerankError."""
    if not 1 <= options.concurrency <= MAX_CONCURRENCY:
        raise CallerError(f"--concurrency must be 1 to {MAX_CONCURRENCY}, was {options.concurrency}")
    login = read_login(options.user, os.environ)
    file = RecordingFile(options.out)
    file.open()
    try:
        asyncio.run(_record(settings, options, _headers(login), file))
    except KeyboardInterrupt:
        print(f"es-rerank: {options.out} can be continued: give the same command again", file=sys.stderr)
        raise
    done = RecordingFile(options.out)
    done.open()
    statuses = Counter(f"{query.status} ({query.reason})" if query.reason else query.status for query in done.queries)
    told = ", ".join(f"{count:,} {status}" for status, count in statuses.most_common())
    print(f"{options.out}: {len(done.queries):,} queries recorded: {told}")
    return 0


async def _record(settings: Settings, options: argparse.Namespace, caller: Headers, file: RecordingFile) -> None:
    queries = read_query_file(options.queries, options.judgments)
    async with open_parts(settings) as parts:
        plan = make_plan(
            rule_for(options.index, _object("--rule", options.rule), parts.rules.book),
            window=options.window,
            identity=options.out.stem,
            time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            index=options.index,
            request=None if options.request is None else _object("--request", _text(options.request)),
            book=parts.rules.book,
            scorers=parts.scorers,
        )
        left = file.continue_with(plan.head, queries)
        recorded = replay(plan, left, caller, parts, concurrency=options.concurrency)
        with tqdm(
            total=len(queries), initial=len(queries) - len(left), unit="query", disable=None, file=sys.stderr
        ) as bar:
            async with aclosing(recorded):
                async for query in recorded:
                    file.add(query)
                    bar.update()


def _headers(login: Password | ApiKey | None) -> Headers:
    """The headers that log in to the engine."""
    return () if login is None else ((b"authorization", authorization(login).encode()),)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CallerError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error


def _object(option: str, text: str) -> dict[str, Any]:
    found = read_object(text.encode())
    if found is None:
        raise CallerError(f"{option}: must be one JSON object")
    return found
