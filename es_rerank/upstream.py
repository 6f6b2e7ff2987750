"""The proxy's only way to the engine: HTTP bytes in, HTTP bytes out, over one shared keep-alive pool.

Knows of searches only that they may be sent twice. An answer is handed on whatever its status is; only a missing
answer is an error. Nothing of the caller is kept: credentials and cookies live only as long as their request.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from es_rerank.errors import UpstreamError
from es_rerank.hosts import Hosts, Unserved
from es_rerank.pool import EngineConnection, EnginePool
from es_rerank.records import Reply, first_header
from es_rerank.repeatable import changes_nothing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from aiohttp import StreamReader
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

    from es_rerank.clock import Clock
    from es_rerank.records import Headers, Request
    from es_rerank.tables import UpstreamSettings

HOP_BY_HOP = (
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
)  # fmt: skip
PRODUCT_HEADER = b"x-elastic-product"
# Names every proxy that a request passed, so that one which meets itself knows that its upstream leads back to it.
VIA_HEADER = b"es-rerank-via"
# An engine that can't serve, or a server before it that can't reach one. Another host may be better off.
HOST_FAILED = frozenset({502, 503, 504})
# No request breaks more hosts than this, even if it is the request itself that breaks them. One that a host is silent
# on may be heavy, so it counts twice.
MOST_SENDS = 3
SHORTEST_CONNECT_S = 0.05
# Engines send a Warning header for each deprecated feature: together far more than the 8 KiB that aiohttp allows.
MAX_REPLY_HEAD_BYTES = 256 * 1024
MAX_REPLY_HEADERS = 4096
IDLE_CONNECTION_S = 60.0
# How long the engine has to say that it wants the body, where the caller waits for that (RFC 9110, 10.1.1).
CONTINUE_S = 1.0
# How much of an answer's body may wait for its reader; at twice as much, aiohttp stops reading from the socket.
READ_BUFFER_BYTES = 64 * 1024


LOG = logging.getLogger(__name__)


class UnreachableError(UpstreamError):
    """No connection to any host could be made, so nothing was sent."""


class AnswerTooLargeError(UpstreamError):
    """The engine's answer is larger than we may hold."""


class NoRoomError(UpstreamError):
    """The engine's answer finds no room in the memory that may be held."""


