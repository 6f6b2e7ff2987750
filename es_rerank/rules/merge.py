"""Stored rules over the file's: which hold, in what order, and which are left out, with the reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from es_rerank.rules.book import RuleError, make_book

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from es_rerank.rules.book import BoundRule, RuleBook
    from es_rerank.rules.rule import Rule
    from es_rerank.scorers.kinds import ScorerSettings
    from es_rerank.tables import LimitSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBase:
    """What the configuration says of rules: its own, which fit, and the scorers and limits that bound all others.

    `endpoints` are in each book, whatever rules are stored.
    """

    rules: tuple[Rule, ...]
    scorers: Mapping[str, ScorerSettings]
    limits: LimitSettings
    endpoints: Mapping[str, BoundRule] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRule:
    """A stored rule as it is now, and the number of that version."""

    rule: Rule
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesInForce:
    """The book of all rules in force.

    `versions` has the stored ones among them, by name, with their versions. `invalid` says, by name, why a stored rule
    is left out. The file's rule of that name holds then, if there is one.
    """

    book: RuleBook
    versions: Mapping[str, int]
    invalid: Mapping[str, str]

    def find(self, name: str) -> BoundRule | None:
        """The rule with this name, None if none is in force."""
        return self.book.named(name)

    def origin(self, name: str) -> str | None:
        """Where the rule of this name that is in force comes from: `stored` or `file`; None if there is none."""
        if name in self.versions:
            return "stored"
        return None if self.find(name) is None else "file"


def merge(base: RuleBase, stored: Mapping[str, StoredRule]) -> RulesInForce:
    """The rules in force. `stored` has each stored rule under its name.

    A stored rule takes the place of the file's rule of its name. Those with new names come before the file's, in order
    of name. One that does not fit the configuration is left out, and so is one by which another rule would never be
    used; of two stored rules in each other's way, the hidden one. If all fit, none is left out.
    """
    taken = dict(stored)
    invalid: dict[str, str] = {}
    while True:
        try:
            book = make_book(_in_order(base.rules, taken), base.scorers, base.limits, base.endpoints)
        except RuleError as error:
            name, why = _left_out(error, taken)
            invalid[name] = why
            del taken[name]
        else:
            versions = {name: one.version for name, one in taken.items()}
            return RulesInForce(book=book, versions=versions, invalid=invalid)


def _in_order(file: Iterable[Rule], stored: Mapping[str, StoredRule]) -> list[Rule]:
    """All rules in the order in which they are tried."""
    file = list(file)
    new = sorted(stored.keys() - {rule.name for rule in file})
    replaced = [stored[rule.name].rule if rule.name in stored else rule for rule in file]
    return [*(stored[name].rule for name in new), *replaced]


def _left_out(error: RuleError, stored: Mapping[str, StoredRule]) -> tuple[str, str]:
    """Which stored rule has to go for an error to end, and why. Raises the error if it is the file's own."""
    if error.name in stored:
        return error.name, error.problem
    hiding = next((name for name in error.hidden_by if name in stored), None)
    if hiding is None:
        raise error
    return hiding, f"indices: with this rule, the file's rule {error.name!r} would never be used"
