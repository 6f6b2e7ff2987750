"""What events cost a search from the cache: the same searches on a proxy without events and on proxies with them.

    python bench/event_cost.py        on an OpenSearch started for it

As in `bench/cached.py`, every score is in the cache and one caller sends one search after the other. The proxies take
turns in blocks of searches, so that what the engine does to index events falls on the proxy that wrote them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.cached import CHARACTERS, WARM_TURNS, begun  # found by the line above
from bench.stack import cpu_s
from bench.system import (
    INDEX_PREFIX,
    SHARED,
    BenchError,
    checkouts,
    ratios,
    rotated,
    send,
    spread,
    stop_by_exception,
    verdict,
)
from es_rerank.errors import EsRerankError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.cached import Side

OFF, DEFAULT, EVERY_HIT = "off", "default sample", "every hit"
TABLES = {
    OFF: "",
    DEFAULT: '[store]\n[events]\nquery_text = "plain"\n',
    EVERY_HIT: '[store]\n[events]\nquery_text = "plain"\nhits_sample_rate = 1.0\n',
}
MOST_RATIO = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one proxy took: milliseconds of each search by round, and its CPU per search."""

    rounds: Sequence[Sequence[float]]
    cpu_ms: float

    def medians(self) -> list[float]:
        """Of each round."""
        return [statistics.median(one) for one in self.rounds]

    def percentile(self, percent: int) -> float:
        """Of all rounds together."""
        return statistics.quantiles([ms for one in self.rounds for ms in one], n=100)[percent - 1]


def measure(
    sides: Sequence[Side], searches: Mapping[str, Sequence[bytes]], options: argparse.Namespace
) -> dict[str, Figures]:
    """What each side takes for the searches, in rounds in which each has one block after the other."""
    took_ms: dict[str, list[list[float]]] = {side.name: [] for side in sides}
    spent_s = dict.fromkeys(took_ms, 0.0)
    for side in sides:
        _block(side, searches[side.name], WARM_TURNS)
    for number in range(options.rounds):
        for side in rotated(sides, number):
            before_s = cpu_s(side.session)
            took_ms[side.name].append(_block(side, searches[side.name], options.requests))
            spent_s[side.name] += cpu_s(side.session) - before_s
    searched = options.rounds * options.requests
    return {name: Figures(rounds=took_ms[name], cpu_ms=spent_s[name] * 1000 / searched) for name in took_ms}


def _block(side: Side, requests: Sequence[bytes], count: int) -> list[float]:
    """Milliseconds of so many searches."""
    return [side.caller.ask(requests[number % len(requests)])[0] * 1000 for number in range(count)]


def table(measured: Mapping[str, Mapping[str, Figures]]) -> str:
    """Markdown, for figures by kind of document and by side."""
    lines = [
        "| documents | events | p50, ms | p95, ms | p50 to off | proxy's CPU, ms/search |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for kind, figures in measured.items():
        for name, one in figures.items():
            ratio = "" if name == OFF else spread(over_off(figures, name), 3)
            took = f"{one.percentile(50):.2f} | {one.percentile(95):.2f}"
            lines.append(f"| {kind} | {name} | {took} | {ratio} | {one.cpu_ms:.2f} |")
    return "\n".join(lines)


def over_off(figures: Mapping[str, Figures], name: str) -> list[float]:
    """The ratio of the medians of each round to those without events."""
    return ratios(figures[name].medians(), figures[OFF].medians())


def goals(measured: Mapping[str, Mapping[str, Figures]]) -> str:
    """How the goal is kept, by the default sample."""
    return "\n".join(
        verdict(
            f"p50 with events over p50 without, {kind} documents", over_off(figures, DEFAULT), digits=3, most=MOST_RATIO
        )
        for kind, figures in measured.items()
    )


def told(side: Side) -> str:
    """What became of the events of a proxy. Raises BenchError if some were lost: then too little was measured."""
    counts = send(f"{side.caller.url}/_es_rerank/health")["parts"]["events"]
    if counts["dropped"] or counts["failed"]:
        raise BenchError(f"{side.name}: events were lost: {counts}")
    return f"{side.name}: {counts['written']} of {counts['recorded']} documents are written so far"


def bench(options: argparse.Namespace) -> None:
    """Compare, for both lengths."""
    [ours] = checkouts(None)
    with begun(options) as started:
        sides = [started.start(ours, 0, name=name, extra=extra) for name, extra in TABLES.items()]
        measured = {}
        for kind in CHARACTERS:
            asked = {side.name: side.prepare(INDEX_PREFIX + kind, started.searches, status=False) for side in sides}
            measured[kind] = measure(sides, asked, options)
        print(f"{options.rounds} rounds of {options.requests} searches.\n\n{table(measured)}\n\n{goals(measured)}\n")
        print("; ".join(told(side) for side in sides[1:]) + ".")
        for side in sides:
            side.caller.close()


def main() -> int:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--requests", type=int, default=60, help="searches on each side in a round (%(default)s)")
    parser.add_argument("--queries", type=int, default=12, help="how many different ones (%(default)s)")
    parser.add_argument(
        "--collection",
        type=Path,
        default=SHARED / "data" / "cranfield",
        metavar="DIR",
        help="a BEIR folder (%(default)s)",
    )
    parser.set_defaults(engine=None)
    stop_by_exception()
    try:
        bench(parser.parse_args())
    except EsRerankError as error:
        print(f"event_cost: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
