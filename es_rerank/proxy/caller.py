"""To ask the engine as a caller: who that is, what is asked with which headers, and how long its answers are kept.

They are kept by caller, so nobody learns what only another one may see. Whatever goes wrong, nothing is known, and no
search fails.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from es_rerank.errors import UpstreamError
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.search.carrier import asked_beside
from es_rerank.proxy.search.control import HEADER
from es_rerank.proxy.search.endpoint import MAX_TARGET_BYTES
from es_rerank.records import first_header, without_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from es_rerank.clock import Clock
    from es_rerank.memory import MemoryBudget
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.records import Reply, Request

LOG = logging.getLogger(__name__)
KEPT_S = 300.0
KEPT_UNKNOWN_S = 30.0
MAX_ASKING = 64
# How long the engine has for its answers; what a search waits for them is the search's own affair.
ASKED_S = 5.0
MAX_ANSWER_BYTES = 1024 * 1024
# What a target has room for in the engines' longest first line.
MAX_ASKED_BYTES = MAX_TARGET_BYTES - len("GET  HTTP/1.1")
Key = TypeVar("Key")
Value = TypeVar("Value")
Read = TypeVar("Read")
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


@dataclass(frozen=True, slots=True)
class _Kept(Generic[Value]):
    """What the engine told, None for nothing; and until when that is believed."""

    value: Value | None
    until_s: float


class KeptAnswers(Generic[Key, Value]):
    """What the engine tells callers, by keys that name the caller. Used in one event loop only.

    What it tells is kept for KEPT_S, and that it tells nothing for KEPT_UNKNOWN_S. At most `max_kept` are kept; the one
    that was met first makes room. Searches that want to know the same at the same time ask once, and at most MAX_ASKING
    are asked at a time.
    """

    def __init__(self, engine: Fetches, memory: MemoryBudget, clock: Clock, *, max_kept: int) -> None:
        self._engine = engine
        self._memory = memory
        self._clock = clock
        self._max_kept = max_kept
        self._kept: dict[Key, _Kept[Value]] = {}
        self._asking: dict[tuple[Key, ...], asyncio.Task[None]] = {}
        self._salt = os.urandom(16)

    def caller_of(self, call: SearchCall) -> bytes:
        """Who asks, for a key."""
        return caller_of(call, self._salt)

    def begin(
        self, keys: Sequence[Key], ask: Callable[[Sequence[Key], float], Awaitable[Mapping[Key, Value]]]
    ) -> asyncio.Task[None] | None:
        """Begin to ask about those keys of which nothing is kept; None if nothing is asked.

        `ask` gets these keys, and the instant at which it is given up. What its answer lacks is not known; it raises
        UpstreamError, UnreadableBodyError or ValueError where nothing is.
        """
        missing = tuple(key for key in keys if self._kept_of(key) is None)
        asking = self._asking.get(missing)
        if asking is None and missing and len(self._asking) < MAX_ASKING:
            asking = self._asking[missing] = asyncio.create_task(self._ask(missing, ask))
            asking.add_done_callback(lambda _: self._asking.pop(missing, None))
        return asking

    async def known_by(self, due_s: float, asking: asyncio.Task[None] | None, keys: Sequence[Key]) -> dict[Key, Value]:
        """What is known of these keys once `begin` has asked, or at the instant `due_s`. Never raises.

        What comes later is kept for other searches.
        """
        if asking is not None:
            with suppress(TimeoutError):
                async with self._clock.limit(due_s):
                    await asyncio.shield(asking)
        kept = {key: self._kept_of(key) for key in keys}
        return {key: one.value for key, one in kept.items() if one is not None and one.value is not None}

    async def fetch(self, request: Request, due_s: float, read: Callable[[bytes], Read]) -> Read:
        """What is read of the engine's answer. Raises what `begin` says, or what `read` does."""
        if len(request.target) > MAX_ASKED_BYTES:
            raise ValueError("the names are too long to be asked about")
        with self._memory.share() as share:
            reply = await self._engine.fetch(request, max_bytes=MAX_ANSWER_BYTES, hold=share.take, due_s=due_s)
            if reply.status != 200:
                raise ValueError(f"the engine answered {reply.status}")
            coding = first_header(reply.headers, b"content-encoding")
            return read(decode_body(reply.body, coding, max_bytes=MAX_ANSWER_BYTES))

    def _kept_of(self, key: Key) -> _Kept[Value] | None:
        """What is kept, be it that nothing is known; None if nothing is kept any more."""
        kept = self._kept.get(key)
        return kept if kept is not None and kept.until_s > self._clock.monotonic_s() else None

    async def _ask(
        self, keys: Sequence[Key], ask: Callable[[Sequence[Key], float], Awaitable[Mapping[Key, Value]]]
    ) -> None:
        """Ask about these keys, and keep what comes. Never raises."""
        told: Mapping[Key, Value] = {}
        due_s = self._clock.monotonic_s() + ASKED_S
        try:
            async with self._clock.limit(due_s):
                told = await ask(keys, due_s)
        except (TimeoutError, UpstreamError, UnreadableBodyError, ValueError) as error:
            LOG.debug("the engine does not tell what a search needs to know: %s", error)
        except Exception:  # no search fails because of this
            LOG.exception("asking the engine for what a search needs to know broke")
        now_s = self._clock.monotonic_s()
        for key in keys:
            value = told.get(key)
            self._kept.pop(key, None)
            if len(self._kept) >= self._max_kept:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = _Kept(value, now_s + (KEPT_UNKNOWN_S if value is None else KEPT_S))
