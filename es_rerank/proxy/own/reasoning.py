"""What the model thought about the hits that moved in a comparison, for whoever looks at it.

It is looked up each time and kept nowhere: reasoning quotes documents, and not everyone who may look at a job may see
all texts of its index.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.clock import Deadline
from es_rerank.errors import EsRerankError
from es_rerank.proxy.own import jobs, windows
from es_rerank.proxy.own.call import EngineRefusedError
from es_rerank.proxy.own.comparisons import ENGINE, SIDES
from es_rerank.proxy.own.replays import plan_again
from es_rerank.proxy.pipeline import Trace, answer
from es_rerank.proxy.replay.record import request_of
from es_rerank.proxy.replay.run import headers_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from collections.abc import Set as AbstractSet

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.proxy.own.jobs import Job
    from es_rerank.proxy.parts import Parts
    from es_rerank.proxy.replay.plan import ReplayPlan
    from es_rerank.records import Request
    from es_rerank.tuning.recording import Hit

LOG = logging.getLogger(__name__)
# How long whoever looks at a comparison waits for reasoning.
LIMIT_S = 5.0
Kept = dict[str, dict["Hit", str]]
"""Reasoning by the id of the query and by hit."""


async def with_reasoning(call: OwnCall, job: Job) -> Job:
    """The comparison with `reasoning` at each hit that moved: by side, as far as it is kept and the caller may see it.

    Each query is searched for again as the caller, by the rule and the request of the side's recording. The text that
    the caller sees gives the key under which reasoning is kept, so there is none about a text that they may not see. No
    model is asked. What fails, or takes longer than LIMIT_S, leaves the comparison without it.
    """
    moved = job.result.get("moved", [])
    sides = {side: job.request[side]["recording"] for side in SIDES if moved and job.request[side] != ENGINE}
    deadline = Deadline(call.parts.clock, call.parts.clock.monotonic_s() + LIMIT_S)
    kept: dict[str, Kept] = {recording: {} for recording in sides.values()}
    try:
        async with deadline.limit():
            for recording, found in kept.items():
                await _find(call, recording, _hits_by_query(moved), found, deadline)
    except TimeoutError:
        LOG.info("reasoning was looked for longer than %s s: the comparison %s is shown without some", LIMIT_S, job.id)
    by_side = {side: kept[recording] for side, recording in sides.items()}
    result = {**job.result, "moved": [_query_with_reasoning(query, by_side) for query in moved]}
    return msgspec.structs.replace(job, result=result) if moved else job


async def _find(
    call: OwnCall, recording: str, wanted: Mapping[str, AbstractSet[Hit]], found: Kept, deadline: Deadline
) -> None:
    """Put into `found` what is kept of a recording, query by query, until something fails."""
    try:
        async for query_id, reasoning in _searched(call, recording, wanted, deadline):
            found[query_id] = reasoning
    except (EsRerankError, EngineRefusedError) as error:
        LOG.info("no reasoning for the recording %s: %s", recording, error)
    except Exception:
        LOG.exception("looking for reasoning broke; the comparison is shown without it")


async def _searched(
    call: OwnCall, recording: str, wanted: Mapping[str, AbstractSet[Hit]], deadline: Deadline
) -> AsyncGenerator[tuple[str, dict[Hit, str]], None]:
    """What is kept about the wanted hits of each query; nothing for a recording whose scorer did not think."""
    job = (await jobs.find(call, "replay", recording)).job
    if windows.head_of(job).mode in (None, "direct"):
        return
    plan = plan_again(call, job)
    headers = headers_of(call.request.headers)
    parts = replace(call.parts.without_events(), scores=call.parts.scores.cached_only())
    for query in await windows.read_queries(call, recording):
        if query.query_id in wanted:
            request = request_of(query.user_query, plan, headers)
            yield query.query_id, await _reasoning_of(request, plan, parts, wanted[query.query_id], deadline)


async def _reasoning_of(
    request: Request, plan: ReplayPlan, parts: Parts, wanted: AbstractSet[Hit], deadline: Deadline
) -> dict[Hit, str]:
    """What is kept about the wanted hits of one search, by the texts that it finds."""
    trace = Trace()
    with parts.memory.share() as share:
        await answer(request, plan.head.index, plan.book, parts, share, trace)
    if trace.found is None or trace.scores is None:
        return {}
    ids = trace.found.ids
    keys = {place: key for place, key in enumerate(trace.scores.keys) if key is not None and ids[place] in wanted}
    kept = await parts.scores.kept_reasoning(keys, deadline)
    return {ids[place]: text for place, text in kept.items()}


def _hits_by_query(moved: list[dict[str, Any]]) -> dict[str, frozenset[Hit]]:
    return {query["query_id"]: frozenset((hit["index"], hit["id"]) for hit in query["hits"]) for query in moved}


def _query_with_reasoning(query: Mapping[str, Any], by_side: Mapping[str, Kept]) -> dict[str, Any]:
    """The query with the reasoning of its hits. A hit of which none is kept is as it was."""
    hits = []
    for hit in query["hits"]:
        key = (hit["index"], hit["id"])
        found = {side: kept.get(query["query_id"], {}).get(key) for side, kept in by_side.items()}
        reasoning = {side: text for side, text in found.items() if text is not None}
        hits.append({**hit, "reasoning": reasoning} if reasoning else hit)
    return {**query, "hits": hits}
