"""Documents as a month of use leaves them: events, hits, runs, judgments, jobs, rules and clicks."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from es_rerank.dashboards.patterns import CLICKS_PATTERN, UBI_EVENTS
from es_rerank.store.indices import EVENTS, HITS, JOBS, JUDGMENTS, RULES, RUNS, OwnIndex
from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Iterator

SEARCHES = 200
QUERIES = 60
DAYS = 20
QUERY_WORDS = ("red running shoes", "waterproof tent", "kettle", "wool socks", "bike light", "desk lamp", "rain coat")
METRICS = {"nDCG@10": 0.52, "RR": 0.61, "R@100": 0.7}
GROUPS = ("head", "torso", "tail")
UBI = OwnIndex(name=CLICKS_PATTERN.title, fields=UBI_EVENTS)
Documents = dict[str, list[dict[str, Any]]]


def sample_documents(now: datetime) -> tuple[dict[str, OwnIndex], Documents]:
    """Each concrete index by its name, and the documents of each. All of them are younger than `now`."""
    indices: dict[str, OwnIndex] = {}
    documents: Documents = defaultdict(list)
    chance = random.Random(11)
    makers = ((EVENTS, HITS, UBI, _searches), (RUNS, _runs), (JUDGMENTS, _judgments), (JOBS, _jobs), (RULES, _rules))
    for *_, make in makers:
        for index, document in make(now, chance):
            name = index.at(datetime.fromisoformat(document["timestamp"]))
            indices[name] = index
            documents[name].append(document)
    return indices, documents


def load(url: str, now: datetime) -> None:
    """Put the samples into an engine that has none of these indices yet."""
    indices, documents = sample_documents(now)
    for name, index in indices.items():
        send_json(f"{url}/{name}", index.body(), method="PUT")
    lines = [
        json.dumps(line)
        for name, some in documents.items()
        for document in some
        for line in ({"index": {"_index": name}}, document)
    ]
    answer = send_json(f"{url}/_bulk?refresh=true", ("\n".join(lines) + "\n").encode(), method="POST")
    assert not answer["errors"]


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _searches(now: datetime, chance: random.Random) -> Iterator[tuple[OwnIndex, dict[str, Any]]]:
    for number in range(SEARCHES):
        moment = now - timedelta(hours=chance.uniform(0, 23.5) if number % 2 else chance.uniform(0, 24 * DAYS))
        rule, scorer = chance.choice((("films", "minilm"), ("films", "minilm"), ("shop", "erank")))
        words = chance.choice(QUERY_WORDS)
        common = {
            "timestamp": _time(moment),
            "query_id": f"q{number}",
            "user_query": words,
            "application": "shop",
            "index": rule,
            "rule": rule,
            "scorer": scorer,
        }
        status, reason = _outcome(chance)
        spread = chance.choice((2, 6, 20))
        drawn = [rank + chance.gauss(0, spread) for rank in range(100)]
        order = sorted(range(100), key=drawn.__getitem__)
        moved = [rank - place for place, rank in enumerate(order)]
        cached = round(100 * min(1.0, chance.betavariate(3, 2)))
        yield (
            EVENTS,
            {
                **common,
                "rules_version": "3",
                "status": status,
                **({"reason": reason} if reason else {}),
                "window": 100,
                "scored": 100,
                "cached": cached,
                "missing": 0 if status == "full" else 40,
                "cache_hit_ratio": cached / 100,
                "think_tokens": 900 if scorer == "erank" else 0,
                "cut": chance.choice((0, 0, 0, 2)),
                "truncated": chance.choice((0, 1, 5)),
                "alpha": 0.2 if scorer == "erank" else 0.3,
                "method": "zscore",
                **_took(chance, scorer, cached),
                "overlap_at_10": sum(rank < 10 for rank in order[:10]) / 10,
                "moved_mean": sum(map(abs, moved)) / 100,
                "moved_max": max(map(abs, moved)),
            },
        )
        for place, rank in enumerate(order[:10], start=1):
            document = f"doc-{words.split()[0]}-{rank}"
            yield (
                HITS,
                {
                    **common,
                    "hit_index": rule,
                    "object_id": document,
                    "engine_score": 20 - rank * 0.1,
                    "rank_score": 9 - place * 0.3,
                    "fused_score": 2 - place * 0.1,
                    "engine_rank": rank + 1,
                    "rank_score_rank": place,
                    "position": place,
                    "moved": rank + 1 - place,
                },
            )
            if chance.random() < 0.35 / place:
                yield UBI, _event(moment, number, place, document, "click")
        yield UBI, _event(moment, number, 1, "", "scroll")


def _event(moment: datetime, number: int, place: int, document: str, action: str) -> dict[str, Any]:
    return {
        "timestamp": _time(moment),
        "action_name": action,
        "application": "shop",
        "client_id": "c1",
        "query_id": f"q{number}",
        "event_attributes": {
            "position": {"ordinal": place},
            "object": {"object_id": document, "object_id_field": "_id"},
        },
    }


def _outcome(chance: random.Random) -> tuple[str, str]:
    outcomes = (("full", ""),) * 8 + (("partial", "deadline"), ("failed", "no_worker"), ("partial", "overloaded"))
    return chance.choice(outcomes)


def _took(chance: random.Random, scorer: str, cached: int) -> dict[str, float]:
    score = (100 - cached) * (11.0 if scorer == "erank" else 1.5) * chance.lognormvariate(0, 0.3)
    took = {
        "took_engine_ms": chance.lognormvariate(2.5, 0.4),
        "took_read_ms": chance.lognormvariate(1, 0.3),
        "took_cache_ms": chance.lognormvariate(0.7, 0.3),
        "took_score_ms": score,
        **({"took_reasoning_ms": 3.5} if scorer == "erank" else {}),
        "took_fuse_ms": 0.6,
        "took_write_ms": chance.lognormvariate(0.2, 0.3),
    }
    return {**took, "took_total_ms": sum(took.values()), "saved_score_ms": cached * 11.0}


def _runs(now: datetime, _: random.Random) -> Iterator[tuple[OwnIndex, dict[str, Any]]]:
    run = {
        "timestamp": _time(now - timedelta(hours=3)),
        "run": "films-2026-11-28-1",
        "job": "job-1",
        "recording": "rec-1",
        "index": "films",
        "rule": "films",
        "scorer": "minilm",
        "judgments": "people",
        "judged_at_10": 0.93,
    }
    for metric, engine in METRICS.items():
        for method, height in (("zscore", 0.05), ("minmax", 0.04), ("rrf", 0.02)):
            for window, gain in ((50, 0.8), (100, 1.0)):
                for step in range(21):
                    alpha = step / 20
                    value = engine + height * gain * math.sin(math.pi * min(1.0, 1.4 * (1 - alpha)) / 1.25)
                    yield RUNS, {**run, **_setting(alpha, method, window), **_mean(metric, value, engine)}
        best = {**run, **_setting(0.35, "zscore", 100)}
        yield RUNS, {**best, **_mean(metric, engine + 0.041, engine), "held_out": True}
        present = {**run, **_setting(0.2, "zscore", 100)}
        for share, order in ((0.0, {**run, "setting": "engine"}), (0.7, present), (1.0, best)):
            yield from _in_full(order, metric, engine, share, random.Random(7))


def _in_full(
    order: dict[str, Any], metric: str, engine: float, share: float, chance: random.Random
) -> Iterator[tuple[OwnIndex, dict[str, Any]]]:
    """The rows of an order that is shown by group and by query; it has this share of all changes."""
    for group, value in zip(GROUPS, (0.02, 0.05, -0.01), strict=True):
        yield RUNS, {**order, **_mean(metric, engine + share * value, engine), "group": group}
    for number in range(QUERIES):
        change = 0.0 if number % 5 == 0 else share * max(-0.5, min(0.5, chance.gauss(0.06, 0.15)))
        yield (
            RUNS,
            {
                **order,
                "metric": metric,
                "value": engine + change,
                "engine_value": engine,
                "change": change,
                "query_id": str(number),
                "user_query": f"{QUERY_WORDS[number % len(QUERY_WORDS)]} {number}",
                "group": GROUPS[number % 3],
                "aggregate": False,
                "held_out": False,
            },
        )


def _setting(alpha: float, method: str, window: int) -> dict[str, Any]:
    setting = f"alpha {alpha:g}, {method}, window {window}, paper"
    return {"setting": setting, "alpha": alpha, "method": method, "window": window, "score": "paper"}


def _mean(metric: str, value: float, engine: float) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": value,
        "engine_value": engine,
        "change": value - engine,
        "aggregate": True,
        "held_out": False,
        "queries": QUERIES,
    }


def _judgments(now: datetime, chance: random.Random) -> Iterator[tuple[OwnIndex, dict[str, Any]]]:
    for number in range(60):
        impressions = chance.randint(50, 400)
        clicks = chance.randint(2, 30)
        expected = impressions * 0.05
        yield (
            JUDGMENTS,
            {
                "name": "clicks-november",
                "timestamp": _time(now - timedelta(hours=1)),
                "query_id": str(number % 12),
                "user_query": f"{QUERY_WORDS[number % len(QUERY_WORDS)]}",
                "object_id": f"doc-{number}",
                "grade": clicks / expected,
                "source": "clicks",
                "impressions": impressions,
                "clicks": clicks,
                "expected_clicks": expected,
            },
        )


def _jobs(now: datetime, _: random.Random) -> Iterator[tuple[OwnIndex, dict[str, Any]]]:
    verdict = "alpha 0.35 (now 0.2): nDCG@10 0.557 → 0.561 on held-out queries, p = 0.21 over 60 queries: keep 0.2."
    job = {"id": "job-1", "kind": "sweep", "state": "done", "index": "films", "rule": "films", "scorer": "minilm"}
    yield JOBS, {**job, "timestamp": _time(now - timedelta(hours=3)), "judgments": "people", "verdict": verdict}


def _rules(now: datetime, _: random.Random) -> Iterator[tuple[OwnIndex, dict[str, Any]]]:
    rule = {"name": "films", "version": 3, "who": "ann", "why": "from the sweep", "action": "put", "alpha": 0.35}
    yield RULES, {**rule, "timestamp": _time(now - timedelta(hours=2)), "from_run": "films-2026-11-28-1"}
