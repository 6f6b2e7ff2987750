"""What a rerank from the cache costs: a cached search of 100 hits, next to the same search on the engine itself.

    python bench/cached.py                                    on an OpenSearch started for it
    python bench/cached.py --engine http://127.0.0.1:9200     on an engine of yours
    python bench/cached.py --before ../other-checkout         with another es-rerank beside it
    python bench/cached.py --profile                          where this one's time goes

The texts are real, in two lengths. For some tens of queries, MiniLM scores all hits beforehand, and the workers are
stopped before anything is timed. One caller sends one search after the other, in turns to the engine and to each proxy,
on one connection to each. It measures the time until the last byte of the answer, and parses nothing. The texts come
from a BEIR collection, or from this Python's documentation if there is none.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.stack import cpu_s  # found by the line above
from bench.system import (
    DIRECT,
    INDEX_PREFIX,
    NO_SESSION,
    SHARED,
    START_LIMIT_S,
    BenchError,
    Checkout,
    add_options,
    checkouts,
    delete,
    engine_name,
    hot_spots,
    load,
    machine,
    profiled_command,
    rotated,
    send,
    spread,
    start_listener,
    start_opensearch,
    stop_by_exception,
    verdict,
)
from es_rerank.demo.corpus import read_documents as read_documentation
from es_rerank.demo.embedded import start_redis
from es_rerank.demo.processes import Supervisor, free_port
from es_rerank.demo.questions import read_questions
from es_rerank.errors import EsRerankError
from es_rerank.trec import read_queries
from ingest.corpora import Document, find_corpus, read_documents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WINDOW = 100
CHARACTERS = {"short": 300, "long": 2000}
WARM_TURNS = 300
STATUS_TURNS = 3
MOST_MS = 3.0
# The deadline is longer than any window needs, so that all scores are in the cache before anything is timed.
CONFIG = """\
[upstream]
urls = ["{engine}"]
[redis]
url = "redis://127.0.0.1:{redis_port}/{database}"
[server]
port = {port}
[limits]
max_deadline_s = 600.0
[[rules]]
name = "bench"
indices = ["{prefix}*"]
fields = ["title", "text"]
window = {window}
deadline_s = 600.0
"""


# ---- Texts and queries ----


@dataclass(frozen=True, slots=True)
class Texts:
    """What is searched: titles and texts, parallel, and what is asked."""

    name: str
    titles: list[str]
    texts: list[str]
    queries: list[str]


def read_texts(collection: Path) -> Texts:
    """A BEIR collection, or the documentation of this Python where there is none in that folder."""
    if not collection.is_dir():
        documents = read_documentation()
        asked = [question.text for question in read_questions({one.id for one in documents}).questions]
        return Texts("documentation", [one.words for one in documents], [one.text for one in documents], asked)
    corpus = find_corpus(collection)
    sources = [one.source for one in read_documents(corpus.documents) if isinstance(one, Document)]
    if corpus.queries is None:
        raise BenchError(f"{collection}: has no queries.jsonl")
    asked = [query.text for query in read_queries(corpus.queries)]
    return Texts(collection.name, [one["title"] for one in sources], [one["text"] for one in sources], asked)


def cut(texts: Sequence[str], characters: int) -> list[str]:
    """Each text in exactly so many characters: a long one is cut, a short one continued with the texts after it."""
    whole = " ".join(texts)
    starts = accumulate((len(text) + 1 for text in texts[:-1]), initial=0)
    endless = whole + " " + whole[:characters]
    return [endless[start : start + characters] for start in starts]


# ---- Asking ----


class Caller:
    """One connection that is kept. Requests are bytes, sent at once; answers are read to the end and not parsed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.netloc
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=600)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def search(self, index: str, search: Mapping[str, Any]) -> bytes:
        """The bytes of a search."""
        body = json.dumps(search).encode()
        head = f"POST /{index}/_search HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def ask(self, request: bytes) -> tuple[float, bytes]:
        """Seconds until the whole answer was there, and its body. Raises BenchError for anything but a good one."""
        began_s = time.perf_counter()
        self._socket.sendall(request)
        reply = http.client.HTTPResponse(self._socket, method="POST")
        reply.begin()
        body = reply.read()
        took_s = time.perf_counter() - began_s
        if reply.status != 200 or reply.headers["warning"] is not None:
            raise BenchError(f"{self._host}: {reply.status}, warning {reply.headers['warning']}: {body[:500]!r}")
        return took_s, body

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def searches(queries: Sequence[str]) -> list[dict[str, Any]]:
    """The search for each query, of all the hits that are reranked."""
    fields = ["title", "text"]
    return [{"query": {"multi_match": {"query": text, "fields": fields}}, "size": WINDOW} for text in queries]


