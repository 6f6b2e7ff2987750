"""What searches cost in one `_msearch`, next to the same searches one by one: time, and CPU of the proxy.

    python bench/msearch.py                  20 searches, on the embedded engine
    python bench/msearch.py --searches 50 --rounds 5

Cold (each round has questions of its own, and one worker with MiniLM scores all) and cached. A worker keeps the vectors
of documents, and all questions are about the same ones, so a cold round costs it the questions alone. The embedded
engine is enough, since both ways are compared with each other on it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.stack import cpu_s  # found by the line above
from es_rerank.demo.embedded import start_engine, start_redis
from es_rerank.demo.processes import Supervisor, free_port, is_listening

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INDEX = "many"
DOCUMENTS = 200
START_LIMIT_S = 120.0
WORDS = ("robot", "love", "island", "war", "desert", "sailor", "queen", "glass", "winter", "prison", "letter", "river")
# The deadline is longer than any window needs, so that both ways score everything.
CONFIG = """\
[upstream]
urls = ["http://127.0.0.1:{engine}"]
[redis]
url = "redis://127.0.0.1:{redis}/0"
[server]
port = {port}
[limits]
max_deadline_s = 600.0
[[rules]]
name = "bench"
indices = ["many"]
fields = ["text"]
window = {window}
any_language = true
deadline_s = 600.0
"""


def post(connection: http.client.HTTPConnection, target: str, body: bytes) -> Any:
    """One request and its answer."""
    connection.request("POST", target, body, {"content-type": "application/json"})
    reply = connection.getresponse()
    answer = json.loads(reply.read())
    if reply.status != 200:
        sys.exit(f"{target}: {answer}")
    return answer


def questions(chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Searches that nobody sent before."""
    texts = [" ".join(chance.choices(WORDS, k=4)) + f" {chance.randrange(10**9)}" for _ in range(count)]
    asked = {"ext": {"es_rerank": {"include": ["status"]}}}
    return [{"query": {"match": {"text": text}}, "size": 10, **asked} for text in texts]


def one_by_one(connection: http.client.HTTPConnection, searches: Sequence[dict[str, Any]]) -> list[Any]:
    """The answers of searches that follow each other."""
    return [post(connection, f"/{INDEX}/_search", json.dumps(search).encode()) for search in searches]


def together(connection: http.client.HTTPConnection, searches: Sequence[dict[str, Any]]) -> list[Any]:
    """The answers of the same searches in one request."""
    body = b"".join(b'{"index":"%b"}\n%b\n' % (INDEX.encode(), json.dumps(one).encode()) for one in searches)
    answers: list[Any] = post(connection, "/_msearch", body)["responses"]
    return answers


WAYS = {"one by one": one_by_one, "_msearch": together}


def measure(port: int, pid: int, count: int, window: int, rounds: int) -> Iterator[tuple[str, str, float, float]]:
    """By kind and way: seconds and seconds of the proxy's CPU, for each round."""
    chance = random.Random(1)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    for number in range(rounds):
        ways = list(WAYS.items())
        for way, send in ways if number % 2 else ways[::-1]:
            searches = questions(chance, count)
            for kind in ("cold", "cached"):
                started_s, cpu_started_s = time.perf_counter(), cpu_s(pid)
                answers = send(connection, searches)
                yield kind, way, time.perf_counter() - started_s, cpu_s(pid) - cpu_started_s
                told = [answer["_es_rerank"] for answer in answers]
                known = window if kind == "cached" else 0
                if any((one["status"], one["window"], one["cached"]) != ("full", window, known) for one in told):
                    sys.exit(f"not all were reranked as {kind} ones: {told}")


def main() -> None:
    """Start everything, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Supervisor(Path(name)) as supervisor:
        folder, engine, redis, port = Path(name), free_port(), free_port(), free_port()
        start_engine(supervisor, engine)
        start_redis(supervisor, redis, folder / "redis")
        config = folder / "es-rerank.toml"
        config.write_text(CONFIG.format(engine=engine, redis=redis, port=port, window=options.window))
        command = [sys.executable, "-m", "es_rerank"]
        proxy = supervisor.start("proxy", [*command, "serve", "--config", str(config)])
        supervisor.await_ready(proxy, lambda: is_listening(port), limit_s=START_LIMIT_S)
        supervisor.start("worker", [*command, "worker", "--config", str(config)])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        chance = random.Random(0)
        lines = [
            line
            for place in range(DOCUMENTS)
            for line in ({"index": {"_id": str(place)}}, {"text": " ".join(chance.choices(WORDS, k=60))})
        ]
        bulk = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        post(connection, f"/{INDEX}/_bulk?refresh=true", bulk)
        while together(connection, questions(chance, 1))[0]["_es_rerank"]["status"] != "full":
            time.sleep(0.2)
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for kind, way, took_s, used_s in measure(
            port, proxy.process.pid, options.searches, options.window, options.rounds
        ):
            found.setdefault((kind, way), []).append((took_s, used_s))
    print("| scores | asked | time, ms | least to most | proxy's CPU, ms |\n| --- | --- | ---: | ---: | ---: |")
    for (kind, way), rounds in sorted(found.items(), reverse=True):
        times = [took_s * 1000 for took_s, _ in rounds]
        cpu_ms = statistics.fmean(used_s for _, used_s in rounds) * 1000  # the kernel counts in steps of 10 ms
        print(
            f"| {kind} | {way} | {statistics.median(times):.0f} | {min(times):.0f} to {max(times):.0f} | {cpu_ms:.0f} |"
        )


if __name__ == "__main__":
    main()
