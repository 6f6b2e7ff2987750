"""Tunes on judged collections as an engineer does from Dev Tools, and checks what the sweep promised on the wire.

For each collection, by default of the folder shared/data beside the checkout:

    python bench/tuning.py                                     all, on an OpenSearch started for it
    python bench/tuning.py --collections adi --settings 100 --tried 5

Engine, Redis, worker and proxy are processes of their own. Judgments are imported, a replay records all windows, and a
sweep tries a thousand settings: all by requests below `/_es_rerank`. Then some settings, chosen by chance with a fixed
seed, are asked for on the wire, query by query, and nDCG@10 of those answers is compared with what the sweep had for
the setting. Prints a Markdown table and each verdict. Exit code: 0; 1 where two figures differ by more than 0.0005; 2
where nothing could be measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ir_measures import nDCG  # the line above is for what follows
from tqdm import tqdm

from bench.relevance import (
    ANALYZERS,
    SHARED,
    BenchError,
    Client,
    describe,
    es_rerank,
    free_port,
    ids,
    ingest,
    is_listening,
    read_collection,
    running,
    started_engine,
    started_redis,
    values_of,
    worker,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.relevance import Collection

CONFIG = """
[upstream]
urls = ["{engine}"]
[redis]
url = "{redis}"
[server]
port = {port}
[limits]
max_deadline_s = 300.0
[store]
[scorers.minilm]
start_timeout_s = 600.0
[[rules]]
name = "tuned"
indices = ["tuning-bench-*"]
fields = ["title", "text"]
any_language = true
"""
ALLOWED_DIFFERENCE = 0.0005
PAGE = 10
METHODS = ("zscore", "minmax", "rrf")
WINDOWS = (100, 50, 20)
HEAD = """\
| collection | queries | engine | now | held out | replay, s | sweep, s | settings | tried | largest difference |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


@contextlib.contextmanager
def started_system(engine: str, redis: str, folder: Path) -> Iterator[str]:
    """A worker and a proxy before the engine; yields the proxy's URL once the worker can score."""
    port = free_port()
    config = folder / "es-rerank.toml"
    config.write_text(CONFIG.format(engine=engine, redis=redis, port=port))
    url = f"http://127.0.0.1:{port}"
    with (
        running(es_rerank("serve", "--config", str(config)), folder / "proxy.log", lambda: is_listening(port)),
        contextlib.closing(Client(url)) as proxy,
        running(*worker("minilm", config, folder, proxy)),
    ):
        yield url


def asked(client: Client, method: str, target: str, body: Any = None) -> Any:
    """One request below our own path. Raises BenchError for an error."""
    answer = client.ask(method, target, body).body
    if isinstance(answer, dict) and "error" in answer:
        raise BenchError(f"{method} {target}: {json.dumps(answer)[:500]}")
    return answer


def finished(client: Client, kind: str, body: Any) -> tuple[dict[str, Any], float]:
    """A job's last state, and the seconds that it took. Raises BenchError where it did not get done."""
    began_s = time.monotonic()
    job = asked(client, "POST", f"/_es_rerank/{kind}", body)
    while True:
        state = asked(client, "GET", f"/_es_rerank/{kind}/{job['id']}")
        if state["state"] != "running":
            break
        time.sleep(0.2)
    if state["state"] != "done":
        raise BenchError(f"{kind}: {json.dumps(state)[:500]}")
    return state, time.monotonic() - began_s


