"""Looks at the configuration's engine for `check-config --engine`: indices, mappings, and three documents of a rule.

Only reads. Logs in as the person who asks, never with anything of the configuration.
"""

from __future__ import annotations

import warnings
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from es_rerank.check.fields import doubt_about_field
from es_rerank.check.report import EngineFindings, FieldDoubt, RuleFindings, Sample
from es_rerank.errors import EngineError, EsRerankError
from es_rerank.official.client import (
    CLIENT_ERRORS,
    Client,
    connect,
    ignore_engine_warnings,
    request,
    status_and_reason,
)
from es_rerank.rules.book import BoundRule
from es_rerank.rules.patterns import DATE_MATH, without_cluster
from es_rerank.texts import TextSpec, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from es_rerank.official.login import ApiKey, Password
    from es_rerank.rules.book import RuleBook
    from es_rerank.rules.rule import Rule
    from es_rerank.settings import Settings
    from es_rerank.tables import UpstreamSettings

SAMPLE_DOCUMENTS = 3
# Into how many indices of a rule it is looked: their mappings and names must fit one request.
LOOKED_INTO = 20


def look_at_engine(settings: Settings, login: Password | ApiKey | None) -> EngineFindings:
    """What each rule finds on the first host that answers, in the order of the rules.

    Raises EngineError where none answers, or the engine is not one that we know; SettingsError for a login that can't
    be used. What the engine refuses later is said in the findings.
    """
    client, url = _connect(settings.upstream, login)
    book = settings.book()
    with closing(client), warnings.catch_warnings():
        ignore_engine_warnings()  # they are not about rules
        version = _body(client.info()).get("version", {})
        return EngineFindings(
            url=url,
            version=f"{version.get('distribution', 'elasticsearch')} {version.get('number')}",
            rules=tuple(_look_at_rule(client, book, bound.rule) for bound in book.rules),
        )


def _connect(upstream: UpstreamSettings, login: Password | ApiKey | None) -> tuple[Client, str]:
    failures: list[EsRerankError] = []
    for url in upstream.urls:
        ca_file = upstream.ca_file if url.startswith("https:") else None
        try:
            return connect(url, login=login, ca_file=ca_file, verify_tls=upstream.verify_tls), url
        except EngineError as error:
            failures.append(error)
    raise EngineError("; ".join(map(str, failures)))


def _look_at_rule(client: Client, book: RuleBook, rule: Rule) -> RuleFindings:
    asked = [pattern for pattern in rule.indices if not _is_elsewhere(pattern)]
    elsewhere = tuple(pattern for pattern in rule.indices if _is_elsewhere(pattern))
    findings = RuleFindings(rule=rule.name, elsewhere=elsewhere)
    if not asked:
        return findings
    names, refusal = _names_under(client, asked)
    if refusal:
        # Without the list of names, the patterns themselves are searched.
        findings = replace(findings, refusals=(f"the list of indices: {refusal}",))
        own = asked
    else:
        holders = {name: book.find(name) for name in names}
        own = [name for name, holder in holders.items() if isinstance(holder, BoundRule) and holder.rule is rule]
        others = [
            (name, holder.rule.name)
            for name, holder in holders.items()
            if isinstance(holder, BoundRule) and holder.rule is not rule
        ]
        findings = replace(findings, names=tuple(own), taken=tuple(others))
        if not own:
            return findings
    return _look_into(client, rule, own[:LOOKED_INTO], findings)


def _look_into(client: Client, rule: Rule, names: Sequence[str], findings: RuleFindings) -> RuleFindings:
    """The findings with what mappings say of the rule's fields, and with the texts of some documents."""
    expression = ",".join(names)
    mappings, refused_mapping = _ask(lambda: client.indices.get_mapping(index=expression, ignore_unavailable=True))
    search = {"query": {"match_all": {}}, "size": SAMPLE_DOCUMENTS}
    answer, refused_search = _ask(lambda: client.search(index=expression, body=search, ignore_unavailable=True))
    hits = (answer or {}).get("hits", {}).get("hits", [])
    refusals = [
        *findings.refusals,
        *([f"the mapping: {refused_mapping}"] if refused_mapping else []),
        *([f"a search: {refused_search}"] if refused_search else []),
    ]
    return replace(
        findings,
        refusals=tuple(refusals),
        fields=tuple(_doubts(mappings or {}, rule.text.names)),
        samples=tuple(_sample(hit, rule.text) for hit in hits),
    )


def _names_under(client: Client, patterns: Sequence[str]) -> tuple[list[str], str]:
    """The names of indices, aliases and data streams under the patterns, and '' or why they aren't known."""
    names: dict[str, None] = {}
    for pattern in patterns:
        found, refusal = _ask(partial(_resolve, client, pattern))
        if refusal.startswith("404"):  # a name without a wildcard that isn't there
            continue
        if refusal:
            return [], refusal
        names.update(dict.fromkeys(_named(found)))
    return sorted(names), ""


def _resolve(client: Client, pattern: str) -> Any:
    """`GET _resolve/index`. Elasticsearch's client of version 9 sends a POST, which Elasticsearch 8 does not take."""
    path = f"/_resolve/index/{quote(pattern, safe='*')}"
    return request(client, "GET", path)


def _named(found: Any) -> Iterable[str]:
    return (entry["name"] for kind in ("indices", "aliases", "data_streams") for entry in found.get(kind, ()))


def _doubts(mappings: dict[str, Any], fields: Sequence[str]) -> list[FieldDoubt]:
    """What the mappings say against each field: equal words for several indices become one."""
    said: dict[tuple[str, str], list[str]] = {}
    for field in fields:
        for index, content in mappings.items():
            doubt = doubt_about_field(content.get("mappings") or {}, field)
            if doubt:
                said.setdefault((field, doubt), []).append(index)
    return [
        FieldDoubt(field=field, doubt=doubt, indices=tuple(indices), everywhere=len(indices) == len(mappings))
        for (field, doubt), indices in said.items()
    ]


def _sample(hit: Any, spec: TextSpec) -> Sample:
    """A document as it would be scored, by the functions that serve searches."""
    source = msgspec.Raw(msgspec.json.encode(hit["_source"])) if "_source" in hit else None
    read = texts_of([source], spec)
    [text] = read.texts
    return Sample(
        index=hit["_index"],
        id=hit["_id"],
        text=text or "",
        missing=tuple(read.missing_fields),
    )


def _is_elsewhere(pattern: str) -> bool:
    """Whether what the pattern matches can't be listed here: names on other clusters, and names in date math."""
    return pattern.startswith(DATE_MATH) or without_cluster(pattern) != pattern


def _ask(call: Callable[[], Any]) -> tuple[Any, str]:
    """The engine's answer, and '' or the status and reason of its refusal."""
    try:
        return _body(call()), ""
    except CLIENT_ERRORS as error:
        status, reason = status_and_reason(error)
        return None, f"{status or 'no answer'}: {reason}"


def _body(answer: Any) -> Any:
    """An answer as plain JSON: one of the clients wraps it."""
    return getattr(answer, "body", answer)
