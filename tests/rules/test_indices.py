"""Names of indices: which are system ones, and which expressions may find those."""

from __future__ import annotations

import pytest

from es_rerank.rules.indices import is_system, may_reach_system


@pytest.mark.parametrize(
    ("name", "system"),
    [
        ("es-rerank-events-2026.11", True),
        ("far:es-rerank-rules", True),
        ("es-rerank-*", True),
        ("es-rerank", False),
        ("es-*", False),
        ("notes", False),
        ("no.tes", False),
        ("", False),
        ("eu:notes", False),
        ("<notes-{now/d}>", False),
        ("notes::failures", False),
        (".kibana", True),
        (".kibana_1", True),
        (".security-7", True),
        (".opensearch-observability", True),
        ("eu:.kibana", True),
        ("<.monitoring-{now/d}>", True),
        ("eu:<.monitoring-{now/d}>", True),
        (".ds-logs-2026.11.28-000001", False),
        ("eu:.ds-logs-2026.11.28-000001", False),
        ("partial-.ds-logs-2026.11.28-000001", False),
        ("restored-.ds-logs-2026.11.28-000001", False),
        ("eu:partial-.ds-logs-2026.11.28-000001", False),
        (".fs-logs-2026.11.28-000002", False),
        (".migrated-ds-logs-2026.11.28-000001", False),
        (".reindexed-v8-notes", False),
        (".reindexed-v8-.ds-logs-2026.11.28-000001", False),
        (".ds-.kibana-event-log-ds-2026.11.28-000001", True),
        ("partial-.ds-.slm-history-7-2026.11.28-000001", True),
        ("restored-.kibana_1", True),
        ("partial-notes", False),
        (".dsx-logs", True),
    ],
)
def test_a_system_index_is_known_by_its_own_name(name: str, system: bool) -> None:
    """A name that begins with a dot is a system index's, unless engines made it for a data stream or an upgrade."""
    assert is_system(name) is system


@pytest.mark.parametrize(
    ("expression", "may"),
    [
        ("es*", True),
        ("es-rerank-ev*", True),
        ("far:es-*", True),
        ("est*", False),
        ("", True),
        ("_all", True),
        ("*", True),
        ("*-logs", True),
        ("eu:*", True),
        ("notes,*", True),
        ("*,-notes", True),
        ("-notes", True),
        ("<*-{now/d}>", True),
        ("notes", False),
        ("notes*", False),
        ("notes,logs-*", False),
        ("*:notes", False),
        ("notes,-*", False),
        ("notes::failures", False),
    ],
)
def test_only_a_name_that_says_nothing_may_find_system_indices(expression: str, may: bool) -> None:
    """A pattern that may begin with a dot finds them; any other name finds what the caller named."""
    assert may_reach_system(expression) is may
