"""What a sweep has found for a rule: read from its run, as the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from es_rerank.errors import CallerError
from es_rerank.store.indices import JOBS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.rules.book import BoundRule

WINNER_KEYS = ("window", "method", "alpha", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """The keys that a rule takes from a sweep's winner, and what speaks against taking them, in sentences.

    A key whose value holds already is left out: so a scorer that has no two scores is not given one of them.
    """

    keys: Mapping[str, Any]
    doubts: tuple[str, ...]


async def find_promotion(call: OwnCall, bound: BoundRule, run: str) -> Promotion:
    """The promotion of a run to a rule in force. Raises CallerError where the run has found nothing for this rule."""
    found = await call.ask_engine("GET", f"/{JOBS.name}/_doc/{quote(run, safe='')}", allowed=(404,))
    if found is None:
        raise CallerError(f"no run [{run}]", status=404)
    job = found["_source"]
    rule = bound.rule
    if job.get("kind") != "sweep":
        raise CallerError(f"the run [{run}] is a [{job.get('kind')}]; only a [sweep] finds a setting")
    if job.get("rule") != rule.name:
        raise CallerError(f"the run [{run}] is about the rule [{job.get('rule')}], not [{rule.name}]")
    if job.get("state") != "done":
        raise CallerError(f"the run [{run}] is not done, its state is [{job.get('state')}]")
    result = job.get("result") or {}
    winner = result.get("winner")
    if not isinstance(winner, dict) or not set(winner) >= set(WINNER_KEYS):
        raise CallerError(f"the run [{run}] has no winner with {', '.join(WINNER_KEYS)}")
    now = {"window": rule.window, "method": rule.method, "alpha": bound.alpha, "score": rule.score}
    doubts = []
    if result.get("better") is False:
        doubts.append("by its verdict, the sweep gives no reason to change the rule")
    if job.get("scorer", rule.scorer) != rule.scorer:
        doubts.append(f"the sweep is about scores of another scorer than the rule's, which is {rule.scorer}")
    keys = {key: winner[key] for key in WINNER_KEYS if winner[key] != now[key]}
    return Promotion(keys=keys, doubts=tuple(doubts))