def with_status(search: Mapping[str, Any]) -> dict[str, Any]:
    """The same search, which also asks for its status."""
    return {**search, "ext": {"es_rerank": {"include": ["status"]}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What is asked: the engine itself, or a proxy, whose session's CPU counts."""

    name: str
    caller: Caller
    session: int

    def prepare(self, index: str, asked: Sequence[Mapping[str, Any]], *, status: bool) -> list[bytes]:
        """The requests for these searches; with `status`, those to a proxy also ask for it."""
        wanted = status and self.name != DIRECT
        return [self.caller.search(index, with_status(search) if wanted else search) for search in asked]

    def score_all(self, index: str, asked: Sequence[Mapping[str, Any]]) -> None:
        """Have everything scored. Raises BenchError unless all of it is in the cache then."""
        for cached in (0, WINDOW):
            for request in self.prepare(index, asked, status=True):
                read_status(self.caller.ask(request)[1], cached=cached)


def read_status(answer: bytes, *, cached: int = 0) -> dict[str, Any]:
    """The status in an answer. Raises BenchError unless a whole window has scores, `cached` or more from the cache."""
    said: dict[str, Any] = json.loads(answer)["_es_rerank"]
    if said["status"] != "full" or said["window"] != WINDOW or said["cached"] < cached:
        raise BenchError(f"a search was not reranked in full, or not from the cache: {said}")
    return said


# ---- Processes ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is up: the engine with both indices, and a Redis."""

    supervisor: Supervisor
    folder: Path
    engine: str
    redis_port: int
    searches: list[dict[str, Any]]

    def configure(self, port: int, database: int, extra: str = "") -> Path:
        """A configuration for a proxy on this port and its workers; each version has a database of its own.

        `extra` are more tables, as TOML.
        """
        config = self.folder / f"{port}.toml"
        values = {"engine": self.engine, "redis_port": self.redis_port, "database": database, "port": port}
        config.write_text(CONFIG.format(**values, prefix=INDEX_PREFIX, window=WINDOW) + extra)
        return config

    def start(self, checkout: Checkout, database: int, *, name: str = "", extra: str = "") -> Side:
        """A proxy of a checkout, once everything is in its cache and its worker has ended.

        The tables call it `name`, or as they call the checkout.
        """
        port = free_port()
        config = self.configure(port, database, extra)
        serve = checkout.command("serve", "--config", str(config))
        session = start_listener(self.supervisor, f"proxy-{port}", serve, port).process.pid
        worker = self.supervisor.start(f"worker-{port}", checkout.command("worker", "--config", str(config)))
        url = f"http://127.0.0.1:{port}"
        self.supervisor.await_ready(worker, lambda: _is_reranking(url), limit_s=START_LIMIT_S)
        side = Side(name=name or checkout.name, caller=Caller(url), session=session)
        for kind in CHARACTERS:
            side.score_all(INDEX_PREFIX + kind, self.searches)
        self.supervisor.end(worker)
        return side


def _is_reranking(url: str) -> bool:
    with suppress(BenchError):  # 503 as long as it can't
        return bool(send(f"{url}/_es_rerank/health")["reranking"])
    return False


@contextmanager
def begun(options: argparse.Namespace) -> Iterator[Bench]:
    """Engine and Redis, and the texts in an index for each length until the block ends."""
    with tempfile.TemporaryDirectory(prefix="cached-") as name, Supervisor(Path(name) / "logs") as supervisor:
        folder, redis_port = Path(name), free_port()
        start_redis(supervisor, redis_port, folder / "redis")
        engine = options.engine or start_opensearch(supervisor)[0]
        read = read_texts(options.collection)
        try:
            for kind, characters in CHARACTERS.items():
                texts = cut(read.texts, characters)
                sources = [{"title": title, "text": text} for title, text in zip(read.titles, texts, strict=True)]
                load(engine, INDEX_PREFIX + kind, sources)
            asked = pick_searches(engine, read.queries, options.queries)
            print(
                f"{machine()}, {engine_name(engine)}; {len(read.texts)} documents of {read.name} in "
                f"{' or '.join(map(str, CHARACTERS.values()))} characters, {len(asked)} queries, {WINDOW} hits.\n",
                flush=True,
            )
            yield Bench(supervisor=supervisor, folder=folder, engine=engine, redis_port=redis_port, searches=asked)
        finally:
            if options.engine:
                delete(engine, *(INDEX_PREFIX + kind for kind in CHARACTERS))


def pick_searches(engine: str, queries: Sequence[str], count: int) -> list[dict[str, Any]]:
    """The first searches that find a whole window in every index. Raises BenchError if there is none."""
    found = (
        search
        for search in searches(queries)
        if all(
            send(f"{engine}/{INDEX_PREFIX}{kind}/_count", {"query": search["query"]}, method="POST")["count"] >= WINDOW
            for kind in CHARACTERS
        )
    )
    picked = list(islice(found, count))
    if not picked:
        raise BenchError(f"no query finds {WINDOW} documents")
    return picked


# ---- Measurement ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one side took: milliseconds of each search by round, a proxy's CPU per search, and the steps it reported."""

    rounds: Sequence[Sequence[float]]
    cpu_ms: float
    answer_bytes: int
    steps: Sequence[Mapping[str, float]]

    def percentile(self, percent: int) -> float:
        """Of all rounds together."""
        return statistics.quantiles([ms for one in self.rounds for ms in one], n=100)[percent - 1]

    def medians(self) -> list[float]:
        """Of each round."""
        return [statistics.median(one) for one in self.rounds]

    def median_steps(self) -> dict[str, float]:
        """Each step's median; a step that a search did not have counts as 0."""
        names = dict.fromkeys(name for one in self.steps for name in one)
        return {name: statistics.median(one.get(name, 0.0) for one in self.steps) for name in names}


def take_turns(
    sides: Sequence[Side], requests: Mapping[str, Sequence[bytes]], turns: int
) -> dict[str, list[tuple[float, bytes]]]:
    """Ask every side so many times, one after the other; seconds and answers by side."""
    taken: dict[str, list[tuple[float, bytes]]] = {side.name: [] for side in sides}
    for turn in range(turns):
        again, number = divmod(turn, len(requests[DIRECT]))
        # Each time that a query comes again, another side is asked first.
        for side in rotated(sides, turn + again):
            taken[side.name].append(side.caller.ask(requests[side.name][number]))
    return taken


def measure(
    sides: Sequence[Side], index: str, asked: Sequence[Mapping[str, Any]], *, rounds: int, requests: int
) -> dict[str, Figures]:
    """How long each side takes for the searches once everything is warm, and what the proxies say of their steps."""
    plain, telling = (
        {side.name: side.prepare(index, asked, status=status) for side in sides} for status in (False, True)
    )
    take_turns(sides, plain, WARM_TURNS)
    before_s = [cpu_s(side.session) for side in sides]
    took_ms = [_milliseconds(take_turns(sides, plain, requests)) for _ in range(rounds)]
    after_s = [cpu_s(side.session) for side in sides]
    told = take_turns(sides, telling, STATUS_TURNS * len(asked))
    return {
        side.name: Figures(
            rounds=[one[side.name] for one in took_ms],
            cpu_ms=(after - before) * 1000 / (rounds * requests),
            answer_bytes=len(told[side.name][-1][1]),
            steps=[] if side.name == DIRECT else [_steps(answer) for _, answer in told[side.name]],
        )
        for side, before, after in zip(sides, before_s, after_s, strict=True)
    }


def _milliseconds(taken: Mapping[str, Sequence[tuple[float, bytes]]]) -> dict[str, list[float]]:
    return {name: [took_s * 1000 for took_s, _ in asked] for name, asked in taken.items()}


def _steps(answer: bytes) -> dict[str, float]:
    steps: dict[str, float] = read_status(answer, cached=WINDOW)["took_ms"]
    return steps


# ---- Tables ----


def over(figures: Mapping[str, Figures], name: str) -> list[float]:
    """How many milliseconds more than the engine itself a side took in each round, by the medians."""
    return [one - direct for one, direct in zip(figures[name].medians(), figures[DIRECT].medians(), strict=True)]


def table(measured: Mapping[str, Mapping[str, Figures]]) -> str:
    """Markdown, for figures by kind of document and by side."""
    lines = [
        "| documents | asked | p50, ms | p95, ms | p50 over the engine's, ms | proxy's CPU, ms/search | answer, KB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, figures in measured.items():
        for name, one in figures.items():
            more = "" if name == DIRECT else spread(over(figures, name), 2)
            cpu = "" if name == DIRECT else f"{one.cpu_ms:.2f}"
            lines.append(
                f"| {kind} | {name} | {one.percentile(50):.2f} | {one.percentile(95):.2f} | {more} | {cpu} "
                f"| {one.answer_bytes / 1000:.0f} |"
            )
    return "\n".join(lines)


def steps_table(measured: Mapping[str, Mapping[str, Figures]]) -> str:
    """Markdown of what the proxies say of their steps."""
    steps = {(kind, name): one.median_steps() for kind, figures in measured.items() for name, one in figures.items()}
    names = list(dict.fromkeys(name for one in steps.values() for name in one))
    lines = [
        f"| documents | proxy | {' | '.join(f'{name}, ms' for name in names)} |",
        f"| --- | --- |{' ---: |' * len(names)}",
    ]
    for (kind, side), one in steps.items():
        if one:
            cells = (f"{one[name]:.1f}" if name in one else "" for name in names)
            lines.append(f"| {kind} | {side} | {' | '.join(cells)} |")
    return "\n".join(lines)


def goals(measured: Mapping[str, Mapping[str, Figures]]) -> str:
    """How each proxy keeps the goal."""
    return "\n".join(
        verdict(f"{name}, {kind} documents, ms over the engine", over(figures, name), digits=2, most=MOST_MS)
        for kind, figures in measured.items()
        for name in figures
        if name != DIRECT
    )


# ---- The two commands ----


def bench(options: argparse.Namespace) -> None:
    """Compare, for both lengths."""
    versions = checkouts(options.before)
    with begun(options) as started:
        proxies = [started.start(checkout, database) for database, checkout in enumerate(versions)]
        sides = [Side(name=DIRECT, caller=Caller(started.engine), session=NO_SESSION), *proxies]
        given = {"rounds": options.rounds, "requests": options.requests}
        measured = {kind: measure(sides, INDEX_PREFIX + kind, started.searches, **given) for kind in CHARACTERS}
        print(f"{options.rounds} rounds of {options.requests} searches.\n\n{table(measured)}\n")
        print(f"What the status says of the steps, medians:\n\n{steps_table(measured)}\n\n{goals(measured)}")
        for side in sides:
            side.caller.close()


def profile(options: argparse.Namespace) -> None:
    """Print where the time of this checkout's proxy goes, for both lengths."""
    [ours] = checkouts(None)
    count = options.rounds * options.requests
    with begun(options) as started:
        started.start(ours, 0).caller.close()
        for kind in CHARACTERS:
            port, stats = free_port(), started.folder / f"{kind}.profile"
            command = profiled_command(started.configure(port, 0), stats)
            child = start_listener(started.supervisor, f"profiled-{kind}", command, port)
            caller = Caller(f"http://127.0.0.1:{port}")
            for turn in range(count):
                caller.ask(caller.search(INDEX_PREFIX + kind, started.searches[turn % len(started.searches)]))
            caller.close()
            started.supervisor.end(child)
            print(f"**{kind} documents**, {count} searches\n\n{hot_spots(stats, count)}\n", flush=True)


def main() -> int:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=100, help="searches on each side in a round (%(default)s)")
    parser.add_argument("--queries", type=int, default=20, help="how many different ones (%(default)s)")
    parser.add_argument(
        "--collection",
        type=Path,
        default=SHARED / "data" / "cranfield",
        metavar="DIR",
        help="a BEIR folder (%(default)s)",
    )
    add_options(parser)
    options = parser.parse_args()
    stop_by_exception()
    try:
        (profile if options.profile else bench)(options)
    except EsRerankError as error:
        print(f"cached: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
