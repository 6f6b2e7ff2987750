"""The demo's tuning: its judgments become a list, a replay records its questions, and a sweep says what is best.

All of it by the requests below `/_es_rerank` that an engineer would type into Dev Tools.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from es_rerank.demo.processes import ProcessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.demo.questions import Question

LIST = "python-docs"
JOB_LIMIT_S = 120.0
LOOK_AGAIN_S = 0.2


def tune(proxy_url: str, index: str, questions: Sequence[Question]) -> tuple[str, str]:
    """The id of the sweep and its verdict, one sentence. Raises ProcessError with the proxy's words."""
    grades = [
        {"query_id": question.id, "user_query": question.text, "object_id": name, "grade": grade}
        for question in questions
        for name, grade in question.grades.items()
    ]
    _ask(proxy_url, "PUT", f"judgments/{LIST}", grades)
    replay = _finish(proxy_url, "replays", {"index": index, "judgments": LIST})
    sweep = _finish(proxy_url, "sweeps", {"recording": replay["id"], "judgments": LIST})
    return str(sweep["id"]), str(sweep["verdict"])


def requests_of(proxy_url: str, index: str) -> str:
    """What to type to do the same, and to look at it."""
    replay = json.dumps({"index": index, "judgments": LIST})
    return (
        f"curl -s '{proxy_url}/_es_rerank?format=yaml'\n"
        f"curl -s '{proxy_url}/_es_rerank/_cat/runs?v'\n"
        f"curl -s '{proxy_url}/_es_rerank/replays' -H 'content-type: application/json' -d '{replay}'"
    )


def _finish(proxy_url: str, kind: str, body: Any) -> dict[str, Any]:
    """A job that is done. Raises ProcessError for any other end."""
    job = _ask(proxy_url, "POST", kind, body)
    give_up_s = time.monotonic() + JOB_LIMIT_S
    while job["state"] == "running":
        if time.monotonic() > give_up_s:
            raise ProcessError(f"{kind}: {job['id']} took longer than {JOB_LIMIT_S:.0f} s")
        time.sleep(LOOK_AGAIN_S)
        job = _ask(proxy_url, "GET", f"{kind}/{job['id']}")
    if job["state"] != "done":
        raise ProcessError(f"{kind}: {job['id']} is {job['state']}: {job.get('error')}")
    return job


def _ask(proxy_url: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    url = f"{proxy_url}/_es_rerank/{path}"
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310  the demo's own proxy
    try:
        with urllib.request.urlopen(request, timeout=JOB_LIMIT_S) as reply:  # noqa: S310  as above
            return dict(json.load(reply))
    except urllib.error.HTTPError as error:
        said = error.read().decode("utf-8", "replace")
        raise ProcessError(f"{method} /_es_rerank/{path}: {error.code} {said[:500]}") from error
    except (OSError, ValueError) as error:
        raise ProcessError(f"{method} /_es_rerank/{path}: {error}") from error
