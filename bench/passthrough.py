"""What passing through costs: es-rerank next to nginx as a proxy, before a real engine and before a free one.

    python bench/passthrough.py                                    on an OpenSearch started for it
    python bench/passthrough.py --engine http://127.0.0.1:9200     on an engine of yours
    python bench/passthrough.py --before ../other-checkout         with another es-rerank in the same rounds
    python bench/passthrough.py --profile                          where this one's time goes, before the free engine

Three loads: a plain GET, a search on an index without a rule, and a search on an index with a rule that is not reranked
because it is sorted. The free engine is an nginx that answers everything with 10 KB JSON, so that only the proxy costs
time. In each round every candidate gets every load for some seconds, and each round begins with another candidate. wrk,
engine and proxies share the machine, so CPU seconds of the proxy are the steadier figure. Needs Linux with `nginx` and
`wrk`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import shutil
import sys
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.stack import (
    BASELINE,
    NGINX_COMMON,
    NGINX_PROXY,
    REPORT,
    Load,
    Sample,
    measure,
)
from bench.system import (
    DIRECT,
    GENTLE,
    INDEX_PREFIX,
    NO_SESSION,
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
    ratios,
    rotated,
    spread,
    start_listener,
    start_opensearch,
    stop_by_exception,
    verdict,
)
from es_rerank.demo.corpus import read_documents
from es_rerank.demo.embedded import start_redis
from es_rerank.demo.processes import Supervisor, free_port
from es_rerank.errors import EsRerankError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from es_rerank.demo.processes import Child

    Samples = Mapping[str, Mapping[str, Sequence[Sample]]]  # by load, then by candidate, one for each round

FREE_INDEX, RULED_INDEX = INDEX_PREFIX + "free", INDEX_PREFIX + "films-1"
DOCUMENTS = 4000
WARM_S = 2.0
ENGINE_WARM_S = 15.0  # Java compiles its hot code only after a while
LEAST_OF_NGINX, MOST_OF_GET = 0.65, 1.3
CONFIG = """\
[upstream]
urls = ["{engine}"]
[redis]
url = "redis://127.0.0.1:{redis_port}/0"
[server]
port = {port}
[[rules]]
name = "films"
indices = ["{prefix}films-*"]
fields = ["title", "text"]
"""
# It answers any path and method. The mirror, which leads nowhere, makes nginx read the body first, as an engine does.
NGINX_FREE = """
  server {{ listen 127.0.0.1:{port} backlog=1024; root {folder};
    location ~ . {{ mirror /nowhere; alias {folder}/ten.json; error_page 405 =200 /ten.json; }}
    location = /ten.json {{ }}
    location = /nowhere {{ internal; return 204; }}
  }}
"""
SEARCH: dict[str, Any] = {
    "query": {
        "bool": {
            "must": [
                {
                    "multi_match": {
                        "query": "read and write the lines of a compressed text file",
                        "fields": ["title^2", "text"],
                        "type": "best_fields",
                        "tie_breaker": 0.3,
                        "minimum_should_match": "30%",
                    }
                }
            ],
            "filter": [{"range": {"year": {"gte": 1990, "lte": 2020}}}],
            "must_not": [{"term": {"title.keyword": {"value": "antigravity"}}}],
        }
    },
    "_source": {"includes": ["title", "text", "year"], "excludes": ["internal.*"]},
    "aggs": {"years": {"terms": {"field": "year", "size": 5}}},
    "from": 0,
    "size": 10,
    "track_total_hits": True,
    "timeout": "5s",
}
TOOK = re.compile(rb'"took":\d+')


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is measured: where it listens (`http://HOST:PORT`), and the session whose CPU counts."""

    name: str
    url: str
    session: int
    reranks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Way(Load):
    """A load, with its body and the reason for which es-rerank passes it on; both are None if it is not a search."""

    body: bytes | None = None
    reason: str | None = None


def post(name: str, index: str, search: Mapping[str, Any], reason: str) -> Way:
    """A search as a load."""
    body = json.dumps(search, separators=(",", ":"))
    script = f'wrk.method="POST"; wrk.headers["Content-Type"]="application/json"; wrk.body={json.dumps(body)}'
    return Way(name=name, path=f"/{index}/_search", script=script, body=body.encode(), reason=reason)


GET = Way(name="GET of a document", path=f"/{FREE_INDEX}/_doc/1", script="")
FREE = post("search without a rule", FREE_INDEX, SEARCH, "no_rule")
SORTED = post("sorted search under a rule", RULED_INDEX, {**SEARCH, "sort": [{"year": "asc"}]}, "sort")
WAYS = (GET, FREE, SORTED)


# ---- Processes ----


