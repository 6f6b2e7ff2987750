"""Breaks one part after the other under load, and checks that every search is answered as promised.

    python bench/soak.py                                      ten minutes, on the embedded engine
    python bench/soak.py --minutes 0.5 --seed 7               half a minute, the breaks and callers of seed 7
    python bench/soak.py --engine http://127.0.0.1:9200       on an engine of yours

Two proxies, two workers and a Redis are started before an engine, behind a relay that can delay, reset and cut its
answers. Callers of several kinds send searches and other requests, each search with a mark of its own. Meanwhile parts
are killed, stopped and made to refuse, on a schedule that the seed decides. Whatever happens, the promise holds: never
fewer hits, never an error (unless the engine itself was broken at the time), never later than the deadline (unless the
engine was slow), a status that fits, and nobody gets the answer of another. What breaks it is listed, and the exit code
is then 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

import redis.asyncio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.system import (  # found by the line above
    INDEX_PREFIX,
    BenchError,
    Checkout,
    checkouts,
    delete,
    engine_name,
    machine,
    plain_http,
    send,
    stop_by_exception,
)
from es_rerank.demo.embedded import start_engine, start_redis
from es_rerank.demo.processes import Child, Supervisor, free_port, is_listening
from es_rerank.errors import EsRerankError
from es_rerank.reasons import OUTCOMES, Outcome
from ingest.load import load_documents
from ingest.mapping import text_mapping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

INDEX, WRITTEN = INDEX_PREFIX + "soak", INDEX_PREFIX + "soak-written"
GROUPS, GROUP_HITS, WINDOW = 4, 60, 40
DEADLINE_S, MARGIN_S = 1.0, 1.0
ANSWER_LIMIT_S = 60.0
PROXIES, WORKERS = 2, 2
START_LIMIT_S, BACK_LIMIT_S, STOP_LIMIT_S = 120.0, 120.0, 40.0
LARGEST_PAGE = 50
SHOWN_VIOLATIONS = 40
WORDS = [one + other for one in ("sun", "moon", "rain", "fire", "ice") for other in ("set", "rise", "fall", "man")]
CONFIG = """\
[upstream]
urls = ["{engine}"]
[redis]
url = "redis://127.0.0.1:{redis_port}/0"
[server]
port = {port}
[[rules]]
name = "soak"
indices = ["{index}"]
fields = ["text"]
window = {window}
deadline_s = {deadline_s}
"""


# ---- What is broken when ----

# By break: the part that is broken by it, and for how many seconds at least and at most.
BREAKS: dict[str, tuple[str, float, float]] = {
    "worker killed": ("worker", 0.5, 3.0),
    "worker stopped": ("worker", 0.5, 4.0),
    "redis killed": ("redis", 0.2, 3.0),
    "redis stopped": ("redis", 0.5, 3.0),
    "redis full": ("redis", 0.5, 4.0),
    "redis read-only": ("redis", 0.5, 4.0),
    "engine stopped": ("engine", 0.5, 1.5),
    "engine slow": ("engine", 0.5, 3.0),
    "engine resets": ("engine", 0.2, 1.0),
    "engine cuts": ("engine", 0.5, 2.0),
    "proxy restarted": ("proxy", 0.0, 0.0),
}
# How long after the end of a break its part may still be found broken: connections and subscriptions come back.
RECOVERY_S = {"worker": 10.0, "redis": 10.0, "engine": 2.0, "proxy": 2.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One planned break: when it begins, in seconds from the start, how long it lasts, and which of two processes."""

    at_s: float
    name: str
    lasts_s: float
    which: int


def plan_breaks(seed: int, minutes: float) -> list[Break]:
    """The breaks of a run, in order. Each kind comes once before any comes again; some overlap the next."""
    chance = random.Random(f"{seed} breaks")
    plan: list[Break] = []
    at_s = chance.uniform(1.0, 2.0)
    while True:
        for name in chance.sample([*BREAKS], len(BREAKS)):
            _, least_s, most_s = BREAKS[name]
            one = Break(at_s=at_s, name=name, lasts_s=chance.uniform(least_s, most_s), which=chance.randrange(2))
            if one.at_s + one.lasts_s > minutes * 60:
                return plan
            plan.append(one)
            at_s += one.lasts_s * chance.uniform(0.3, 1.3) + chance.choice((0.3, 1.5, 8.0))


