"""Who the soak's callers are, and the relay before its engine, which can misbehave. Not a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from bench.soak_promise import GROUPS, INDEX, LARGEST_PAGE, WRITTEN, Answered, Asked, check_pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

ANSWER_LIMIT_S = 60.0
KNOWN_QUESTIONS = 20


class Soak(Protocol):
    """What callers know of the run: its seed, the ports of the proxies, and who judges their answers."""

    seed: int
    ports: list[int]

    def judge(self, caller: str, asked: Asked, answered: Answered, place: int, *, slow: bool) -> None:
        """Check a search's answer, the `place`th of those that were asked for at once, read slowly or not."""
        ...

    def judge_other(
        self, caller: str, answered: Answered, check: Callable[[Answered, Mapping[str, str]], list[str]]
    ) -> None:
        """Check the answer to another request."""
        ...

    def no_answer(self, caller: str, began_s: float, error: Exception) -> None:
        """Note that a caller got no answer."""
        ...


async def until(is_so: Callable[[], bool]) -> None:
    """Look again and again."""
    while not is_so():  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0.02)


# ---- The relay before the engine ----


class Relay:
    """Passes bytes to the engine and back, unless `mode` says otherwise: `slow`, `resets`, `cuts` or `holds`."""

    def __init__(self, engine: str) -> None:
        parts = urlsplit(engine)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._open: set[asyncio.StreamWriter] = set()
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self.mode = ""
        self.port = 0

    async def in_mode(self, mode: str, seconds: float) -> None:
        """Misbehave for a while."""
        self.mode = mode
        if mode == "holds":
            self._goes_on.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.mode = ""
            self._goes_on.set()

    async def start(self) -> asyncio.Server:
        """Listen."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        return server

    def reset_all(self) -> None:
        """Reset every connection."""
        for writer in [*self._open]:
            _reset(writer)

    async def close(self) -> None:
        """Reset every connection, and wait until each has ended."""
        self.reset_all()
        await until(lambda: not self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self.mode == "resets":
                return
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            self._open.add(far_writer)
            try:
                await self._both(self._pump(reader, far_writer), self._pump(far_reader, writer, answers=True))
            finally:
                self._open.discard(far_writer)
                far_writer.close()
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            if self.mode == "resets":
                _reset(writer)
            writer.close()

    async def _both(self, *pumps: Awaitable[None]) -> None:
        """Until one of them ends."""
        tasks = [asyncio.ensure_future(pump) for pump in pumps]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        while data := await reader.read(65536):
            await self._goes_on.wait()
            if answers and self.mode == "slow":
                await asyncio.sleep(0.3)
            if answers and self.mode == "cuts":
                data = data[: random.randrange(len(data))]  # where it is cut is no part of the schedule
            writer.write(data)
            await writer.drain()
            if answers and self.mode == "cuts":
                return


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# ---- Callers ----


class BrokenOffError(Exception):
    """No answer, or half of one."""


class Caller:
    """One caller: sends what its kind sends, on connections that it keeps while they work."""

    def __init__(self, soak: Soak, kind: str, number: int) -> None:
        self._soak = soak
        self.name = kind
        self.chance = random.Random(f"{soak.seed} {kind} {number}")
        self._kept: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    def mark(self) -> str:
        """A new mark."""
        return f"mark{self.chance.randrange(10**12):012d}"

    def asked(self, **more: Any) -> Asked:
        """A search, with this in it. Half of them have a question that others have asked before."""
        mark = self.mark()
        asks = mark if self.chance.random() < 0.5 else f"again{self.chance.randrange(KNOWN_QUESTIONS)}"
        return Asked(mark=mark, group=self.chance.randrange(GROUPS), asks=asks, **more)

    async def connect(self, *, receive_bytes: int = 0) -> tuple[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """One of the proxies, and a connection to it. Raises OSError."""
        number = self.chance.randrange(len(self._soak.ports))
        if number in self._kept and not receive_bytes and not self._kept[number][0].at_eof():
            return number, self._kept.pop(number)
        with contextlib.ExitStack() as stack:
            plain = stack.enter_context(socket.socket())
            if receive_bytes:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            plain.setblocking(False)
            await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", self._soak.ports[number]))
            opened = await asyncio.open_connection(sock=plain, limit=receive_bytes or 65536)
            stack.pop_all()
        return number, opened

    async def exchange(self, *requests: bytes, pause_s: float = 0.0, receive_bytes: int = 0) -> list[Answered]:
        """The answers to requests that are sent at once. Raises OSError or BrokenOffError."""
        number, (reader, writer) = await self.connect(receive_bytes=receive_bytes)
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                writer.write(b"".join(requests))
                answers = [await read_answer(reader, began_s, pause_s=pause_s) for _ in requests]
        except TimeoutError as error:
            writer.close()
            raise BrokenOffError(f"no answer in {ANSWER_LIMIT_S:.0f} s") from error
        except BaseException:
            writer.close()
            raise
        if receive_bytes or answers[-1].headers.get("connection") == "close":
            writer.close()
        else:
            self._kept[number] = (reader, writer)
        return answers

    async def search(self, *all_asked: Asked, encode: Callable[[Asked], bytes] | None = None, **how: Any) -> None:
        """Send searches at once, and check each answer. `encode` writes a request."""
        began_s = time.monotonic()
        try:
            answers = await self.exchange(*((encode or post)(asked) for asked in all_asked), **how)
        except (OSError, BrokenOffError) as error:
            self._soak.no_answer(self.name, began_s, error)
            return
        for place, (asked, answered) in enumerate(zip(all_asked, answers, strict=True), start=1):
            self._soak.judge(self.name, asked, answered, place, slow="pause_s" in how)

    async def other(self, request: bytes, check: Callable[[Answered, Mapping[str, str]], list[str]]) -> None:
        """Send a request that is not a search of ours, and check its answer."""
        began_s = time.monotonic()
        try:
            [answered] = await self.exchange(request)
        except (OSError, BrokenOffError) as error:
            self._soak.no_answer(self.name, began_s, error)
            return
        self._soak.judge_other(self.name, answered, check)


def post(asked: Asked, *, headers: str = "", chunked: bool = False, version: str = "1.1") -> bytes:
    """A search as a request."""
    body = json.dumps(asked.search()).encode()
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
    head = (
        f"POST {asked.target()} HTTP/{version}\r\nhost: soak\r\ncontent-type: application/json\r\n"
        f"x-opaque-id: {asked.mark}\r\n{headers}{framing}\r\n\r\n"
    ).encode()
    if chunked:
        parts = [body[start : start + 7] for start in range(0, len(body), 7)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return head + body


async def read_answer(reader: asyncio.StreamReader, began_s: float, *, pause_s: float = 0.0) -> Answered:
    """One answer, read in small pieces with a pause after each if that is given. Raises OSError, BrokenOffError."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in _chunks(reader)])
        elif "content-length" in headers:
            body = b"".join([piece async for piece in _pieces(reader, int(headers["content-length"]), pause_s)])
        else:
            body = await reader.read()
    except (asyncio.IncompleteReadError, ValueError) as error:
        raise BrokenOffError(f"{type(error).__name__}: {error}") from error
    status = int(first.split()[1])
    return Answered(status=status, headers=headers, body=body, began_s=began_s, ended_s=time.monotonic())


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")


