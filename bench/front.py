"""What the front costs requests that no proxy needs: nginx with its configuration, next to an nginx that only proxies.

Both run one worker, with buffers of the same size, before the same upstream: a third nginx that answers 10 KB from
memory. The front's configuration is what `es-rerank front` prints for `--rules` rules. A round measures both, the other
one first in each next round, and ratios are of the same round. wrk, upstream and proxies share the machine, so CPU
seconds of nginx per 1000 requests are printed beside requests/s. Loads, processes and measurement are those of
bench/stack.py.

    .venv/bin/python bench/front.py --rounds 10 --seconds 3

Needs Linux with `nginx` and `wrk` on PATH.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.stack import (
    LOADS,
    NGINX_COMMON,
    NGINX_PROXY,
    NGINX_UPSTREAM,
    REPORT,
    check,
    free_port,
    measure,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.stack import Sample

BARE, FRONT = "bare nginx", "front"
# As large as the front's: larger buffers are faster, and that must not count for the front.
BUFFERS = "proxy_buffering off; proxy_buffer_size 64k; proxy_buffers 4 64k;"
GOAL = 0.95
CONFIG = """\
[upstream]
urls = ["http://127.0.0.1:{port}"]
[redis]
url = "redis://127.0.0.1:1/0"
"""
RULE = """\
[[rules]]
name = "rule{number}"
indices = ["articles{number}-*"]
fields = ["text"]
"""


def print_front(folder: Path, upstream_port: int, port: int, rules: int) -> str:
    """What the command prints for so many rules."""
    config = folder / "es-rerank.toml"
    config.write_text(CONFIG.format(port=upstream_port) + "".join(RULE.format(number=one) for one in range(rules)))
    command = [sys.executable, "-m", "es_rerank", "front", "--config", str(config), "--listen", str(port)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]).stdout


@contextlib.contextmanager
def candidates(folder: Path, body: bytes, rules: int) -> Iterator[dict[str, tuple[int, int]]]:
    """Start the upstream and both proxies; yields name -> (port, session id)."""
    with contextlib.ExitStack() as stack:
        upstream_port, bare_port, front_port = free_port(), free_port(), free_port()

        def nginx(name: str, servers: str, port: int) -> int:
            home = folder / name
            home.mkdir()
            (home / "ten.json").write_bytes(body)
            (home / "nginx.conf").write_text(NGINX_COMMON.format(servers=servers, folder=home))
            command = ["nginx", "-p", str(home), "-e", "stderr", "-c", str(home / "nginx.conf")]
            return stack.enter_context(running(f"nginx ({name})", command, port, {}))

        nginx("upstream", NGINX_UPSTREAM.format(folder=folder / "upstream", port=upstream_port), upstream_port)
        bare = NGINX_PROXY.replace("proxy_buffering off;", BUFFERS).format(
            upstream=f"127.0.0.1:{upstream_port}", port=bare_port
        )
        front = print_front(folder, upstream_port, front_port, rules)
        yield {
            BARE: (bare_port, nginx("bare", bare, bare_port)),
            FRONT: (front_port, nginx("front", front, front_port)),
        }


def table(samples: dict[str, list[Sample]]) -> str:
    """Markdown of one load: medians of rounds, and medians of same-round ratios with their least and most."""
    lines = [
        "| proxy | requests/s | to bare (least to most) | CPU s/1000 requests | to bare (least to most) |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, rounds in samples.items():
        pairs = list(zip(rounds, samples[BARE], strict=True))
        rates = [sample.requests_per_s / base.requests_per_s for sample, base in pairs]
        costs = [sample.cpu_s_per_1000 / base.cpu_s_per_1000 for sample, base in pairs]
        lines.append(
            f"| {name} | {statistics.median(sample.requests_per_s for sample in rounds):,.0f}"
            f" | {statistics.median(rates):.3f} ({min(rates):.3f} to {max(rates):.3f})"
            f" | {statistics.median(sample.cpu_s_per_1000 for sample in rounds):.4f}"
            f" | {statistics.median(costs):.3f} ({min(costs):.3f} to {max(costs):.3f}) |"
        )
    return "\n".join(lines)


def compare(rounds: int, seconds: int, connections: int, rules: int) -> None:
    """Measure both and print one Markdown table for each load, and whether the goal was met."""
    for tool in ("nginx", "wrk"):
        if shutil.which(tool) is None:
            raise SystemExit(f"`{tool}` is not on PATH; install it (Debian: apt install {tool}).")
    body = json.dumps({"hits": [{"_id": str(number), "text": "word " * 16} for number in range(94)]}).encode()
    version = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr.strip()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        # nginx drops from root to a user of its own, who must be able to read the file.
        folder.chmod(0o755)
        started = stack.enter_context(candidates(folder, body, rules))
        for port, _ in started.values():
            check(port, body)
        print(
            f"{version.removeprefix('nginx version: ')}; {os.cpu_count()} cores, {connections} connections, "
            f"{rounds} rounds of {seconds} s, {rules} rules, file of {len(body)} bytes.\n"
        )
        for load in LOADS:
            script = folder / "load.lua"
            script.write_text(load.script + REPORT)
            samples: dict[str, list[Sample]] = {candidate: [] for candidate in started}
            for port, session in started.values():
                measure(f"http://127.0.0.1:{port}{load.path}", session, script, connections, 1)
            for turn in range(rounds):
                for candidate in list(started)[:: 1 if turn % 2 else -1]:
                    port, session = started[candidate]
                    url = f"http://127.0.0.1:{port}{load.path}"
                    samples[candidate].append(measure(url, session, script, connections, seconds))
            pairs = zip(samples[FRONT], samples[BARE], strict=True)
            met = statistics.median(one.requests_per_s / other.requests_per_s for one, other in pairs) >= GOAL
            print(f"**{load.name}**\n\n{table(samples)}\n")
            print(f"At least {GOAL} of bare nginx: {'yes' if met else 'no'}.\n", flush=True)


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rules", type=int, default=10)
    options = parser.parse_args()
    compare(options.rounds, options.seconds, options.connections, options.rules)


if __name__ == "__main__":
    main()
