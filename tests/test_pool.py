"""Connections to the engine: which ones are used again, tested with raw bytes on real sockets."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from es_rerank.clock import SystemClock
from es_rerank.errors import UpstreamError
from es_rerank.pool import EnginePool
from es_rerank.records import Request
from es_rerank.tables import UpstreamSettings
from es_rerank.upstream import NoRoomError, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OK = b"HTTP/1.1 200 OK\r\n"
WAIT_S = 30.0
WHOLE = {
    "length": OK + b"content-length: 2\r\n\r\n{}",
    "chunks": OK + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "trailers": OK + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-t: 1\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + b"content-length: 2\r\n\r\n{}",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not found": b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
}
BEYOND = {
    "a second answer": WHOLE["length"] + WHOLE["length"],
    "part of a head": WHOLE["length"] + b"HTTP/1.1 200 OK\r\ncontent-le",
    "part of a head behind chunks": WHOLE["chunks"] + b"HTTP/1.1 200 OK\r\ncontent-le",
    "a line end": WHOLE["length"] + b"\r\n",
    "a line end behind chunks": WHOLE["chunks"] + b"\r\n",
}


def room(_: int) -> bool:
    """There is always room for an answer."""
    return True


class Engine:
    """Answers each request with the same bytes, whole or in pieces, and counts connections."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.pause_s = 0.0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0)
                await reader.readexactly(length)
                for piece in self.pieces:
                    writer.write(piece)
                    await asyncio.sleep(self.pause_s)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the last where a test ends before the engine's pause
        finally:
            writer.close()