async def _pieces(reader: asyncio.StreamReader, length: int, pause_s: float) -> AsyncIterator[bytes]:
    step = 2048 if pause_s else max(1, length)
    for start in range(0, length, step):
        yield await reader.readexactly(min(step, length - start))
        if pause_s:
            await asyncio.sleep(pause_s)


async def plain(caller: Caller) -> None:
    """An ordinary search."""
    await caller.search(caller.asked(size=caller.chance.choice((1, 10, 20))))


async def page(caller: Caller) -> None:
    """A page, in or behind the window, and past the last hit."""
    start = caller.chance.choice((0, 10, 25, 35, 45, 55, 70))
    await caller.search(caller.asked(start=start, size=caller.chance.randint(1, LARGEST_PAGE)))


async def told(caller: Caller) -> None:
    """A search that asks for status and scores, sometimes filtered."""
    await caller.search(caller.asked(status=True, filtered=caller.chance.random() < 0.3))


async def filtered(caller: Caller) -> None:
    """A search with `filter_path`."""
    await caller.search(caller.asked(filtered=True, size=30))


async def slow_reader(caller: Caller) -> None:
    """A search whose answer is read slowly."""
    await caller.search(caller.asked(size=LARGEST_PAGE), pause_s=0.02, receive_bytes=4096)


