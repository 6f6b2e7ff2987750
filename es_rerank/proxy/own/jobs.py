"""Documents of jobs in `es-rerank-jobs`: made, read, kept up to date and shown, all with the caller's credentials.

A job may outlive the request that began it, and be read and cancelled through any proxy, since all that is known of it
is in its document. No document has a header of the caller.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

import msgspec

from es_rerank.clock import utc_text
from es_rerank.errors import CallerError, EsRerankError, UpstreamError
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.own.call import EngineRefusedError
from es_rerank.records import first_header
from es_rerank.store.indices import JOBS
from es_rerank.supervised import end
from es_rerank.tuning.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from es_rerank.proxy.own.call import OwnCall

LOG = logging.getLogger(__name__)
Kind = Literal["replay", "sweep", "comparison"]
Result = TypeVar("Result")
State = Literal["running", "done", "failed", "cancelled", "interrupted"]
# A job in a list is without these.
NOT_LISTED = ("request", "result", "statuses", "reasons")
MAX_REFUSAL_BYTES = 1024 * 1024
BEAT_S = 1.0
# A running job says every second that it runs. The clocks of two proxies may be some seconds apart.
STALE_S = 30.0
# How long a job waits for an engine that is gone or full.
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
BUSY = (429, 502, 503, 504)
INTERRUPTED = "the proxy that ran it does not say that it runs any more"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as its document says. Times are UTC; `proxy` is the process that runs it, `took_ms` how long it has run.

    `request` is what was asked, without credentials. `cancel` is set by whoever wants it to end, and read by the one
    that runs it.
    """

    id: str
    kind: Kind
    state: State
    timestamp: str
    updated: str
    who: str = ""
    index: str = ""
    rule: str = ""
    scorer: str = ""
    judgments: str = ""
    recording: str = ""
    label: str = ""
    done: int = 0
    total: int = 0
    took_ms: int = 0
    cancel: bool = False
    verdict: str = ""
    error: str = ""
    proxy: str = ""
    statuses: dict[str, int] = {}
    reasons: dict[str, int] = {}
    request: dict[str, Any] = {}
    result: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundJob:
    """A job, and which version of its document was read: a later change is refused if another one came between."""

    job: Job
    seq_no: int
    primary_term: int


class CancelledJobError(EsRerankError):
    """Somebody has cancelled the job."""


class OvertakenJobError(EsRerankError):
    """The job's document is gone, or another process runs the job now."""


def new_id() -> str:
    """An id for a job; later ones are greater."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


async def ask(call: OwnCall, method: str, target: str, body: Any = None, *, allowed: tuple[int, ...] = ()) -> Any:
    """What the engine answers to the caller of a job, whose request may be answered already.

    While the engine is gone or busy, it is asked again for about a minute. Raises as `OwnCall.ask_engine`.
    """
    for pause_s in PAUSES_S:
        try:
            return await call.ask_engine(method, target, body, allowed=allowed)
        except UpstreamError:
            await asyncio.sleep(pause_s)
        except EngineRefusedError as refused:
            if refused.reply.status not in BUSY:
                raise
            await asyncio.sleep(pause_s)
    return await call.ask_engine(method, target, body, allowed=allowed)


def detached(call: OwnCall) -> OwnCall:
    """The call as a job keeps it, for the caller's headers: without its body."""
    return replace(call, request=replace(call.request, body=None))


async def may_search(call: OwnCall, index: str, *, or_gone: bool = False) -> None:
    """Raise the engine's own refusal if the caller may not search the index, or there is none.

    `or_gone` lets an index pass that does not exist any more.
    """
    target = f"/{quote(index, safe=',*')}/_search"
    await call.ask_engine("POST", target, {"size": 0, "track_total_hits": False}, allowed=(404,) if or_gone else ())


async def create(call: OwnCall, job: Job) -> None:
    """Write the document of a new job, so that it is found at once."""
    await call.ask_engine(
        "PUT", f"/{JOBS.name}/_create/{quote(job.id, safe='')}?refresh=true", msgspec.to_builtins(job)
    )


