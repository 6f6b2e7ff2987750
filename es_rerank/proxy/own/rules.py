"""The rules in force, and how a caller changes them: looks, puts, deletes, promotes a run's winner, rolls back.

The engine is asked with the caller's own credentials, so it decides who may read and who may change.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from es_rerank.clock import utc_text
from es_rerank.doubts import doubts_about_patterns
from es_rerank.errors import CallerError
from es_rerank.proxy.own.call import OwnAnswer
from es_rerank.proxy.own.health import check_scoring
from es_rerank.proxy.own.indices import make_index
from es_rerank.proxy.own.promotion import find_promotion
from es_rerank.proxy.own.who import who_asks
from es_rerank.rawjson import read_object
from es_rerank.store.indices import RULES
from es_rerank.store.rule_versions import (
    NEWEST_OF_EACH,
    SEARCH,
    RuleVersion,
    document_of,
    history_of,
    in_force,
    restored,
    version_in,
    versions_in,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.rules.book import BoundRule
    from es_rerank.rules.merge import RulesInForce
    from es_rerank.rules.rule import Rule
    from es_rerank.store.rules import StoredRules

SHOWN_VERSIONS = 100
# As many characters as the index keeps of a keyword.
MAX_WORDS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What is stored, as this caller sees it: the newest version of each name, and what is in force by them.

    `has_index` is False where the index is gone, or was not made yet.
    """

    has_index: bool
    newest: Mapping[str, RuleVersion]
    in_force: RulesInForce

    def number(self, name: str) -> int:
        """The newest version of a name; 0 where there is none."""
        return self.newest[name].version if name in self.newest else 0

    def holds(self, name: str) -> bool:
        """Whether a rule of this name is stored, and not deleted."""
        return name in self.newest and self.newest[name].rule is not None


async def answer_all(call: OwnCall) -> OwnAnswer:
    """`GET /_es_rerank/rules`: all rules in force, in the order in which they are tried."""
    call.allow()
    found = (await _read(call)).in_force
    rules = [{"name": bound.rule.name, **_state(found, bound.rule.name)} for bound in found.book.rules]
    return OwnAnswer(value={"version": found.book.version, "rules": rules, "invalid": found.invalid})


async def answer_one(call: OwnCall) -> OwnAnswer:
    """`GET /_es_rerank/rules/{name}`: what is in force, and the newest versions, newest first."""
    call.allow()
    name = call.names["name"]
    stored = await _read(call)
    if stored.in_force.find(name) is None and name not in stored.newest:
        raise CallerError(f"no rule [{name}]: neither the configuration nor {RULES.name} has one", status=404)
    history = await call.ask_engine("POST", SEARCH, history_of(name, size=SHOWN_VERSIONS), allowed=(404,))
    versions = [] if history is None else versions_in(history)
    shown = [{**msgspec.to_builtins(version), "action": version.action, "who": version.who} for version in versions]
    for version in shown:
        del version["name"]
    value = {
        "name": name,
        **_state(stored.in_force, name),
        "newest_version": stored.number(name),
        "versions_total": 0 if history is None else history["hits"]["total"]["value"],
        "versions": shown,
    }
    if name in stored.in_force.invalid:
        value["invalid"] = stored.in_force.invalid[name]
    return OwnAnswer(value=value)


async def put(call: OwnCall) -> OwnAnswer:
    """`PUT /_es_rerank/rules/{name}`: a new version with the keys of the body, or of a sweep's winner."""
    call.allow("why", "from_run", "if_version")
    name, from_run = call.names["name"], _words(call, "from_run")
    stored = await _read(call)
    _check_version(call, stored, name)
    body = await call.body()
    doubts: tuple[str, ...] = ()
    if body.strip():
        keys = _keys_in(body, name)
    elif from_run is not None:
        bound = stored.in_force.find(name)
        if bound is None:
            raise CallerError(f"no rule [{name}] is in force, so [from_run] has nothing to change", status=404)
        promotion = await find_promotion(call, bound, from_run)
        keys, doubts = {**_keys_of(bound.rule), **promotion.keys}, promotion.doubts
    else:
        raise CallerError("the body must have the rule's keys as JSON, or [from_run] name a sweep that found some")
    version = RuleVersion(name=name, version=stored.number(name) + 1, from_run=from_run, rule=keys)
    created = not stored.holds(name)
    answer = await _change(call, stored, version, "created" if created else "updated", doubts=doubts)
    return replace(answer, status=201 if created else 200)


async def delete(call: OwnCall) -> OwnAnswer:
    """`DELETE /_es_rerank/rules/{name}`: a new version without a rule, so that the file's holds again, if any."""
    call.allow("why", "if_version")
    name = call.names["name"]
    stored = await _read(call)
    _check_version(call, stored, name)
    if not stored.holds(name):
        from_file = stored.in_force.find(name) is not None
        hint = "it comes from the configuration, which this does not change" if from_file else "there is none"
        raise CallerError(f"no stored rule [{name}]: {hint}", status=404)
    version = RuleVersion(name=name, version=stored.number(name) + 1, action="delete")
    return await _change(call, stored, version, "deleted")


async def roll_back(call: OwnCall) -> OwnAnswer:
    """`POST /_es_rerank/rules/{name}/_rollback`: a new version that equals what was before the last change."""
    call.allow("why", "if_version")
    name = call.names["name"]
    stored = await _read(call)
    _check_version(call, stored, name)
    current = stored.newest.get(name)
    if current is None:
        raise CallerError(f"no stored rule [{name}]: there is nothing to roll back", status=404)
    if not current.made_in:
        raise CallerError(f"the rule [{name}] is rolled back to before its first version: nothing is before that")
    earlier = None
    if current.made_in > 1:
        number = current.made_in - 1
        found = await call.ask_engine("GET", f"/{RULES.name}/_doc/{quote(name, safe='')}@{number}", allowed=(404,))
        if found is None:
            raise CallerError(f"version {number} of the rule [{name}] is no longer in {RULES.name}", status=404)
        earlier = version_in(found["_source"])
    version = restored(current, earlier)
    return await _change(call, stored, version, "rolled_back", restores=version.restores)


