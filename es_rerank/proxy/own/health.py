"""What `GET /_es_rerank/health` says: whether this proxy is alive, ready, and how each part is."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from es_rerank.errors import UpstreamError
from es_rerank.proxy.own.call import OwnAnswer
from es_rerank.proxy.scoring.ask import Condition
from es_rerank.records import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.models import Model
    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.proxy.parts import Parts
    from es_rerank.rules.book import BoundRule

CHECK_S = 2.0
MAX_ANSWER_BYTES = 1024 * 1024


async def answer(call: OwnCall) -> OwnAnswer:
    """See `check_health`. The status is 503 while no search can be answered."""
    state = await check_health(call.parts)
    return OwnAnswer(value=state, status=200 if state["ready"] else 503)


async def check_health(parts: Parts) -> dict[str, Any]:
    """The state of everything, within two seconds.

    `live` is always true: a proxy that answers is alive. `ready` means that searches are answered, which needs only the
    engine. `reranking` means that Redis serves too, and a worker for every scorer in use.
    """
    stored, book = parts.stored_rules, parts.rules.book
    used: dict[str, BoundRule | Model] = {**book.scorers()}
    for model in () if parts.rerank_api is None else parts.rerank_api.models.values():
        used.setdefault(model.scorer_name, model)
    upstream, condition = await asyncio.gather(
        _check_engine(parts), check_scoring(parts, [bound.fingerprint for bound in used.values()])
    )
    counts = condition.workers
    scorers = {
        name: {"kind": bound.scorer.kind, "fingerprint": bound.fingerprint, "workers": count}
        for (name, bound), count in zip(used.items(), counts or [0] * len(used), strict=True)
    }
    serves = condition.reachable and condition.writable and condition.readable
    redis: dict[str, Any] = {
        "reachable": condition.reachable,
        "writable": condition.writable,
        "readable": condition.readable,
    }
    if condition.error is not None:
        redis["error"] = condition.error
    return {
        "live": True,
        "ready": upstream["reachable"],
        "reranking": upstream["reachable"] and serves and counts is not None and all(counts),
        "version": version("es-rerank"),
        "rules": {
            "version": book.version,
            "count": len(book.rules),
            "stored": 0 if stored is None else len(stored.in_force.versions),
            "invalid": {} if stored is None else stored.in_force.invalid,
            "absent_fields": _absent_fields(parts),
        },
        "parts": {"upstream": upstream, "redis": redis, "scorers": scorers, "events": _events(parts)},
    }


def _events(parts: Parts) -> dict[str, Any]:
    """What became of the events so far, in documents: events and rows of hits together."""
    if parts.events is None:
        return {"on": False}
    return {"on": True, **parts.events.counts().block()}


def _absent_fields(parts: Parts) -> dict[str, Sequence[str]]:
    """By rule, the fields that no hit of its last searches had. Fields that the rule no longer names don't count."""
    found = {
        bound.rule.name: [field for field in parts.absent_fields.of(bound.rule.name) if field in bound.rule.text.names]
        for bound in parts.rules.book.rules
    }
    return {rule: fields for rule, fields in found.items() if fields}


async def _check_engine(parts: Parts) -> dict[str, Any]:
    """Whether the engine answers, with any status: without a caller's credentials it is often 401."""
    request = Request(method="GET", target=b"/", headers=((b"accept", b"application/json"),))
    try:
        async with parts.clock.limit(parts.clock.monotonic_s() + CHECK_S):
            with parts.memory.share() as share:
                reply = await parts.engine.fetch(request, max_bytes=MAX_ANSWER_BYTES, hold=share.take)
    except (UpstreamError, TimeoutError):
        return {"reachable": False}
    # 508 is our own: the way leads back to this proxy.
    return {"reachable": reply.status != 508, "status": reply.status}


async def check_scoring(parts: Parts, fingerprints: Sequence[str]) -> Condition:
    """How Redis and the workers of these scorers are, within two seconds."""
    try:
        async with parts.clock.limit(parts.clock.monotonic_s() + CHECK_S):
            return await parts.scores.check(fingerprints)
    except TimeoutError:
        words = f"no answer within {CHECK_S:g} s"
        return Condition(reachable=False, writable=False, readable=False, error=words, workers=None)