@dataclass(slots=True)
class Outages:
    """Which parts were broken when, as it happened. A break that has not ended has no end."""

    spans: list[tuple[str, str, float, float | None]] = field(default_factory=list)

    def begin(self, part: str, name: str, now_s: float) -> int:
        """Note the begin of a break; the number that comes back stands for it."""
        self.spans.append((part, name, now_s, None))
        return len(self.spans) - 1

    def end(self, number: int, now_s: float) -> None:
        """Note its end."""
        part, name, began_s, _ = self.spans[number]
        self.spans[number] = (part, name, began_s, now_s)

    def within(self, began_s: float, ended_s: float) -> dict[str, str]:
        """The parts that were broken or not yet back at some time between, each with its break."""
        return {
            part: name
            for part, name, from_s, to_s in self.spans
            if from_s <= ended_s and (to_s is None or to_s + RECOVERY_S[part] >= began_s)
        }


# ---- What an answer has to be ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One search: a page of a group's hits. `mark` comes back in the answer, as the name of an aggregation."""

    mark: str
    group: int
    start: int = 0
    size: int = 10
    status: bool = False
    filtered: bool = False

    @property
    def hits(self) -> int:
        """How many hits the engine has on this page."""
        return max(0, min(self.size, GROUP_HITS - self.start))

    def search(self) -> dict[str, Any]:
        """The body. The mark is part of the question too, so nothing of it is in the cache; it finds nothing more."""
        search: dict[str, Any] = {
            "query": {"match": {"text": f"group{self.group} {self.mark}"}},
            "from": self.start,
            "size": self.size,
            "aggs": {self.mark: {"filter": {"match_all": {}}}},
        }
        if self.status:
            search["ext"] = {"es_rerank": {"include": ["status", "scores"]}}
        return search

    def target(self) -> str:
        """Path and query."""
        filtered = "?filter_path=hits.hits._id,aggregations,_es_rerank" if self.filtered else ""
        return f"/{INDEX}/_search{filtered}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came back, and when: seconds of one clock. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    began_s: float
    ended_s: float


# The parts that explain that a search has this reason, if they were broken. A deadline may always pass, and a word that
# is not here is not judged.
NEVER = frozenset[str]()
EXPLAINED_BY: dict[str, frozenset[str]] = {
    "no_redis": frozenset({"redis"}),
    "no_worker": frozenset({"worker", "redis"}),
    "claim_lost": frozenset({"worker", "redis"}),
    "engine_refused": frozenset({"engine"}),
    "partial_answer": frozenset({"engine"}),
    "unreadable_answer": frozenset({"engine"}),
    "no_engine": frozenset({"engine"}),
    "scorer_failed": NEVER,
    "document_failed": NEVER,
    "claim_unreadable": NEVER,
    "internal_error": NEVER,
    "overloaded": NEVER,
    "answer_too_large": NEVER,
    "missing_text": NEVER,
    "system_index": NEVER,
}
WARNING = re.compile(r'299 es-rerank "reranking (failed|was partial) \(([a-z_]+)\): [^"]+"')


