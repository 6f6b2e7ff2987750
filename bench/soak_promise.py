"""What the soak breaks when, what an answer has to be all the same, and the figures. Pure; not a script."""

from __future__ import annotations

import json
import random
import re
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from bench.system import INDEX_PREFIX
from es_rerank.reasons import OUTCOMES, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

INDEX, WRITTEN = INDEX_PREFIX + "soak", INDEX_PREFIX + "soak-written"
GROUPS, GROUP_HITS, WINDOW = 4, 60, 40
LARGEST_PAGE = 50
SHOWN_VIOLATIONS = 40
WORDS = [one + other for one in ("sun", "moon", "rain", "fire", "ice") for other in ("set", "rise", "fall", "man")]


def documents() -> Iterator[tuple[str, dict[str, str]]]:
    """What is searched, by id: each group's documents have one word in common."""
    chance = random.Random(1)
    for group in range(GROUPS):
        for number in range(GROUP_HITS):
            yield f"{group}-{number}", {"text": " ".join([f"group{group}", *chance.choices(WORDS, k=60)])}


# ---- What is broken when ----

# By break: the part that is broken by it, and for how many seconds at least and at most.
BREAKS: dict[str, tuple[str, float, float]] = {
    "worker killed": ("worker", 0.5, 3.0),
    "worker stopped": ("worker", 0.5, 4.0),
    "redis killed": ("redis", 0.2, 3.0),
    "redis stopped": ("redis", 0.5, 3.0),
    "redis full": ("redis", 0.5, 4.0),
    "redis read-only": ("redis", 0.5, 4.0),
    "engine stopped": ("engine", 0.5, 1.5),
    "engine slow": ("engine", 0.5, 3.0),
    "engine resets": ("engine", 0.2, 1.0),
    "engine cuts": ("engine", 0.5, 2.0),
    "proxy restarted": ("proxy", 0.0, 0.0),
}
# How long after the end of a break its part may still be found broken: connections and subscriptions come back.
RECOVERY_S = {"worker": 10.0, "redis": 10.0, "engine": 2.0, "proxy": 2.0}
# How long after the last break the system is not yet as ever: a worker that was started reads all documents again.
SETTLED_S = 20.0
QUIET_S = SETTLED_S + 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One planned break: when it begins, in seconds from the start, how long it lasts, and which of two processes."""

    at_s: float
    name: str
    lasts_s: float
    which: int


def plan_breaks(seed: int, minutes: float) -> list[Break]:
    """The breaks of a run, in order: each kind once, some overlapping the next, then QUIET_S of nothing, and again."""
    chance = random.Random(f"{seed} breaks")
    plan: list[Break] = []
    at_s = chance.uniform(1.0, 2.0)
    while True:
        for name in chance.sample([*BREAKS], len(BREAKS)):
            _, least_s, most_s = BREAKS[name]
            one = Break(at_s=at_s, name=name, lasts_s=chance.uniform(least_s, most_s), which=chance.randrange(2))
            if one.at_s + one.lasts_s > minutes * 60:
                return plan
            plan.append(one)
            at_s += one.lasts_s * chance.uniform(0.3, 1.3) + chance.choice((0.3, 1.5, 8.0))
        at_s += QUIET_S


@dataclass(slots=True)
class Outages:
    """Which parts were broken when, as it happened. A break that has not ended has no end."""

    spans: list[tuple[str, str, float, float | None]] = field(default_factory=list)

    def begin(self, part: str, name: str, now_s: float) -> int:
        """Note the begin of a break; the number that comes back stands for it."""
        self.spans.append((part, name, now_s, None))
        return len(self.spans) - 1

    def end(self, number: int, now_s: float) -> None:
        """Note its end."""
        part, name, began_s, _ = self.spans[number]
        self.spans[number] = (part, name, began_s, now_s)

    def within(self, began_s: float, ended_s: float) -> dict[str, str]:
        """The parts that were broken or not yet back at some time between, each with its break."""
        return {
            part: name
            for part, name, from_s, to_s in self.spans
            if from_s <= ended_s and (to_s is None or to_s + RECOVERY_S[part] >= began_s)
        }

    def lately(self, began_s: float, ended_s: float) -> bool:
        """Whether anything was broken between, or so shortly before that not everything runs as ever again."""
        return any(
            from_s <= ended_s and (to_s is None or to_s + SETTLED_S >= began_s) for _, _, from_s, to_s in self.spans
        )


# ---- What an answer has to be ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One search: a page of a group's hits. `mark` comes back in the answer, as the name of an aggregation.

    `asks` is a word of the question that finds nothing more: an old one may be in the cache, a new one is not.
    """

    mark: str
    group: int
    asks: str = ""
    start: int = 0
    size: int = 10
    status: bool = False
    filtered: bool = False

    @property
    def hits(self) -> int:
        """How many hits the engine has on this page."""
        return max(0, min(self.size, GROUP_HITS - self.start))

    def search(self) -> dict[str, Any]:
        """The body."""
        search: dict[str, Any] = {
            "query": {"match": {"text": f"group{self.group} {self.asks}"}},
            "from": self.start,
            "size": self.size,
            "aggs": {self.mark: {"filter": {"match_all": {}}}},
        }
        if self.status:
            search["ext"] = {"es_rerank": {"include": ["status", "scores"]}}
        return search

    def target(self) -> str:
        """Path and query."""
        filtered = "?filter_path=hits.hits._id,aggregations,_es_rerank" if self.filtered else ""
        return f"/{INDEX}/_search{filtered}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came back, and when: seconds of one clock. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    began_s: float
    ended_s: float


