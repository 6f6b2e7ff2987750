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
import sys
import tempfile
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis.asyncio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.soak_callers import CALLERS, Caller, Relay, until  # found by the line above
from bench.soak_promise import (
    BREAKS,
    GROUPS,
    INDEX,
    WINDOW,
    WRITTEN,
    Answered,
    Asked,
    Break,
    Outages,
    Tally,
    Violation,
    check_search,
    documents,
    plan_breaks,
)
from bench.system import (
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
from ingest.load import load_documents
from ingest.mapping import text_mapping

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

DEADLINE_S, MARGIN_S = 1.0, 1.0
PROXIES, WORKERS = 2, 2
START_LIMIT_S, BACK_LIMIT_S, STOP_LIMIT_S = 120.0, 120.0, 40.0
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
any_language = true
deadline_s = {deadline_s}
"""


# ---- The system ----


class Soak:
    """What is up, what breaks it, and what was found."""

    def __init__(  # noqa: PLR0917
        self, supervisor: Supervisor, folder: Path, engine: str, own_engine: Child | None, seed: int, pause_s: float
    ) -> None:
        self._supervisor = supervisor
        self._folder = folder
        self._own_engine = own_engine
        self._relay = Relay(engine)
        self._checkout: Checkout = checkouts(None)[0]
        self._redis_port = free_port()
        self._children: dict[str, Child] = {}
        self._started: Counter[str] = Counter()
        self._pause_s = pause_s
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
            self.outages.end(self.outages.begin("worker", "just started", self._began_s), self._began_s)
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

    def judge(self, caller: str, asked: Asked, answered: Answered, place: int, *, slow: bool) -> None:
        """Check a search's answer. What this process itself was late is not the proxy's."""
        broken = self.outages.within(answered.began_s, answered.ended_s)
        lately = self.outages.lately(answered.began_s, answered.ended_s)
        self.tally.count(caller, answered, lately=lately)
        lag_s = sum(lag_s for at_s, lag_s in self._lags if answered.began_s <= at_s <= answered.ended_s + 1)
        # Searches of one connection are answered one after the other; a slow reader takes time of its own.
        late_s = float("inf") if slow else (DEADLINE_S + MARGIN_S) * place + lag_s
        for said in check_search(asked, answered, broken, lately=lately, late_s=late_s):
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
            await asyncio.sleep(caller.chance.uniform(0.0, 2 * self._pause_s))

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
        for port, group in product(self.ports, range(GROUPS)):
            give_up_s = time.monotonic() + BACK_LIMIT_S
            said: Any = None
            while True:
                mark = f"start{chance.randrange(10**9)}"
                asked = Asked(mark=mark, group=group, asks=mark, status=True)
                url = f"http://127.0.0.1:{port}{asked.target()}"
                with contextlib.suppress(BenchError):
                    said = (await asyncio.to_thread(send, url, asked.search(), method="POST"))["_es_rerank"]
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


def load_groups(engine: str) -> None:
    """The documents, under ids that begin with their group. Raises EsRerankError."""
    load_documents(engine, INDEX, documents(), text_mapping(["text"]), recreate=True, progress=False)


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (%(default)s)")
    parser.add_argument(
        "--pause-s", type=float, default=0.5, help="how long a caller waits between two requests, about (%(default)s)"
    )
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
                soak = Soak(supervisor, Path(name), engine, own_engine, seed, options.pause_s)
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
