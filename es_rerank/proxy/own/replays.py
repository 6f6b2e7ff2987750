"""`/_es_rerank/replays`: a query set is sent through the steps of a search, and its windows are recorded.

A replay runs in the proxy that was asked, with the caller's own credentials, and may be resumed through any other one.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.clock import utc_text
from es_rerank.errors import CallerError
from es_rerank.proxy.own import jobs, windows
from es_rerank.proxy.own.call import OwnAnswer
from es_rerank.proxy.own.counts import Counts
from es_rerank.proxy.own.fields import object_in, text_in, whole_in, wrong
from es_rerank.proxy.own.jobs import Job, JobKeeper
from es_rerank.proxy.own.judgment_lists import read_judgments
from es_rerank.proxy.own.who import who_asks
from es_rerank.proxy.replay.plan import ReplayPlan, make_plan, rule_for
from es_rerank.proxy.replay.queries import MAX_QUERIES, read_queries, with_words
from es_rerank.proxy.replay.run import DEFAULT_CONCURRENCY, MAX_CONCURRENCY, replay
from es_rerank.rules.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.tuning.judged import JudgedQuery
    from es_rerank.tuning.recording import RecordedQuery

ASKED = ("index", "judgments", "source", "queries", "request", "rule", "window", "concurrency", "label")
MAX_RUNNING = 2


async def begin(call: OwnCall) -> OwnAnswer:
    """`POST /_es_rerank/replays`: begins a replay, and answers at once with its id."""
    call.allow()
    call.need_store()
    body = await call.json_object(*ASKED)
    index = text_in(body, "index")
    concurrency = whole_in(body, "concurrency", 1, MAX_CONCURRENCY, default=DEFAULT_CONCURRENCY)
    label = text_in(body, "label", default="")
    limits = call.parts.limits
    window = whole_in(body, "window", 1, limits.max_window, default=0) if "window" in body else None
    book = call.parts.rules.book
    rule = rule_for(index, object_in(body, "rule"), book)
    identity, time = jobs.new_id(), utc_text()
    plan = make_plan(
        rule, window=window, identity=identity, time=time, index=index, request=body.get("request"), book=book,
        scorers=call.parts.scorers,
    )  # fmt: skip
    _check_room(call)
    queries = await _query_set(call, body)
    await jobs.may_search(call, index)
    asked = {name: value for name, value in body.items() if name != "queries"}
    effective = rule.model_dump(mode="json", exclude_unset=True)
    job = Job(
        id=identity,
        kind="replay",
        state="running",
        timestamp=time,
        updated=time,
        who=who_asks(call.request),
        index=index,
        rule=rule.name,
        scorer=rule.scorer,
        judgments=body.get("judgments", ""),
        recording=identity,
        label=label,
        total=len(queries),
        proxy=call.parts.jobs.proxy,
        request={**asked, "concurrency": concurrency, "effective_rule": effective},
        result={"head": msgspec.to_builtins(plan.head)},
    )
    await windows.write_queries(call, identity, queries)
    await jobs.create(call, job)
    _start(call, job, plan, queries)
    return OwnAnswer(status=202, value={"id": identity, "state": "running"})


async def resume(call: OwnCall) -> OwnAnswer:
    """`POST /_es_rerank/replays/{id}/_resume`: goes on behind the last recorded query, as the present caller."""
    call.allow()
    call.need_store()
    found = await jobs.find(call, "replay", call.names["id"])
    job = found.job
    await jobs.may_search(call, job.index)
    state = jobs.state_of(job)
    if state in ("running", "done"):
        raise CallerError(f"the replay [{job.id}] is {state}; only one that ended early can be resumed", status=409)
    if call.parts.jobs.runs("replay", job.id):  # it waits for an engine that is gone, and can't say so
        raise CallerError(f"this proxy still runs the replay [{job.id}], or is about to end it", status=409)
    _check_room(call)
    plan = plan_again(call, job)
    queries = await windows.read_queries(call, job.id)
    counts = await windows.count_recorded(call, job.id, job.total)
    changes = {"state": "running", "cancel": False, "error": "", "proxy": call.parts.jobs.proxy, **counts.fields()}
    if not await jobs.change(call, found, changes):
        raise CallerError(f"somebody else has just changed the replay [{job.id}]: look at it again", status=409)
    _start(call, msgspec.structs.replace(job, **changes), plan, queries)
    return OwnAnswer(status=202, value={"id": job.id, "state": "running", "done": counts.done, "total": job.total})


def _check_room(call: OwnCall) -> None:
    """Raise CallerError where this process runs as many replays as it may, so that live searches are not slowed."""
    if call.parts.jobs.count("replay") >= MAX_RUNNING:
        raise CallerError(f"{MAX_RUNNING} replays run in this proxy: try again when one has ended", status=503)


async def _query_set(call: OwnCall, body: dict[str, Any]) -> tuple[JudgedQuery, ...]:
    """The queries that were given, or those of the judgment list that is named. Raises CallerError."""
    if ("judgments" in body) == ("queries" in body):
        raise CallerError("exactly one of [judgments] and [queries] says what is searched")
    if "queries" in body:
        return read_queries(body["queries"])
    source = text_in(body, "source") if "source" in body else None
    listed = (await read_judgments(call, text_in(body, "judgments"), source)).queries()
    if len(listed) > MAX_QUERIES:
        raise wrong("judgments", f"must have at most {MAX_QUERIES} queries", len(listed))
    return with_words(listed)


def plan_again(call: OwnCall, job: Job) -> ReplayPlan:
    """The plan of a replay that began earlier, by the rule that held then. Raises CallerError (409)."""
    book = call.parts.rules.book
    kept = windows.head_of(job)
    try:
        rule = Rule.model_validate(job.request["effective_rule"])
        plan = make_plan(
            rule, window=job.request.get("window"), identity=job.id, time=job.timestamp, index=job.index,
            request=job.request.get("request"), book=book, scorers=call.parts.scorers,
        )  # fmt: skip
    except (ValueError, CallerError) as error:
        raise CallerError(f"the replay [{job.id}] can't go on: its rule no longer fits: {error}", status=409) from error
    if plan.head.fingerprint != kept.fingerprint:
        raise CallerError(
            f"the replay [{job.id}] can't go on: the scorer [{job.scorer}] is another one now; begin anew", status=409
        )
    return replace(plan, head=kept)


def _start(call: OwnCall, job: Job, plan: ReplayPlan, queries: Sequence[JudgedQuery]) -> None:
    running = _RunningReplay(call=jobs.detached(call), job=job, plan=plan, queries=queries)
    call.parts.jobs.start("replay", job.id, running.run())


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunningReplay:
    """A replay in this process. The job says how many queries are recorded already."""

    call: OwnCall
    job: Job
    plan: ReplayPlan
    queries: Sequence[JudgedQuery]

    async def run(self) -> None:
        """Record the queries that are left, and say in the job's document how it ended."""
        keeper = JobKeeper(self.call, self.job)
        await jobs.run_to_end(keeper, self._record(keeper), ended_early="interrupted")

    async def _record(self, keeper: JobKeeper) -> dict[str, Any]:
        """Record what is left; write it every second. What was recorded before an error is written too."""
        arrived: list[RecordedQuery] = []
        counts = Counts(done=self.job.done, statuses=self.job.statuses, reasons=self.job.reasons)

        async def write() -> dict[str, Any]:
            batch = arrived[:]
            await windows.write_windows(self.call, self.job.id, counts.done, batch)
            del arrived[: len(batch)]
            counts.add([(query.status, query.reason) for query in batch])
            return counts.fields()

        await jobs.while_beating(keeper, asyncio.create_task(self._collect(arrived)), write)
        return counts.fields()

    async def _collect(self, arrived: list[RecordedQuery]) -> None:
        recorded = replay(
            self.plan,
            self.queries[self.job.done :],
            self.call.request.headers,
            self.call.parts,
            concurrency=self.job.request["concurrency"],
        )
        async with aclosing(recorded):
            async for query in recorded:
                arrived.append(query)  # noqa: PERF401  each is to be seen as it comes
