"""One request below `/_es_rerank` as its handler sees it, and what the handler gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.errors import CallerError
from es_rerank.proxy.http.coding import decode_body
from es_rerank.proxy.offload import compute
from es_rerank.proxy.steps import READING_COST, read_whole
from es_rerank.rawjson import read_object
from es_rerank.records import Request, first_header, without_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from es_rerank.memory import Share
    from es_rerank.proxy.parts import Parts
    from es_rerank.records import Headers, Reply
    from es_rerank.store.engine import StoreEngine

# Headers of a caller's request that are about its body or its connection, and so not about who asks.
OF_THE_BODY = (
    b"content-length", b"content-type", b"content-encoding", b"transfer-encoding", b"expect", b"accept",
    b"accept-encoding", b"es-rerank",
)  # fmt: skip
JSON_HEADERS: Headers = ((b"content-type", b"application/json"), (b"accept", b"application/json"))
READABLE = b"gzip, deflate"


class EngineRefusedError(Exception):
    """The engine refused what was asked as the caller: its answer is the caller's answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"the engine answered {reply.status}")
        self.reply = reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An answer in the manner of `_cat`: rows of cells parallel to `columns`. A cell is a text, a number or None.

    `about`, parallel to `columns` too, says what is in each column; () says nothing.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """An answer that is no JSON: what was asked for as a file. No parameter of the URL changes how it is written."""

    text: str
    media_type: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAnswer:
    """What a handler gives back: a status, a value and warnings for a person.

    The value is one that JSON can hold, a `Table`, or a `Text`.
    """

    value: Any
    status: int = 200
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCall:
    """One request below our path. Its body is as it came; `names` are the parts of its path that the route names.

    `parameters` are the decoded parameters of the URL, without those that say how the answer is written. `share` is
    what holds its body of the memory for bodies.
    """

    request: Request
    names: Mapping[str, str]
    parameters: Mapping[str, str]
    parts: Parts
    share: Share

    def flag(self, name: str) -> bool:
        """Whether a boolean parameter is on: `?engine` and `?engine=true` are. Raises CallerError for another word."""
        value = self.parameters.get(name, "false")
        if value not in ("", "true", "false"):
            raise CallerError(f"[{name}] must be true or false, was [{value}]")
        return value != "false"

    def whole(self, name: str, low: int, high: int, *, default: int) -> int:
        """A parameter that is a whole number from `low` to `high`. Raises CallerError for another word."""
        text = self.parameters.get(name, str(default))
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
            raise CallerError(f"[{name}] must be a whole number from {low} to {high}, was [{text}]")
        return int(text)

    def allow(self, *names: str) -> None:
        """Raise CallerError for a parameter that is not one of these, as the engines do."""
        for name in self.parameters:
            if name not in names:
                known = f"; allowed are [{', '.join(names)}]" if names else ""
                raise CallerError(f"request [{self.path}] contains unrecognized parameter: [{name}]{known}")

    def need_store(self) -> StoreEngine:
        """The engine, asked with the login of es-rerank itself. Raises CallerError, 501, without [store]."""
        if self.parts.store is None:
            raise self.no_store()
        return self.parts.store

    def no_store(self) -> CallerError:
        """The error where es-rerank keeps no indices of its own."""
        return CallerError(f"[{self.path}] needs the table [store] in the configuration", status=501)

    @property
    def path(self) -> str:
        """The path as text, for errors."""
        return self.request.path.decode("utf-8", "replace")

    async def body(self) -> bytes:
        """The body without its coding, b'' for none. To be read once: it is held beside what came.

        Raises CallerError for one that can't be read, is too long, or finds no room in memory.
        """
        full = CallerError("the body can't be read now, since limits.max_held_bytes are held: try again", status=503)
        return await read_whole(self.request, self.parts, self.share, no_room=full) or b""

    async def json_object(self, *keys: str) -> dict[str, Any]:
        """The body as an object, {} for none. Raises CallerError for anything else, and for a key not among `keys`."""
        body = await self.body()
        found = await compute(READING_COST * len(body), read_object, body) if body.strip() else {}
        if found is None:
            raise CallerError("the body must be one JSON object, and no key may come twice")
        for key in found:
            if key not in keys:
                raise CallerError(f"unknown field [{key}]; allowed are [{', '.join(keys)}]")
        return found

    def as_caller(self, method: str, target: str, body: Any = None) -> Request:
        """A request to the engine with the caller's own headers, so that the engine decides what the caller may do.

        `body` is a value for JSON, or bytes that are JSON or NDJSON already.
        """
        headers = (
            *without_headers(self.request.headers, *OF_THE_BODY),
            *JSON_HEADERS,
            (b"accept-encoding", READABLE),
        )
        sent = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        return Request(method=method, target=target.encode(), headers=headers, body=sent)

    async def ask_engine(self, method: str, target: str, body: Any = None, *, allowed: tuple[int, ...] = ()) -> Any:
        """What the engine answers to this caller, as a value. None for a status of `allowed` that is an error.

        Raises EngineRefusedError for any other error of the engine, and UpstreamError if no answer comes. Each answer
        is held of the memory for bodies until it was read, and not until the call ends.
        """
        most = self.parts.limits.max_answer_bytes
        with self.parts.memory.share() as share:
            reply = await self.parts.engine.fetch(self.as_caller(method, target, body), max_bytes=most, hold=share.take)
            if reply.status in allowed and reply.status >= 400:
                return None
            if reply.status >= 400:
                raise EngineRefusedError(reply)
            coding = first_header(reply.headers, b"content-encoding")
            return msgspec.json.decode(decode_body(reply.body, coding, max_bytes=most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path of ours: its methods, its pattern with names in braces (`/_es_rerank/rules/{name}`), its handler."""

    methods: tuple[str, ...]
    path: str
    answer: Callable[[OwnCall], Awaitable[OwnAnswer]]
    about: str = field(kw_only=True)
    """One sentence for people, shown by `GET /_es_rerank`."""