async def find(call: OwnCall, kind: Kind, identity: str, *, patiently: bool = False) -> FoundJob:
    """A job of this kind; `patiently` waits for an engine that is gone. Raises CallerError (404) if there is none."""
    target = f"/{JOBS.name}/_doc/{quote(identity, safe='')}"
    asked = ask(call, "GET", target, allowed=(404,)) if patiently else call.ask_engine("GET", target, allowed=(404,))
    answer = await asked
    if answer is None or not answer.get("found") or answer["_source"].get("kind") != kind:
        raise CallerError(f"there is no {kind} [{identity}]", status=404)
    return FoundJob(
        job=msgspec.convert(answer["_source"], Job),
        seq_no=answer["_seq_no"],
        primary_term=answer["_primary_term"],
    )


async def list_jobs(call: OwnCall, kinds: Sequence[Kind], size: int) -> list[Job]:
    """Of the last `size` jobs of these kinds, those of indices that the caller may search, the newest first.

    They are without what was asked and found. No index of jobs yet is no jobs.
    """
    body = {
        "query": {"terms": {"kind": [*kinds]}},
        "sort": [{"timestamp": {"order": "desc", "unmapped_type": "date"}}],
        "size": size,
        "_source": {"excludes": [*NOT_LISTED]},
    }
    answer = await call.ask_engine("POST", f"/{JOBS.name}/_search", body, allowed=(404,))
    found = [] if answer is None else [msgspec.convert(hit["_source"], Job) for hit in answer["hits"]["hits"]]
    open_to = {index: await _may_see(call, index) for index in dict.fromkeys(job.index for job in found)}
    return [job for job in found if open_to[job.index]]


async def _may_see(call: OwnCall, index: str) -> bool:
    try:
        await may_search(call, index, or_gone=True)
    except EngineRefusedError as refused:
        if refused.reply.status in (401, 403):
            return False
        raise
    return True


async def delete(call: OwnCall, job: Job) -> None:
    """Delete a job's document; that it is gone already is no error."""
    await call.ask_engine("DELETE", f"/{JOBS.name}/_doc/{quote(job.id, safe='')}?refresh=true", None, allowed=(404,))


async def change(call: OwnCall, found: FoundJob, changes: Mapping[str, Any]) -> bool:
    """Change the document as it was found; False, and nothing is changed, if somebody else did so meanwhile."""
    guard = f"if_seq_no={found.seq_no}&if_primary_term={found.primary_term}"
    target = f"/{JOBS.name}/_update/{quote(found.job.id, safe='')}?refresh=true&{guard}"
    doc = {"updated": utc_text(), **changes}
    return await ask(call, "POST", target, {"doc": doc}, allowed=(404, 409)) is not None


async def cancel(call: OwnCall, kind: Kind, identity: str) -> Job:
    """Cancel a job wherever it runs; what it has done stays. Raises CallerError (404, 409)."""
    while True:
        found = await find(call, kind, identity)
        state = state_of(found.job)
        if state not in ("running", "interrupted"):
            raise CallerError(f"the {kind} [{identity}] is {state}, and no longer running", status=409)
        changes: dict[str, Any] = {"cancel": True} if state == "running" else {"cancel": True, "state": "cancelled"}
        changes["updated"] = found.job.updated  # only the one that runs it may say that it runs
        if await change(call, found, changes):
            return msgspec.structs.replace(found.job, **changes)


class JobKeeper:
    """Keeps the document of a job that runs in this process up to date."""

    def __init__(self, call: OwnCall, job: Job) -> None:
        self._call = call
        self._job = job
        self._begun_s = call.parts.clock.monotonic_s()

    async def step(self, **changes: Any) -> None:
        """Say that the job runs, and what has changed. To be called every second.

        Raises CancelledJobError if somebody has cancelled the job, and OvertakenJobError.
        """
        while True:
            try:
                found = await find(self._call, self._job.kind, self._job.id, patiently=True)
            except CallerError as error:
                raise OvertakenJobError(str(error)) from error
            if found.job.proxy != self._job.proxy or found.job.state != "running":
                raise OvertakenJobError(f"{found.job.proxy} runs the job now")
            if found.job.cancel and "state" not in changes:
                raise CancelledJobError("cancelled")
            ran_ms = round((self._call.parts.clock.monotonic_s() - self._begun_s) * 1000)
            if await change(self._call, found, {"took_ms": self._job.took_ms + ran_ms, **changes}):
                return

    async def end(self, state: State, **changes: Any) -> None:
        """Say how the job ended. Raises OvertakenJobError."""
        await self.step(state=state, **changes)


