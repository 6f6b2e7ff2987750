"""The proxy's only way to the engine: HTTP bytes in, HTTP bytes out, over one shared keep-alive pool.

Knows nothing of searches. An answer of whatever status is the engine's word and is handed on; only the lack of one
is an error. Nothing of the caller's is kept: credentials and cookies live as long as their request.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from es_rerank.errors import UpstreamError
from es_rerank.hosts import Hosts
from es_rerank.pool import EnginePool
from es_rerank.records import Reply, first_header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from es_rerank.clock import Clock
    from es_rerank.records import Headers, Request
    from es_rerank.settings import UpstreamSettings

HOP_BY_HOP = (
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
)  # fmt: skip
PRODUCT_HEADER = b"x-elastic-product"
# Engines warn in headers, once for each deprecated thing: far more than the 8 KiB that the client allows by itself.
MAX_REPLY_HEAD_BYTES = 256 * 1024
MAX_REPLY_HEADERS = 4096
IDLE_CONNECTION_S = 60.0


class AnswerTooLargeError(UpstreamError):
    """The engine's answer is larger than we may hold."""


class StreamedReply:
    """An answer whose body is still to come: status, end-to-end headers, and the body as raw bytes, read once."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers = end_to_end(answer.raw_headers)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive, in their content coding. Raises UpstreamError where it breaks off."""
        try:
            async for chunk in self._answer.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _no_answer(error) from error

    async def read(self, max_bytes: int) -> Reply:
        """The whole answer. Raises AnswerTooLargeError before holding much more than `max_bytes`."""
        parts: list[bytes] = []
        held = 0
        async for chunk in self.chunks():
            held += len(chunk)
            if held > max_bytes:
                raise AnswerTooLargeError(f"the engine's answer is larger than {max_bytes} bytes")
            parts.append(chunk)
        return Reply(status=self.status, headers=self.headers, body=b"".join(parts))


class Upstream:
    """The engine's hosts behind one pool. An async context manager; one per process."""

    def __init__(self, settings: UpstreamSettings, clock: Clock) -> None:
        self._settings = settings
        self._hosts = Hosts(settings.urls, clock)
        self._parts = {url: urlsplit(url) for url in settings.urls}
        self._session: aiohttp.ClientSession | None = None
        self.product: bytes | None = None
        """The engine's X-Elastic-Product, as last seen; our own answers carry the same, None for none."""

    async def __aenter__(self) -> Self:
        """Open the pool; connections are made when they are needed."""
        settings = self._settings
        self._session = aiohttp.ClientSession(
            connector=EnginePool(
                limit=settings.max_connections, keepalive_timeout_s=IDLE_CONNECTION_S, tls=_tls(settings)
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
            ),
            max_line_size=MAX_REPLY_HEAD_BYTES,
            max_field_size=MAX_REPLY_HEAD_BYTES,
            max_headers=MAX_REPLY_HEADERS,
        )
        # The client would send PUT and DELETE once more when a kept connection breaks; that is the caller's to decide.
        self._session._retry_connection = False  # noqa: SLF001
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[StreamedReply]:
        """Send the request and yield the answer as soon as its headers are there.

        A host that can't be reached is passed over for the next, each once, since nothing was sent. A search
        whose body we hold is sent once more when its connection broke before any answer. Leaving the block
        early closes the connection, by which the engine learns to cancel. Raises UpstreamError.
        """
        answer = await self._first_answer(request)
        try:
            if answer.status < 300:  # an error may be that of something in between
                self.product = first_header(answer.raw_headers, PRODUCT_HEADER)
            yield StreamedReply(answer)
        finally:
            answer.close()  # no-op for one read to its end, whose connection went back to the pool

    async def fetch(self, request: Request, *, max_bytes: int) -> Reply:
        """The whole answer. Raises UpstreamError, AnswerTooLargeError where it is larger than `max_bytes`."""
        async with self.send(request) as reply:
            return await reply.read(max_bytes)

    async def _first_answer(self, request: Request) -> aiohttp.ClientResponse:
        held = request.body is None or isinstance(request.body, bytes)
        searching = held and request.method in ("GET", "POST") and request.path.rstrip(b"/").endswith(b"/_search")
        error: Exception | None = None
        for url in self._hosts.in_turn():
            for _ in range(2 if searching else 1):
                try:
                    answer = await self._ask(url, request)
                except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as caught:
                    error = caught
                    self._hosts.mark_dead(url)
                    break
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as caught:
                    error = caught  # a kept connection that the engine closed as we wrote to it
                except (aiohttp.ClientError, TimeoutError, ValueError) as caught:
                    raise _no_answer(caught) from caught
                else:
                    self._hosts.mark_live(url)
                    return answer
            else:
                break
        if error is None:
            raise UpstreamError("no engine host is configured")
        raise _no_answer(error) from error

    async def _ask(self, url: str, request: Request) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("Upstream is used before it was entered")
        parts = self._parts[url]
        body = request.body if request.body is None or isinstance(request.body, bytes) else _Outgoing(request.body)
        answer = await self._session.request(
            request.method,
            URL.build(
                scheme=parts.scheme,
                host=parts.hostname or "",
                port=parts.port,
                path=_text(request.target),
                encoded=True,
            ),
            headers=[(_text(name), _text(value)) for name, value in forwardable(request)],
            data=body,
            allow_redirects=False,
        )
        if isinstance(body, _Outgoing) and not body.ended and answer.connection and answer.connection.protocol:
            answer.connection.protocol.force_close()  # the engine may not read what is still to come as a body
        return answer


class _Outgoing:
    """A body on its way to the engine, and whether all of it was taken."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            yield chunk
        self.ended = True


def end_to_end(headers: Headers, *others: bytes) -> Headers:
    """The headers, in order, without those that belong to one connection (RFC 9110, 7.6.1), and without others."""
    dropped = {*HOP_BY_HOP, *others}
    for name, value in headers:
        if name.lower() == b"connection":
            dropped.update(token.strip().lower() for token in value.split(b","))
    return tuple(header for header in headers if header[0].lower() not in dropped)


def forwardable(request: Request) -> Headers:
    """The request's headers for the engine: end to end, and without what we say and meet ourselves.

    That is Host, the length of a body that we hold, and any expectation: engines that answer one with 417 read the
    body as the next request on the same connection.
    """
    ours = [b"host", b"expect"]
    if request.body is None or isinstance(request.body, bytes):
        ours.append(b"content-length")
    return end_to_end(request.headers, *ours)


def _text(wire: bytes) -> str:
    """Bytes as the text that the client library writes as the same bytes: it writes UTF-8."""
    try:
        return wire.decode()
    except UnicodeDecodeError:
        return wire.decode("latin-1")


def _tls(settings: UpstreamSettings) -> ssl.SSLContext | bool:
    if not any(url.startswith("https:") for url in settings.urls):
        return True
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    if not settings.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_answer(error: Exception) -> UpstreamError:
    """What the lack of an answer means for the caller, who needn't know where the engine is."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamError("no engine host could be reached in time", status=504)
    if isinstance(error, TimeoutError):
        return UpstreamError("the engine did not answer in time", status=504)
    if isinstance(error, aiohttp.ClientSSLError):
        return UpstreamError("the engine's certificate is not trusted, or it speaks no TLS")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError("no engine host could be reached")
    return UpstreamError(f"the engine's answer broke off or can't be read ({type(error).__name__})")
