"""What the benchmarks that compare checkouts share: processes, an engine with documents, figures. Not a script."""

from __future__ import annotations

import argparse
import json
import os
import platform
import pstats
import signal
import statistics
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from es_rerank.demo.processes import free_port, is_listening
from es_rerank.errors import EsRerankError
from ingest.load import load_documents
from ingest.mapping import text_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import FrameType

    from es_rerank.demo.processes import Child, Supervisor

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
OURS, BEFORE, DIRECT = "es-rerank", "before", "(no proxy)"
NO_SESSION = -1  # for an engine that others started: no process has this session
INDEX_PREFIX = "rerank-bench-"
START_LIMIT_S = 120.0
HOT_SPOTS = 25
# A process started by this gets SIGTERM when the benchmark is killed, so that it can end its own children too.
GENTLE = ("setpriv", "--pdeathsig", "TERM", "--")

Item = TypeVar("Item")


class BenchError(EsRerankError):
    """Nothing can be measured; the text says why."""


# ---- Processes ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """One es-rerank to measure: what the tables call it, and its folder."""

    name: str
    root: Path

    def command(self, *arguments: str) -> list[str]:
        """The command `es-rerank` of this checkout, whatever es-rerank the interpreter has installed."""
        return ["env", f"--chdir={self.root}", f"PYTHONPATH={self.root}", sys.executable, "-m", "es_rerank", *arguments]


def checkouts(before: Path | None) -> list[Checkout]:
    """Our own checkout, and the other one if it is given. Raises BenchError if that folder is not a checkout."""
    ours = Checkout(name=OURS, root=ROOT)
    if before is None:
        return [ours]
    root = before.resolve()
    if not (root / "es_rerank" / "__main__.py").is_file():
        raise BenchError(f"--before {before}: no checkout of es-rerank")
    return [ours, Checkout(name=BEFORE, root=root)]


def start_listener(supervisor: Supervisor, name: str, command: Sequence[str], port: int) -> Child:
    """Whatever listens on `port` once it is ready."""
    child = supervisor.start(name, command)
    supervisor.await_ready(child, lambda: is_listening(port), limit_s=START_LIMIT_S)
    return child


def profiled_command(config: Path, stats: Path) -> list[str]:
    """The proxy of this checkout under a profiler, which writes `stats` when it is told to stop."""
    return [sys.executable, str(ROOT / "bench" / "profiled.py"), str(config), str(stats)]


def start_opensearch(supervisor: Supervisor) -> tuple[str, int]:
    """A real OpenSearch, from the engines beside the checkout: its URL and its session. Raises BenchError."""
    script = SHARED / "engines" / "start"
    if not script.is_file():
        raise BenchError(f"{script} is missing: name an engine of yours by --engine URL")
    port = free_port()
    command = [*GENTLE, sys.executable, str(script), "opensearch", "--port", str(port)]
    child = supervisor.start("opensearch", command)
    supervisor.await_ready(child, lambda: child.log.read_text().startswith("ready"), limit_s=START_LIMIT_S)
    return f"http://127.0.0.1:{port}", child.process.pid


def stop_by_exception() -> None:
    """Make SIGTERM end this process as Ctrl-C does: through every `with`, so that nothing is left running."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


# ---- Engines ----


def send(url: str, body: Any = None, *, method: str = "GET") -> Any:
    """One request with a JSON body, and its answer. Raises BenchError if there is no good one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=600) as reply:
            return json.load(reply)
    except OSError as error:  # urllib's own are such too
        raise BenchError(f"{method} {url}: {error}") from error


def load(engine: str, index: str, sources: Iterable[Mapping[str, Any]]) -> None:
    """Replace an index by these documents, which get the ids 0, 1, ... Raises EsRerankError."""
    documents = ((str(number), source) for number, source in enumerate(sources))
    load_documents(engine, index, documents, text_mapping(), recreate=True, progress=False)
    # In one segment, scores don't depend on how the engine happened to write the documents.
    send(f"{engine}/{index}/_forcemerge?max_num_segments=1", method="POST")


def delete(engine: str, *indices: str) -> None:
    """Delete what was loaded."""
    for index in indices:
        send(f"{engine}/{index}?ignore_unavailable=true", method="DELETE")


def engine_name(engine: str) -> str:
    """Product and version."""
    told = send(engine)["version"]
    return f"{told.get('distribution', 'elasticsearch')} {told['number']}"


def machine() -> str:
    """What the figures were made on."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}"


def plain_http(url: str) -> str:
    """`--engine` as `http://host:port`, which nginx and a bare socket can speak to."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.port is None or parts.path.strip("/"):
        raise argparse.ArgumentTypeError(f"{url!r} must be http://HOST:PORT")
    return f"http://{parts.netloc}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all comparing benchmarks have."""
    parser.add_argument("--before", type=Path, metavar="PATH", help="another checkout, measured in the same rounds")
    parser.add_argument(
        "--engine",
        type=plain_http,
        metavar="URL",
        help=f"an engine that runs, as http://HOST:PORT; indices {INDEX_PREFIX}* are made there and deleted again",
    )
    parser.add_argument("--profile", action="store_true", help="profile this checkout's proxy, instead of comparing")


# ---- Figures ----


def rotated(items: Sequence[Item], turn: int) -> Iterator[Item]:
    """All items, beginning with another one on each turn, so that none always comes first."""
    shift = turn % len(items)
    yield from items[shift:]
    yield from items[:shift]


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """The ratio of each round."""
    return [one / other for one, other in zip(over, under, strict=True)]


def spread(values: Sequence[float], digits: int) -> str:
    """The median of rounds, with least and most."""
    middle, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"


def verdict(said: str, values: Sequence[float], *, digits: int, least: float | None = None, most: float = 0.0) -> str:
    """A line of the list of goals: the median against the least or the most that it should be."""
    middle = statistics.median(values)
    kept = middle <= most if least is None else middle >= least
    goal = f"at most {most:g}" if least is None else f"at least {least:g}"
    return f"- {said}: {spread(values, digits)}; the goal is {goal}: {'kept' if kept else '**missed**'}"


def hot_spots(stats: Path, requests: int) -> str:
    """Where a profiled proxy spent its time: two tables, by own time and by time with callees.

    A function with fewer calls than half the requests is left out: that is the start, and the loop that waits.
    """
    profile: Any = pstats.Stats(str(stats))
    rows: list[tuple[Any, ...]] = [
        (own_s / requests * 1e6, whole_s / requests * 1e6, calls / requests, _place(*where))
        for where, (_, calls, own_s, whole_s, _) in profile.stats.items()
        if calls >= requests / 2
    ]
    tables = []
    for column, order in enumerate(("own time", "time with callees")):
        rows.sort(key=lambda row: -row[column])
        lines = [f"{own:.0f} | {whole:.0f} | {calls:.1f} | `{place}`" for own, whole, calls, place in rows[:HOT_SPOTS]]
        head = f"By {order}:\n\n| own µs/request | with callees | calls | where |\n| ---: | ---: | ---: | --- |"
        tables.append("\n".join((head, *(f"| {line} |" for line in lines))))
    return "\n\n".join(tables)


def _place(file: str, line: int, name: str) -> str:
    return name if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"