async def while_beating(
    keeper: JobKeeper, working: asyncio.Task[Result], beat: Callable[[], Awaitable[Mapping[str, Any]]]
) -> Result:
    """What the task gives. Meanwhile, every second and once at its end, what `beat` gives goes into the document.

    Raises what the task raises, and what `JobKeeper.step` does; the task is cancelled then.
    """
    try:
        while True:
            await asyncio.wait([working], timeout=BEAT_S)
            ended = working.done()
            await keeper.step(**await beat())
            if ended:
                return await working
    finally:
        await end(working)
        working.cancelled() or working.exception()  # the first error is the one that counts


async def run_to_end(keeper: JobKeeper, work: Awaitable[Mapping[str, Any]], *, ended_early: State) -> None:
    """Run a job's work, which gives the last changes of its document, and say there how it ended.

    `ended_early` is the state of a job for which the engine, Redis or a worker was away for too long, or which was
    refused, or which the stopping process cut off.
    """
    try:
        await keeper.end("done", **await work)
    except asyncio.CancelledError:
        await _last_words(keeper, ended_early, "the proxy that ran it was stopped")
        raise
    except CancelledJobError:
        await _last_words(keeper, "cancelled", "")
    except OvertakenJobError as error:
        LOG.warning("a job was left: %s", error)
    except EngineRefusedError as refused:
        await _last_words(keeper, ended_early, words_of(refused))
    except (CallerError, TuningError) as error:
        await _last_words(keeper, "failed", str(error))
    except EsRerankError as error:
        await _last_words(keeper, ended_early, str(error))
    except Exception:
        LOG.exception("a job broke")
        await _last_words(keeper, "failed", "es-rerank failed; its log has the reason")


async def _last_words(keeper: JobKeeper, state: State, error: str) -> None:
    """Write how the job ended. Where that can't be written either, its age will tell."""
    try:
        await keeper.end(state, error=error)
    except (EsRerankError, EngineRefusedError) as unwritten:
        LOG.warning("the end of a job can't be written: %s", unwritten)


def words_of(refused: EngineRefusedError) -> str:
    """What the engine said, for people."""
    reply = refused.reply
    try:
        body = decode_body(reply.body, first_header(reply.headers, b"content-encoding"), max_bytes=MAX_REFUSAL_BYTES)
        reason = msgspec.json.decode(body)["error"]["reason"]
    except (UnreadableBodyError, ValueError, KeyError, TypeError):
        return str(refused)
    return f"{refused}: {reason}"


def state_of(job: Job, now: datetime | None = None) -> State:
    """The state of a job now: one that says that it runs, but has not said so for long, is interrupted."""
    if job.state != "running":
        return job.state
    age = (now or datetime.now(UTC)) - datetime.fromisoformat(job.updated)
    return "interrupted" if age > timedelta(seconds=STALE_S) else "running"


def outline(job: Job) -> dict[str, Any]:
    """A job as it stands in a list: without what was asked and found."""
    return {key: value for key, value in shown(job).items() if key not in NOT_LISTED}


def shown(job: Job, now: datetime | None = None) -> dict[str, Any]:
    """A job as people see it: what is empty is left out, and a running one says when it will probably end."""
    now = now or datetime.now(UTC)
    state = state_of(job, now)
    value = {key: item for key, item in msgspec.to_builtins(job).items() if item not in ("", {}) and item is not False}
    value["state"] = state
    if state == "interrupted" and job.state == "running":
        value["error"] = INTERRUPTED
    if state == "running" and 0 < job.done < job.total:
        left = timedelta(milliseconds=job.took_ms / job.done * (job.total - job.done))
        value["estimated_end"] = utc_text(now + left)
    return value
