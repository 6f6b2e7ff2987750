"""The indices that es-rerank writes: their names, and the one definition of their fields.

Every document is flat, so that Kibana and OpenSearch Dashboards can chart each field. Where User Behavior Insights has
a name for a field, it has that name (https://github.com/o19s/ubi). Dashboards' field lists are made from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

KEYWORD: dict[str, Any] = {"type": "keyword", "ignore_above": 1024}
TEXT: dict[str, Any] = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 1024}}}
DATE: dict[str, Any] = {"type": "date"}
INTEGER: dict[str, Any] = {"type": "integer"}
LONG: dict[str, Any] = {"type": "long"}
FLOAT: dict[str, Any] = {"type": "double"}
BOOLEAN: dict[str, Any] = {"type": "boolean"}
# Kept, and never searched.
HIDDEN_OBJECT: dict[str, Any] = {"type": "object", "enabled": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnIndex:
    """One index, or one a month: its name, and its fields with their mappings. `monthly` names end in `-2026.11`."""

    name: str
    fields: Mapping[str, dict[str, Any]]
    monthly: bool = False

    @property
    def pattern(self) -> str:
        """What all of its indices are found by, and what its index template holds for."""
        return f"{self.name}-*" if self.monthly else self.name

    def at(self, time: datetime) -> str:
        """The index for a document of this time (UTC)."""
        return f"{self.name}-{time:%Y.%m}" if self.monthly else self.name

    def body(self) -> dict[str, Any]:
        """Settings and mappings of the index. Unknown fields are kept, but not indexed."""
        return {
            "settings": {"index": {"number_of_shards": 1, "auto_expand_replicas": "0-1"}},
            "mappings": {"dynamic": False, "properties": dict(self.fields)},
        }


EVENTS = OwnIndex(
    name="es-rerank-events",
    monthly=True,
    fields={
        "timestamp": DATE,
        "query_id": KEYWORD,
        "user_query": TEXT,
        "user_query_hash": KEYWORD,
        "client_id": KEYWORD,
        "application": KEYWORD,
        "opaque_id": KEYWORD,
        "index": KEYWORD,
        "rule": KEYWORD,
        "rules_version": KEYWORD,
        "scorer": KEYWORD,
        "mode": KEYWORD,
        "first_stage": KEYWORD,
        "status": KEYWORD,
        "reason": KEYWORD,
        "window": INTEGER,
        "scored": INTEGER,
        "cached": INTEGER,
        "missing": INTEGER,
        "missing_text": INTEGER,
        "cache_hit_ratio": FLOAT,
        "think_tokens": LONG,
        "cut": INTEGER,
        "low_mass": INTEGER,
        "truncated": INTEGER,
        "page_from": INTEGER,
        "page_size": INTEGER,
        "alpha": FLOAT,
        "method": KEYWORD,
        "took_total_ms": FLOAT,
        "took_engine_ms": FLOAT,
        "took_read_ms": FLOAT,
        "took_cache_ms": FLOAT,
        "took_score_ms": FLOAT,
        "took_reasoning_ms": FLOAT,
        "took_fuse_ms": FLOAT,
        "took_write_ms": FLOAT,
        "saved_score_ms": FLOAT,
        "overlap_at_10": FLOAT,
        "moved_mean": FLOAT,
        "moved_max": INTEGER,
        "proxy": KEYWORD,
    },
)
HITS = OwnIndex(
    name="es-rerank-hits",
    monthly=True,
    fields={
        "timestamp": DATE,
        "query_id": KEYWORD,
        "user_query": TEXT,
        "user_query_hash": KEYWORD,
        "client_id": KEYWORD,
        "application": KEYWORD,
        "index": KEYWORD,
        "rule": KEYWORD,
        "scorer": KEYWORD,
        "hit_index": KEYWORD,
        "object_id": KEYWORD,
        "engine_score": FLOAT,
        "rank_score": FLOAT,
        "fused_score": FLOAT,
        "engine_rank": INTEGER,
        "rank_score_rank": INTEGER,
        "position": INTEGER,
        "moved": INTEGER,
    },
)
JUDGMENTS = OwnIndex(
    name="es-rerank-judgments",
    fields={
        "name": KEYWORD,
        "query_id": KEYWORD,
        "user_query": TEXT,
        "group": KEYWORD,
        "index": KEYWORD,
        "object_id": KEYWORD,
        "grade": FLOAT,
        "source": KEYWORD,
        "fingerprint": KEYWORD,
        "impressions": LONG,
        "clicks": LONG,
        "expected_clicks": FLOAT,
        "timestamp": DATE,
        "who": KEYWORD,
    },
)
RULES = OwnIndex(
    name="es-rerank-rules",
    fields={
        "name": KEYWORD,
        "version": INTEGER,
        "timestamp": DATE,
        "who": KEYWORD,
        "why": TEXT,
        "from_run": KEYWORD,
        "action": KEYWORD,
        "restores": INTEGER,
        "rule": HIDDEN_OBJECT,
        "alpha": FLOAT,
        "method": KEYWORD,
        "window": INTEGER,
        "score": KEYWORD,
        "scorer": KEYWORD,
    },
)
RUNS = OwnIndex(
    name="es-rerank-runs",
    fields={
        "timestamp": DATE,
        "run": KEYWORD,
        "job": KEYWORD,
        "recording": KEYWORD,
        "label": KEYWORD,
        "index": KEYWORD,
        "rule": KEYWORD,
        "rules_version": KEYWORD,
        "scorer": KEYWORD,
        "judgments": KEYWORD,
        "setting": KEYWORD,
        "window": INTEGER,
        "method": KEYWORD,
        "alpha": FLOAT,
        "score": KEYWORD,
        "metric": KEYWORD,
        "value": FLOAT,
        "engine_value": FLOAT,
        "change": FLOAT,
        "query_id": KEYWORD,
        "user_query": TEXT,
        "group": KEYWORD,
        "judged_at_10": FLOAT,
        "aggregate": BOOLEAN,
        "queries": INTEGER,
        "held_out": BOOLEAN,
    },
)
WINDOWS = OwnIndex(
    name="es-rerank-windows",
    fields={"recording": KEYWORD, "position": INTEGER, "query_id": KEYWORD, "timestamp": DATE, "query": HIDDEN_OBJECT},
)
JOBS = OwnIndex(
    name="es-rerank-jobs",
    fields={
        "id": KEYWORD,
        "kind": KEYWORD,
        "state": KEYWORD,
        "timestamp": DATE,
        "updated": DATE,
        "who": KEYWORD,
        "index": KEYWORD,
        "rule": KEYWORD,
        "scorer": KEYWORD,
        "judgments": KEYWORD,
        "recording": KEYWORD,
        "label": KEYWORD,
        "done": INTEGER,
        "total": INTEGER,
        "took_ms": LONG,
        "cancel": BOOLEAN,
        "statuses": HIDDEN_OBJECT,
        "reasons": HIDDEN_OBJECT,
        "verdict": TEXT,
        "error": TEXT,
        "proxy": KEYWORD,
        "request": HIDDEN_OBJECT,
        "result": HIDDEN_OBJECT,
    },
)
OWN_INDICES: tuple[OwnIndex, ...] = (EVENTS, HITS, JUDGMENTS, RULES, RUNS, WINDOWS, JOBS)
