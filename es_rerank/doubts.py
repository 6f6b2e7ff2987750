"""What a configuration may say, but probably does not mean: a sentence for each, for people. Pure.

What can never do what was meant is an error, and is found where the settings are loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.rules.patterns import has_capitals
from es_rerank.rules.rule import first_match
from es_rerank.settings import meant_variable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from es_rerank.rules.rule import Rule
    from es_rerank.settings import Settings


def doubts_about(settings: Settings, variables: Iterable[str]) -> list[str]:
    """A sentence for each doubt about the settings and the names of the environment's variables; [] for none."""
    return [
        *_variables(variables),
        *_upstream(settings),
        *_ports(settings),
        *_patterns(settings),
        *_deadlines(settings),
    ]


def unused_scorers(settings: Settings) -> list[str]:
    """The names of the configured scorers that no rule uses, in the order of the file."""
    used = settings.used_scorers()
    return [name for name in settings.scorers if name not in used]


def _variables(variables: Iterable[str]) -> Iterator[str]:
    for name in sorted(variables):
        if meant := meant_variable(name):
            yield f"the variable {name} is not read: did you mean {meant}?"


def _upstream(settings: Settings) -> Iterator[str]:
    if settings.upstream.ca_file is not None and not any(url.startswith("https:") for url in settings.upstream.urls):
        yield "upstream.ca_file: has no effect, since no URL in upstream.urls begins with https://"


def _ports(settings: Settings) -> Iterator[str]:
    port = settings.server.port
    if port and settings.metrics.port == port:
        yield f"metrics.port = {port}: is server.port too, so proxy and worker can't run on the same machine"


def doubts_about_patterns(rule: Rule, earlier: Sequence[Rule]) -> Iterator[str]:
    """A sentence for each doubt about a rule's patterns, where these rules are tried before it."""
    for number, pattern in enumerate(rule.indices):
        place = f"indices[{number}] = {pattern!r}"
        if has_capitals(pattern):
            yield f"{place}: can match an alias only, since the names of indices are in lower case"
        taken_by = first_match(earlier, pattern)
        if taken_by is not None:
            yield f"{place}: has no effect here, since the rule {taken_by.name!r} before it takes these indices"


def _patterns(settings: Settings) -> Iterator[str]:
    for position, rule in enumerate(settings.rules):
        for doubt in doubts_about_patterns(rule, settings.rules[:position]):
            yield f"rules[{position}].{doubt}"


def _deadlines(settings: Settings) -> Iterator[str]:
    timeout_s = settings.redis.timeout_s
    for bound in settings.book().rules:
        if bound.deadline_s <= timeout_s:
            yield (
                f"rule {bound.rule.name!r}: its deadline_s is {bound.deadline_s:g}, and redis.timeout_s is "
                f"{timeout_s:g}: where Redis hangs, it uses up the whole deadline"
            )
