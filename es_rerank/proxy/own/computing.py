"""Jobs that compute: their work is done in a process of its own, one job at a time, and what it finds is written."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from es_rerank.clock import utc_text
from es_rerank.errors import CallerError
from es_rerank.proxy.own import jobs, windows
from es_rerank.proxy.own.arithmetic import name_metrics
from es_rerank.proxy.own.fields import text_in, wrong
from es_rerank.proxy.own.jobs import Job, JobKeeper, new_id
from es_rerank.proxy.own.who import who_asks
from es_rerank.proxy.process import in_process
from es_rerank.tuning.errors import TuningError, check_installed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from es_rerank.proxy.own.arithmetic import Computed
    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.proxy.own.jobs import Kind
    from es_rerank.tuning.recording import RecordingHead

MAX_WAITING = 8


def need_tuning(call: OwnCall) -> None:
    """Raise CallerError where the packages for it are missing, or as many jobs compute and wait here as may."""
    try:
        check_installed()
    except TuningError as error:
        raise CallerError(str(error), status=501) from error
    if call.parts.jobs.count("sweep") + call.parts.jobs.count("comparison") >= MAX_WAITING:
        raise CallerError(f"{MAX_WAITING} jobs compute or wait in this proxy: try again when one has ended", status=503)


async def check_metrics(names: Sequence[Any]) -> tuple[str, ...]:
    """The names of these metrics in full, each once. Raises CallerError for one that is not taken."""
    for name in names:
        if not isinstance(name, str):
            raise wrong("metric", "must be the name of a metric, as in nDCG@10", name)
    try:
        return await in_process(name_metrics, tuple(names), _nothing)
    except TuningError as error:
        raise CallerError(str(error)) from error


async def begin_job(
    call: OwnCall,
    *,
    kind: Kind,
    head: RecordingHead,
    judgments: str,
    request: dict[str, Any],
    prepare: Callable[[OwnCall, Mapping[str, str]], Awaitable[Any]],
    compute: Callable[[Any, Callable[[int, int], None]], Computed],
) -> str:
    """Begin a job on a recording, and return its id. `request` is its body, as it was asked.

    `prepare` gives what `compute` is given, out of a call of the job's own and what every row of its result has.
    """
    identity, time, label = new_id(), utc_text(), text_in(request, "label", default="")
    job = Job(
        id=identity,
        kind=kind,
        state="running",
        timestamp=time,
        updated=time,
        who=who_asks(call.request),
        index=head.index,
        rule=head.rule,
        scorer=head.scorer,
        judgments=judgments,
        recording=head.id,
        label=label,
        proxy=call.parts.jobs.proxy,
        request=request,
    )
    await jobs.create(call, job)
    run = {"run": identity, "job": identity, "timestamp": time, "label": label}
    ComputingJob(call=jobs.detached(call), job=job, run=run, prepare=prepare, compute=compute).start()
    return identity


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputingJob:
    """A job that computes in this process's name. For `prepare` and `compute` see `begin_job`."""

    call: OwnCall
    job: Job
    run: Mapping[str, str]
    prepare: Callable[[OwnCall, Mapping[str, str]], Awaitable[Any]]
    compute: Callable[[Any, Callable[[int, int], None]], Computed]
    _progress: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Begin, and let it run."""
        self.call.parts.jobs.start(self.job.kind, self.job.id, self._run())

    async def _run(self) -> None:
        keeper = JobKeeper(self.call, self.job)
        await jobs.run_to_end(keeper, self._work(keeper), ended_early="failed")

    async def _work(self, keeper: JobKeeper) -> Mapping[str, Any]:
        computed = await jobs.while_beating(keeper, asyncio.create_task(self._compute()), self._beat)
        rows = {windows.row_id(self.job.id, number): row for number, row in enumerate(computed.rows)}
        # Said first: what was written before an error is deleted with the job too.
        await keeper.step(result={"rows": len(rows)})
        await windows.write_rows(self.call, rows)
        result = {**computed.result, "rows": len(rows)}
        return {**self._progress, "verdict": computed.verdict, "result": result}

    async def _compute(self) -> Computed:
        async with self.call.parts.jobs.computing:
            return await in_process(self.compute, await self.prepare(self.call, self.run), self._note)

    def _note(self, done: int, total: int) -> None:
        self._progress.update(done=done, total=total)

    async def _beat(self) -> Mapping[str, Any]:
        return self._progress


def _nothing(_: int, __: int) -> None:
    pass
