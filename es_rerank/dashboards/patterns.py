"""The index patterns: which indices the panels ask, and their fields, from the mappings that create the indices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from es_rerank.dashboards.saved import SavedObject, dumps
from es_rerank.store.indices import EVENTS, HITS, JOBS, JUDGMENTS, RULES, RUNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from es_rerank.store.indices import OwnIndex

KINDS = {
    "keyword": "string",
    "text": "string",
    "date": "date",
    "boolean": "boolean",
    "integer": "number",
    "long": "number",
    "double": "number",
}
TIME_FIELD = "timestamp"
SECONDS = {
    "id": "duration",
    "params": {"inputFormat": "milliseconds", "outputFormat": "asSeconds", "outputPrecision": 1},
}
PERCENT = {"id": "percent", "params": {"pattern": "0.0%"}}
MILLISECONDS = {"id": "number", "params": {"pattern": "0,0.0"}}
METRIC = {"id": "number", "params": {"pattern": "0.0000"}}

KEYWORD = {"type": "keyword", "ignore_above": 256}
# The plug-in's mapping, without what no panel asks for, and with the query's id, which it leaves to a dynamic mapping.
# https://github.com/opensearch-project/user-behavior-insights, src/main/resources/events-mapping.json
UBI_EVENTS: dict[str, Any] = {
    "application": KEYWORD,
    "action_name": KEYWORD,
    "client_id": KEYWORD,
    "query_id": KEYWORD,
    "timestamp": {"type": "date"},
    "event_attributes": {
        "properties": {
            "position": {"properties": {"ordinal": {"type": "integer"}}},
            "object": {"properties": {"object_id": KEYWORD, "object_id_field": KEYWORD}},
        }
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """An index pattern: its id, the indices, and the mapping of their fields. `formats` say how numbers are shown."""

    id: str
    title: str
    mapping: Mapping[str, Any]
    formats: Mapping[str, Any] = field(default_factory=dict)

    def saved(self) -> SavedObject:
        """The pattern with the list of its fields: without one, each panel of a first look would save a list."""
        fields = [*META_FIELDS, *(_field(name, mapping) for name, mapping in flat(self.mapping))]
        attributes = {
            "title": self.title,
            "timeFieldName": TIME_FIELD,
            "fields": dumps(fields),
            "fieldFormatMap": dumps(self.formats),
        }
        return SavedObject(type="index-pattern", id=self.id, attributes=attributes)


def flat(mapping: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field that a panel can name, with its own mapping: those inside objects, and the other forms of a text."""
    for name, one in mapping.items():
        if "properties" in one:
            yield from flat(one["properties"], f"{path}{name}.")
        elif one["type"] != "object":
            yield f"{path}{name}", one
            yield from ((f"{path}{name}.{form}", other) for form, other in one.get("fields", {}).items())


def _field(name: str, mapping: Mapping[str, Any]) -> dict[str, Any]:
    aggregatable = mapping["type"] != "text" and mapping.get("doc_values", True)
    parent, _, form = name.rpartition(".")
    described = {
        "name": name,
        "type": KINDS[mapping["type"]],
        "esTypes": [mapping["type"]],
        "count": 0,
        "scripted": False,
        "searchable": mapping.get("index", True),
        "aggregatable": aggregatable,
        "readFromDocValues": aggregatable,
    }
    return {**described, "subType": {"multi": {"parent": parent}}} if form == "keyword" else described


def _meta_field(name: str, kind: str, *, found: bool) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "esTypes": [name],
        "count": 0,
        "scripted": False,
        "searchable": found,
        "aggregatable": found,
        "readFromDocValues": False,
    }


META_FIELDS = (
    _meta_field("_id", "string", found=True),
    _meta_field("_index", "string", found=True),
    _meta_field("_score", "number", found=False),
    _meta_field("_source", "_source", found=False),
)


def _own(index: OwnIndex, **formats: Any) -> Pattern:
    return Pattern(id=index.name, title=index.pattern, mapping=index.fields, formats=formats)


def _milliseconds(index: OwnIndex) -> dict[str, Any]:
    return {name: MILLISECONDS for name in index.fields if name.startswith("took_")}


EVENTS_PATTERN = _own(
    EVENTS, **_milliseconds(EVENTS), saved_score_ms=SECONDS, cache_hit_ratio=PERCENT, overlap_at_10=PERCENT
)
HITS_PATTERN = _own(HITS)
RUNS_PATTERN = _own(RUNS, value=METRIC, engine_value=METRIC, change=METRIC, judged_at_10=PERCENT)
JUDGMENTS_PATTERN = _own(JUDGMENTS)
RULES_PATTERN = _own(RULES)
JOBS_PATTERN = _own(JOBS)
CLICKS_PATTERN = Pattern(id="es-rerank-ubi-events", title="ubi_events", mapping=UBI_EVENTS)
PATTERNS = (
    EVENTS_PATTERN,
    HITS_PATTERN,
    RUNS_PATTERN,
    JUDGMENTS_PATTERN,
    RULES_PATTERN,
    JOBS_PATTERN,
    CLICKS_PATTERN,
)
