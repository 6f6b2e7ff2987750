"""One caller's connection: uvicorn's protocol on httptools, with what a transparent proxy needs beyond it.

A connection has one request in work at a time. What came behind it waits unread, and is bounded. Knows nothing of
searches.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import socket
import struct
import sys
import termios
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from es_rerank.proxy.http.framing import ascii_target, find_end, read_partly
from es_rerank.proxy.http.own import error_reply
from es_rerank.records import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from es_rerank.proxy.http.connections import Connections
    from es_rerank.records import Reply

EXTENSION = "es_rerank"
# Engines never close an idle connection, so clients don't expect it: a POST on a connection that just closes fails.
IDLE_CONNECTION_S = 3600
# Engines allow 4 KiB for the request line and 8 or 16 KiB for headers unless told otherwise.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 1000
# How much of the next requests may wait, beyond what the last read from the socket brought.
MAX_WAITING_BYTES = 64 * 1024
# How long a caller has to take the refusal with which we end a connection.
FAREWELL_S = 1.0
NO_LINGER = struct.pack("ii", 1, 0)
# How long what is still missing of a request may be silent while the process stops.
STOP_SILENCE_S = 1.0


class RefusedError(Exception):
    """A request that we don't read on: the status and the text of our answer."""

    def __init__(self, status: int, reason: str, kind: str = "illegal_argument_exception") -> None:
        super().__init__(reason)
        self.status = status
        self.kind = kind


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, for a proxy.

    It keeps the request target as it came: ASGI splits it into path and query string, which loses a lone trailing `?`.
    It reports a lost connection by a callback: with ASGI alone, one more task for each request would have to wait for
    it. It never upgrades, since a server may always decline (RFC 9110, 7.8): a request that offers HTTP/2 is answered
    in HTTP/1.1, and its body is read. It bounds what it holds of a head, of trailers and of pipelined requests, drops
    trailers, and writes refusals in the engine's shape. `look` ends a connection that keeps us waiting.

    `scope["extensions"][EXTENSION]` has the raw `target`, and this `connection`.
    """

    def __init__(self, *args: Any, shared: Connections, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shared = shared
        self._admitted = True
        self._on_lost: set[Callable[[], None]] = set()
        self._is_lost = False
        self._parting = False  # the last answer is written: what still comes is dropped
        # The message that is being read.
        self._offers_upgrade = False
        self._in_head = True  # or between two messages
        self._head = bytearray()
        self._tail = b""  # the last bytes of a head or of chunks
        self._left_bytes = 0  # of a body whose length was announced
        self._framing_bytes = 0  # of chunk lines or trailers, since the body's last byte
        # What waits until the request in work is answered: the bytes from a place on.
        self._waiting = b""
        self._waiting_from = 0
        # What `look` saw.
        self._reads = 0
        self._messages = 0
        self._resumes = 0
        self._mark: tuple[object, ...] = ()
        self._still_s = 0.0
        self._body_is_late = False

    # For the exchange with the caller.

    def watch(self, tell: Callable[[], None]) -> None:
        """Have `tell` called when the connection is lost; at once if it was already."""
        if self._is_lost:
            tell()
        else:
            self._on_lost.add(tell)

    def forget(self, tell: Callable[[], None]) -> None:
        """Don't call `tell` any more."""
        self._on_lost.discard(tell)

    def cut_off(self) -> None:
        """End the connection without an answer, or in the middle of one."""
        self.transport.abort()

    def reset(self) -> None:
        """The same, and the caller sees that this is not the end: its connection is reset, not closed in order."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.transport.abort()

    @property
    def body_is_late(self) -> bool:
        """Whether the body of the request in work was awaited for too long: longer than `client_timeout_s`."""
        return self._body_is_late

    @property
    def client_timeout_s(self) -> float:
        """How long a caller may be silent in the middle of a request."""
        return self._shared.client_timeout_s

    @property
    def has_unsent(self) -> bool:
        """Whether much of what was written waits for the caller to take it."""
        return self.flow.write_paused

    async def flush(self) -> None:
        """Wait until the caller has taken nearly all that was written, or is gone."""
        await self.flow.drain()

    def send_until_close(self) -> None:
        """Let the answer in work have no length: its end is the end of the connection, as HTTP/1.0 allows."""
        self.cycle.chunked_encoding = False
        self.cycle.expected_content_length = sys.maxsize

    def end_until_close(self) -> None:
        """The answer that has no length is whole."""
        self.cycle.expected_content_length = 0

    # What the loop tells.

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._admitted = self._shared.admit()
        if not self._admitted and not self._shared.may_wait():
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._shared.leave(admitted=self._admitted)
        self._tell_lost()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._reads += 1
        if self._parting:
            return
        if not self._admitted:
            self._head += data[:MAX_HEAD_BYTES]
            limit = self._shared.max_connections
            self._refuse(RefusedError(503, f"too many connections: {limit} are open", "es_rerank_exception"))
        elif self._waiting:
            self._keep(self._waiting[self._waiting_from :] + data, 0)
        else:
            self._feed(data, 0)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._resumes += 1
        super().resume_writing()

    def on_response_complete(self) -> None:
        """See uvicorn: the request in work is answered. There is no timer for what comes next: see `look`."""
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._waiting:
            waiting, self._waiting = self._waiting, b""
            self._feed(waiting, self._waiting_from)

    def shutdown(self) -> None:
        """See uvicorn: the process stops. What is in work is answered, and everything else ends."""
        if self._parting or not self._admitted:
            self.transport.close()
        else:
            super().shutdown()

    # From bytes to requests.

    def _feed(self, data: bytes, start: int) -> None:
        """Give data to the parser from a place on, until a request is whole that has to be answered first."""
        while start < len(data) and not self._is_busy() and not self._parting:
            left = self._left_bytes
            end = min(len(data), start + left) if left and not self._in_head else find_end(self._tail, data, start)
            piece = data if end - start == len(data) else data[start:end]
            start = end
            try:
                if self._in_head:
                    self._feed_head(piece)
                else:
                    self._feed_body(piece)
            except RefusedError as refused:
                self._refuse(refused)
            except httptools.HttpParserError as error:
                cause = error.__context__
                self._refuse(cause if isinstance(cause, RefusedError) else RefusedError(400, _explain(error)))
        if not self._parting:
            self._keep(data, start)

    def _keep(self, data: bytes, start: int) -> None:
        """Keep the data from a place on, and read no more where it is much."""
        if start < len(data):
            self._waiting, self._waiting_from = data, start
            if len(data) - start > MAX_WAITING_BYTES:
                self.flow.pause_reading()

    def _is_busy(self) -> bool:
        """Whether a request was read whole and is not answered yet."""
        return self._in_head and self.cycle is not None and not self.cycle.response_complete

    def _feed_head(self, piece: bytes) -> None:
        if not self._head:
            piece = piece.lstrip(b"\r\n")  # some clients end a body with an empty line too many
            if not piece:
                return
        known = len(self._head)
        self._head += piece[: MAX_HEAD_BYTES - known]
        if known + len(piece) > MAX_HEAD_BYTES:
            reason = f"request line and headers are larger than {MAX_HEAD_BYTES} bytes"
            raise RefusedError(400, reason, "too_long_http_header_exception")
        if not piece.isascii():
            piece = ascii_target(bytes(self._head))[known:]
        messages = self._messages
        offered = False
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            offered = True
        if offered:
            self._decline_upgrade()
        if self._in_head and self._messages == messages:
            self._tail = bytes(self._head[-3:])
        else:
            self._head.clear()
            self._tail = b""

    def _feed_body(self, piece: bytes) -> None:
        if self._left_bytes:
            self._left_bytes -= len(piece)
            self.parser.feed_data(piece)
            return
        self._tail = piece[-3:] if len(piece) > 2 else (self._tail + piece)[-3:]
        self._framing_bytes += len(piece)
        self.parser.feed_data(piece)  # which sets the count back where the body goes on
        if self._framing_bytes > MAX_HEAD_BYTES:
            raise RefusedError(400, f"a chunk's extension or the trailers are larger than {MAX_HEAD_BYTES} bytes")

    def _decline_upgrade(self) -> None:
        """Read the head once more, without its offer. The parser stopped at its end, and would skip the body."""
        if self.scope["method"] == "CONNECT":
            raise RefusedError(400, "method [CONNECT] is not allowed: es-rerank opens no tunnels")
        version = self.parser.get_http_version().encode()
        head = b"%s %s HTTP/%s\r\n" % (self.scope["method"].encode(), self.url, version)
        lines = [b"%s: %s\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(head + b"".join(lines) + b"\r\n")

    # What the parser tells.

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. Blanks after a value are not part of it (RFC 9112, 5), and a trailer is not a header."""
        if not self._in_head:
            return
        name = name.lower()
        value = value.rstrip(b" \t")
        self.headers.append((name, value))
        if name == b"content-length":
            self._left_bytes = int(value) if value.isdigit() else 0  # what is no number, the parser refuses
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        if len(self.headers) > MAX_HEADERS:
            raise RefusedError(400, f"the request has more than {MAX_HEADERS} header lines")

    def on_headers_complete(self) -> None:
        """See httptools. uvicorn's own parses the target, which is the engine's to read."""
        self._offers_upgrade = self.parser.should_upgrade()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # what of it is used, is set here
        scope["method"] = self.parser.get_method().decode("ascii")
        version = self.parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                raise RefusedError(505, f"HTTP version [{version}] is not spoken here; known are [1.0, 1.1]")
            scope["http_version"] = version
            self.expect_100_continue = False  # its clients can't read a 100 (RFC 9110, 10.1.1)
        if self._offers_upgrade:
            return
        scope["extensions"] = {EXTENSION: {"target": self._target(), "connection": self}}
        self._in_head = False
        self._framing_bytes = 0
        self._body_is_late = False
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        if not self._offers_upgrade:
            self._in_head = True
            self._left_bytes = 0
            self._tail = b""
            self._messages += 1
            super().on_message_complete()

    def _target(self) -> bytes:
        """The target as it came, from the raw head."""
        if self._head.isascii():
            return self.url
        head = bytes(self._head)
        start = ascii_target(head).find(self.url)
        return head[start : start + len(self.url)]

    # How a connection ends.

    def _refuse(self, refused: RefusedError) -> None:
        """Answer what can't be read, and close. Where an answer has begun, it breaks off."""
        if self._in_head:
            request = read_partly(bytes(self._head))
        elif self.cycle.response_started:
            self._parting = True
            self.transport.close()
            return
        else:
            request = Request(method=self.scope["method"], target=b"", headers=tuple(self.headers))
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._tell_lost()
        self._part(error_reply(request, refused.status, refused.kind, str(refused), self._shared.product()), request)

    def _part(self, reply: Reply, request: Request) -> None:
        """Write a last answer. What the caller still sends is dropped: closing now could take the answer with it."""
        self._parting = True
        lines = [b"%s: %s\r\n" % header for header in reply.headers]
        body = b"" if request.method == "HEAD" else reply.body
        self.transport.write(b"".join([STATUS_LINE[reply.status], *lines, b"connection: close\r\n\r\n", body]))
        self.transport.write_eof()
        self.flow.resume_reading()

    def _tell_lost(self) -> None:
        self._is_lost = True
        for tell in tuple(self._on_lost):
            tell()

    def look(self, elapsed_s: float, *, stopping: bool = False) -> None:
        """Close the connection if what it waits for has not come for too long. Called about once a second.

        A head has to be whole after `client_timeout_s`, however it dribbles. A body, and an answer that is not taken,
        may be still for so long. An idle connection is kept for an hour, until the process stops.
        """
        unsent_bytes = self.transport.get_write_buffer_size()
        if self.transport.is_closing() and not unsent_bytes:
            return
        awaited, limit_s = self._awaits()
        mark: tuple[object, ...] = (awaited, self._messages)
        if awaited == "reader":
            mark = (*mark, self._resumes, unsent_bytes, self._queued_bytes())
        elif awaited == "body":
            mark = (*mark, self._reads)
        if mark != self._mark:
            self._mark, self._still_s = mark, 0.0
            return
        self._still_s += elapsed_s
        if stopping and awaited == "body" and not self.cycle.response_started:
            limit_s = min(limit_s, STOP_SILENCE_S)
        if self._still_s < limit_s:
            return
        if awaited == "head":
            self._refuse(RefusedError(408, too_late("the head of a request", limit_s), "timeout_exception"))
        elif awaited == "body" and not stopping and not self.cycle.response_started:
            self._body_is_late = True  # the exchange answers as soon as it asks for the body
            self.cycle.message_event.set()
        else:
            self.transport.abort()

    def _queued_bytes(self) -> int:
        """How much of what was written the caller's machine has not taken, as far as the system tells."""
        try:
            queued = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(queued, sys.byteorder)

    def _awaits(self) -> tuple[str, float]:
        """What the connection waits for from its caller, and how long it may."""
        if self._parting or not self._admitted:
            return "farewell", FAREWELL_S
        if self.transport.get_write_buffer_size():
            return "reader", self._shared.client_timeout_s
        if self._is_busy():
            return "nothing", math.inf
        if self._in_head:
            return ("head", self._shared.client_timeout_s) if self._head else ("request", IDLE_CONNECTION_S)
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:  # it is the caller who waits
            return "nothing", math.inf
        return "body", self._shared.client_timeout_s


def too_late(what: str, limit_s: float) -> str:
    """The text of a 408."""
    return f"{what} did not come within {limit_s:g} s"


def _explain(error: httptools.HttpParserError) -> str:
    said = str(error)
    return f"the request is not valid HTTP/1.1: {said[:1].lower()}{said[1:]}"
