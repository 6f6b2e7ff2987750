"""What can be asked about jobs of every kind: all of them, one, to cancel one, to delete one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.errors import CallerError
from es_rerank.proxy.own import jobs, windows
from es_rerank.proxy.own.call import OwnAnswer, Route
from es_rerank.proxy.own.reasoning import with_reasoning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.proxy.own.jobs import Job, Kind

PATHS: dict[Kind, str] = {"replay": "replays", "sweep": "sweeps", "comparison": "comparisons"}

MAX_LISTED = 100


def routes() -> tuple[Route, ...]:
    """The paths that jobs of every kind have."""
    return tuple(
        route
        for kind, name in PATHS.items()
        for path in (f"/_es_rerank/{name}",)
        for route in (
            Route(methods=("GET",), path=path, answer=listing(kind), about=f"the newest {name}"),
            Route(methods=("GET",), path=f"{path}/{{id}}", answer=one(kind), about=f"how far a {kind} is"),
            Route(methods=("POST",), path=f"{path}/{{id}}/_cancel", answer=cancelling(kind), about=f"end a {kind}"),
            Route(methods=("DELETE",), path=f"{path}/{{id}}", answer=deleting(kind), about=f"delete a {kind}"),
        )
    )


def listing(kind: Kind) -> Callable[[OwnCall], Awaitable[OwnAnswer]]:
    """`GET /_es_rerank/{kind}s`: the newest jobs of a kind, of indices that the caller may search."""

    async def answer(call: OwnCall) -> OwnAnswer:
        call.allow()
        call.need_store()
        found = await jobs.list_jobs(call, (kind,), MAX_LISTED)
        return OwnAnswer(value={PATHS[kind]: [jobs.outline(job) for job in found]})

    return answer


def one(kind: Kind) -> Callable[[OwnCall], Awaitable[OwnAnswer]]:
    """`GET /_es_rerank/{kind}s/{id}`: how far a job is, and what it found, wherever it runs."""

    async def answer(call: OwnCall) -> OwnAnswer:
        call.allow()
        job = await _find(call, kind)
        return OwnAnswer(value=jobs.shown(await with_reasoning(call, job) if kind == "comparison" else job))

    return answer


def cancelling(kind: Kind) -> Callable[[OwnCall], Awaitable[OwnAnswer]]:
    """`POST /_es_rerank/{kind}s/{id}/_cancel`: ends a job, wherever it runs. What it has written stays."""

    async def answer(call: OwnCall) -> OwnAnswer:
        call.allow()
        job = await jobs.cancel(call, kind, (await _find(call, kind)).id)
        return OwnAnswer(value={"id": job.id, "state": jobs.state_of(job), "cancel": True})

    return answer


def deleting(kind: Kind) -> Callable[[OwnCall], Awaitable[OwnAnswer]]:
    """`DELETE /_es_rerank/{kind}s/{id}`: deletes a job that has ended, and all that it has written."""

    async def answer(call: OwnCall) -> OwnAnswer:
        call.allow()
        job = await _find(call, kind)
        if jobs.state_of(job) == "running":
            raise CallerError(f"the {kind} [{job.id}] is running: cancel it first", status=409)
        if kind == "replay":
            await windows.delete_recording(call, job.id, job.total)
        else:
            await windows.delete_rows(call, job.id, job.result.get("rows", 0))
        await jobs.delete(call, job)
        return OwnAnswer(value={"id": job.id, "deleted": True})

    return answer


async def _find(call: OwnCall, kind: Kind) -> Job:
    """The job that the path names. Whoever may not search its index gets the engine's refusal."""
    call.need_store()
    job = (await jobs.find(call, kind, call.names["id"])).job
    await jobs.may_search(call, job.index, or_gone=True)
    return job
