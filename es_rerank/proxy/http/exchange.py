"""One HTTP exchange with a caller, over ASGI: its request as a value, its answer, and whether the caller is there.

Knows nothing of engines or searches. Works only with our own server (server.py), since it needs what ASGI lacks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError, UpstreamError
from es_rerank.proxy.http.protocol import EXTENSION, too_late
from es_rerank.records import LongBody, Request, first_header, without_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from es_rerank.memory import MemoryBudget, Share
    from es_rerank.proxy.http.protocol import Protocol
    from es_rerank.records import Headers, Reply
    from es_rerank.upstream import StreamedReply

# Steps of the event loop from the end of a connection until its protocol hears of it.
CUT_OFF_STEPS = 3
LENGTH_HEADERS = (b"content-length", b"transfer-encoding")
# The longest answer of unknown length that is held so that HTTP/1.0 gets a length.
HELD_ANSWER_BYTES = 64 * 1024
CLOSE = (b"connection", b"close")


class CallerLeftError(Exception):
    """The caller closed its connection before its request was whole."""


class Exchange:
    """A request and the place for its answer.

    When the caller disconnects, the task that made this object is cancelled, and with it all work for the answer;
    `caller_left` is then True. A body that is read whole takes its bytes from `memory` until the exchange is closed.
    """

    def __init__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
        memory: MemoryBudget,
    ) -> None:
        self._receive = receive
        self._send = send
        self._task = asyncio.current_task()
        self._connection: Protocol = scope["extensions"][EXTENSION]["connection"]
        self._finished = False
        self._body_asked = False
        self._memory = memory
        self._share: Share | None = None
        self.started = False
        self.caller_left = False
        headers: Headers = tuple(scope["headers"])
        self._has_body = any(name in LENGTH_HEADERS and value != b"0" for name, value in headers)
        self.request = Request(
            method=scope["method"],
            target=scope["extensions"][EXTENSION]["target"],
            headers=headers,
            body=self._incoming() if self._has_body else None,
        )
        lengths = [value for name, value in headers if name == b"content-length"]
        self.body_bytes = int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else None
        """The body's length as announced, None where it comes in chunks or there is none."""
        self._knows_chunks = scope["http_version"] != "1.0"
        self.client: str = (scope.get("client") or ("", 0))[0]
        self._connection.watch(self._caller_lost)

    @property
    def share(self) -> Share:
        """What this exchange holds of the memory for bodies, until it is closed."""
        if self._share is None:
            self._share = self._memory.share()
        return self._share

    async def read_body(self, max_bytes: int) -> bytes | AsyncIterator[bytes] | None:
        """The body, read whole. None for no body.

        Where it is larger than `max_bytes`, or there is no room to hold it, a `LongBody`; a plain stream if the caller
        waits to be told that the body is wanted. Raises CallerError if the body does not come, and CallerLeftError.
        """
        stream = self.request.body
        if stream is None or isinstance(stream, bytes):
            return stream
        if self.body_bytes is not None and self.body_bytes > max_bytes and self.request.header(b"expect") is not None:
            return stream  # the engine may refuse it before it is sent
        share = self.share
        head = bytearray()
        async for chunk in stream:
            head += chunk
            if len(head) > max_bytes:
                return LongBody(bytes(head), stream, on_head_sent=share.release)
            if not share.take(len(chunk)):
                return LongBody(bytes(head), stream, on_head_sent=share.release, no_room=True)
        return bytes(head)

    async def reply(self, reply: Reply) -> None:
        """Send an answer that is complete, and wait until the caller has nearly all of it."""
        await self._start(reply.status, reply.headers)
        await self._finish(reply.body)
        if self._connection.has_unsent:
            await self._connection.flush()  # until then it is in memory

    async def stream(self, reply: StreamedReply) -> None:
        """Send an answer on as it comes. Raises UpstreamError where it breaks off; `started` is then True."""
        if not self._knows_chunks and first_header(reply.headers, b"content-length") is None:
            await self._stream_without_chunks(reply)
            return
        await self._start(reply.status, reply.headers)
        async for chunk in reply.chunks():
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._finish(b"")

    async def _stream_without_chunks(self, reply: StreamedReply) -> None:
        """The same for HTTP/1.0, which has no chunks: a short answer gets a length, a long one ends with a close."""
        head = bytearray()
        chunks = reply.chunks()
        async for chunk in chunks:
            head += chunk
            if len(head) > HELD_ANSWER_BYTES:
                break
        else:
            length = () if self.request.method == "HEAD" else ((b"content-length", b"%d" % len(head)),)
            await self._start(reply.status, (*reply.headers, *length))
            await self._finish(bytes(head))
            return
        self._connection.send_until_close()
        await self._start(reply.status, reply.headers)
        await self._send({"type": "http.response.body", "body": bytes(head), "more_body": True})
        try:
            async for chunk in chunks:
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        except UpstreamError:
            self._connection.reset()  # an orderly close would make it look whole
            raise
        self._connection.end_until_close()
        await self._finish(b"")

    async def cut_off(self) -> None:
        """End the connection without an answer, or in the middle of one, as the end of the process would."""
        self._finished = True
        self._connection.cut_off()
        for _ in range(CUT_OFF_STEPS):  # until the server knows, which else reports an answer that is missing
            await asyncio.sleep(0)

    def close(self) -> None:
        """Stop watching the caller, and give back the memory. Called once, however the exchange ended."""
        self._connection.forget(self._caller_lost)
        if self._share is not None:
            self._share.release()

    def _caller_lost(self) -> None:
        if self._task is not None and not self._finished:
            self.caller_left = True
            self._task.cancel()

    async def _start(self, status: int, headers: Headers) -> None:
        self.started = True
        if status in (204, 304):  # these have no body, whatever their Content-Length says
            headers = without_headers(headers, b"content-length")
        withheld = self._has_body and not self._body_asked and self.request.header(b"expect") is not None
        if withheld or self._connection.body_is_late or status == 417:
            headers = (*headers, CLOSE)  # nobody knows whether the body still comes, so no other request can follow
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def _finish(self, last: bytes) -> None:
        self._finished = True  # the server calls a complete exchange disconnected too
        await self._send({"type": "http.response.body", "body": last})

    async def _incoming(self) -> AsyncIterator[bytes]:
        self._body_asked = True
        more = True
        while more:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                self.caller_left = True
                raise CallerLeftError
            more = event.get("more_body", False)
            if more and self._connection.body_is_late:
                raise CallerError(too_late("more of the request's body", self._connection.client_timeout_s), status=408)
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