def start_nginx(supervisor: Supervisor, folder: Path, name: str, servers: str, **settings: str) -> Candidate:
    """An nginx of one worker, with 10 KB JSON to serve."""
    port = free_port()
    own = folder / f"nginx-{port}"
    own.mkdir()
    hits = [{"_id": str(number), "text": "word " * 16} for number in range(94)]
    (own / "ten.json").write_text(json.dumps({"hits": {"hits": hits}}))
    config = own / "nginx.conf"
    values = {"folder": str(own), "port": port, **settings}
    config.write_text(NGINX_COMMON.format(servers=servers.format(**values), **values))
    command = [*GENTLE, "nginx", "-p", str(own), "-e", "stderr", "-c", str(config)]
    child = start_listener(supervisor, own.name, command, port)
    return Candidate(name=name, url=f"http://127.0.0.1:{port}", session=child.process.pid)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where processes are started, and the Redis that proxies need."""

    supervisor: Supervisor
    folder: Path
    redis_port: int

    def es_rerank(self, checkout: Checkout, engine: str, stats: Path | None = None) -> tuple[Candidate, Child]:
        """A proxy of a checkout; if `stats` is given, of this one, under a profiler that writes that file."""
        port = free_port()
        config = self.folder / f"{checkout.name}-{port}.toml"
        config.write_text(CONFIG.format(engine=engine, redis_port=self.redis_port, port=port, prefix=INDEX_PREFIX))
        command = profiled_command(config, stats) if stats else checkout.command("serve", "--config", str(config))
        child = start_listener(self.supervisor, f"{checkout.name}-{port}", command, port)
        url = f"http://127.0.0.1:{port}"
        return Candidate(name=checkout.name, url=url, session=child.process.pid, reranks=True), child

    def free_engine(self) -> Candidate:
        """The engine that costs next to nothing."""
        return start_nginx(self.supervisor, self.folder, DIRECT, NGINX_FREE)

    def candidates(self, direct: Candidate, sides: Sequence[Checkout]) -> list[Candidate]:
        """What is measured before one engine: itself, nginx, and each es-rerank."""
        upstream = urlsplit(direct.url).netloc
        nginx = start_nginx(self.supervisor, self.folder, BASELINE, NGINX_PROXY, upstream=upstream)
        return [direct, nginx, *(self.es_rerank(side, direct.url)[0] for side in sides)]


@contextmanager
def begun() -> Iterator[Bench]:
    """A Redis, and a folder for everything."""
    with tempfile.TemporaryDirectory(prefix="passthrough-") as name, Supervisor(Path(name) / "logs") as supervisor:
        folder = Path(name)
        folder.chmod(0o755)  # nginx drops from root to a user of its own, who must be able to read its file
        redis_port = free_port()
        start_redis(supervisor, redis_port, folder / "redis")
        yield Bench(supervisor, folder, redis_port)


@contextmanager
def loaded_engine(bench: Bench, given: str | None) -> Iterator[Candidate]:
    """The engine at the URL `given`, or one that is started, with both indices until the block ends."""
    url, session = (given, NO_SESSION) if given else start_opensearch(bench.supervisor)
    texts = read_documents()[:DOCUMENTS]
    sources = [
        {"title": text.words, "text": text.text, "year": 1980 + number % 45} for number, text in enumerate(texts)
    ]
    try:
        for index in (FREE_INDEX, RULED_INDEX):
            load(url, index, sources)
        yield Candidate(name=DIRECT, url=url, session=session)
    finally:
        if given:
            delete(url, FREE_INDEX, RULED_INDEX)


# ---- Measurement ----


def ask(candidate: Candidate, way: Way, body: bytes | None) -> bytes:
    """The body of one good answer. Raises BenchError for any other."""
    with closing(http.client.HTTPConnection(urlsplit(candidate.url).netloc, timeout=60)) as connection:
        connection.request("POST" if body else "GET", way.path, body, {"content-type": "application/json"})
        reply = connection.getresponse()
        answer = reply.read()
    if reply.status != 200:
        raise BenchError(f"{candidate.name}, {way.name}: {reply.status} {answer[:500]!r}")
    return answer


def check(candidate: Candidate, direct: Candidate) -> None:
    """Raise BenchError unless the candidate answers as its engine does, and es-rerank gives the expected reason."""
    for way in WAYS:
        answer, expected = (TOOK.sub(b"", ask(one, way, way.body)) for one in (candidate, direct))
        if answer != expected:
            raise BenchError(f"{candidate.name}: another answer than the engine's own for the {way.name}")
        if candidate.reranks and way.body is not None:
            asked = {**json.loads(way.body), "ext": {"es_rerank": {"include": ["status"]}}}
            said = json.loads(ask(candidate, way, json.dumps(asked).encode()))["_es_rerank"]
            if (said["status"], said["reason"]) != ("skipped", way.reason):
                raise BenchError(f"{candidate.name}: the {way.name} should be skipped for {way.reason}: {said}")


def run(candidate: Candidate, way: Way, folder: Path, connections: int, seconds: float) -> Sample:
    """One run of wrk. Raises BenchError where a single request fails."""
    script = folder / "load.lua"
    script.write_text(way.script + REPORT)
    try:
        return measure(candidate.url + way.path, candidate.session, script, connections, seconds)
    except RuntimeError as error:
        raise BenchError(f"{candidate.name}, {way.name}: {error}") from error


def compare(
    candidates: Sequence[Candidate], folder: Path, *, warm_s: float, rounds: int, seconds: float, connections: int
) -> Samples:
    """All rounds of all loads, once everything is warm."""
    samples: dict[str, dict[str, list[Sample]]] = {way.name: {one.name: [] for one in candidates} for way in WAYS}
    for way in WAYS:
        for candidate in candidates:
            run(candidate, way, folder, connections, warm_s if candidate.name == DIRECT else WARM_S)
    for turn in range(rounds):
        for way in WAYS:
            for candidate in rotated(candidates, turn):
                samples[way.name][candidate.name].append(run(candidate, way, folder, connections, seconds))
    return samples


# ---- Tables ----


def cpu_of(samples: Sequence[Sample]) -> list[float]:
    """CPU seconds for 1000 requests in each round."""
    return [one.cpu_s_per_1000 for one in samples]


def rates_of(samples: Sequence[Sample]) -> list[float]:
    """Requests a second in each round."""
    return [one.requests_per_s for one in samples]


def table(samples: Samples) -> str:
    """Markdown of one engine: medians with least and most; ratios are those of the same round."""
    lines = [
        "| load | proxy | requests/s | to nginx | CPU s/1000 requests | to nginx | to its GET |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way, by_candidate in samples.items():
        nginx = by_candidate[BASELINE]
        for name, rounds in by_candidate.items():
            rates = f"{spread(rates_of(rounds), 0)} | {spread(ratios(rates_of(rounds), rates_of(nginx)), 3)}"
            cpu = ["", "", ""]
            if name != DIRECT:
                cpu = [
                    spread(cpu_of(rounds), 3),
                    spread(ratios(cpu_of(rounds), cpu_of(nginx)), 1),
                    spread(ratios(cpu_of(rounds), cpu_of(samples[GET.name][name])), 2),
                ]
            lines.append(f"| {way} | {name} | {rates} | {' | '.join(cpu)} |")
    return "\n".join(lines)


def goals(samples: Samples, *, real: bool) -> str:
    """How each es-rerank keeps the goals; the goal for throughput counts only before a real engine."""
    lines = []
    for name, rounds in samples[FREE.name].items():
        if name in (DIRECT, BASELINE):
            continue
        if real:
            rates = ratios(rates_of(rounds), rates_of(samples[FREE.name][BASELINE]))
            lines.append(verdict(f"{name}, {FREE.name}, requests/s to nginx", rates, digits=3, least=LEAST_OF_NGINX))
        cpu = ratios(cpu_of(rounds), cpu_of(samples[GET.name][name]))
        lines.append(verdict(f"{name}, {FREE.name}, CPU to its GET", cpu, digits=2, most=MOST_OF_GET))
    return "\n".join(lines)


# ---- The two commands ----


def bench(options: argparse.Namespace) -> None:
    """Compare before both engines."""
    sides = checkouts(options.before)
    print(
        f"{machine()}, {options.connections} connections, {options.rounds} rounds of {options.seconds:g} s, "
        f"search of {len(FREE.body or b'')} bytes.",
    )
    given = {"rounds": options.rounds, "seconds": options.seconds, "connections": options.connections}
    with begun() as started:
        _report("nginx that answers from memory", started, started.free_engine(), sides, real=False, **given)
    with begun() as started, loaded_engine(started, options.engine) as direct:
        _report(engine_name(direct.url), started, direct, sides, real=True, **given)


def _report(
    engine: str, started: Bench, direct: Candidate, sides: Sequence[Checkout], *, real: bool, **given: Any
) -> None:
    candidates = started.candidates(direct, sides)
    for candidate in candidates:
        check(candidate, direct)
    samples = compare(candidates, started.folder, warm_s=ENGINE_WARM_S if real else WARM_S, **given)
    print(f"\n**Before {engine}**\n\n{table(samples)}\n\n{goals(samples, real=real)}", flush=True)


def profile(options: argparse.Namespace) -> None:
    """Print where each load's time goes in this checkout's proxy."""
    [ours] = checkouts(None)
    with begun() as started:
        direct = started.free_engine()
        for way in WAYS:
            stats = started.folder / "profile"
            candidate, child = started.es_rerank(ours, direct.url, stats)
            sample = run(candidate, way, started.folder, options.connections, options.seconds)
            started.supervisor.end(child)
            requests = round(sample.requests_per_s * options.seconds)
            print(f"**{way.name}**, {requests} requests\n\n{hot_spots(stats, requests)}\n", flush=True)


def main() -> int:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=8)
    add_options(parser)
    options = parser.parse_args()
    stop_by_exception()
    for tool in ("nginx", "wrk"):
        if shutil.which(tool) is None:
            parser.error(f"`{tool}` is not on PATH; install it (Debian: apt install {tool})")
    try:
        (profile if options.profile else bench)(options)
    except EsRerankError as error:
        print(f"passthrough: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
