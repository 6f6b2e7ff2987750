"""A system with indices of its own, films with judgments, and requests to it, for tests of what Dev Tools ask."""

from __future__ import annotations

import base64
import gzip
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import Engine

JOB_LIMIT_S = 120.0
STORE_LIMIT_S = 30.0
RULES = """
[limits]
max_deadline_s = 120.0
[[rules]]
name = "films"
indices = ["films*"]
fields = ["title", "text"]
any_language = true
deadline_s = 60.0
window = 20
alpha = 0.4
"""
INDEX = "films-tuned"
WORDS = ("robot", "love", "war", "sea", "garden", "winter", "letter", "city")
FILMS = {
    str(number): {
        "title": f"The {WORDS[number % 8]} and the {WORDS[number * 3 % 7]}",
        "text": f"A story of {WORDS[number % 5]}, {WORDS[number % 7]} and {WORDS[number % 3]} in {number} days. "
        + f"{WORDS[number % 6]} " * (number % 4),
    }
    for number in range(60)
}
QUERIES = [
    {
        "query_id": f"q{number}",
        "user_query": f"{WORDS[number % 8]} {WORDS[(number + 3) % 8]}",
        "group": f"g{number % 2}",
    }
    for number in range(12)
]


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and value of an answer, whatever it says."""

    status: int
    value: Any

    @property
    def reason(self) -> str:
        """The reason of an error."""
        return str(self.value["error"]["reason"])


def ask(
    url: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    user: tuple[str, str] | None = None,
    api_key: str | None = None,
) -> Answer:
    """One request to a proxy or an engine."""
    headers = {"content-type": "application/json"}
    if user is not None:
        headers["authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
    if api_key is not None:
        headers["authorization"] = f"ApiKey {api_key}"
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return Answer(reply.status, json.load(reply))
    except urllib.error.HTTPError as error:
        with error:
            packed = error.headers.get("content-encoding") == "gzip"
            return Answer(error.code, json.loads(gzip.decompress(error.read()) if packed else error.read()))


def begin(url: str, path: str, body: Mapping[str, Any], *, user: tuple[str, str] | None = None) -> str:
    """Begin a job; its id."""
    answer = ask(url, "POST", path, body, user=user)
    assert answer.status == 202, answer.value
    return str(answer.value["id"])


def finish(url: str, path: str, *, state: str = "done", user: tuple[str, str] | None = None) -> dict[str, Any]:
    """The job once it has ended, in this state."""
    return await_job(url, path, lambda job: job["state"] != "running", state=state, user=user)


def await_job(
    url: str, path: str, until: Any, *, state: str = "", user: tuple[str, str] | None = None
) -> dict[str, Any]:
    """The job as soon as `until` is true of it."""
    due_s = time.monotonic() + JOB_LIMIT_S
    while True:
        answer = ask(url, "GET", path, user=user)
        assert answer.status == 200, answer.value
        if until(answer.value):
            assert state in ("", answer.value["state"]), answer.value
            return dict(answer.value)
        assert time.monotonic() < due_s, answer.value
        time.sleep(0.1)


def await_store(engine_url: str, *, user: tuple[str, str] | None = None) -> None:
    """Wait until the proxy has made its indices, and the last of them, that of jobs, can be searched."""
    due_s = time.monotonic() + STORE_LIMIT_S
    while ask(engine_url, "GET", "/es-rerank-jobs/_search?size=0", user=user).status != 200:
        assert time.monotonic() < due_s
        time.sleep(0.1)


def load_judgments(engine: Engine, name: str, index: str) -> None:
    """A judgment list over `QUERIES`: a film is the more relevant, the more words of the query its title has."""
    lines: list[Any] = []
    for query in QUERIES:
        for key, film in FILMS.items():
            grade = sum(word in film["title"] for word in query["user_query"].split())
            if grade:
                lines += [{"index": {}}, {**query, "name": name, "object_id": key, "index": index, "grade": grade}]
    body = ("\n".join(json.dumps(line) for line in lines) + "\n").encode()
    assert not send_json(f"{engine.url}/es-rerank-judgments/_bulk?refresh=true", body, method="POST")["errors"]
