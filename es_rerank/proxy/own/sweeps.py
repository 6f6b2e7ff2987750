"""`POST /_es_rerank/sweeps`: many settings are tried on a recording, without engine, Redis or model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError
from es_rerank.proxy.own import jobs, windows
from es_rerank.proxy.own.arithmetic import SweepTask, compute_sweep
from es_rerank.proxy.own.call import OwnAnswer
from es_rerank.proxy.own.computing import begin_job, check_metrics, need_tuning
from es_rerank.proxy.own.fields import text_in, whole_in, wrong
from es_rerank.proxy.own.judgment_lists import read_judgments
from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.grid import default_grid, grid_from, parse_grid
from es_rerank.tuning.metrics import FOLDS, PRIMARY, USUAL
from es_rerank.tuning.order import check_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.tuning.grid import Grid
    from es_rerank.tuning.recording import RecordingHead, Setting

ASKED = ("recording", "judgments", "source", "grid", "metric", "measures", "folds", "label")
MAX_FOLDS = 100


async def begin(call: OwnCall) -> OwnAnswer:
    """Begins a sweep, and answers at once with its id."""
    call.allow()
    call.need_store()
    need_tuning(call)
    body = await call.json_object(*ASKED)
    recording = text_in(body, "recording")
    folds = whole_in(body, "folds", 2, MAX_FOLDS, default=FOLDS)
    metrics = await check_metrics(_metrics(body))
    head = await windows.read_head(call, recording)
    await jobs.may_search(call, head.index)
    settings = _settings(body, head)
    judgments = await read_judgments(
        call, text_in(body, "judgments"), text_in(body, "source") if "source" in body else None
    )

    async def prepare(caller: OwnCall, run: Mapping[str, str]) -> SweepTask:
        return SweepTask(
            recording=await windows.read_recording(caller, recording),
            judgments=judgments,
            settings=settings,
            metrics=metrics,
            folds=folds,
            run=run,
        )

    identity = await begin_job(
        call,
        kind="sweep",
        head=head,
        judgments=judgments.name,
        request=body,
        prepare=prepare,
        compute=compute_sweep,
    )
    return OwnAnswer(status=202, value={"id": identity, "state": "running", "settings": len(settings)})


def _metrics(body: dict[str, Any]) -> list[Any]:
    """The metric that chooses, and then the others."""
    others = body.get("measures", list(USUAL))
    if not isinstance(others, list):
        raise wrong("measures", "must be a list of metrics", others)
    return [body.get("metric", PRIMARY), *others]


def _settings(body: dict[str, Any], head: RecordingHead) -> tuple[Setting, ...]:
    """The settings that the grid asks for. Raises CallerError for one that the recording can't tell of."""
    try:
        settings = _grid(body.get("grid")).settings(head.setting)
        check_settings(head, settings)
    except TuningError as error:
        raise CallerError(str(error)) from error
    return settings


def _grid(asked: Any) -> Grid:
    """The grid as JSON or as on a command line; without one, all methods with alphas from 0 to 1."""
    if asked is None:
        return default_grid()
    return parse_grid(asked) if isinstance(asked, str) else grid_from(asked)
