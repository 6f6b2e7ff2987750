"""Asks the engine with the login of es-rerank itself, about nothing but the indices of es-rerank."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from es_rerank.errors import EsRerankError, UpstreamError
from es_rerank.official.login import ApiKey, Password, authorization
from es_rerank.records import Request
from es_rerank.store.indices import OWN_INDICES

if TYPE_CHECKING:
    from collections.abc import Callable

    from es_rerank.memory import MemoryBudget
    from es_rerank.records import Reply
    from es_rerank.tables import StoreSettings

LOG = logging.getLogger(__name__)
MAX_ANSWER_BYTES = 32 * 1024 * 1024


class StoreError(EsRerankError):
    """The engine refused something about our own indices; the text has its status and its words.

    `status` is 0 where no answer came.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Fetches(Protocol):
    """The way to the engine, see `es_rerank.upstream.Upstream`."""

    async def fetch(self, request: Request, *, max_bytes: int, hold: Callable[[int], bool]) -> Reply:
        """The whole answer."""
        ...


def login_of(settings: StoreSettings) -> Password | ApiKey | None:
    """The login of es-rerank itself, as the official clients take it; None for no login."""
    if settings.api_key is not None:
        return ApiKey(key=settings.api_key.get_secret_value())
    if settings.user is None or settings.password is None:
        return None
    return Password(user=settings.user, password=settings.password.get_secret_value())


class StoreEngine:
    """The engine, asked with the login of es-rerank itself."""

    def __init__(self, engine: Fetches, settings: StoreSettings, memory: MemoryBudget) -> None:
        self._engine = engine
        self._memory = memory
        headers = [(b"content-type", b"application/json"), (b"accept", b"application/json")]
        login = login_of(settings)
        if login is not None:
            headers.append((b"authorization", authorization(login).encode()))
        self._headers = tuple(headers)

    async def ask(self, method: str, target: str, body: Any = None, *, allowed: tuple[int, ...] = ()) -> Any:
        """What the engine answers, as a value; None for a status of `allowed`. Raises StoreError for anything else."""
        sent = None if body is None else msgspec.json.encode(body)
        request = Request(method=method, target=target.encode(), headers=self._headers, body=sent)
        with self._memory.share() as share:
            try:
                reply = await self._engine.fetch(request, max_bytes=MAX_ANSWER_BYTES, hold=share.take)
            except UpstreamError as error:
                raise StoreError(str(error)) from error
            if reply.status in allowed:
                return None
            try:
                value = msgspec.json.decode(reply.body)
            except ValueError as error:
                raise StoreError(f"the engine answered {reply.status}, and no JSON", status=reply.status) from error
        if reply.status >= 400:
            raise StoreError(f"the engine answered {reply.status}: {_words_of(value)}", status=reply.status)
        return value


async def prepare(engine: StoreEngine) -> None:
    """Make our own indices, or bring the mappings of those that exist up to date. Raises StoreError.

    Each has an index template too: so one that is deleted while proxies run has our fields again, whoever's write makes
    the engine make it. Monthly ones are always made that way.
    """
    for index in OWN_INDICES:
        template = {"index_patterns": [index.pattern], "template": index.body(), "priority": 100}
        await engine.ask("PUT", f"/_index_template/{index.name}", template)
        if index.monthly:
            continue
        if await engine.ask("PUT", f"/{index.name}", index.body(), allowed=(400,)) is None:
            # It exists, or the engine says here what else is wrong.
            await engine.ask("PUT", f"/{index.name}/_mapping", {"properties": dict(index.fields)})


def _words_of(value: Any) -> str:
    error = value.get("error") if isinstance(value, dict) else None
    return str(error.get("reason") or error.get("type")) if isinstance(error, dict) else str(error or "no reason")


async def keep_preparing(engine: StoreEngine, *, pause_s: float) -> None:
    """Make our own indices; try again until the engine takes them all. Each new reason is logged once."""
    said = ""
    while True:
        try:
            await prepare(engine)
        except StoreError as error:
            if str(error) != said:
                said = str(error)
                LOG.warning("the indices of es-rerank can't be made yet: %s", error)
        else:
            return
        await asyncio.sleep(pause_s)
