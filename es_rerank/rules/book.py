"""The book of rules: all rules in force, each with its scorer and deadline, checked, frozen and versioned.

A search reads the book once and keeps to it. A change of rules makes another book, which replaces the first as a whole.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from es_rerank.rules.indices import MAX_EXPRESSION_CHARACTERS, is_system, named_in
from es_rerank.rules.rule import first_match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.language import Language
    from es_rerank.reasons import NoRule
    from es_rerank.rules.rule import Rule
    from es_rerank.scorers.kinds import ScorerSettings
    from es_rerank.tables import LimitSettings

THINKING_KEYS = ("mode", "budget_tokens", "think_top", "score", "keep_reasoning")
# With these, no rule can hold for a search, whatever else is in it.
UNCOVERED = ("no_rule", "system_index")
# For how many index expressions the rule is remembered: far more than clients use; the bound is for invented ones.
REMEMBERED_EXPRESSIONS = 1024


class RuleError(ValueError):
    """A rule that does not fit: its `name`, the `problem` as `key = value: why`, and the names of rules that hide it.

    `hidden_by` is empty where the problem is the rule's own.
    """

    def __init__(self, position: int, name: str, problem: str, hidden_by: tuple[str, ...] = ()) -> None:
        super().__init__(f"rules[{position}].{problem}")
        self.name = name
        self.problem = problem
        self.hidden_by = hidden_by


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundRule:
    """A rule with the scorer that it names, that scorer's fingerprint, and the alpha and deadline that hold.

    `language` is the only one in which windows are scored, None for any.
    """

    rule: Rule
    scorer: ScorerSettings
    fingerprint: str
    alpha: float
    deadline_s: float
    language: Language | None


@dataclass(frozen=True, eq=False, kw_only=True)
class RuleBook:
    """The rules in force, in the order in which they are tried. Made by `make_book`.

    `version` is a hash of what the rules and their scorers say, the same on every machine. Of `limits`, which belong to
    the process, it covers only the deadline of rules that have none of their own.
    `endpoints`, by `inference_id`, are what a `text_similarity_reranker` may ask of us; they are no rules of any index.
    """

    version: str
    rules: tuple[BoundRule, ...]
    limits: LimitSettings
    endpoints: Mapping[str, BoundRule] = field(default_factory=dict)
    _found: dict[str, BoundRule | NoRule] = field(default_factory=dict, init=False, repr=False)

    def find(self, expression: str) -> BoundRule | NoRule:
        """The one rule that all indices of an expression fall under, or why there is none. '' means all indices.

        For an expression of more than MAX_EXPRESSION_CHARACTERS it is found anew each time.
        """
        found = self._found.get(expression)
        if found is None and len(expression) > MAX_EXPRESSION_CHARACTERS:
            return _find(self.rules, expression)
        if found is None:
            if len(self._found) >= REMEMBERED_EXPRESSIONS:
                self._found.clear()
            found = self._found[expression] = _find(self.rules, expression)
        return found

    def named(self, name: object) -> BoundRule | None:
        """The rule with this name."""
        return next((bound for bound in self.rules if bound.rule.name == name), None)

    def scorers(self) -> dict[str, BoundRule]:
        """By the name of each scorer in use: the first rule that uses it, else the first endpoint."""
        return {bound.rule.scorer: bound for bound in reversed((*self.rules, *self.endpoints.values()))}


def may_cover(book: RuleBook, expression: str, *, template: bool = False) -> bool:
    """Whether a rule may hold for a search, or a search template, on these indices, whatever else is in it."""
    found = book.find(expression)
    if template:
        return isinstance(found, BoundRule) and found.rule.templates
    return found not in UNCOVERED


def _find(rules: Sequence[BoundRule], expression: str) -> BoundRule | NoRule:
    names = named_in(expression)
    if any(is_system(name) for name in names):
        return "system_index"
    # `_all` and no index at all mean every index, which only a catch-all rule covers.
    wanted = ["*" if name == "_all" else name for name in names]
    found = [next((bound for bound in rules if bound.rule.matches(name)), None) for name in wanted]
    first = found[0]
    if first is None or None in found:
        return "no_rule"
    return first if all(bound is first for bound in found) else "several_rules"


def make_book(
    rules: Sequence[Rule],
    scorers: Mapping[str, ScorerSettings],
    limits: LimitSettings,
    endpoints: Mapping[str, BoundRule] | None = None,
) -> RuleBook:
    """The book of these rules and endpoints.

    Raises RuleError that names the first wrong key of a rule, its value and what is allowed.
    """
    for position, rule in enumerate(rules):
        if rule.name in (other.name for other in rules[:position]):
            raise RuleError(position, rule.name, f"name = {rule.name!r}: two rules have this name")
        if problem := problem_of(rule, scorers, limits):
            raise RuleError(position, rule.name, problem)
        if hidden_by := _hiding(rule, rules[:position]):
            raise RuleError(position, rule.name, _hidden_problem(rule, hidden_by), hidden_by)
    bound = tuple(bind(rule, scorers, limits) for rule in rules)
    said = [
        [one.rule.model_dump(mode="json"), one.fingerprint, asdict(one.scorer.abilities), one.deadline_s]
        for one in bound
    ]
    version = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]
    return RuleBook(version=version, rules=bound, limits=limits, endpoints=endpoints or {})


def bind(rule: Rule, scorers: Mapping[str, ScorerSettings], limits: LimitSettings) -> BoundRule:
    """A rule that fits these scorers and limits, with what holds for it."""
    scorer = scorers[rule.scorer]
    return BoundRule(
        rule=rule,
        scorer=scorer,
        fingerprint=scorer.fingerprint(),
        alpha=scorer.abilities.alpha if rule.alpha is None else rule.alpha,
        deadline_s=limits.deadline_s if rule.deadline_s is None else rule.deadline_s,
        language=None if rule.any_language else scorer.abilities.language,
    )


def problem_of(rule: Rule, scorers: Mapping[str, ScorerSettings], limits: LimitSettings) -> str:
    """The first key of a rule that does not fit the rest of the configuration, as `key = value: why`, or ''."""
    if rule.scorer not in scorers:
        return f"scorer = {rule.scorer!r}: known are {', '.join(scorers)}"
    if rule.window > limits.max_window:
        return f"window = {rule.window}: at most limits.max_window = {limits.max_window}"
    if (rule.deadline_s or 0) > limits.max_deadline_s:
        return f"deadline_s = {rule.deadline_s}: at most limits.max_deadline_s = {limits.max_deadline_s}"
    return _thinking_problem(rule, scorers[rule.scorer])


def _hiding(rule: Rule, earlier: Sequence[Rule]) -> tuple[str, ...]:
    """The names of the earlier rules that take every name that this one could have; () where some are left."""
    taken_by = [first_match(earlier, pattern) for pattern in rule.indices]
    names = tuple(dict.fromkeys(other.name for other in taken_by if other is not None))
    return () if None in taken_by else names


def _hidden_problem(rule: Rule, hidden_by: Sequence[str]) -> str:
    return (
        f"indices = {json.dumps(rule.indices, ensure_ascii=False)}: this rule is never used, since the first rule that "
        f"fits counts, and before it {', '.join(map(repr, hidden_by))} takes all of these; put the rule for fewer "
        "indices first"
    )


def _thinking_problem(rule: Rule, scorer: ScorerSettings) -> str:
    """The first key about thinking that does not fit the rule's scorer, as above, or ''."""
    most = scorer.abilities.max_think_tokens
    if not scorer.abilities.thinks:
        asked = [key for key in THINKING_KEYS if key in rule.model_fields_set]
        if not asked:
            return ""
        value = json.dumps(getattr(rule, asked[0]))
        return f"{asked[0]} = {value}: the scorer {rule.scorer!r} is of kind {scorer.kind!r}, which does not think"
    if rule.budget_tokens is None:
        return ""
    if rule.mode == "direct":
        return f"budget_tokens = {rule.budget_tokens}: mode 'direct' answers without thinking; allowed with the others"
    if rule.budget_tokens > most:
        return f"budget_tokens = {rule.budget_tokens}: at most scorers.{rule.scorer}.max_think_tokens = {most}"
    return ""