@asynccontextmanager
async def upstream_of(engine: Engine, **more: float) -> AsyncIterator[Upstream]:
    """The way to the engine, with its pool. `more` are settings of it."""
    async with await asyncio.start_server(engine.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = UpstreamSettings.model_validate({"urls": [f"http://127.0.0.1:{port}"], **more})
        async with Upstream(settings, SystemClock()) as upstream:
            yield upstream


async def connections_for(engine: Engine, *, method: str = "GET", rest_s: float = 0.0) -> int:
    """How many connections two requests need, one after the other."""
    async with upstream_of(engine) as upstream:
        for _ in range(2):
            await upstream.fetch(Request(method=method, target=b"/a", headers=()), max_bytes=1000, hold=room)
            await asyncio.sleep(rest_s)
    return engine.connections


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_a_connection_in_step_is_used_again(kind: str, *, bytewise: bool) -> None:
    """After a whole answer, in one piece or byte by byte, the next request goes over the same connection."""
    engine = Engine()
    engine.pieces = [WHOLE[kind][i : i + 1] for i in range(len(WHOLE[kind]))] if bytewise else [WHOLE[kind]]
    assert await connections_for(engine) == 1


async def test_the_answer_to_head_ends_with_its_head() -> None:
    """After an answer to HEAD, the connection is used again, although its length tells of a body that is not sent."""
    engine = Engine()
    engine.pieces = [OK + b"content-length: 5\r\n\r\n"]
    assert await connections_for(engine, method="HEAD") == 1


@pytest.mark.parametrize("kind", BEYOND)
async def test_bytes_beyond_the_answer_end_the_connection(kind: str) -> None:
    """If any bytes follow an answer, the next request goes over another connection and gets its own answer."""
    engine = Engine()
    engine.pieces = [BEYOND[kind]]
    assert await connections_for(engine) == 2


async def test_bytes_that_come_later_end_the_connection() -> None:
    """An answer that comes without a request closes its connection and is given to no request."""
    engine = Engine()
    engine.pieces, engine.pause_s = [WHOLE["length"], WHOLE["length"]], 0.05
    assert await connections_for(engine, rest_s=0.5) == 2


@pytest.mark.parametrize("status", [400, 413, 417, 431])
async def test_a_refusal_ends_the_connection(status: int) -> None:
    """After an answer that engines give before they have read a request, its connection is not used again."""
    engine = Engine()
    engine.pieces = [b"HTTP/1.1 %d No\r\ncontent-length: 2\r\n\r\n{}" % status]
    assert await connections_for(engine) == 2


@pytest.mark.parametrize("status", [101, 600, 999])
async def test_a_status_that_is_no_answer_is_not_passed_on(status: int) -> None:
    """A switch of protocols that nobody asked for, or a status that HTTP does not have, is an error."""
    engine = Engine()
    engine.pieces = [b"HTTP/1.1 %d Odd\r\nupgrade: x\r\ncontent-length: 2\r\n\r\n{}" % status]
    async with upstream_of(engine) as upstream:
        for _ in range(2):
            with pytest.raises(UpstreamError):
                await upstream.fetch(Request(method="GET", target=b"/a", headers=()), max_bytes=1000, hold=room)
    assert engine.connections == 2 or status != 101


@pytest.mark.parametrize(
    "broken",
    [b"ZZ\r\n\r\n", b"2\r\n{}{}{}\r\n", b"ffffffffffffffffffff\r\n"],
)
async def test_a_body_that_makes_no_sense_breaks_off(broken: bytes) -> None:
    """Malformed chunks behind a good beginning are an error at once, and nothing waits any longer."""
    engine = Engine()
    engine.pieces = [OK + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", broken]
    engine.pause_s = 0.05
    async with upstream_of(engine) as upstream:
        for _ in range(2):
            with pytest.raises(UpstreamError):
                async with asyncio.timeout(WAIT_S):
                    await upstream.fetch(Request(method="GET", target=b"/a", headers=()), max_bytes=1000, hold=room)
    assert engine.connections == 2


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", OK + b"content-length: 2\r\n\r\n{"])
async def test_an_engine_that_falls_silent_is_given_up(first: bytes) -> None:
    """Silence before the head, behind an interim answer or in the body ends with the read time-out."""
    engine = Engine()
    engine.pieces, engine.pause_s = [first], 10 * WAIT_S
    async with upstream_of(engine, read_timeout_s=0.2) as upstream:
        with pytest.raises(UpstreamError) as caught:
            async with asyncio.timeout(WAIT_S):
                await upstream.fetch(Request(method="GET", target=b"/a", headers=()), max_bytes=1000, hold=room)
        assert caught.value.status == 504


async def test_an_answer_that_is_whole_outlives_the_upload() -> None:
    """An engine that refuses an upload and closes is heard to the end, though writing on fails."""
    refusal = b"x" * 100_000

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: %d\r\n\r\n" % len(refusal) + refusal)
        await writer.drain()
        writer.write_eof()
        await reader.read()
        writer.close()

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = UpstreamSettings.model_validate({"urls": [f"http://127.0.0.1:{port}"]})
        upload = Request(method="POST", target=b"/a", headers=(), body=body())
        async with (
            asyncio.timeout(WAIT_S),
            Upstream(settings, SystemClock()) as upstream,
            upstream.send(upload) as reply,
        ):
            await asyncio.sleep(0.2)  # the upload goes on meanwhile
            answered = await reply.read(1_000_000, room)
    assert (answered.status, answered.body) == (413, refusal)


async def test_an_answer_before_the_request_ends_the_connection() -> None:
    """A body that is still on its way when the answer comes is not read as the next request by mistake."""
    engine = Engine()
    engine.pieces = [WHOLE["length"]]
    go_on = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"GET /smuggled HTTP/1.1\r\n"
        await go_on.wait()
        yield b"\r\n"

    async with upstream_of(engine) as upstream:
        async with upstream.send(Request(method="POST", target=b"/a", headers=(), body=body())) as reply:
            go_on.set()
            await reply.read(1000, room)
        await upstream.fetch(Request(method="GET", target=b"/a", headers=()), max_bytes=1000, hold=room)
    assert engine.connections == 2


async def test_a_connection_whose_other_side_vanished_is_noticed() -> None:
    """Idle connections are probed by the kernel, and data that nobody confirms for half a minute breaks them."""
    engine = Engine()
    async with await asyncio.start_server(engine.serve, "127.0.0.1", 0) as server:
        pool = EnginePool(limit=1, keepalive_s=60, tls=True)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        connection = await pool.connect(url, limit_s=WAIT_S)
        assert connection.protocol is not None
        assert connection.protocol.transport is not None
        used = connection.protocol.transport.get_extra_info("socket")
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        connection.close()
        await pool.close()


async def test_who_leaves_with_a_free_place_tells_the_next_one() -> None:
    """A caller that waits in a full pool gets its turn, though the one before it leaves just as it is told of it."""
    async with await asyncio.start_server(Engine().serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pool = EnginePool(limit=1, keepalive_s=60, tls=True)
        first = await pool.connect(url, limit_s=WAIT_S)
        leaving, waiting = (asyncio.create_task(pool.connect(url, limit_s=WAIT_S)) for _ in range(2))
        await asyncio.sleep(0.1)
        first.close()  # tells the one that leaves, which has not run yet
        leaving.cancel()
        async with asyncio.timeout(WAIT_S):
            (await waiting).close()
        assert leaving.cancelled()
        await pool.close()


@pytest.mark.parametrize("new", [False, True])
async def test_a_new_connection_can_be_asked_for(*, new: bool) -> None:
    """A request that wants a new connection gets one, although another one waits in the pool."""
    engine = Engine()
    engine.pieces = [WHOLE["length"]]
    async with upstream_of(engine) as upstream:
        for _ in range(2):
            request = Request(method="GET", target=b"/a", headers=())
            await upstream.fetch(request, max_bytes=1000, hold=room, new_connection=new)
    assert engine.connections == (2 if new else 1)


@pytest.mark.parametrize("value", [b"a\rb", b"a\0b", b"a\r\n\0"])
async def test_a_header_with_a_line_end_inside_is_a_clean_error(value: bytes) -> None:
    """A header value that would begin another line at the caller is an error, and the connection is not kept."""
    engine = Engine()
    engine.pieces = [OK + b"x-odd: " + value + b"\r\ncontent-length: 2\r\n\r\n{}"]
    async with upstream_of(engine) as upstream:
        for _ in range(2):
            with pytest.raises(UpstreamError) as refused:
                await upstream.fetch(Request(method="POST", target=b"/a", headers=()), max_bytes=1000, hold=room)
            assert "x-odd" not in refused.value.detail, "a header may be a secret, and goes into no log"
    assert engine.connections == 2


async def test_a_folded_header_arrives_as_one_line() -> None:
    """A value that goes on in the next line, as old servers write it, comes as one line."""
    engine = Engine()
    engine.pieces = [OK + b"x-odd: a\r\n b\r\ncontent-length: 2\r\n\r\n{}"]
    async with upstream_of(engine) as upstream:
        reply = await upstream.fetch(Request(method="GET", target=b"/a", headers=()), max_bytes=1000, hold=room)
    assert reply.headers[0] == (b"x-odd", b"a b")


async def test_an_answer_without_room_is_not_held() -> None:
    """The room for each part of an answer is asked for, and without it the connection is not used again."""
    engine = Engine()
    engine.pieces = [OK + b"content-length: 20\r\n\r\n" + b"x" * 10]
    asked: list[int] = []

    def hold(count: int) -> bool:
        asked.append(count)
        return False

    async with upstream_of(engine) as upstream:
        for _ in range(2):
            with pytest.raises(NoRoomError):
                await upstream.fetch(Request(method="GET", target=b"/a", headers=()), max_bytes=1000, hold=hold)
    assert asked == [10, 10]
    assert engine.connections == 2