# The parts that explain that a search has this reason, if they were broken. Any part explains a word that is not here.
NEVER = frozenset[str]()
EXPLAINED_BY: dict[str, frozenset[str]] = {
    "no_redis": frozenset({"redis"}),
    "no_worker": frozenset({"worker", "redis"}),
    "claim_lost": frozenset({"worker", "redis"}),
    "engine_refused": frozenset({"engine"}),
    "partial_answer": frozenset({"engine"}),
    "unreadable_answer": frozenset({"engine"}),
    "no_engine": frozenset({"engine"}),
    "scorer_failed": NEVER,
    "document_failed": NEVER,
    "claim_unreadable": NEVER,
    "internal_error": NEVER,
    "overloaded": NEVER,
    "answer_too_large": NEVER,
    "missing_text": NEVER,
    "system_index": NEVER,
}
# A page behind the window passes through, and deadlines pass wherever there is more to do than can be done.
ALWAYS_RIGHT = {"past_window", "deadline"}
WARNING = re.compile(r'299 es-rerank "reranking (failed|was partial) \(([a-z_]+)\): [^"]+"')


def check_search(
    asked: Asked, answered: Answered, broken: Mapping[str, str], *, lately: bool, late_s: float
) -> list[str]:
    """What is wrong with an answer, while these parts were broken, or any was `lately`.

    `late_s` is how long the answer may take at most.
    """
    if answered.status != 200:
        return [] if "engine" in broken else [f"status {answered.status}: {answered.body[:300]!r}"]
    try:
        body = json.loads(answered.body)
        ids = [hit["_id"] for hit in body.get("hits", {}).get("hits", [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"not an answer to a search: {answered.body[:300]!r}"]
    wrong = []
    took_s = answered.ended_s - answered.began_s
    if took_s > late_s and "engine" not in broken:
        wrong.append(f"late: {took_s:.2f} s")
    if len(ids) != asked.hits:
        wrong.append(f"{len(ids)} hits where the engine has {asked.hits}")
    if len(set(ids)) < len(ids):
        wrong.append(f"a hit comes twice: {ids}")
    if any(not one.startswith(f"{asked.group}-") for one in ids) or [*body.get("aggregations", {})] != [asked.mark]:
        wrong.append(f"the answer to another search: {[*body.get('aggregations', {})]}, {ids}")
    if asked.filtered and not body.keys() <= {"hits", "aggregations", "_es_rerank"}:
        wrong.append(f"filtered, it has {[*body]}")
    warning = answered.headers.get("warning")
    return wrong + check_status(asked, body.get("_es_rerank"), warning, broken, lately=lately)


def check_status(
    asked: Asked, block: dict[str, Any] | None, warning: str | None, broken: Mapping[str, str], *, lately: bool
) -> list[str]:
    """What is wrong with the status and the Warning header of an answer."""
    warned = WARNING.fullmatch(warning) if warning is not None else None
    if warning is not None and warned is None:
        return [f"an odd warning: {warning}"]
    wrong = []
    reason = warned[2] if warned else None
    if asked.status:
        if block is None:
            return ["the status is missing"]
        wrong += _check_block(block)
        reason = block["reason"]
        if (block["status"] in ("partial", "failed")) != (warned is not None):
            wrong.append(f"{block['status']}, and the warning is {warning}")
        elif warned and warned[2] != reason:
            wrong.append(f"{reason}, and the warning says {warned[2]}")
    elif block is not None:
        wrong.append("a status that nobody asked for")
    if reason is not None and reason not in ALWAYS_RIGHT:
        causes = EXPLAINED_BY.get(reason)
        if not (lately if causes is None else causes & broken.keys()):
            wrong.append(f"{reason}, while only {[*broken.values()]} was broken")
    return wrong


def _check_block(block: dict[str, Any]) -> list[str]:
    """What does not fit within a status."""
    status, reason, window, scored = block["status"], block["reason"], block["window"], block["scored"]
    fits = {
        "full": scored == window == WINDOW,
        "partial": scored > 0,
        "failed": scored == 0,
        "skipped": scored == 0,
    }
    words = status in get_args(Outcome) and ((reason is None) == (status == "full"))
    allowed = OUTCOMES.get(reason) if reason is not None else None
    if not words or not fits[status] or (allowed is not None and status not in allowed):
        return [f"a status that does not fit: {block}"]
    if block["missing"] != window - scored or block["cached"] > scored:
        return [f"counts that do not fit: {block}"]
    return []


def check_pieces(answered: Answered, marks: Sequence[str], broken: Mapping[str, str]) -> list[str]:
    """What is wrong with the answer to an `_msearch` of one search for each mark."""
    if answered.status != 200:
        return [] if "engine" in broken else [f"status {answered.status}: {answered.body[:300]!r}"]
    try:
        answers = json.loads(answered.body)["responses"]
        if "engine" in broken and any("error" in one for one in answers):
            return []
        found = [[*one["aggregations"]] for one in answers]
    except (ValueError, KeyError, TypeError):
        return [f"not an answer to _msearch: {answered.body[:300]!r}"]
    return [] if found == [[mark] for mark in marks] else [f"the answers to other searches: {found}"]


# ---- Figures ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken promise."""

    at_s: float
    caller: str
    said: str
    broken: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What happened in a run."""

    took_s: dict[str, list[float]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    breaks: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    quiet: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def count(self, caller: str, answered: Answered, *, lately: bool) -> None:
        """Add an answer, and whether anything was broken `lately`.

        Its outcome is taken from its status, or its warning, or its status code.
        """
        self.took_s.setdefault(caller, []).append(answered.ended_s - answered.began_s)
        outcome = outcome_of(answered)
        self.outcomes[outcome] += 1
        if not lately:
            self.quiet[outcome] += 1

    def report(self) -> str:
        """Markdown: latencies by kind of caller, outcomes, breaks, violations."""
        lines = ["| caller | answers | p50, ms | p99, ms | longest, ms |", "| --- | ---: | ---: | ---: | ---: |"]
        for caller, took_s in sorted(self.took_s.items()):
            figures = " | ".join(f"{one * 1000:.0f}" for one in (*percentiles(took_s), max(took_s)))
            lines.append(f"| {caller} | {len(took_s)} | {figures} |")
        tables = {
            "outcome": self.outcomes,
            "outcome while nothing was broken": self.quiet,
            "break": self.breaks,
            "sent": self.requests,
        }
        for title, counter in tables.items():
            lines += ["", f"| {title} | times |", "| --- | ---: |"]
            lines += [f"| {name} | {count} |" for name, count in counter.most_common()]
        lines += ["", f"{len(self.violations)} violations" + (":" if self.violations else ".")]
        alike = Counter((one.said, one.broken) for one in self.violations)
        first = {(one.said, one.broken): one for one in reversed(self.violations)}
        lines += [
            f"- {count} times, first at {first[kind].at_s:.1f} s, {first[kind].caller}: {kind[0]} "
            f"(broken: {', '.join(kind[1]) or 'nothing'})"
            for kind, count in alike.most_common(SHOWN_VIOLATIONS)
        ]
        return "\n".join(lines)


def outcome_of(answered: Answered) -> str:
    """A few words for what became of a search."""
    if answered.status != 200:
        return f"status {answered.status}"
    try:
        block = json.loads(answered.body).get("_es_rerank")
    except (ValueError, AttributeError):
        return "unreadable"
    if block is not None:
        return " ".join(filter(None, (block["status"], block["reason"])))
    warned = WARNING.fullmatch(answered.headers.get("warning", ""))
    return f"{'partial' if 'partial' in warned[1] else 'failed'} {warned[2]}" if warned else "without a warning"


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
