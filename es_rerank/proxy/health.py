"""What `GET /_es_rerank/health` says: whether this proxy is alive, ready, and how each part is."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from es_rerank.errors import UpstreamError
from es_rerank.records import Request

if TYPE_CHECKING:
    from es_rerank.proxy.parts import Parts

CHECK_S = 2.0
MAX_ANSWER_BYTES = 1024 * 1024


async def check_health(parts: Parts) -> dict[str, Any]:
    """The state of everything, within two seconds.

    `live` is always true: who can say so is. `ready` means that searches are answered, for which only the engine is
    needed; `reranking` that Redis and a worker for every scorer in use are there too.
    """
    used = parts.settings.used_scorers()
    upstream, redis, *workers = await asyncio.gather(
        _check_upstream(parts),
        _check_redis(parts),
        *(_count_workers(parts, scorer.fingerprint()) for scorer in used.values()),
    )
    scorers = {
        name: {"kind": scorer.kind, "fingerprint": scorer.fingerprint(), "workers": count}
        for (name, scorer), count in zip(used.items(), workers, strict=True)
    }
    return {
        "live": True,
        "ready": upstream["reachable"],
        "reranking": upstream["reachable"] and redis["reachable"] and all(workers),
        "version": version("es-rerank"),
        "parts": {"upstream": upstream, "redis": redis, "scorers": scorers},
    }


async def _check_upstream(parts: Parts) -> dict[str, Any]:
    """Any answer will do: without the caller's credentials it is often a 401."""
    request = Request(method="GET", target=b"/", headers=((b"accept", b"application/json"),))
    try:
        async with asyncio.timeout(CHECK_S):
            reply = await parts.upstream.fetch(request, max_bytes=MAX_ANSWER_BYTES)
    except (UpstreamError, TimeoutError):
        return {"reachable": False}
    return {"reachable": True, "status": reply.status}


async def _check_redis(parts: Parts) -> dict[str, Any]:
    try:
        async with asyncio.timeout(CHECK_S):
            await parts.redis.ping()
    except (RedisError, OSError, TimeoutError):
        return {"reachable": False}
    return {"reachable": True}


async def _count_workers(parts: Parts, fingerprint: str) -> int:
    try:
        async with asyncio.timeout(CHECK_S):
            return await parts.dispatcher.count_workers(fingerprint)
    except (RedisError, OSError, TimeoutError):
        return 0
