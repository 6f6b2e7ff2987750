"""Doubts about a configuration: each is said once, in words, and a configuration without them has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trustme

from es_rerank.doubts import doubts_about, unused_scorers
from es_rerank.settings import Settings, meant_variable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def doubts(variables: Iterable[str] = (), **tables: Any) -> list[str]:
    """The doubts about settings with these tables."""
    needed = {"upstream": {"urls": ["http://es:9200"]}, "redis": {"url": "redis://h"}}
    return doubts_about(Settings.model_validate({**needed, **tables}), variables)


def rules(*indices: list[str], **keys: Any) -> list[dict[str, Any]]:
    """A rule for each list of patterns."""
    return [{"name": f"r{n}", "indices": group, "fields": ["t"], **keys} for n, group in enumerate(indices)]


def test_an_ordinary_configuration_has_no_doubts() -> None:
    """Nothing is said where nothing is to be said, whatever else is in the environment."""
    other = ["PATH", "ES_RERANK_INGEST_PASSWORD", "ES_RERANK_CONFIG", "ES_RERANK_SERVICE_HOST", "ES_RERANK_PORT"]
    assert doubts([*other, "ES_RERANK__REDIS__URL"], rules=rules(["films*", "eu:films"], ["*"])) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ES_RERANK_REDIS_URL", "ES_RERANK__REDIS__URL"),
        ("ES_RERANK_REDIS__URL", "ES_RERANK__REDIS__URL"),
        ("ES_RERANK__REDIS_URL", "ES_RERANK__REDIS__URL"),
        ("ES_RERANK___REDIS__URL", "ES_RERANK__REDIS__URL"),
        ("es_rerank__redis__url", "ES_RERANK__REDIS__URL"),
        ("Es_Rerank_Upstream_Ca_File", "ES_RERANK__UPSTREAM__CA_FILE"),
        ("ES_RERANK_LIMITS_MAX_DEADLINE_S", "ES_RERANK__LIMITS__MAX_DEADLINE_S"),
        ("ES_RERANK_RULES_0_THINK_TOP", "ES_RERANK__RULES__0__THINK_TOP"),
        ("ES_RERANK__REDIS__URL", ""),
        ("ES_RERANK__redis__url", ""),
        ("ES_RERANK__RULES__0__ALPHA", ""),
        ("ES_RERANK_INGEST_PASSWORD", ""),
        ("ES_RERANK_REQUIRE_ENGINES", ""),
        ("ES_RERANK_PORT_9300_TCP", ""),
        ("ES_RERANK_", ""),
        ("REDIS_URL", ""),
    ],
)
def test_a_variable_of_the_wrong_form_names_the_right_one(name: str, meant: str) -> None:
    """A variable that is a key but for its underscores or capitals is told; others may belong to other programs."""
    assert meant_variable(name) == meant


def test_a_variable_that_is_not_read_is_said_without_its_value() -> None:
    """The doubt names both variables."""
    said = doubts(["ES_RERANK_REDIS_URL"])
    assert said == ["the variable ES_RERANK_REDIS_URL is not read: did you mean ES_RERANK__REDIS__URL?"]


def test_patterns_that_may_be_meant_are_said() -> None:
    """Capitals match an alias only, and a pattern that an earlier rule takes has no effect."""
    assert doubts(rules=rules(["films*"], ["Books", "films-1"])) == [
        "rules[1].indices[0] = 'Books': can match an alias only, since the names of indices are in lower case",
        "rules[1].indices[1] = 'films-1': has no effect here, since the rule 'r0' before it takes these indices",
    ]


def test_a_certificate_file_without_tls_is_said(tmp_path: Path) -> None:
    """A file of authorities has no effect on http://."""
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    [said] = doubts(upstream={"urls": ["http://es"], "ca_file": file})
    assert said.startswith("upstream.ca_file: has no effect")
    assert doubts(upstream={"urls": ["http://es", "https://fs"], "ca_file": file}) == []


def test_one_port_for_proxy_and_worker_is_said() -> None:
    """Both read the same file, so one of them would find its port taken; port 0 is any free one."""
    [said] = doubts(metrics={"port": 9300})
    assert said == "metrics.port = 9300: is server.port too, so proxy and worker can't run on the same machine"
    assert doubts(metrics={"port": 0}, server={"port": 0}) == []


def test_a_deadline_that_redis_may_use_up_is_said() -> None:
    """A deadline no longer than one command of Redis may take is said for each rule that it holds for."""
    short = rules(["a"], deadline_s=1.0) + [{**rule, "name": "long"} for rule in rules(["b"])]
    assert doubts(rules=short) == [
        "rule 'r0': its deadline_s is 1, and redis.timeout_s is 1: where Redis hangs, it uses up the whole deadline"
    ]


def test_scorers_that_no_rule_uses_are_named() -> None:
    """Of the configured scorers, those without a rule are named; the built-in one is not configured."""
    tables = {"upstream": {"urls": ["http://es"]}, "redis": {"url": "redis://h"}, "scorers": {"a": {}, "b": {}}}
    used = Settings.model_validate({**tables, "rules": rules(["x"], scorer="b")})
    assert unused_scorers(used) == ["a"]
    assert unused_scorers(Settings.model_validate(tables)) == ["a", "b"]
