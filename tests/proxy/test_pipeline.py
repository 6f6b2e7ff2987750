"""The path of a search where something in it breaks that nobody thought of: the search is answered all the same."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from es_rerank.clock import SystemClock
from es_rerank.errors import UpstreamError
from es_rerank.proxy import pipeline
from es_rerank.records import Reply, Request
from es_rerank.settings import Settings

if TYPE_CHECKING:
    from es_rerank.proxy.parts import Parts

SETTINGS = Settings.model_validate(
    {
        "upstream": {"urls": ["http://127.0.0.1:1"]},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "rules": [{"name": "films", "indices": ["films"], "fields": ["text"]}],
    }
)
SEARCH = {"query": {"match": {"text": "x"}}}
HITS = {"hits": {"hits": [{"_id": "1", "_index": "films", "_score": 1.0, "_source": {"text": "x"}}]}}


class FakeUpstream:
    """Answers each request that is fetched with the next of some replies, and keeps the requests."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []

    async def fetch(self, request: Request, *, max_bytes: int) -> Reply:
        """See `Upstream`."""
        assert max_bytes > 0
        self.requests.append(request)
        return self.replies.pop(0)


def parts_with(upstream: FakeUpstream) -> Parts:
    """As much of the parts as a search needs that never gets to its scores."""
    return cast("Parts", SimpleNamespace(settings=SETTINGS, clock=SystemClock(), upstream=upstream))


def asked(body: Any) -> Request:
    """A search for films."""
    headers = ((b"content-type", b"application/json"), (b"es-rerank", b"include=status"))
    return Request(method="POST", target=b"/films/_search", headers=headers, body=json.dumps(body).encode())


def reply(status: int, body: Any) -> Reply:
    """An engine's answer."""
    return Reply(status=status, headers=((b"content-type", b"application/json"),), body=json.dumps(body).encode())


def broken(*_: Any, **__: Any) -> Any:
    """A step with a bug."""
    raise ZeroDivisionError


async def test_a_bug_before_the_decision_forwards_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """When reading or deciding breaks, the client's request goes to the engine as it came, less our header."""
    monkeypatch.setattr(pipeline, "classify", broken)
    outcome = await pipeline.answer(asked(SEARCH), "films", parts_with(FakeUpstream()))
    assert (outcome.status.status, outcome.status.reason) == ("failed", "internal_error")
    assert outcome.forward is not None
    assert outcome.forward.body == asked(SEARCH).body
    assert outcome.forward.header(b"es-rerank") is None


async def test_a_bug_after_the_window_answers_with_the_engines_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    """When reranking breaks, the client's own search is answered, with nothing of ours left in it, and says so."""
    monkeypatch.setattr(pipeline, "read_texts", broken)
    upstream = FakeUpstream(reply(200, HITS), reply(200, HITS))
    ext = {"ext": {"es_rerank": {"alpha": 0.5}, "other": 1}}
    outcome = await pipeline.answer(asked({**SEARCH, **ext}), "films", parts_with(upstream))
    assert outcome.reply is not None
    answered = json.loads(outcome.reply.body)
    assert answered.pop("_es_rerank")["reason"] == "internal_error"
    assert answered == HITS
    assert json.loads(cast("bytes", upstream.requests[1].body)) == {**SEARCH, "ext": {"other": 1}}
    assert any(name == b"warning" for name, _ in outcome.reply.headers)


async def test_a_busy_engine_is_not_asked_again() -> None:
    """429 and 503 are relayed as they came: no second request makes a busy engine busier."""
    upstream = FakeUpstream(reply(429, {"error": "busy"}))
    outcome = await pipeline.answer(asked(SEARCH), "films", parts_with(upstream))
    assert outcome.reply is not None
    assert outcome.reply.status == 429
    assert (outcome.status.status, outcome.status.reason) == ("skipped", "engine_refused")
    assert len(upstream.requests) == 1


async def test_no_engine_is_the_callers_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """That no host answers is not hidden: it goes up."""
    upstream = FakeUpstream()
    monkeypatch.setattr(upstream, "fetch", _refuse)
    with pytest.raises(UpstreamError):
        await pipeline.answer(asked(SEARCH), "films", parts_with(upstream))


async def _refuse(_: Request, *, max_bytes: int) -> Reply:
    raise UpstreamError(f"nobody, within {max_bytes} bytes")
