"""Judgment lists that are computed: from clicks, and from what the model of a recording has said already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.errors import CallerError
from es_rerank.proxy.own import jobs, windows
from es_rerank.proxy.own.call import OwnAnswer
from es_rerank.proxy.own.clicked import read_click_grades
from es_rerank.proxy.own.judgment_writes import replace_source
from es_rerank.tuning.clicks import MIN_IMPRESSIONS
from es_rerank.tuning.model_grades import MAX_GRADE, model_grades

if TYPE_CHECKING:
    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.tuning.judged import Grade

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
        min_impressions=call.whole("min_impressions", 1, 1_000_000, default=MIN_IMPRESSIONS),
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
    max_grade = call.whole("max_grade", 1, LARGEST_GRADE, default=MAX_GRADE)
    job = await windows.complete_job(call, recording)
    await jobs.may_search(call, job.index, or_gone=True)
    head = windows.head_of(job)
    grades: list[Grade] = []
    hits = 0
    async for query in windows.recorded_queries(call, job):
        hits += len(query.ids)
        grades += model_grades(head, query, max_grade=max_grade)
    if not grades:
        raise CallerError(f"the recording [{recording}] has no judgment of its scorer [{head.scorer}]", status=404)
    told = await replace_source(call, name, grades)
    value = {"name": name, "source": grades[0].source, **told, "without_grade": hits - len(grades)}
    return OwnAnswer(value={**value, "fingerprint": head.fingerprint})