async def leaver(caller: Caller) -> None:
    """A caller that does not wait for the answer."""
    with contextlib.suppress(OSError):
        _, (_, writer) = await caller.connect()
        writer.write(post(caller.asked()))
        await asyncio.sleep(caller.chance.uniform(0, 0.2))
        writer.close()


async def half_sender(caller: Caller) -> None:
    """A request that ends in the middle."""
    with contextlib.suppress(OSError):
        _, (_, writer) = await caller.connect()
        request = post(caller.asked(), chunked=caller.chance.random() < 0.5)
        writer.write(request[: caller.chance.randrange(1, len(request))])
        await asyncio.sleep(caller.chance.uniform(0, 2.0))
        writer.close()


async def odd_framing(caller: Caller) -> None:
    """A search in small chunks, two searches in one packet, an expectation, or HTTP/1.0."""
    kind = caller.chance.randrange(4)
    if kind == 0:
        await caller.search(caller.asked(), encode=lambda asked: post(asked, chunked=True))
    elif kind == 1:
        await caller.search(caller.asked(), caller.asked())
    elif kind == 2:
        await caller.search(caller.asked(), encode=lambda asked: post(asked, headers="Expect: 100-continue\r\n"))
    else:
        keep = "connection: keep-alive\r\n"
        await caller.search(caller.asked(), encode=lambda asked: post(asked, version="1.0", headers=keep))


async def several(caller: Caller) -> None:
    """An `_msearch`, whose answers have to be those of its searches, in their order."""
    both = [caller.asked(), caller.asked()]
    lines = [line for asked in both for line in ({"index": INDEX}, asked.search())]
    marks = [asked.mark for asked in both]
    await caller.other(_lines("/_msearch", lines), lambda answered, broken: check_pieces(answered, marks, broken))


async def writer(caller: Caller) -> None:
    """A `_bulk`, which passes through."""
    marks = [caller.mark() for _ in range(5)]
    lines = [line for mark in marks for line in ({"index": {"_index": WRITTEN, "_id": mark}}, {"text": mark})]

    def check(answered: Answered, broken: Mapping[str, str]) -> list[str]:
        if answered.status != 200:
            return [] if "engine" in broken else [f"status {answered.status}: {answered.body[:300]!r}"]
        written = [item["index"]["_id"] for item in json.loads(answered.body)["items"]]
        return [] if written == marks else [f"the answer to another _bulk: {written}"]

    await caller.other(_lines("/_bulk", lines), check)


def _lines(path: str, lines: Iterable[Mapping[str, Any]]) -> bytes:
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: soak\r\ncontent-type: application/x-ndjson\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


CALLERS: dict[str, tuple[Callable[[Caller], Awaitable[None]], int]] = {
    "plain": (plain, 3),
    "page": (page, 1),
    "status": (told, 3),
    "filter_path": (filtered, 1),
    "slow reader": (slow_reader, 1),
    "leaver": (leaver, 1),
    "half sent": (half_sender, 1),
    "odd framing": (odd_framing, 1),
    "msearch": (several, 1),
    "bulk": (writer, 1),
}
"""What each kind of caller does again and again, and how many callers there are of it."""