def check_search(asked: Asked, answered: Answered, broken: Mapping[str, str], *, late_s: float) -> list[str]:
    """What is wrong with an answer, while these parts were broken. `late_s` is how long it may take at most."""
    if answered.status != 200:
        return [] if "engine" in broken else [f"status {answered.status}: {answered.body[:300]!r}"]
    try:
        body = json.loads(answered.body)
        ids = [hit["_id"] for hit in body.get("hits", {}).get("hits", [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"not an answer to a search: {answered.body[:300]!r}"]
    wrong = []
    took_s = answered.ended_s - answered.began_s
    if took_s > late_s and "engine" not in broken:
        wrong.append(f"late: {took_s:.2f} s")
    if len(ids) != asked.hits:
        wrong.append(f"{len(ids)} hits where the engine has {asked.hits}")
    if len(set(ids)) < len(ids):
        wrong.append(f"a hit comes twice: {ids}")
    if any(not one.startswith(f"{asked.group}-") for one in ids) or [*body.get("aggregations", {})] != [asked.mark]:
        wrong.append(f"the answer to another search: {[*body.get('aggregations', {})]}, {ids}")
    if asked.filtered and not body.keys() <= {"hits", "aggregations", "_es_rerank"}:
        wrong.append(f"filtered, it has {[*body]}")
    return wrong + check_status(asked, body.get("_es_rerank"), answered.headers.get("warning"), broken)


def check_status(
    asked: Asked, block: dict[str, Any] | None, warning: str | None, broken: Mapping[str, str]
) -> list[str]:
    """What is wrong with the status and the Warning header of an answer."""
    warned = WARNING.fullmatch(warning) if warning is not None else None
    if warning is not None and warned is None:
        return [f"an odd warning: {warning}"]
    wrong = []
    reason = warned[2] if warned else None
    if asked.status:
        if block is None:
            return ["the status is missing"]
        wrong += _check_block(block)
        reason = block["reason"]
        if (block["status"] in ("partial", "failed")) != (warned is not None):
            wrong.append(f"{block['status']}, and the warning is {warning}")
        elif warned and warned[2] != reason:
            wrong.append(f"{reason}, and the warning says {warned[2]}")
    elif block is not None:
        wrong.append("a status that nobody asked for")
    causes = EXPLAINED_BY.get(reason or "")
    if causes is not None and not causes & broken.keys():
        wrong.append(f"{reason}, while only {[*broken.values()]} was broken")
    return wrong


def _check_block(block: dict[str, Any]) -> list[str]:
    """What does not fit within a status."""
    status, reason, window, scored = block["status"], block["reason"], block["window"], block["scored"]
    fits = {
        "full": scored == window == WINDOW,
        "partial": scored > 0,
        "failed": scored == 0,
        "skipped": scored == 0,
    }
    words = status in get_args(Outcome) and ((reason is None) == (status == "full"))
    allowed = OUTCOMES.get(reason) if reason is not None else None
    if not words or not fits[status] or (allowed is not None and status not in allowed):
        return [f"a status that does not fit: {block}"]
    if block["missing"] != window - scored or block["cached"] > scored:
        return [f"counts that do not fit: {block}"]
    return []


def check_pieces(answered: Answered, marks: Sequence[str], broken: Mapping[str, str]) -> list[str]:
    """What is wrong with the answer to an `_msearch` of one search for each mark."""
    if answered.status != 200:
        return [] if "engine" in broken else [f"status {answered.status}: {answered.body[:300]!r}"]
    try:
        found = [[*one["aggregations"]] for one in json.loads(answered.body)["responses"]]
    except (ValueError, KeyError, TypeError):
        return [f"not an answer to _msearch: {answered.body[:300]!r}"]
    return [] if found == [[mark] for mark in marks] else [f"the answers to other searches: {found}"]


# ---- Figures ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken promise."""

    at_s: float
    caller: str
    said: str
    broken: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What happened in a run."""

    took_s: dict[str, list[float]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    breaks: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def count(self, caller: str, answered: Answered) -> None:
        """Add an answer. Its outcome is taken from its status, or its warning, or its status code."""
        self.took_s.setdefault(caller, []).append(answered.ended_s - answered.began_s)
        self.outcomes[outcome_of(answered)] += 1

    def report(self) -> str:
        """Markdown: latencies by kind of caller, outcomes, breaks, violations."""
        lines = ["| caller | answers | p50, ms | p99, ms | longest, ms |", "| --- | ---: | ---: | ---: | ---: |"]
        for caller, took_s in sorted(self.took_s.items()):
            figures = " | ".join(f"{one * 1000:.0f}" for one in (*percentiles(took_s), max(took_s)))
            lines.append(f"| {caller} | {len(took_s)} | {figures} |")
        for title, counter in (("outcome", self.outcomes), ("break", self.breaks), ("also sent", self.requests)):
            lines += ["", f"| {title} | times |", "| --- | ---: |"]
            lines += [f"| {name} | {count} |" for name, count in counter.most_common()]
        lines += ["", f"{len(self.violations)} violations" + (":" if self.violations else ".")]
        lines += [
            f"- at {one.at_s:.1f} s, {one.caller}: {one.said} (broken: {', '.join(one.broken) or 'nothing'})"
            for one in self.violations[:SHOWN_VIOLATIONS]
        ]
        return "\n".join(lines)


def outcome_of(answered: Answered) -> str:
    """A few words for what became of a search."""
    if answered.status != 200:
        return f"status {answered.status}"
    block = json.loads(answered.body).get("_es_rerank") if b'"_es_rerank":{"status"' in answered.body else None
    if block is not None:
        return " ".join(filter(None, (block["status"], block["reason"])))
    warned = WARNING.fullmatch(answered.headers.get("warning", ""))
    return f"{'partial' if 'partial' in warned[1] else 'failed'} {warned[2]}" if warned else "without a warning"


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


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
        """A search, with this in it."""
        return Asked(mark=self.mark(), group=self.chance.randrange(GROUPS), **more)

    async def connect(self, *, receive_bytes: int = 0) -> tuple[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """One of the proxies, and a connection to it. Raises OSError."""
        number = self.chance.randrange(PROXIES)
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
            # Searches of one connection are answered one after the other; a slow reader takes time of its own.
            late_s = float("inf") if how.get("pause_s") else (DEADLINE_S + MARGIN_S) * place
            self._soak.judge(self.name, asked, answered, late_s)

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
    """An `_msearch`, which passes through."""
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


# ---- The system ----


class Soak:
    """What is up, what breaks it, and what was found."""

    def __init__(self, supervisor: Supervisor, folder: Path, engine: str, own_engine: Child | None, seed: int) -> None:
        self._supervisor = supervisor
        self._folder = folder
        self._own_engine = own_engine
        self._relay = Relay(engine)
        self._checkout: Checkout = checkouts(None)[0]
        self._redis_port = free_port()
        self._children: dict[str, Child] = {}
        self._started: Counter[str] = Counter()
        self._began_s = 0.0
        self._lags: list[tuple[float, float]] = []
        self.seed = seed
        self.ports = [free_port() for _ in range(PROXIES)]
        self.outages = Outages()
        self.tally = Tally()

    async def run(self, minutes: float) -> str:
        """Start everything, run, and report."""
        server = await self._relay.start()
        async with server:
            self._start_redis()
            for number in range(PROXIES):
                await self._start_proxy(number)
            for number in range(WORKERS):
                self._start_worker(number)
            await self._until_full()
            before = self._memory()
            self._began_s = time.monotonic()
            callers = [
                asyncio.ensure_future(self._call_on(Caller(self, kind, number), act))
                for kind, (act, count) in CALLERS.items()
                for number in range(count)
            ]
            watchers = [asyncio.ensure_future(self._watch_lag()), asyncio.ensure_future(self._watch_children())]
            try:
                await self._break_all(plan_breaks(self.seed, minutes), minutes * 60)
                await _cancel(callers)
                await self._until_full(came_back=True)
                return "\n\n".join((self.tally.report(), self._memory_table(before), self._log_table()))
            finally:
                await _cancel([*callers, *watchers])
                await self._relay.close()

    # -- what callers tell --

    def judge(self, caller: str, asked: Asked, answered: Answered, late_s: float) -> None:
        """Check a search's answer. What this process itself was late is not the proxy's."""
        self.tally.count(caller, answered)
        broken = self.outages.within(answered.began_s, answered.ended_s)
        lag_s = sum(lag_s for at_s, lag_s in self._lags if answered.began_s <= at_s <= answered.ended_s + 1)
        for said in check_search(asked, answered, broken, late_s=late_s + lag_s):
            self._violated(caller, said, broken)

    def judge_other(
        self, caller: str, answered: Answered, check: Callable[[Answered, Mapping[str, str]], list[str]]
    ) -> None:
        """Check the answer to another request."""
        self.tally.took_s.setdefault(caller, []).append(answered.ended_s - answered.began_s)
        broken = self.outages.within(answered.began_s, answered.ended_s)
        for said in check(answered, broken):
            self._violated(caller, said, broken)

    def no_answer(self, caller: str, began_s: float, error: Exception) -> None:
        """Note that a caller got no answer, which only a broken engine or a proxy that restarts explains."""
        self.tally.requests[f"{caller}: no answer"] += 1
        broken = self.outages.within(began_s, time.monotonic())
        if not {"engine", "proxy"} & broken.keys():
            self._violated(caller, f"no answer: {type(error).__name__}: {error}", broken)

    def _violated(self, caller: str, said: str, broken: Mapping[str, str]) -> None:
        at_s = time.monotonic() - self._began_s
        self.tally.violations.append(Violation(at_s=at_s, caller=caller, said=said, broken=tuple(broken.values())))

    async def _call_on(self, caller: Caller, act: Callable[[Caller], Awaitable[None]]) -> None:
        while True:
            self.tally.requests[caller.name] += 1
            await act(caller)
            await asyncio.sleep(caller.chance.uniform(0.0, 0.3))

    async def _watch_lag(self) -> None:
        """Note when this process itself was late."""
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.05)
            now_s = time.monotonic()
            if now_s - before_s > 0.1:
                self._lags.append((now_s, now_s - before_s - 0.05))

    async def _watch_children(self) -> None:
        """A process that ends by itself breaks the promise too; it is started again."""
        while True:
            await asyncio.sleep(0.2)
            for name, child in [*self._children.items()]:
                code = child.process.poll()
                if code is None:
                    continue
                now_s = time.monotonic()
                broken = self.outages.within(now_s, now_s)
                self._violated(name, f"ended by itself with {code}: {' | '.join(errors_in(child.log)[-3:])}", broken)
                kind, _, which = name.partition(" ")
                if kind not in ("worker", "proxy"):
                    raise BenchError(f"{name} ended by itself:\n{child.tail()}")
                outage = self.outages.begin(kind, f"{kind} ended by itself", now_s)
                if kind == "worker":
                    self._start_worker(int(which))
                    await self._until_served(name)
                else:
                    await self._start_proxy(int(which))
                self.outages.end(outage, time.monotonic())

    # -- processes --

    def _config(self, port: int) -> str:
        config = self._folder / f"{port}.toml"
        engine = f"http://127.0.0.1:{self._relay.port}"
        values = {"engine": engine, "redis_port": self._redis_port, "port": port, "deadline_s": DEADLINE_S}
        config.write_text(CONFIG.format(**values, index=INDEX, window=WINDOW))
        return str(config)

    def _start(self, name: str, command: Sequence[str]) -> Child:
        self._started[name] += 1
        self._children[name] = self._supervisor.start(f"{name}.{self._started[name]}".replace(" ", "-"), command)
        return self._children[name]

    def _start_redis(self) -> None:
        shutil.rmtree(self._folder / "redis", ignore_errors=True)
        self._children["redis"] = start_redis(self._supervisor, self._redis_port, self._folder / "redis")

    async def _start_proxy(self, number: int) -> None:
        port = self.ports[number]
        self._start(f"proxy {number}", self._checkout.command("serve", "--config", self._config(port)))
        async with asyncio.timeout(START_LIMIT_S):
            await until(lambda: is_listening(port))

    def _start_worker(self, number: int) -> None:
        self._start(f"worker {number}", self._checkout.command("worker", "--config", self._config(self.ports[0])))

    async def _until_served(self, name: str) -> None:
        """Until a worker says that it serves, or has ended, or it takes too long."""
        child = self._children[name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_LIMIT_S):
                await until(lambda: "is served on queue" in child.log.read_text() or child.process.poll() is not None)

    async def _end(self, name: str, how: signal.Signals) -> None:
        """End a process and wait until it has ended. It may be stopped."""
        child = self._children.pop(name)
        child.process.send_signal(how)
        child.process.send_signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await until(lambda: child.process.poll() is not None)
        except TimeoutError:
            self._violated(name, f"did not stop within {STOP_LIMIT_S:.0f} s", {})
            child.process.kill()
        self._supervisor.end(child)

    async def _until_full(self, *, came_back: bool = False) -> None:
        """Until each proxy reranks in full. Raises BenchError if that does not come, or notes it after the breaks."""
        chance = random.Random(self.seed)
        for port in self.ports:
            give_up_s = time.monotonic() + BACK_LIMIT_S
            said: Any = None
            while True:
                asked = Asked(mark=f"start{chance.randrange(10**9)}", group=0, status=True)
                with contextlib.suppress(BenchError):
                    said = (
                        await asyncio.to_thread(
                            send, f"http://127.0.0.1:{port}{asked.target()}", asked.search(), method="POST"
                        )
                    )["_es_rerank"]
                    if said["status"] == "full":
                        break
                if time.monotonic() > give_up_s:
                    if not came_back:
                        raise BenchError(f"the system does not rerank: {said}")
                    self._violated("proxy", f"does not rerank in full {BACK_LIMIT_S:.0f} s later: {said}", {})
                    break
                await asyncio.sleep(0.2)

    # -- breaking --

    async def _break_all(self, plan: Sequence[Break], seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            for one in plan:
                await asyncio.sleep(max(0.0, self._began_s + one.at_s - time.monotonic()))
                group.create_task(self._break(one))
            await asyncio.sleep(max(0.0, self._began_s + seconds - time.monotonic()))

    async def _break(self, one: Break) -> None:
        """One break, from its begin to its end. One that meets an earlier one of the same part is left out."""
        part = BREAKS[one.name][0]
        if any(broken == part and ended_s is None for broken, _, _, ended_s in self.outages.spans):
            return
        self.tally.breaks[one.name] += 1
        number = self.outages.begin(part, one.name, time.monotonic())
        try:
            await getattr(self, "_" + one.name.replace(" ", "_").replace("-", "_"))(one)
        finally:
            self.outages.end(number, time.monotonic())

    async def _worker_killed(self, one: Break) -> None:
        await self._end(f"worker {one.which}", signal.SIGKILL)
        await asyncio.sleep(one.lasts_s)
        self._start_worker(one.which)
        await self._until_served(f"worker {one.which}")

    async def _worker_stopped(self, one: Break) -> None:
        await self._stopped(self._children[f"worker {one.which}"], one.lasts_s)

    async def _redis_killed(self, one: Break) -> None:
        await self._end("redis", signal.SIGKILL)
        await asyncio.sleep(one.lasts_s)
        self._start_redis()

    async def _redis_stopped(self, one: Break) -> None:
        await self._stopped(self._children["redis"], one.lasts_s)

    async def _redis_full(self, one: Break) -> None:
        await self._told_redis(one, ("config", "set", "maxmemory", "1"), ("config", "set", "maxmemory", "0"))

    async def _redis_read_only(self, one: Break) -> None:
        await self._told_redis(one, ("replicaof", "127.0.0.1", "1"), ("replicaof", "no", "one"))

    async def _engine_stopped(self, one: Break) -> None:
        if self._own_engine is not None:
            await self._stopped(self._own_engine, one.lasts_s)
        else:
            await self._relay.in_mode("holds", one.lasts_s)

    async def _engine_slow(self, one: Break) -> None:
        await self._relay.in_mode("slow", one.lasts_s)

    async def _engine_resets(self, one: Break) -> None:
        self._relay.reset_all()
        await self._relay.in_mode("resets", one.lasts_s)

    async def _engine_cuts(self, one: Break) -> None:
        await self._relay.in_mode("cuts", one.lasts_s)

    async def _proxy_restarted(self, one: Break) -> None:
        await self._end(f"proxy {one.which}", signal.SIGTERM)
        await self._start_proxy(one.which)

    async def _told_redis(self, one: Break, *commands: Sequence[str]) -> None:
        async with redis.asyncio.Redis(port=self._redis_port) as client:
            for command in commands:
                await client.execute_command(*command)  # type: ignore[no-untyped-call]
                if command is commands[0]:
                    await asyncio.sleep(one.lasts_s)

    @staticmethod
    async def _stopped(child: Child, seconds: float) -> None:
        os.kill(child.process.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(child.process.pid, signal.SIGCONT)

    # -- figures --

    def _memory(self) -> dict[str, float]:
        """Resident megabytes of each process."""
        children = dict(self._children) | ({"engine": self._own_engine} if self._own_engine is not None else {})
        return {name: resident_mb(child.process.pid) for name, child in sorted(children.items())}

    def _memory_table(self, before: Mapping[str, float]) -> str:
        after = self._memory()
        lines = ["| process | MB at the start | MB at the end | started |", "| --- | ---: | ---: | ---: |"]
        lines += [
            f"| {name} | {before.get(name, 0):.0f} | {after.get(name, 0):.0f} | {self._started.get(name, 1)} |"
            for name in sorted({*before, *after})
        ]
        return "\n".join(lines)

    def _log_table(self) -> str:
        """How often the proxies and workers logged a warning or an error that is not a search's own line."""
        said: Counter[str] = Counter()
        for log in (self._folder / "logs").glob("[pw]*.log"):
            said.update(f"{log.name.partition('-')[0]}: {text}" for text in errors_in(log))
        lines = [
            "| logged | times |",
            "| --- | ---: |",
            *(f"| {text} | {count} |" for text, count in said.most_common(20)),
        ]
        return "\n".join(lines)


async def until(is_so: Callable[[], bool]) -> None:
    """Look again and again."""
    while not is_so():  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0.02)


async def _cancel(tasks: Sequence[asyncio.Future[None]]) -> None:
    """End tasks. Raises what one of them has raised."""
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


def errors_in(log: Path) -> list[str]:
    """The messages of a log's warnings and errors, without numbers, and without what it says of searches."""
    messages = []
    for line in log.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry.get("level") in ("warning", "error", "critical") and entry.get("message") != "search":
                said = re.sub(r"[0-9a-f]{8}[-0-9a-f]*|[0-9]+", "…", str(entry.get("message")))
                messages.append(" ".join(said.split())[:160])
    return messages


def resident_mb(pid: int) -> float:
    """Resident megabytes of a process, 0 if it has ended."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


def documents() -> Iterator[tuple[str, dict[str, str]]]:
    """What is searched, by id: each group's documents have one word in common."""
    chance = random.Random(1)
    for group in range(GROUPS):
        for number in range(GROUP_HITS):
            yield f"{group}-{number}", {"text": " ".join([f"group{group}", *chance.choices(WORDS, k=60)])}


def load_groups(engine: str) -> None:
    """The documents, under ids that begin with their group. Raises EsRerankError."""
    load_documents(engine, INDEX, documents(), text_mapping(["text"]), recreate=True, progress=False)


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat its breaks")
    parser.add_argument(
        "--engine",
        type=plain_http,
        metavar="URL",
        help=f"an engine that runs, as http://HOST:PORT; indices {INDEX_PREFIX}soak* are made there and deleted again",
    )
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    stop_by_exception()
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as name, Supervisor(Path(name) / "logs") as supervisor:
            own_engine, engine = None, options.engine
            if engine is None:
                port = free_port()
                own_engine, engine = start_engine(supervisor, port), f"http://127.0.0.1:{port}"
            try:
                load_groups(engine)
                print(f"{machine()}, {engine_name(engine)}; seed {seed}, {options.minutes:g} minutes.\n", flush=True)
                soak = Soak(supervisor, Path(name), engine, own_engine, seed)
                print(asyncio.run(soak.run(options.minutes)), flush=True)
            finally:
                if options.engine:
                    delete(engine, INDEX, WRITTEN)
    except EsRerankError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if soak.tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
