"""The pool of connections to the engine: aiohttp's, with a stricter rule for which connection may be used again.

A connection that is out of step gives one caller the answer of another. So a connection is used again only if the
whole request was written before the answer came, engines are known to be in step after an answer with this status,
and no byte follows the answer. A connection that waits in the pool is closed when any byte comes on it. Uses internals
of aiohttp: tests/test_insides.py lists them.
"""

from __future__ import annotations

import functools
import socket
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from yarl import URL

if TYPE_CHECKING:
    import asyncio
    import ssl

    from aiohappyeyeballs import AddrInfoType
    from aiohttp import ClientRequest, ClientTimeout, StreamReader
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.tracing import Trace

# With one of these an engine may answer before it has read the whole request. Some engines then read the rest as the
# next request; some keep the connection open but read nothing more from it (RFC 9110, 15.5; both measured on
# OpenSearch 2.19 and Elasticsearch 8.19).
OUT_OF_STEP = frozenset({101, 400, 405, 408, 411, 413, 414, 415, 417, 426, 431, 501, 505})
NO_BODY = frozenset({204, 304})
HEAD_END = b"\r\n\r\n"
# A host that vanished (a power cut, a firewall that forgot us) never closes its connections. The kernel asks idle ones
# after five seconds and finds out; data that is not confirmed within half a minute breaks the connection.
TCP_OPTIONS = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_USER_TIMEOUT": 30_000}


class EngineConnection(ResponseHandler):
    """One connection to an engine, which knows whether it is still in step with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.idle = False
        """Whether it waits in the pool. No byte may come then."""
        self.request_count = 0
        """How many requests it has carried, with the present one. The engine may be about to close an old one."""
        self._expect_answer()

    def _expect_answer(self) -> None:
        self._head: bytes | None = b""  # all that came, until the head of the final answer is whole
        self._interim_count = 0
        self._length: int | None = None  # of the answer's body, None where chunks tell its end
        self._body_bytes = 0  # how many came after the head
        self._last = b""  # the last few of them

    @property
    def should_close(self) -> bool:
        """Whether this connection must not be used again. Asked when an answer is whole. See aiohttp."""
        if super().should_close or self._head is not None:
            return True
        if self._length is not None:
            return self._body_bytes != self._length
        # A chunked body ends with its last chunk or a trailer, and then one empty line.
        return not self._last.endswith(HEAD_END) or self._last[:1] in b"\r\n"

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be written. See aiohttp."""
        self.idle = False
        self.request_count += 1
        self._expect_answer()
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.idle and data:  # aiohttp also calls this without data, to go on with buffered data
            self.abort()
            return
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.force_close()  # the answer comes before the whole request is written
        if self._head is None:
            self._note_body(data)
        else:
            self._head += data
        super().data_received(data)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """The parser has read the head of an answer. See aiohttp."""
        message = data[0]
        if message.code < 200:
            self._interim_count += 1
        elif self._head is not None:
            if message.code in OUT_OF_STEP:
                self.force_close()
            body = self._head.split(HEAD_END, self._interim_count + 1)[-1]
            self._head = None
            if self._skip_payload or message.code in NO_BODY:
                self._length = 0
            elif not message.chunked and hdrs.CONTENT_LENGTH in message.headers:
                self._length = int(message.headers[hdrs.CONTENT_LENGTH])
            self._note_body(body)
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """The connection failed. aiohttp tells the reader of heads; the reader of a body has to know too."""
        super().set_exception(exc, *cause)
        if self._payload is not None and not self._payload.is_eof() and self._payload.exception() is None:
            self._payload.set_exception(exc, *cause)

    def _note_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        self._last = (self._last + data)[-len(HEAD_END) - 1 :]


class EnginePool:
    """Connections to the engine's hosts, kept open for the next requests.

    `limit` bounds the connections to all hosts together; a caller that asks for one more waits.
    """

    def __init__(self, *, limit: int, keepalive_s: float, tls: ssl.SSLContext | bool) -> None:
        self._connector = _Connector(
            limit=limit, keepalive_timeout=keepalive_s, ssl=tls, socket_factory=_socket_that_notices
        )
        self._asks: dict[str, aiohttp.ClientRequest] = {}

    async def connect(self, url: str, *, limit_s: float, new: bool = False) -> Connection:
        """A connection to the host with this URL, to be released or closed by the caller: kept, or `new` for certain.

        Raises aiohttp.ClientConnectorError, or TimeoutError where connecting takes longer than `limit_s`. The time
        that a caller waits for its turn in a full pool does not count.
        """
        ask = self._asks.get(url)
        if ask is None:  # the connector reads only the address from a request
            ask = self._asks[url] = aiohttp.ClientRequest("GET", URL(url))
        token = _only_new.set(new)
        try:
            return await self._connector.connect(ask, [], aiohttp.ClientTimeout(total=None, sock_connect=limit_s))
        finally:
            _only_new.reset(token)

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()


_only_new: ContextVar[bool] = ContextVar("_only_new", default=False)


class _Connector(aiohttp.TCPConnector):
    """aiohttp's pool, but of `EngineConnection`s, and for a caller that wants none of the kept ones."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(EngineConnection, loop=self._loop)  # type: ignore[assignment]

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if isinstance(protocol, EngineConnection):
            protocol.idle = True
        super()._release(key, protocol, should_close=should_close)

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109  aiohttp's
        """See aiohttp. A caller that leaves after it was told of a free place tells the next one."""
        try:
            return await super().connect(req, traces, timeout)
        except BaseException:
            # aiohttp tells one caller of each place. If that one is cancelled before it runs, the others wait for ever.
            self._release_waiter()
            raise

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        return None if _only_new.get() else await super()._get(key, traces)


def _socket_that_notices(address: AddrInfoType) -> socket.socket:
    """A socket whose connection breaks when the other side has vanished, where the system can do that. See tcp(7)."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in TCP_OPTIONS.items():
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made
