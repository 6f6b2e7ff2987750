"""The tables below `/_es_rerank/_cat`: rules, scorers and runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

from es_rerank.proxy.own.call import OwnAnswer, Table
from es_rerank.proxy.own.health import check_scoring
from es_rerank.proxy.own.jobs import Kind, list_jobs, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.proxy.own.jobs import Job
    from es_rerank.rules.book import BoundRule
    from es_rerank.rules.merge import RulesInForce

RULE_COLUMNS = {
    "name": "the rule's name",
    "origin": "where it comes from: file or stored",
    "version": "the version of a stored rule",
    "indices": "the indices that it covers",
    "text": "the fields, or the template, that the text of a hit is made of",
    "scorer": "the scorer's name",
    "window": "how many hits are reranked",
    "alpha": "the engine's weight",
    "method": "how both scores are fused",
    "mode": "how a scorer that thinks works",
    "score": "which score of a judgment counts",
    "deadline_s": "how long a search may take, in seconds",
    "dashboards": "what happens to searches of dashboards' own pages",
}
SCORER_COLUMNS = {
    "name": "the scorer's name",
    "kind": "its kind",
    "fingerprint": "what its scores are kept under",
    "workers": "how many workers serve it now",
    "used_by": "the rules that use it",
}
RUN_COLUMNS = {
    "id": "the run's id",
    "kind": "what was run",
    "state": "how far it is",
    "index": "the index that was searched",
    "rule": "the rule that was in force",
    "judgments": "the judgment list",
    "done": "how many queries are done",
    "total": "how many there are",
    "verdict": "what came out",
    "age": "how long ago it was asked for",
}
DEFAULT_RUNS = 100
MOST_RUNS = 10_000
AGE_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60))


async def rules(call: OwnCall) -> OwnAnswer:
    """The rules in force, in the order in which they are tried."""
    call.allow()
    stored = call.parts.stored_rules
    in_force = None if stored is None else stored.in_force
    book = call.parts.rules.book if in_force is None else in_force.book
    return OwnAnswer(value=_table(RULE_COLUMNS, [rule_row(bound, in_force) for bound in book.rules]))


def rule_row(bound: BoundRule, in_force: RulesInForce | None) -> dict[str, Any]:
    """The row of a rule, by column. What holds is shown, whether the rule says it or its scorer.

    `in_force` is None where no rules are stored at all.
    """
    rule, thinks = bound.rule, bound.scorer.abilities.thinks
    return {
        "name": rule.name,
        "origin": "file" if in_force is None else in_force.origin(rule.name),
        "version": None if in_force is None else in_force.versions.get(rule.name),
        "indices": ",".join(rule.indices),
        "text": ",".join(rule.fields) or rule.template,
        "scorer": rule.scorer,
        "window": rule.window,
        "alpha": bound.alpha,
        "method": rule.method,
        "mode": rule.mode if thinks else None,
        "score": rule.score if thinks else None,
        "deadline_s": bound.deadline_s,
        "dashboards": rule.dashboards,
    }


async def scorers(call: OwnCall) -> OwnAnswer:
    """The scorers that rules use. The number of workers is empty where Redis can't say."""
    call.allow()
    book = call.parts.rules.book
    used = book.scorers()
    condition = await check_scoring(call.parts, [bound.fingerprint for bound in used.values()])
    counts = condition.workers or (None,) * len(used)
    rows = [
        {
            "name": name,
            "kind": bound.scorer.kind,
            "fingerprint": bound.fingerprint,
            "workers": count,
            "used_by": ",".join(one.rule.name for one in book.rules if one.rule.scorer == name),
        }
        for (name, bound), count in zip(used.items(), counts, strict=True)
    ]
    return OwnAnswer(value=_table(SCORER_COLUMNS, rows))


async def runs(call: OwnCall) -> OwnAnswer:
    """Of the newest runs, `?size=` of them, those of indices that the caller may search. No index yet is no runs."""
    call.allow("size")
    call.need_store()
    size = call.whole("size", 1, MOST_RUNS, default=DEFAULT_RUNS)
    now = datetime.now(UTC)
    rows = [
        {**{name: getattr(job, name, None) for name in RUN_COLUMNS}, "state": state_of(job), "age": _age(job, now)}
        for job in await list_jobs(call, get_args(Kind), size)
    ]
    return OwnAnswer(value=_table(RUN_COLUMNS, rows))


def _age(job: Job, now: datetime) -> str | None:
    """How long ago it was asked for, in the largest unit that fits: 45s, 12m, 3h, 2d. None for what is no time."""
    try:
        then = datetime.fromisoformat(job.timestamp)
    except ValueError:
        return None
    seconds = max(0, int((now - then.replace(tzinfo=then.tzinfo or UTC)).total_seconds()))
    for unit, length_s in AGE_UNITS:
        if seconds >= length_s:
            return f"{seconds // length_s}{unit}"
    return f"{seconds}s"


def _table(columns: Mapping[str, str], rows: list[dict[str, Any]]) -> Table:
    return Table(
        columns=(*columns,), about=(*columns.values(),), rows=[[row[column] for column in columns] for row in rows]
    )
