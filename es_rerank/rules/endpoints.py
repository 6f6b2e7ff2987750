"""The inference endpoints that a `text_similarity_reranker` may name, each bound to a scorer as a rule is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from es_rerank.rules.book import bind, problem_of
from es_rerank.rules.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.rules.book import BoundRule
    from es_rerank.scorers.kinds import ScorerSettings
    from es_rerank.tables import InferenceSettings, LimitSettings

THINKING_KEYS = ("mode", "budget_tokens")
# What a reranker says itself, for every search anew.
SAID_BY_SEARCHES: Mapping[str, Any] = {"name": "inference", "indices": ("*",), "fields": ("text",), "window": 1}


def make_endpoints(
    settings: InferenceSettings, scorers: Mapping[str, ScorerSettings], limits: LimitSettings
) -> dict[str, BoundRule]:
    """By `inference_id`, the policy of each endpoint: a rule with its name, whose fields and window searches replace.

    Raises ValueError that names the first wrong key and what is allowed.
    """
    said = settings.model_dump(exclude_unset=True, exclude={"scorers"})
    unused = [key for key in THINKING_KEYS if key in said]
    if unused and not any(name in scorers and scorers[name].abilities.thinks for name in settings.scorers.values()):
        raise ValueError(f"inference.{unused[0]}: none of the scorers of inference.scorers thinks")
    endpoints = {}
    for position, (inference_id, name) in enumerate(settings.scorers.items()):
        if name not in scorers:
            raise ValueError(f"inference.scorers: item {position + 1} names no scorer; known are {', '.join(scorers)}")
        left_out = () if scorers[name].abilities.thinks else THINKING_KEYS
        policy = {key: value for key, value in said.items() if key not in left_out}
        rule = Rule(**{**SAID_BY_SEARCHES, **policy, "scorer": name, "alpha": 0.0})
        if problem := problem_of(rule, scorers, limits):
            raise ValueError(f"inference.{problem}")
        endpoints[inference_id] = bind(rule.model_copy(update={"name": inference_id}), scorers, limits)
    return endpoints
