"""What is answered in full when more is asked than the workers can score: new questions at a multiple of the capacity.

    python bench/overload.py                               three times the capacity
    python bench/overload.py --before ../other-checkout    with another es-rerank in turns

A real Redis, one real MiniLM worker on one thread, and the proxy's own source of scores. First the capacity is
measured, one question after the other. Then questions arrive at random, `--load` times as fast, each about texts that
nobody has scored, with a deadline of twice the time that one takes alone. At `--load` 3, a third is the most that can
be answered in full. Each checkout runs in a process of its own, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
DOCUMENTS = 16
WORDS_IN_TEXT = 60
WORDS = [
    first + second
    for first in ("sun", "moon", "rain", "fire", "ice", "wind", "stone")
    for second in ("set", "rise", "fall", "man", "light", "storm")
]
CAPACITY_S = 15.0
PATIENCE_S = 60.0
CONFIGURATION = """
[upstream]
urls = ["http://127.0.0.1:1"]
[redis]
url = "redis://127.0.0.1:{port}/0"
[limits]
max_in_flight = 2000
[scorers.minilm]
kind = "minilm"
compute_type = "float32"
threads = 1
batch_size = 4
vector_cache_bytes = 0
concurrency = 8
[[rules]]
name = "texts"
indices = ["texts"]
fields = ["text"]
"""


async def measure(seconds: float, load: float, seed: int) -> dict[str, Any]:
    """Capacity and outcomes of the es-rerank that this process imports."""
    # Of the checkout that PYTHONPATH names, which need not be this one.
    from es_rerank.clock import Deadline, SystemClock  # noqa: PLC0415
    from es_rerank.demo.embedded import start_redis  # noqa: PLC0415
    from es_rerank.demo.processes import Supervisor, free_port  # noqa: PLC0415
    from es_rerank.proxy.laps import Laps  # noqa: PLC0415
    from es_rerank.proxy.scoring.ask import ScoreRequest, Scoring, Stage  # noqa: PLC0415
    from es_rerank.proxy.scoring.opening import open_score_source  # noqa: PLC0415
    from es_rerank.settings import load_settings  # noqa: PLC0415

    folder = Path(tempfile.mkdtemp(prefix="overload-"))
    port = free_port()
    config = folder / "es-rerank.toml"
    config.write_text(CONFIGURATION.format(port=port))
    settings = load_settings(config, {})
    fingerprint = settings.known_scorers()["minilm"].fingerprint()
    chance = random.Random(seed)
    clock = SystemClock()
    asked = 0

    with Supervisor(folder / "logs") as supervisor:
        start_redis(supervisor, port, folder / "redis")
        supervisor.start("worker", [sys.executable, "-m", "es_rerank", "worker", "--config", str(config)])
        async with open_score_source(settings, clock) as source:

            async def ask(limit_s: float) -> int:
                """How many documents of a new question were scored by its deadline."""
                nonlocal asked
                asked += 1
                scoring = Scoring(
                    fingerprint=fingerprint,
                    question=f"question {asked}",
                    instruction="",
                    stages=(Stage(budget_tokens=0),),
                    score="paper",
                )
                texts = (
                    f"{asked} {place} {' '.join(chance.choices(WORDS, k=WORDS_IN_TEXT))}" for place in range(DOCUMENTS)
                )
                request = ScoreRequest(scoring=scoring, texts=tuple(texts))
                deadline = Deadline(clock, clock.monotonic_s() + limit_s)
                [scores] = await source.judge([request], deadline, Laps(clock))
                return scores.scored

            while await ask(PATIENCE_S) < DOCUMENTS:  # noqa: ASYNC110  until the worker serves
                await asyncio.sleep(0.2)
            began_s, alone = time.monotonic(), 0
            while time.monotonic() - began_s < CAPACITY_S:
                await ask(PATIENCE_S)
                alone += 1
            capacity = alone / (time.monotonic() - began_s)
            began_s = arrives_s = time.monotonic()
            asking: list[tuple[float, asyncio.Task[int]]] = []
            while arrives_s - began_s < seconds:
                arrives_s += chance.expovariate(capacity * load)
                await asyncio.sleep(max(0.0, arrives_s - time.monotonic()))
                asking.append((arrives_s - began_s, asyncio.create_task(ask(2 / capacity))))
            outcomes = [(at_s, await one == DOCUMENTS) for at_s, one in asking]
    late = [full for at_s, full in outcomes if at_s > seconds * 2 / 3]
    full = sum(full for _, full in outcomes)
    return {
        "capacity": capacity,
        "asked": len(outcomes),
        "full": full,
        "last_third": sum(late) / max(1, len(late)),
        "of_capacity": full / seconds / capacity,
    }


def main() -> None:
    """Run the checkouts in turns and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--before", type=Path, metavar="CHECKOUT", help="another es-rerank to run in turns with this one"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long questions arrive (%(default)g)")
    parser.add_argument("--load", type=float, default=3.0, help="how many times the capacity (%(default)g)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each checkout (%(default)d)")
    parser.add_argument("--seed", type=int, default=1, help="of arrivals and texts (%(default)d)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(asyncio.run(measure(options.seconds, options.load, options.seed))))
        return
    checkouts = {"this": HERE} | ({"before": options.before.resolve()} if options.before else {})
    print("| checkout | capacity, questions/s | asked | full | full in the last third | of the capacity |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for number in range(options.rounds):
        for name, checkout in checkouts.items():
            command = [sys.executable, str(Path(__file__).resolve()), "--child", "--seed", str(options.seed + number)]
            command += ["--seconds", str(options.seconds), "--load", str(options.load)]
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            run = subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True, check=False)
            if run.returncode:
                sys.exit(f"{name} ended with {run.returncode}:\n{run.stderr[-2000:]}")
            said = json.loads(run.stdout.splitlines()[-1])
            print(
                f"| {name} | {said['capacity']:.2f} | {said['asked']} | {said['full'] / said['asked']:.1%} "
                f"| {said['last_third']:.1%} | {said['of_capacity']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