def grid_of(settings: int) -> dict[str, Any]:
    """A grid of about so many settings: alphas in equal steps, with each method and window."""
    alphas = max(2, settings // (len(METHODS) * len(WINDOWS)))
    values = [round(step / (alphas - 1), 4) for step in range(alphas)]
    return {"alpha": values, "method": list(METHODS), "window": list(WINDOWS)}


def import_judgments(client: Client, collection: Collection) -> None:
    """Bring the collection's judgments in, with the words of its queries."""
    lines = [
        {"query_id": key, "user_query": collection.queries[key], "object_id": document, "grade": grade}
        for key, grades in collection.grades.items()
        for document, grade in grades.items()
    ]
    name = collection.folder.name
    for start in range(0, len(lines), 5000):
        body = lines[start : start + 5000]
        asked(client, "POST", f"/_es_rerank/judgments/{name}", body)


def on_the_wire(client: Client, index: str, collection: Collection, setting: dict[str, Any]) -> float:
    """Mean nDCG@10 of the first pages that the running proxy gives with this setting."""
    wishes = {key: setting[key] for key in ("alpha", "method", "window")}
    order = {
        key: ids(client.search(index, text, size=PAGE, ext={"es_rerank": wishes}))
        for key, text in collection.queries.items()
        if key in collection.grades
    }
    return float(values_of(nDCG @ PAGE, order, collection).mean())


def tune(
    collection: Collection, engine_url: str, proxy_url: str, options: argparse.Namespace
) -> tuple[str, str, float]:
    """A row of the table, the verdict, and the largest difference between sweep and wire."""
    name = collection.folder.name
    index = f"tuning-bench-{name}"
    with contextlib.closing(Client(engine_url)) as engine, contextlib.closing(Client(proxy_url)) as proxy:
        ingest(collection.folder, index, engine_url)
        import_judgments(proxy, collection)
        replay, replay_s = finished(proxy, "replays", {"index": index, "judgments": name, "concurrency": 2})
        sweep, sweep_s = finished(
            proxy, "sweeps", {"recording": replay["id"], "judgments": name, "grid": grid_of(options.settings)}
        )
        rows = engine.ask(
            "POST",
            "/es-rerank-runs/_search",
            {
                "size": 10_000,
                "query": {
                    "bool": {
                        "filter": [
                            {"term": {"job": sweep["id"]}},
                            {"term": {"aggregate": True}},
                            {"term": {"metric": "nDCG@10"}},
                        ],
                        "must_not": [{"exists": {"field": "group"}}, {"term": {"held_out": True}}],
                    }
                },
            },
        ).body["hits"]["hits"]
        settings = [hit["_source"] for hit in rows if hit["_source"].get("alpha") is not None]
        chosen = random.Random(2026).sample(settings, min(options.tried, len(settings)))
        differences = [
            abs(setting["value"] - on_the_wire(proxy, index, collection, setting))
            for setting in tqdm(chosen, desc=f"{name}: settings on the wire")
        ]
        engine.ask("DELETE", f"/{index}")
    result = sweep["result"]
    worst = max(differences, default=0.0)
    row = (
        f"| {name} | {len(collection.queries):,} | {result['engine_value']:.4f} | {result['present_value']:.4f} "
        f"| {result['held_out']:.4f} | {replay_s:.1f} | {sweep_s:.1f} | {len(settings):,} | {len(chosen)} "
        f"| {worst:.6f} |"
    )
    return row, f"{name}: {sweep['verdict']}", worst


def bench(options: argparse.Namespace) -> int:
    """Tune on the collections one by one and print the table. Returns the exit code."""
    names: Sequence[str] = options.collections.split(",")
    collections = [read_collection(options.data / name, options.queries) for name in names]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tuning-")))
        engine = stack.enter_context(started_engine(folder))
        redis = stack.enter_context(started_redis(folder))
        proxy = stack.enter_context(started_system(engine, redis, folder))
        print(f"{describe(engine)}\n\n{HEAD}", flush=True)
        verdicts, largest = [], 0.0
        for collection in collections:
            row, verdict, difference = tune(collection, engine, proxy, options)
            verdicts.append(verdict)
            largest = max(largest, difference)
            print(row, flush=True)
    print("\n" + "\n".join(f"- {verdict}" for verdict in verdicts))
    return 1 if largest > ALLOWED_DIFFERENCE else 0


def main() -> int:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collections", default=",".join(ANALYZERS), help="which, with commas (%(default)s)")
    parser.add_argument("--queries", type=int, metavar="N", help="only the first N queries of each")
    parser.add_argument(
        "--settings", type=int, default=1000, metavar="N", help="about how many are swept (%(default)s)"
    )
    parser.add_argument("--tried", type=int, default=20, metavar="N", help="how many are asked for on the wire")
    parser.add_argument("--data", type=Path, default=SHARED / "data", metavar="DIR", help="where the collections lie")
    try:
        return bench(parser.parse_args())
    except BenchError as error:
        print(f"tuning: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