class StreamedReply:
    """An answer whose body is still to come: status, end-to-end headers, and the body as raw bytes, read once."""

    def __init__(self, message: RawResponseMessage, payload: StreamReader) -> None:
        self._payload = payload
        self._head = b""
        self.status: int = message.code
        self.headers = end_to_end(message.raw_headers)
        self.product = first_header(message.raw_headers, PRODUCT_HEADER)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive, in their content coding. Raises UpstreamError where it breaks off."""
        try:
            if self._head:
                head, self._head = self._head, b""
                yield head
            async for chunk in self._payload.iter_any():
                yield chunk
        except (aiohttp.ClientError, HttpProcessingError, TimeoutError) as error:
            raise _no_answer(error) from error

    async def peek(self, max_bytes: int) -> bytes | None:
        """The body, if it is not longer than `max_bytes`. What has come is still to come as `chunks`.

        Raises UpstreamError where it breaks off.
        """
        head = bytearray()
        try:
            async for chunk in self.chunks():
                head += chunk
                if len(head) > max_bytes:
                    break
        finally:
            self._head = bytes(head)
        return None if len(head) > max_bytes else self._head

    async def read(self, max_bytes: int, hold: Callable[[int], bool]) -> Reply:
        """The whole answer. `hold` is asked for room for each part.

        Raises AnswerTooLargeError before holding much more than `max_bytes`, NoRoomError where `hold` has no room.
        """
        parts: list[bytes] = []
        held = 0
        async for chunk in self.chunks():
            held += len(chunk)
            if held > max_bytes:
                raise AnswerTooLargeError(f"the engine's answer is larger than {max_bytes} bytes")
            if not hold(len(chunk)):
                raise NoRoomError("the engine's answer can't be held now: limits.max_held_bytes are held")
            parts.append(chunk)
        return Reply(status=self.status, headers=self.headers, body=b"".join(parts))


class Upstream:
    """The engine's hosts behind one pool. An async context manager; one per process."""

    def __init__(self, settings: UpstreamSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._hosts = Hosts(settings.urls, clock)
        self._unserved = Unserved(clock)
        self._host_names = {url: _host_of(url) for url in settings.urls}
        self._pool: EnginePool | None = None
        self._via = uuid.uuid4().hex[:16].encode()
        self.product: bytes | None = None
        """The engine's X-Elastic-Product, as last seen, or None; our own answers carry the same header."""

    async def __aenter__(self) -> Self:
        """Open the pool; connections are made when they are needed."""
        settings = self._settings
        self._pool = EnginePool(limit=settings.max_connections, keepalive_s=IDLE_CONNECTION_S, tls=_tls(settings))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._pool is not None:
            await self._pool.close()

    @asynccontextmanager
    async def send(
        self, request: Request, *, due_s: float | None = None, new_connection: bool = False
    ) -> AsyncIterator[StreamedReply]:
        """Send the request and yield the answer as soon as its headers are there.

        If a host can't be reached, nothing was sent, so the next one is tried, each host once. What changes nothing
        (a search whose body we hold, a GET or HEAD without one) also goes to the next host if its connection breaks
        before any answer, three hosts at most; and to one other host if this one says nothing until the read time-out.
        If it says that it can't serve (502, 503, 504), others that do not pause are asked in the same way, for as long
        as any request may take, since a search may be slow on a host that is well. If they can't serve it either, that
        is the answer, and for a moment no second host is asked for that path. If a kept connection breaks, which the
        engine may just have closed, the same host is asked once more. A host that failed, or lets time run out again
        and again, is passed over for a while. Leaving the block early closes the connection, and so the engine cancels
        its work.

        `due_s` is the instant of the clock by which the caller wants an answer: connecting to one host takes at most
        half of what is left. The answer itself is not cut. With `new_connection`, no kept connection is used.
        Raises UpstreamError, and UnreachableError if no host could be reached.
        """
        asking = await self._first_answer(
            _Errand(
                request=request,
                via=self._via_of(request),
                repeatable=changes_nothing(request),
                due_s=due_s,
                new_connection=new_connection,
            )
        )
        try:
            reply = asking.reply
            if not 200 <= reply.status <= 599:  # a switch of protocols, which nobody asked for, or no HTTP at all
                raise UpstreamError(f"the engine's answer has the status {reply.status}")
            if reply.status < 300:  # an error may come from a server in between
                self.product = reply.product
            yield reply
        finally:
            asking.end()

    async def fetch(
        self,
        request: Request,
        *,
        max_bytes: int,
        hold: Callable[[int], bool],
        due_s: float | None = None,
        new_connection: bool = False,
    ) -> Reply:
        """The whole answer; see `send`, and `StreamedReply.read` for the errors that it adds."""
        async with self.send(request, due_s=due_s, new_connection=new_connection) as reply:
            return await reply.read(max_bytes, hold)

    async def _first_answer(self, errand: _Errand) -> _Asking:
        """The answer of the first host that can serve, or that of a host that can't. The caller ends it.

        Behind a host that can't serve, only those come that do not pause: its answer is there, and need not wait.
        """
        turn = self._hosts.in_turn()
        url, asking = await self._ask_in_turn(turn, errand)
        others = [one for one in turn[turn.index(url) + 1 :] if not self._hosts.pauses(one)]
        if asking.reply.status not in HOST_FAILED:
            self._note_answer(url)
            return asking
        path = errand.request.path
        if not errand.repeatable or not others or path in self._unserved:
            return asking
        try:
            if await asking.reply.peek(READ_BUFFER_BYTES) is None:
                return asking  # too long to be kept while another host is asked
            asking.end()  # else all who wait in a full pool would wait for each other's connections
            other_url, other = await self._ask_in_turn(others, errand)
        except UpstreamError:  # its answer breaks off, or the others are worse off
            self._unserved.note(path)
            return asking
        except BaseException:
            asking.end()
            raise
        if other.reply.status in HOST_FAILED:  # it is the whole engine that can't serve
            self._unserved.note(path)
        else:
            self._note_failure(url, f"it answers {asking.reply.status}")
            self._note_answer(other_url)
        return other

    async def _ask_in_turn(self, urls: Sequence[str], errand: _Errand) -> tuple[str, _Asking]:
        """The first host that answers, with its answer. Raises UpstreamError where none does."""
        failure: _HostFailedError | None = None
        sends = 0
        for url in urls:
            try:
                return url, await self._ask(url, errand, last=url == urls[-1])
            except _HostFailedError as failed:
                failure = failed
                if failed.silent:
                    self._note_silence(url)
                else:
                    self._note_failure(url, str(failed))
                sends += failed.sent + failed.silent
                if failed.sent and (not errand.repeatable or sends >= MOST_SENDS):
                    break
        if failure is None:
            raise UpstreamError("no engine host is configured")
        raise failure.error from failure

    async def _ask(self, url: str, errand: _Errand, *, last: bool) -> _Asking:
        """Write the request to a host, and read the head of its answer.

        Raises _HostFailedError if another host may do better, UpstreamError if not.
        """
        try:
            return await self._ask_once(url, errand, self._connect_limit_s(errand.due_s, last=last))
        except _ClosedError as closed:  # the engine may have closed the kept connection as we wrote to it
            if not errand.repeatable:
                raise closed.error from closed
            again = replace(errand, new_connection=True)
            return await self._ask_once(url, again, self._connect_limit_s(errand.due_s, last=last))

    async def _ask_once(self, url: str, errand: _Errand, limit_s: float) -> _Asking:
        """The same on one connection. Raises _ClosedError too, where that is a kept one and broke."""
        if self._pool is None:
            raise RuntimeError("Upstream is used before it was entered")
        with self._hosts.owing(url):
            return await self._ask_on(self._pool, url, errand, limit_s)

    async def _ask_on(self, pool: EnginePool, url: str, errand: _Errand, limit_s: float) -> _Asking:
        try:
            connection = await pool.connect(url, limit_s=limit_s, new=errand.new_connection)
        except (aiohttp.ClientConnectorError, TimeoutError) as error:
            raise _HostFailedError(_unreachable(error), sent=False) from error
        asking = _Asking(connection, errand.request, read_timeout_s=self._settings.read_timeout_s)
        try:
            await asking.ask(self._host_name(url, errand.request), errand.via)
        except BaseException as error:
            kept = asking.on_kept_connection
            asking.end()
            if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
                raise (_ClosedError if kept else _HostFailedError)(_no_answer(error), sent=True) from error
            if isinstance(error, HttpProcessingError | TimeoutError):
                raise _HostFailedError(_no_answer(error), sent=True, silent=isinstance(error, TimeoutError)) from error
            if isinstance(error, aiohttp.ClientError):
                raise _no_answer(error) from error
            if errand.due_s is not None and self._clock.monotonic_s() >= errand.due_s:
                self._note_silence(url)
            raise
        return asking

    def _via_of(self, request: Request) -> bytes:
        """The marks of the proxies that a request came through, then ours. Raises UpstreamError if ours is there."""
        values = [value for name, value in request.headers if name.lower() == VIA_HEADER]
        if any(self._via in value for value in values):
            raise UpstreamError("upstream.urls leads back to this proxy, and not to an engine", status=508)
        return b", ".join([*values, self._via])

    def _connect_limit_s(self, due_s: float | None, *, last: bool) -> float:
        """How long connecting to one host may take: half of the time that is left, and all of it for the last host."""
        limit_s = self._settings.connect_timeout_s
        if due_s is None:
            return limit_s
        left_s = due_s - self._clock.monotonic_s()
        return max(SHORTEST_CONNECT_S, min(limit_s, left_s if last else left_s / 2))

    def _host_name(self, url: str, request: Request) -> bytes:
        """What is written as Host."""
        asked = request.header(b"host") if self._settings.host_header == "caller" else None
        return self._host_names[url] if asked is None else asked

    def _note_answer(self, url: str) -> None:
        if self._hosts.mark_live(url):
            LOG.info("engine host %s answers again", url)

    def _note_failure(self, url: str, why: str) -> None:
        self._note_pause(url, why, self._hosts.mark_dead(url))

    def _note_silence(self, url: str) -> None:
        self._note_pause(url, "it lets time run out without a word", self._hosts.mark_silent(url))

    def _note_pause(self, url: str, why: str, pause_s: float | None) -> None:
        if pause_s is not None:
            LOG.warning("engine host %s failed: %s; it is passed over for %.0f s", url, why, pause_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errand:
    """A request on its way to the engine. `via` is the mark that it gets; see `Upstream.send` for the others."""

    request: Request
    via: bytes
    repeatable: bool
    due_s: float | None
    new_connection: bool


class _HostFailedError(Exception):
    """One host did not answer. `error` is what the caller gets if no other does; `sent` tells whether it was asked.

    `silent` says that it was asked, and said nothing until the read time-out.
    """

    def __init__(self, error: UpstreamError, *, sent: bool, silent: bool = False) -> None:
        super().__init__(error.detail or str(error))
        self.error = error
        self.sent = sent
        self.silent = silent


class _ClosedError(_HostFailedError):
    """A kept connection broke before the answer. The host may be well."""


class _Asking:
    """One request on one connection: written, answered, and ended."""

    def __init__(self, connection: Connection, request: Request, *, read_timeout_s: float) -> None:
        if connection.protocol is None or connection.protocol.transport is None:
            raise RuntimeError("the pool gave a connection that is closed")
        self._connection = connection
        self._protocol = connection.protocol
        self._transport = connection.protocol.transport
        self._request = request
        self._writing: asyncio.Task[None] | None = None
        self._continued: asyncio.Event | None = None  # set when the engine wants a body whose caller asks that first
        self._written = False
        self._payload: StreamReader | None = None
        self._protocol.set_response_params(
            skip_payload=request.method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=read_timeout_s,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_REPLY_HEAD_BYTES,
            max_field_size=MAX_REPLY_HEAD_BYTES,
            max_headers=MAX_REPLY_HEADERS,
        )

    @property
    def on_kept_connection(self) -> bool:
        """Whether the connection carried another request before."""
        return isinstance(self._protocol, EngineConnection) and self._protocol.request_count > 1

    async def ask(self, host: bytes, via: bytes) -> None:
        """Write the request, read the head of the answer, and set `reply`."""
        request, body = self._request, self._request.body
        headers = forwardable(request)
        lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (request.method.encode(), request.target, host)]
        lines += [b"%b: %b\r\n" % header for header in headers]
        lines.append(b"ES-Rerank-Via: %b\r\n" % via)
        if body is None or isinstance(body, bytes):
            if body == b"" and first_header(request.headers, b"transfer-encoding") is not None:
                # Not the same as no body: Elasticsearch 9.1 looks at its media type in another way.
                lines.append(b"Transfer-Encoding: chunked\r\n")
                body = b"0\r\n\r\n"
            elif body is not None:
                lines.append(b"Content-Length: %d\r\n" % len(body))
            self._transport.write(b"".join([*lines, b"\r\n", body or b""]))
            self._end_writing()
        else:
            # Of the headers that are written, not of those that came: the caller may have had the length dropped.
            chunked = first_header(headers, b"content-length") is None
            if chunked:
                lines.append(b"Transfer-Encoding: chunked\r\n")
            if first_header(request.headers, b"expect") is not None:
                lines.append(b"Expect: 100-continue\r\n")  # the engine may refuse the body before the caller sends it
                self._continued = asyncio.Event()
            self._transport.write(b"".join([*lines, b"\r\n"]))
            self._writing = asyncio.create_task(self._write(body, chunked=chunked))
        message, self._payload = await self._protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            if message.code == 100 and self._continued is not None:
                self._continued.set()
            if self._written:
                self._protocol.start_timeout()  # aiohttp ends it with the interim answer
            message, self._payload = await self._protocol.read()
        if not self._written:
            self._protocol.force_close()  # the engine may read the rest of the body as the next request
        self.reply = StreamedReply(message, self._payload)

    async def _write(self, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Write a body as it comes, once the engine wants it. If the body breaks off, the answer breaks off too.

        If the engine closes the connection, the reader of the answer finds out by itself, behind what has come.
        """
        if self._continued is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CONTINUE_S):
                    await self._continued.wait()
        try:
            async for chunk in body:
                if not await self._write_piece(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk):
                    return
        except Exception as error:  # noqa: BLE001  the reader of the answer gets the error
            self._protocol.set_exception(error)
            return
        if not chunked or await self._write_piece(b"0\r\n\r\n"):
            self._end_writing()

    async def _write_piece(self, piece: bytes) -> bool:
        """Write a piece and wait for room for the next one; False if the engine has closed the connection."""
        try:
            self._transport.write(piece)
            await self._protocol._drain_helper()  # noqa: SLF001  the one way to wait for room
        except (RuntimeError, OSError, aiohttp.ClientError):  # the first is uvloop's, for a transport that is closed
            return False
        return True

    def _end_writing(self) -> None:
        """The request is written: from now on the engine has the read time-out to say something."""
        self._written = True
        self._protocol.start_timeout()

    def end(self) -> None:
        """Give the connection back if it is in step, and close it if it is not."""
        if self._writing is not None:
            self._writing.cancel()
        if self._written and self._payload is not None and self._payload.is_eof():
            self._connection.release()
        else:
            self._connection.close()


def end_to_end(headers: Headers, *others: bytes) -> Headers:
    """The headers, in order, without those that belong to one connection (RFC 9110, 7.6.1), and without others."""
    dropped = {*HOP_BY_HOP, *others}
    for name, value in headers:
        if name.lower() == b"connection":
            dropped.update(token.strip().lower() for token in value.split(b","))
    return tuple(header for header in headers if header[0].lower() not in dropped)


def forwardable(request: Request) -> Headers:
    """The request's headers for the engine: the end-to-end ones, without those that we write or answer ourselves.

    We write Host, our own mark, the length of a body that we hold, and the expectation for one that we don't. Any other
    Expect header is answered by us, since engines that refuse one with 417 read the body as the next request on the
    same connection.
    """
    ours = [b"host", b"expect", VIA_HEADER]
    if isinstance(request.body, bytes):
        ours.append(b"content-length")
    return end_to_end(request.headers, *ours)


def _host_of(url: str) -> bytes:
    """The Host header's value for a URL: without the port if it is the scheme's default."""
    return (URL(url).host_port_subcomponent or "").encode()


def _tls(settings: UpstreamSettings) -> ssl.SSLContext | bool:
    if not any(url.startswith("https:") for url in settings.urls):
        return True
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    if not settings.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _unreachable(error: Exception) -> UnreachableError:
    """The error that the caller gets when no host could be reached. It does not tell where the engine is."""
    detail = _detail(error)
    if isinstance(error, TimeoutError):
        return UnreachableError("no engine host could be reached in time", status=504, detail=detail)
    if isinstance(error, aiohttp.ClientSSLError):
        reason = "the engine's certificate is not trusted, or the engine does not speak TLS"
        return UnreachableError(reason, detail=detail)
    return UnreachableError("no engine host could be reached", detail=detail)


def _no_answer(error: Exception) -> UpstreamError:
    """The error that the caller gets when no answer came, or not all of it."""
    if isinstance(error, TimeoutError):
        return UpstreamError("the engine did not answer in time", status=504, detail=_detail(error))
    reason = f"the engine's answer broke off or can't be read ({type(error).__name__})"
    return UpstreamError(reason, detail=_detail(error))


def _detail(error: Exception) -> str:
    """What the log may tell of an error. Of others than the system's, the text may hold headers, and so secrets."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, aiohttp.ClientConnectorError) else name
