"""Writes grades to `es-rerank-judgments` as the caller, so that the same pair of a list and source is there once."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.clock import utc_text
from es_rerank.proxy.http.own import error_body
from es_rerank.proxy.offload import compute
from es_rerank.proxy.own.call import EngineRefusedError
from es_rerank.proxy.own.indices import make_index
from es_rerank.proxy.own.judgment_lists import DOCUMENT_BYTES, PAGE_DOCUMENTS, SEARCH
from es_rerank.proxy.own.who import who_asks
from es_rerank.records import Reply
from es_rerank.store.indices import JUDGMENTS
from es_rerank.tuning.documents import document_id, document_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.tuning.judged import Grade

CHUNK_GRADES = 2000
# Of an answer of `_bulk`, what is read.
BULK_PATHS = "items.*.status,items.*.result,items.*.error.type,items.*.error.reason"


async def write_grades(call: OwnCall, name: str, grades: Sequence[Grade]) -> dict[str, Any]:
    """Write the grades of a list; each takes the place of what its source has said of its pair before.

    Time and caller are set where a grade does not say them. Gives how many there are, and how many of them are new.
    Raises EngineRefusedError where the engine does not take them all, in its words: what it has taken is there, and
    the same request can be sent again.
    """
    if await call.ask_engine("POST", SEARCH, {"size": 0}, allowed=(404,)) is None:
        await make_index(call, JUDGMENTS)
    now, who = utc_text(), who_asks(call.request)
    dated = (msgspec.structs.replace(one, timestamp=one.timestamp or now, who=one.who or who) for one in grades)
    results: Counter[str] = Counter()
    written = 0
    while chunk := list(islice(dated, CHUNK_GRADES)):
        written += len(chunk)
        lines = await compute(len(chunk) * DOCUMENT_BYTES, _actions, name, chunk)
        outcomes = await _bulk(call, lines, refresh=written == len(grades))
        _check(outcomes, f"take all {len(grades)} judgments")
        results.update(outcome.get("result", "") for outcome in outcomes)
    return {"grades": len(grades), "created": results["created"], "updated": results["updated"], "timestamp": now}


async def replace_source(call: OwnCall, name: str, grades: Sequence[Grade]) -> dict[str, Any]:
    """The same for everything that one source says: what it said before, and these grades do not, is deleted.

    All grades must be of one source, and at least one is needed.
    """
    told = await write_grades(call, name, grades)
    # Only what was written now has this time.
    older = {"bool": {"must_not": [{"term": {"timestamp": told["timestamp"]}}]}}
    mine = [{"term": {"name": name}}, {"term": {"source": grades[0].source}}, older]
    return {**told, "deleted": await delete_grades(call, {"bool": {"filter": mine}})}


async def delete_grades(call: OwnCall, wanted: Mapping[str, Any]) -> int:
    """Delete all documents that a query finds, and say how many. Raises EngineRefusedError.

    `_delete_by_query` is a module of its own, which not every Elasticsearch has.
    """
    page = {"size": PAGE_DOCUMENTS, "query": wanted, "_source": False, "track_total_hits": False}
    deleted = 0
    while True:
        hits = (await call.ask_engine("POST", SEARCH, page))["hits"]["hits"]
        if not hits:
            return deleted
        lines = msgspec.json.Encoder().encode_lines([{"delete": {"_id": hit["_id"]}} for hit in hits])
        outcomes = await _bulk(call, lines, refresh=True)
        _check(outcomes, f"delete all {len(hits)} judgments")
        now_deleted = sum(outcome.get("result") == "deleted" for outcome in outcomes)
        if not now_deleted:  # somebody else deletes them too
            return deleted
        deleted += now_deleted


async def _bulk(call: OwnCall, lines: bytes, *, refresh: bool) -> list[dict[str, Any]]:
    """What became of each action."""
    target = f"/{JUDGMENTS.name}/_bulk?refresh={'true' if refresh else 'false'}&filter_path={BULK_PATHS}"
    answer = await call.ask_engine("POST", target, lines)
    return [next(iter(item.values())) for item in answer.get("items", [])]


def _actions(name: str, grades: Sequence[Grade]) -> bytes:
    """The body of a request to `_bulk`."""
    lines: list[Any] = []
    for one in grades:
        lines += ({"index": {"_id": document_id(name, one)}}, document_of(name, one))
    return msgspec.json.Encoder().encode_lines(lines)


def _check(outcomes: Sequence[dict[str, Any]], wish: str) -> None:
    """Raise EngineRefusedError with the first refusal among the outcomes of `_bulk`. To delete what is gone is none."""
    refused = [outcome for outcome in outcomes if outcome.get("status", 200) >= 400 and "error" in outcome]
    if not refused:
        return
    status, error = refused[0]["status"], refused[0]["error"]
    reason = f"the engine did not {wish}: {error.get('reason', 'it gives no reason')}"
    body = error_body(status, str(error.get("type", "exception")), reason)
    raise EngineRefusedError(Reply(status=status, headers=((b"content-type", b"application/json"),), body=body))