def _stored_rules(call: OwnCall) -> StoredRules:
    """The stored rules as this process follows them. Raises CallerError, 501, without [store]."""
    if call.parts.stored_rules is None:
        raise call.no_store()
    return call.parts.stored_rules


async def _read(call: OwnCall) -> _Stored:
    """What is stored, read as the caller."""
    rules = _stored_rules(call)
    answer = await call.ask_engine("POST", SEARCH, NEWEST_OF_EACH, allowed=(404,))
    newest = {} if answer is None else {version.name: version for version in versions_in(answer)}
    found = await asyncio.to_thread(in_force, rules.base, newest.values())
    return _Stored(has_index=answer is not None, newest=newest, in_force=found)


def _check_version(call: OwnCall, stored: _Stored, name: str) -> None:
    """Refuse a change that was made for another version than the newest."""
    text = call.parameters.get("if_version")
    if text is None:
        return
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise CallerError(f"[if_version] must be a version's number, or 0 where no rule is stored, was [{text}]")
    wanted, newest = int(text), stored.number(name)
    if wanted == newest or (wanted == 0 and not stored.holds(name)):
        return
    there = f"the newest version is [{newest}]" if newest else "no version is stored"
    raise CallerError(f"[if_version] of the rule [{name}] is [{wanted}], but {there}: nothing was changed", status=409)


def _keys_in(body: bytes, name: str) -> dict[str, Any]:
    """The rule's keys in a body, without its name."""
    keys = read_object(body)
    if keys is None:
        raise CallerError("the body must be one JSON object, and no key may come twice")
    given = keys.pop("name", name)
    if given != name:
        raise CallerError(f"[name] in the body must be [{name}] as in the path, or be left out")
    return keys


async def _change(
    call: OwnCall, stored: _Stored, version: RuleVersion, result: str, *, doubts: tuple[str, ...] = (), **told: Any
) -> OwnAnswer:
    """Write a version, after everything that could be wrong with it was looked for, and put it in force here."""
    rules = _stored_rules(call)
    name = version.name
    newest = {**stored.newest, name: version}
    after = await asyncio.to_thread(in_force, rules.base, newest.values())
    _refuse_harm(stored.in_force, after, name)
    bound = after.find(name) if version.rule is not None else None
    who, why = who_asks(call.request), _words(call, "why")
    version = msgspec.structs.replace(version, timestamp=utc_text(), who=who, why=why)
    if not stored.has_index:
        await make_index(call, RULES)
    target = f"/{RULES.name}/_create/{version.id}?refresh=true"
    if await call.ask_engine("PUT", target, document_of(version, bound), allowed=(409,)) is None:
        raise CallerError(
            f"somebody else has just changed the rule [{name}]: version [{version.version}] is there already, and "
            "nothing was changed; look at it and try again",
            status=409,
        )
    warnings = list(doubts)
    if not await rules.look():
        warnings.append("the change is stored, but this proxy can't read it now; its log says why")
    if bound is not None:
        earlier = [other.rule for other in after.book.rules[: after.book.rules.index(bound)]]
        warnings += [doubt.replace('"', "'") for doubt in doubts_about_patterns(bound.rule, earlier)]
        warnings += await _scorer_warnings(call, bound)
    value = {"name": name, "version": version.version, "result": result, **told, "origin": after.origin(name)}
    return OwnAnswer(value={**value, "warnings": warnings}, warnings=tuple(warnings))


def _refuse_harm(before: RulesInForce, after: RulesInForce, name: str) -> None:
    """Refuse a change that leaves out the rule itself, or another one that is in force."""
    if name in after.invalid:
        raise CallerError(f"rule [{name}]: {after.invalid[name]}")
    for other, why in after.invalid.items():
        if other not in before.invalid:
            raise CallerError(f"rule [{name}]: with this change, the stored rule [{other}] could not hold: {why}")


async def _scorer_warnings(call: OwnCall, bound: BoundRule) -> list[str]:
    """That no worker serves the rule's scorer, where that is so or can't be known."""
    scorer = bound.rule.scorer
    condition = await check_scoring(call.parts, [bound.fingerprint])
    until = "while none does, searches under this rule keep the engine's order, but for cached scores"
    if condition.workers is None:
        return [f"Redis does not say whether a worker serves the scorer {scorer}; {until}"]
    if condition.workers[0]:
        return []
    words = (
        f"no worker serves the scorer {scorer} with the settings that this proxy has for it: start one, or restart "
        f"those that have other settings; {until}"
    )
    return [words]


def _state(found: RulesInForce, name: str) -> dict[str, Any]:
    """What is in force under a name: from where, in which version, with which keys."""
    bound = found.find(name)
    return {
        "origin": found.origin(name),
        "version": found.versions.get(name),
        "rule": None if bound is None else _keys_of(bound.rule),
    }


def _keys_of(rule: Rule) -> dict[str, Any]:
    """A rule's keys as they were given, without its name: the body that puts it."""
    return rule.model_dump(mode="json", exclude_unset=True, exclude={"name"})


def _words(call: OwnCall, parameter: str) -> str | None:
    text = call.parameters.get(parameter, "").strip()
    if len(text) > MAX_WORDS:
        raise CallerError(f"[{parameter}] may have {MAX_WORDS} characters, and has {len(text)}")
    return text or None
