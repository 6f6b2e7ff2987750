"""Saved objects in the one form that Kibana 8 and 9 and OpenSearch Dashboards 2 and 3 all import."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

SavedType = Literal["index-pattern", "visualization", "search", "dashboard"]

# The newest versions that OpenSearch Dashboards knows; it refuses newer ones. Kibana migrates these upwards.
MIGRATION_VERSIONS: dict[SavedType, str] = {
    "index-pattern": "7.6.0",
    "visualization": "7.10.0",
    "search": "7.9.3",
    "dashboard": "7.9.3",
}
INDEX_REFERENCE = "kibanaSavedObjectMeta.searchSourceJSON.index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """From one saved object to another, under the name that the attributes use for it."""

    name: str
    type: SavedType
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedObject:
    """One line of the file. The id never changes, so that a second import replaces the first."""

    type: SavedType
    id: str
    attributes: Mapping[str, Any]
    references: tuple[Reference, ...] = ()

    def line(self) -> str:
        """The object as JSON, with its keys in order."""
        return dumps(
            {
                "id": self.id,
                "type": self.type,
                "attributes": self.attributes,
                "references": [{"name": one.name, "type": one.type, "id": one.id} for one in self.references],
                "migrationVersion": {self.type: MIGRATION_VERSIONS[self.type]},
            }
        )


def dumps(value: Any) -> str:
    """The value as JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def search_source(query: str = "", **more: Any) -> dict[str, str]:
    """What an object asks the engine, as an attribute. `query` is in Lucene's syntax, which the engine itself reads."""
    language = "lucene" if query else "kuery"
    return {"searchSourceJSON": dumps({"query": {"query": query, "language": language}, "filter": [], **more})}
