"""Judgment lists that are computed: from clicks, and from what the model of a recording has said already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec

from es_rerank.errors import CallerError
from es_rerank.proxy.own.call import OwnAnswer
from es_rerank.proxy.own.clicked import read_click_grades
from es_rerank.proxy.own.judgment_writes import replace_source
from es_rerank.store.indices import JOBS, WINDOWS
from es_rerank.tuning.clicks import MIN_IMPRESSIONS
from es_rerank.tuning.model_grades import MAX_GRADE, model_grades
from es_rerank.tuning.recording import RecordedQuery, RecordingHead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.tuning.judged import Grade

Kind = TypeVar("Kind")
# A window may have thousands of hits, each with eleven probabilities.
PAGE_WINDOWS = 20
LARGEST_GRADE = 10
EVENTS_INDEX = "ubi_events"


async def from_clicks(call: OwnCall) -> OwnAnswer:
    """`POST /_es_rerank/judgments/{name}/_from_clicks`: what clicks say takes the place of what they said before."""
    call.allow("min_impressions", "index", "since", "action", "events")
    call.need_store()
    name = call.names["name"]
    found = await read_click_grades(
        call,
        events=call.parameters.get("events", EVENTS_INDEX),
        action=call.parameters.get("action", "click"),
        index=call.parameters.get("index"),
        since=call.parameters.get("since"),
        min_impressions=_whole(call, "min_impressions", MIN_IMPRESSIONS, largest=1_000_000),
    )
    if not found.grades:
        raise CallerError(
            f"no judgment comes from the clicks, and nothing was changed: {found.rows} hit rows of {found.pairs} pairs "
            f"of query and document, {found.clicks} of them clicked; {found.too_few} pairs were shown too few times",
            status=404,
        )
    told = await replace_source(call, name, found.grades)
    counts = {"rows": found.rows, "pairs": found.pairs, "clicks": found.clicks, "too_few_impressions": found.too_few}
    return OwnAnswer(value={"name": name, "source": found.grades[0].source, **told, **counts}, warnings=found.warnings)


async def from_recording(call: OwnCall) -> OwnAnswer:
    """`POST /_es_rerank/judgments/{name}/_from_recording`: what the model has said becomes grades."""
    call.allow("recording", "max_grade")
    call.need_store()
    name = call.names["name"]
    recording = call.parameters.get("recording")
    if not recording:
        raise CallerError("[recording] must be the id of a recording, as the replay that made it has it")
    max_grade = _whole(call, "max_grade", MAX_GRADE, largest=LARGEST_GRADE)
    head = await _head(call, recording)
    grades: list[Grade] = []
    hits = 0
    async for query in _recorded(call, recording):
        hits += len(query.ids)
        grades += model_grades(head, query, max_grade=max_grade)
    if not grades:
        raise CallerError(f"the recording [{recording}] has no judgment of its scorer [{head.scorer}]", status=404)
    told = await replace_source(call, name, grades)
    value = {"name": name, "source": grades[0].source, **told, "without_grade": hits - len(grades)}
    return OwnAnswer(value={**value, "fingerprint": head.fingerprint})


async def _head(call: OwnCall, recording: str) -> RecordingHead:
    target = f"/{JOBS.name}/_doc/{quote(recording, safe='')}"
    found = await call.ask_engine("GET", target, allowed=(404,))
    head = None if found is None else (found["_source"].get("result") or {}).get("head")
    if head is None:
        raise CallerError(f"there is no recording [{recording}] in {JOBS.name}", status=404)
    return _converted(head, RecordingHead, recording)


async def _recorded(call: OwnCall, recording: str) -> AsyncIterator[RecordedQuery]:
    """Each recorded query, in the order of the query set."""
    after: list[Any] | None = None
    while True:
        body: dict[str, Any] = {
            "size": PAGE_WINDOWS,
            "query": {"term": {"recording": recording}},
            "sort": ["position"],
            "track_total_hits": False,
            "_source": ["query"],
        }
        if after is not None:
            body["search_after"] = after
        hits = (await call.ask_engine("POST", f"/{WINDOWS.name}/_search", body))["hits"]["hits"]
        for hit in hits:
            yield _converted(hit["_source"].get("query"), RecordedQuery, recording)
        if len(hits) < PAGE_WINDOWS:
            return
        after = hits[-1]["sort"]


def _converted(value: Any, kind: type[Kind], recording: str) -> Kind:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise CallerError(f"the recording [{recording}] can't be read: {error}") from error


def _whole(call: OwnCall, parameter: str, default: int, *, largest: int) -> int:
    text = call.parameters.get(parameter)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= largest):
        raise CallerError(f"[{parameter}] must be a whole number from 1 to {largest}, was [{text}]")
    return int(text)
