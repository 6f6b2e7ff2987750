"""Recorded windows in `es-rerank-windows`: one document a query, under an id that its place in the query set gives.

So whoever writes one twice writes the same document, and reading needs neither a search nor a refresh of the index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.clock import utc_text
from es_rerank.errors import CallerError, EsRerankError
from es_rerank.proxy.own.counts import Counts
from es_rerank.proxy.own.jobs import ask, find, state_of
from es_rerank.store.indices import JOBS, RUNS, WINDOWS
from es_rerank.tuning.judged import JudgedQuery
from es_rerank.tuning.recording import RecordedQuery, Recording, RecordingHead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.proxy.own.jobs import Job

AT_ONCE = 50
HITS_AT_ONCE = 10_000
"""How many windows, and how many hits in all, one request reads at most: a few megabytes."""
BULK_BYTES = 4 * 1024 * 1024


class WriteRefusedError(EsRerankError):
    """The engine took the request, but refused a document of it; the text has its words."""


def _window_id(recording: str, position: int) -> str:
    return f"{recording}@{position:06d}"


def row_id(job: str, number: int) -> str:
    """The id of a job's document in the index of runs."""
    return f"{job}@{number:06d}"


def _queries_id(recording: str) -> str:
    return f"{recording}@queries"


async def write_queries(call: OwnCall, recording: str, queries: Sequence[JudgedQuery]) -> None:
    """Keep the query set of a replay, so that it can be resumed."""
    kept = {"id": recording, "kind": "query_set", "request": {"queries": msgspec.to_builtins(queries)}}
    await call.ask_engine("PUT", f"/{JOBS.name}/_doc/{_queries_id(recording)}", kept)


async def read_queries(call: OwnCall, recording: str) -> tuple[JudgedQuery, ...]:
    """The query set of a replay. Raises CallerError (404)."""
    answer = await ask(call, "GET", f"/{JOBS.name}/_doc/{_queries_id(recording)}", allowed=(404,))
    if answer is None or not answer.get("found"):
        raise CallerError(f"the queries of the replay [{recording}] are gone", status=404)
    return msgspec.convert(answer["_source"]["request"]["queries"], tuple[JudgedQuery, ...])


async def write_windows(call: OwnCall, recording: str, first: int, queries: Sequence[RecordedQuery]) -> None:
    """Keep queries as they were recorded, from the place `first` of the query set on. Raises WriteRefusedError."""
    now = utc_text()
    documents = {
        _window_id(recording, position): {
            "recording": recording,
            "position": position,
            "query_id": query.query_id,
            "timestamp": now,
            "query": query,
        }
        for position, query in enumerate(queries, start=first)
    }
    await _write(call, WINDOWS.name, documents)


async def count_recorded(call: OwnCall, recording: str, total: int) -> Counts:
    """What is recorded, from the first of the query set on without a gap."""
    counts = Counts()
    for first in range(0, total, AT_ONCE):
        positions = range(first, min(total, first + AT_ONCE))
        for document in await _get(call, recording, positions, fields="query.status,query.reason"):
            if not document.get("found"):
                return counts
            outcome = document["_source"]["query"]
            counts.add([(outcome["status"], outcome.get("reason"))])
    return counts


async def read_head(call: OwnCall, recording: str) -> RecordingHead:
    """The head of a recording. Raises CallerError (404, and 409 for one that is not complete)."""
    return head_of(await complete_job(call, recording))


async def read_recording(call: OwnCall, recording: str) -> Recording:
    """A whole recording. Raises CallerError (404, and 409 for one that is not complete)."""
    job = await complete_job(call, recording)
    queries = [query async for query in recorded_queries(call, job)]
    return Recording(head=head_of(job), queries=tuple(queries))


