"""One HTTP exchange with a caller, over ASGI: its request as a value, its answer, and whether the caller is there.

Knows nothing of engines or searches. Works only with our own server (server.py), since it needs what ASGI lacks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError
from es_rerank.proxy.http.server import EXTENSION
from es_rerank.records import LongBody, Request, first_header, without_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from es_rerank.records import Headers, Reply
    from es_rerank.upstream import StreamedReply

# Steps of the event loop from the end of a connection until its protocol hears of it.
CUT_OFF_STEPS = 3
LENGTH_HEADERS = (b"content-length", b"transfer-encoding")


class CallerLeftError(Exception):
    """The caller closed its connection before its request was whole."""


class Exchange:
    """A request and the place for its answer.

    When the caller disconnects, the task that made this object is cancelled, and with it all work for the answer;
    `caller_left` is then True.
    """

    def __init__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._receive = receive
        self._send = send
        self._task = asyncio.current_task()
        self._on_lost: set[Callable[[], None]] = scope["extensions"][EXTENSION]["on_lost"]
        self._on_lost.add(self._caller_lost)
        self._cut_off: Callable[[], None] = scope["extensions"][EXTENSION]["cut_off"]
        self._finished = False
        self.started = False
        self.caller_left = False
        headers: Headers = tuple(scope["headers"])
        has_body = any(name in LENGTH_HEADERS and value != b"0" for name, value in headers)
        self.request = Request(
            method=scope["method"],
            target=scope["extensions"][EXTENSION]["target"],
            headers=headers,
            body=self._incoming() if has_body else None,
        )
        lengths = [value for name, value in headers if name == b"content-length"]
        self.body_bytes = int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else None
        """The body's length as announced, None where it comes in chunks or there is none."""
        self._knows_chunks = scope["http_version"] != "1.0"
        self.client: str = (scope.get("client") or ("", 0))[0]

    async def read_body(self, max_bytes: int) -> bytes | AsyncIterator[bytes] | None:
        """The body, read whole; or, where it is larger than `max_bytes`, a `LongBody`. None for no body."""
        stream = self.request.body
        if stream is None or isinstance(stream, bytes):
            return stream
        head = bytearray()
        async for chunk in stream:
            head += chunk
            if len(head) > max_bytes:
                return LongBody(bytes(head), stream)
        return bytes(head)

    async def reply(self, reply: Reply) -> None:
        """Send an answer that is complete."""
        await self._start(reply.status, reply.headers)
        await self._finish(reply.body)

    async def stream(self, reply: StreamedReply) -> None:
        """Send an answer on as it comes. Raises UpstreamError where it breaks off; `started` is then True.

        HTTP/1.0 has no chunks, so there an answer of unknown length is held until its length is known.
        """
        if not self._knows_chunks and first_header(reply.headers, b"content-length") is None:
            body = b"".join([chunk async for chunk in reply.chunks()])
            await self._start(reply.status, (*reply.headers, (b"content-length", b"%d" % len(body))))
            await self._finish(body)
            return
        await self._start(reply.status, reply.headers)
        async for chunk in reply.chunks():
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._finish(b"")

    async def cut_off(self) -> None:
        """End the connection without an answer, or in the middle of one, as the end of the process would."""
        self._finished = True
        self._cut_off()
        for _ in range(CUT_OFF_STEPS):  # until the server knows, which else reports an answer that is missing
            await asyncio.sleep(0)

    def close(self) -> None:
        """Stop watching the caller. Called once, however the exchange ended."""
        self._on_lost.discard(self._caller_lost)

    def _caller_lost(self) -> None:
        if self._task is not None and not self._finished:
            self.caller_left = True
            self._task.cancel()

    async def _start(self, status: int, headers: Headers) -> None:
        self.started = True
        if status in (204, 304):  # these have no body, whatever their Content-Length says
            headers = without_headers(headers, b"content-length")
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def _finish(self, last: bytes) -> None:
        self._finished = True  # the server calls a complete exchange disconnected too
        await self._send({"type": "http.response.body", "body": last})

    async def _incoming(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                self.caller_left = True
                raise CallerLeftError
            more = event.get("more_body", False)
            if chunk := event.get("body", b""):
                yield chunk


def check_head(headers: Headers) -> None:
    """Refuse what no request may say about its body. Raises CallerError.

    An ambiguous length (RFC 9112, 6.3) can hide a smuggled request. A transfer coding other than `chunked` would be
    lost on the way, so the engine could not read the body. With an expectation other than `100-continue` (RFC 9110,
    10.1.1), nobody knows whether the body comes, and engines that refuse it read the body as the next request.
    """
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) > 1:
        raise CallerError("the request has more than one Content-Length")
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if lengths and codings:
        raise CallerError("the request has both Content-Length and Transfer-Encoding")
    if codings and [value.lower() for value in codings] != [b"chunked"]:
        shown = b", ".join(codings).decode("latin-1")
        raise CallerError(f"header [Transfer-Encoding] must be [chunked], once, was [{shown[:80]}]", status=501)
    expected = [value for name, value in headers if name == b"expect"]
    if expected and [value.lower() for value in expected] != [b"100-continue"]:
        shown = b", ".join(expected).decode("latin-1")
        raise CallerError(f"header [Expect] must be [100-continue], once, was [{shown[:80]}]", status=417)
