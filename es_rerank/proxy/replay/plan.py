"""What a replay is to do, checked before it begins: the rule that holds for it, and the search of each query. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError
from es_rerank.proxy.replay.template import fill_template, read_template
from es_rerank.proxy.search.control import KEY
from es_rerank.rules.book import THINKING_KEYS, BoundRule, make_book
from es_rerank.rules.indices import is_system, named_in
from es_rerank.rules.rule import Rule
from es_rerank.settings import read_rule
from es_rerank.tuning.recording import RecordingHead, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.rules.book import RuleBook
    from es_rerank.scorers.kinds import ScorerSettings

OWN_RULE = "replay"
"""The name of a rule that exists for one replay only, of an index that no rule in force covers."""
NOT_OVERRIDDEN = ("name", "indices")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """A replay, ready to run. `book` has one rule, which holds for this replay and for nothing else."""

    head: RecordingHead
    template: Mapping[str, Any]
    book: RuleBook

    @property
    def rule(self) -> Rule:
        """The rule that holds."""
        return self.book.rules[0].rule

    def search(self, words: str) -> dict[str, Any]:
        """The body of one query's search; its deadline is the longest allowed, so that time costs no score."""
        body = self.plain_search(words)
        controls = {"deadline_s": self.book.limits.max_deadline_s}
        return {**body, "ext": {**body.get("ext", {}), KEY: controls}}

    def plain_search(self, words: str) -> dict[str, Any]:
        """The body of the same search, as the engine itself is asked."""
        return fill_template(self.template, words)


def rule_for(index: str, overrides: Mapping[str, Any], book: RuleBook) -> Rule:
    """The rule of `book` for an index expression, changed by the keys of `overrides`.

    Where no rule covers the expression, the overrides alone make one. Keys about thinking that the rule in force has
    are left out if another scorer is named, since they belong to its scorer. Raises CallerError.
    """
    for key in overrides:
        if key in NOT_OVERRIDDEN or key not in Rule.model_fields:
            allowed = ", ".join(name for name in Rule.model_fields if name not in NOT_OVERRIDDEN)
            raise CallerError(f"[rule] unknown field [{key}]; allowed are [{allowed}]")
    found = book.find(index)
    if isinstance(found, BoundRule):
        base = found.rule.model_dump(exclude_unset=True)
        if overrides.get("scorer", found.rule.scorer) != found.rule.scorer:
            base = {key: value for key, value in base.items() if key not in THINKING_KEYS}
        if "fields" in overrides or "template" in overrides:
            base = {key: value for key, value in base.items() if key not in ("fields", "template")}
    elif found == "no_rule" and overrides and not any(is_system(name) for name in named_in(index)):
        base = {"name": OWN_RULE, "indices": named_in(index)}
    else:
        raise CallerError(f"[index] no rule holds for [{index}] ({found}); a [rule] with fields makes one")
    return _read({**base, **overrides})


def _read(values: Mapping[str, Any]) -> Rule:
    try:
        return read_rule(values)
    except ValueError as error:
        raise CallerError(f"[rule] {error}") from None


def make_plan(
    rule: Rule,
    *,
    window: int | None,
    identity: str,
    time: str,
    index: str,
    request: Any,
    book: RuleBook,
    scorers: Mapping[str, ScorerSettings],
) -> ReplayPlan:
    """The plan of a replay by this rule. `window` is how many hits are recorded, None for as many as the rule says.

    `identity` and `time` are those of the recording, `book` is the one in force. Raises CallerError.
    """
    recorded = rule if window is None else _read({**rule.model_dump(exclude_unset=True), "window": window})
    try:
        own = make_book([recorded], scorers, book.limits)
    except ValueError as error:
        raise CallerError(f"[rule] {str(error).removeprefix('rules[0].')}") from None
    [bound] = own.rules
    in_force = book.find(index)
    unchanged = isinstance(in_force, BoundRule) and in_force.rule == rule
    mode = rule.mode if bound.scorer.abilities.thinks else None
    # Under a cascade the window decides which documents are thought about: the recorded one is the only one to be told.
    told = recorded.window if mode == "cascade" else min(rule.window, recorded.window)
    head = RecordingHead(
        id=identity,
        time=time,
        index=index,
        rule=rule.name,
        rules_version=book.version if unchanged else own.version,
        scorer=rule.scorer,
        fingerprint=bound.fingerprint,
        mode=mode,
        window=recorded.window,
        setting=Setting(window=told, method=rule.method, alpha=bound.alpha, score=rule.score),
    )
    return ReplayPlan(head=head, template=read_template(request, rule.text.names), book=own)
