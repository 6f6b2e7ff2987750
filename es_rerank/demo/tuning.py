"""The demo's tuning: its judgments become a list, a replay records its questions, and a sweep says what is best.

All of it by the requests below `/_es_rerank` that an engineer would type into Dev Tools.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from es_rerank.demo.processes import ProcessError
from es_rerank.official.client import engine_errors, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.demo.questions import Question
    from es_rerank.official.client import Client

LIST = "python-docs"
JOB_LIMIT_S = 120.0
LOOK_AGAIN_S = 0.2


def tune(proxy: Client, index: str, questions: Sequence[Question]) -> tuple[str, str]:
    """The id of the sweep and its verdict, one sentence. Raises EngineError in the proxy's words, or ProcessError."""
    grades = [
        {"query_id": question.id, "user_query": question.text, "object_id": name, "grade": grade}
        for question in questions
        for name, grade in question.grades.items()
    ]
    _ask(proxy, "PUT", f"judgments/{LIST}", grades)
    replay = _finish(proxy, "replays", {"index": index, "judgments": LIST})
    sweep = _finish(proxy, "sweeps", {"recording": replay["id"], "judgments": LIST})
    return str(sweep["id"]), str(sweep["verdict"])


def requests_of(proxy_url: str, index: str) -> str:
    """What to type to do the same, and to look at it."""
    replay = json.dumps({"index": index, "judgments": LIST})
    return (
        f"curl -s '{proxy_url}/_es_rerank?format=yaml'\n"
        f"curl -s '{proxy_url}/_es_rerank/_cat/runs?v'\n"
        f"curl -s '{proxy_url}/_es_rerank/replays' -H 'content-type: application/json' -d '{replay}'"
    )


def _finish(proxy: Client, kind: str, body: Any) -> dict[str, Any]:
    """A job that is done. Raises ProcessError for any other end."""
    job = _ask(proxy, "POST", kind, body)
    give_up_s = time.monotonic() + JOB_LIMIT_S
    while job["state"] == "running":
        if time.monotonic() > give_up_s:
            raise ProcessError(f"{kind}: {job['id']} took longer than {JOB_LIMIT_S:.0f} s")
        time.sleep(LOOK_AGAIN_S)
        job = _ask(proxy, "GET", f"{kind}/{job['id']}")
    if job["state"] != "done":
        raise ProcessError(f"{kind}: {job['id']} is {job['state']}: {job.get('error')}")
    return job


def _ask(proxy: Client, method: str, path: str, body: Any = None) -> dict[str, Any]:
    with engine_errors("es-rerank"):
        sent = None if body is None else json.dumps(body)
        return dict(request(proxy, method, f"/_es_rerank/{path}", sent))
