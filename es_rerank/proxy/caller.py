"""To ask the engine as a caller: who that is, the headers of what we ask, and the way to the engine."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from es_rerank.proxy.search.carrier import asked_beside
from es_rerank.proxy.search.control import HEADER
from es_rerank.records import without_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.records import Reply, Request

# Headers that tell nothing of who asks. All others do, as far as we know: engines may log in by any header.
NOT_OF_THE_CALLER = (
    b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"connection", b"content-encoding",
    b"content-length", b"content-type", b"date", b"expect", b"host", b"keep-alive", b"pragma", b"te", b"traceparent",
    b"tracestate", b"transfer-encoding", b"user-agent", b"via", b"x-elastic-client-meta", b"x-opaque-id",
    b"x-request-id", HEADER,
)  # fmt: skip


class Fetches(Protocol):
    """The way to the engine, see `es_rerank.upstream.Upstream`."""

    async def fetch(
        self, request: Request, *, max_bytes: int, hold: Callable[[int], bool], due_s: float | None = None
    ) -> Reply:
        """The whole answer."""
        ...


def caller_of(call: SearchCall, salt: bytes) -> bytes:
    """Who asks, as a keyed hash of the headers that may say it: no secret is kept."""
    digest = hashlib.blake2b(key=salt, digest_size=16)
    for name, value in without_headers(call.carrier.request.headers, *NOT_OF_THE_CALLER):
        digest.update(b"%d:%b%d:%b" % (len(name), name.lower(), len(value), value))
    return digest.digest()


def asked_as(call: SearchCall, target: str) -> Request:
    """A GET of this target, to be answered in JSON, with the headers of a search: the same caller asks."""
    return asked_beside(call.without_header(HEADER).carrier.request, target.encode())
