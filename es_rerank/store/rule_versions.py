"""Versions of stored rules: a document each, how they are asked for, what they mean, what a rollback restores. Pure.

The index only grows. A document's id is `NAME@VERSION`, so of two writers of the same version, one is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from es_rerank.rules.merge import RulesInForce, StoredRule, merge
from es_rerank.settings import read_rule
from es_rerank.store.indices import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from es_rerank.rules.book import BoundRule
    from es_rerank.rules.merge import RuleBase

Action = Literal["put", "delete", "rollback"]
MAX_NAMES = 10_000
"""How many names can be read at a time: what an engine gives in one answer."""
SEARCH = f"/{RULES.name}/_search?allow_partial_search_results=false"
NEWEST_FIRST = [{"version": {"order": "desc"}}]
NEWEST_OF_EACH: dict[str, Any] = {"size": MAX_NAMES, "collapse": {"field": "name"}, "sort": NEWEST_FIRST}
"""The newest version of every name, however many versions there are."""
LAST_CHANGE: dict[str, Any] = {
    "size": 1,
    "track_total_hits": True,
    "_source": False,
    "sort": [{"timestamp": {"order": "desc"}}, *NEWEST_FIRST],
}
"""How many versions there are, and which is the last: another answer after every change."""


class RuleVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of a stored rule. Versions of a name count from 1.

    `rule` has the rule's keys as they were given, without its name; None from a version on that deletes it. `restores`
    is set by a rollback: the version that it brought back, 0 for the time before the first one.
    """

    name: str
    version: int
    timestamp: str = ""
    who: str = "unknown"
    action: Action = "put"
    why: str | None = None
    from_run: str | None = None
    restores: int | None = None
    rule: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """The document's id."""
        return f"{self.name}@{self.version}"

    @property
    def made_in(self) -> int:
        """The version in which its content was put or deleted; 0 for what was before the first one."""
        return self.version if self.restores is None else self.restores


def history_of(name: str, *, size: int) -> dict[str, Any]:
    """The request for the newest versions of a name, newest first, and for how many there are."""
    return {"size": size, "track_total_hits": True, "query": {"term": {"name": name}}, "sort": NEWEST_FIRST}


def mark_in(answer: Any) -> tuple[Any, ...]:
    """From the answer to LAST_CHANGE: a value that changes with every change."""
    hits = answer["hits"]
    return (hits["total"]["value"], *((hit["_id"], *hit["sort"]) for hit in hits["hits"]))


def versions_in(answer: Any) -> list[RuleVersion]:
    """The versions in an answer to a search, in its order.

    People can write documents too, so a value of another type than ours counts as absent, and a document without a name
    as none. What is wrong inside of `rule` is found where it is read.
    """
    sources = [hit.get("_source", {}) for hit in answer["hits"]["hits"]]
    return [version_in(source) for source in sources if isinstance(source.get("name"), str)]


def version_in(source: Mapping[str, Any]) -> RuleVersion:
    """The version in a document that has a name."""
    known: dict[str, Any] = {"version": 0}
    for field in msgspec.structs.fields(RuleVersion):
        try:
            known[field.name] = msgspec.convert(source[field.name], field.type)
        except (KeyError, msgspec.ValidationError):
            continue
    return RuleVersion(**known)


def document_of(version: RuleVersion, bound: BoundRule | None) -> dict[str, Any]:
    """The document of a version. `bound` is the rule that it makes, for the fields that charts need; None for none."""
    document: dict[str, Any] = msgspec.to_builtins(version)
    document |= {"action": version.action, "who": version.who}
    if bound is not None:
        rule = bound.rule
        document |= {
            "alpha": bound.alpha,
            "method": rule.method,
            "window": rule.window,
            "score": rule.score,
            "scorer": rule.scorer,
        }
    return document


def in_force(base: RuleBase, newest: Iterable[RuleVersion]) -> RulesInForce:
    """What holds after these versions, the newest of each name. One that can't be read is left out, with the reason."""
    stored: dict[str, StoredRule] = {}
    unreadable: dict[str, str] = {}
    for version in newest:
        try:
            if version.rule is not None:
                rule = read_rule({**version.rule, "name": version.name})
                stored[version.name] = StoredRule(rule=rule, version=version.version)
            elif version.action == "put":
                unreadable[version.name] = "rule: an object with the rule's keys is needed"
        except ValueError as error:
            unreadable[version.name] = str(error)
    merged = merge(base, stored)
    return replace(merged, invalid={**unreadable, **merged.invalid})


def restored(current: RuleVersion, earlier: RuleVersion | None) -> RuleVersion:
    """The version that a rollback makes of `current`; the caller sets who, when and why.

    `earlier` is the version with the number `current.made_in - 1`, None where that is 0. So a rollback undoes the last
    put or delete that is not undone yet: a second one goes back two, and after a new put it goes back to what that put
    replaced. Without an earlier version it means as much as a delete.
    """
    return RuleVersion(
        name=current.name,
        version=current.version + 1,
        action="rollback",
        restores=0 if earlier is None else earlier.made_in,
        rule=None if earlier is None else earlier.rule,
    )