async def recorded_queries(call: OwnCall, job: Job) -> AsyncIterator[RecordedQuery]:
    """Each query of a recording that is complete, in the order of its query set; a few megabytes are held at a time.

    Raises CallerError: 404 where a window is gone, 400 where one can't be read.
    """
    at_once = max(1, min(AT_ONCE, HITS_AT_ONCE // head_of(job).window))
    for first in range(0, job.total, at_once):
        for document in await _get(call, job.id, range(first, min(job.total, first + at_once))):
            if not document.get("found"):
                raise CallerError(f"the recording [{job.id}] has lost its window [{document['_id']}]", status=404)
            try:
                yield msgspec.convert(document["_source"].get("query"), RecordedQuery)
            except msgspec.ValidationError as error:
                raise CallerError(f"the recording [{job.id}] can't be read: {error}") from error


def head_of(job: Job) -> RecordingHead:
    """The head of the recording that a replay makes. Raises CallerError for one that can't be read."""
    try:
        return msgspec.convert(job.result.get("head"), RecordingHead)
    except msgspec.ValidationError as error:
        raise CallerError(f"the recording [{job.id}] can't be read: {error}") from error


async def complete_job(call: OwnCall, recording: str) -> Job:
    """The job of a recording that is complete. Raises CallerError (404, and 409 for one that is not)."""
    job = (await find(call, "replay", recording)).job
    if job.state != "done":
        state = state_of(job)
        raise CallerError(
            f"the recording [{recording}] has {job.done} of {job.total} queries, and its replay is {state}: "
            + (
                "wait for its end" if state == "running" else f"go on with POST /_es_rerank/replays/{recording}/_resume"
            ),
            status=409,
        )
    return job


async def delete_recording(call: OwnCall, recording: str, total: int) -> None:
    """Delete the windows of a recording and its query set. What is not there is no error."""
    await _delete(call, WINDOWS.name, [_window_id(recording, position) for position in range(total)])
    await ask(call, "DELETE", f"/{JOBS.name}/_doc/{_queries_id(recording)}", allowed=(404,))


async def write_rows(call: OwnCall, rows: Mapping[str, Any]) -> None:
    """Write documents by id into the index of runs, where searches find them at once. Raises WriteRefusedError."""
    await _write(call, RUNS.name, rows, refresh=True)


async def delete_rows(call: OwnCall, job: str, count: int) -> None:
    """Delete what a job has written into the index of runs."""
    await _delete(call, RUNS.name, [row_id(job, number) for number in range(count)])


async def _get(call: OwnCall, recording: str, positions: range, *, fields: str = "") -> list[dict[str, Any]]:
    """The documents of these places, in their order, those that do not exist with `found` false."""
    body = {"ids": [_window_id(recording, position) for position in positions]}
    target = f"/{WINDOWS.name}/_mget" + (f"?_source_includes={fields}" if fields else "")
    documents: list[dict[str, Any]] = (await ask(call, "POST", target, body))["docs"]
    return documents


async def _write(call: OwnCall, index: str, documents: Mapping[str, Any], *, refresh: bool = False) -> None:
    lines = [
        msgspec.json.encode({"index": {"_id": key}}) + b"\n" + msgspec.json.encode(document) + b"\n"
        for key, document in documents.items()
    ]
    await _bulk(call, index, lines, refresh=refresh)


async def _delete(call: OwnCall, index: str, keys: Sequence[str]) -> None:
    await _bulk(call, index, [msgspec.json.encode({"delete": {"_id": key}}) + b"\n" for key in keys])


async def _bulk(call: OwnCall, index: str, actions: Iterable[bytes], *, refresh: bool = False) -> None:
    """Each action is a line, with the line of its document if it has one."""
    target = f"/{index}/_bulk" + ("?refresh=true" if refresh else "")
    for body in _portions(actions):
        answer = await ask(call, "POST", target, body)
        for item in answer["items"] if answer["errors"] else ():
            [outcome] = item.values()
            if outcome["status"] >= 400 and outcome["status"] != 404:
                raise WriteRefusedError(f"{index}: {outcome['error'].get('reason', outcome['error'])}")


def _portions(actions: Iterable[bytes]) -> Iterator[bytes]:
    """The actions, joined to bodies of a few megabytes."""
    taken: list[bytes] = []
    size = 0
    for action in actions:
        if taken and size + len(action) > BULK_BYTES:
            yield b"".join(taken)
            taken, size = [], 0
        taken.append(action)
        size += len(action)
    if taken:
        yield b"".join(taken)
