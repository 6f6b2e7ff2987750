"""`POST /_es_rerank/comparisons`: two settings, two recordings, or one of them and the engine, on the same queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError
from es_rerank.proxy.own import jobs, windows
from es_rerank.proxy.own.arithmetic import ComparisonTask, compute_comparison
from es_rerank.proxy.own.call import OwnAnswer
from es_rerank.proxy.own.computing import begin_job, check_metrics, need_tuning
from es_rerank.proxy.own.fields import object_in, text_in, wrong
from es_rerank.proxy.own.judgment_lists import read_judgments
from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.grid import FIELDS, grid_from
from es_rerank.tuning.metrics import PRIMARY
from es_rerank.tuning.order import check_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.tuning.recording import RecordingHead, Setting

ASKED = ("a", "b", "judgments", "source", "metric", "label")
SIDES = ("a", "b")
SIDE_KEYS = ("recording", "setting")
ENGINE = "engine"


async def begin(call: OwnCall) -> OwnAnswer:
    """Begins a comparison, and answers at once with its id."""
    call.allow()
    call.need_store()
    need_tuning(call)
    body = await call.json_object(*ASKED)
    recordings = _recordings(body)
    metrics = await check_metrics([body.get("metric", PRIMARY)])
    heads = {name: await windows.read_head(call, name) for name in dict.fromkeys(recordings.values())}
    for head in heads.values():
        await jobs.may_search(call, head.index)
    settings = {side: _setting(body, side, heads[recordings[side]]) for side in SIDES}
    judgments = await read_judgments(
        call, text_in(body, "judgments"), text_in(body, "source") if "source" in body else None
    )

    async def prepare(caller: OwnCall, run: Mapping[str, str]) -> ComparisonTask:
        read = {name: await windows.read_recording(caller, name) for name in heads}
        return ComparisonTask(
            before=read[recordings["a"]],
            before_setting=settings["a"],
            after=read[recordings["b"]],
            after_setting=settings["b"],
            judgments=judgments,
            metric=metrics[0],
            run=run,
        )

    identity = await begin_job(
        call,
        kind="comparison",
        head=heads[recordings["b"]],
        judgments=judgments.name,
        request=body,
        prepare=prepare,
        compute=compute_comparison,
    )
    return OwnAnswer(status=202, value={"id": identity, "state": "running"})


def _recordings(body: Mapping[str, Any]) -> dict[str, str]:
    """The recording of each side; the engine's own order is that of the other side's recording. Raises CallerError."""
    named: dict[str, str] = {}
    for side in SIDES:
        asked = body.get(side)
        if asked == ENGINE:
            continue
        if not isinstance(asked, dict):
            raise wrong(side, f"must be [{ENGINE}] or an object with recording and perhaps setting", asked)
        for key in asked:
            if key not in SIDE_KEYS:
                raise CallerError(f"[{side}] unknown field [{key}]; allowed are [{', '.join(SIDE_KEYS)}]")
        named[side] = text_in(asked, "recording")
    if not named:
        raise CallerError(f"[a] and [b] are both [{ENGINE}]: one of them must have a recording")
    return {side: named.get(side, next(iter(named.values()))) for side in SIDES}


def _setting(body: Mapping[str, Any], side: str, head: RecordingHead) -> Setting | None:
    """The setting of a side, None for the engine's own order; what is not said is as when it was recorded."""
    if body[side] == ENGINE:
        return None
    asked = object_in(body[side], "setting")
    for key in asked:
        if key not in FIELDS:
            raise CallerError(f"[{side}.setting] unknown field [{key}]; allowed are [{', '.join(FIELDS)}]")
    try:
        setting = grid_from({key: [value] for key, value in asked.items()}).settings(head.setting)[-1]
        check_settings(head, (setting,))
    except TuningError as error:
        raise CallerError(f"[{side}.setting] {str(error).removeprefix('grid.')}") from error
    return setting
