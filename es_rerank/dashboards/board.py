"""A dashboard: its panels in rows, on the grid of 48 columns that both products have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from es_rerank.dashboards.saved import Reference, SavedObject, dumps, search_source

if TYPE_CHECKING:
    from collections.abc import Iterator

PANEL_VERSION = "7.9.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels side by side, each with its width in columns. `height` is in the grid's own units of 20 pixels."""

    height: int
    panels: tuple[tuple[int, SavedObject], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard. `since` and `query` are the time range, as in `now-24h`, and the query that it opens with."""

    id: str
    title: str
    description: str
    since: str
    rows: tuple[Row, ...]
    query: str = ""

    def saved(self) -> Iterator[SavedObject]:
        """Its panels, then itself."""
        panels: list[dict[str, Any]] = []
        references: list[Reference] = []
        for x, y, width, height, panel in self._places():
            number = str(len(panels))
            name = f"panel_{number}"
            panels.append(
                {
                    "version": PANEL_VERSION,
                    "type": panel.type,
                    "panelIndex": number,
                    "panelRefName": name,
                    "gridData": {"x": x, "y": y, "w": width, "h": height, "i": number},
                    # The panel's own title repeats the product's name, for the list of all visualizations.
                    "title": panel.attributes["title"].removeprefix("es-rerank: "),
                    "embeddableConfig": {},
                }
            )
            references.append(Reference(name=name, type=panel.type, id=panel.id))
            yield panel
        yield SavedObject(
            type="dashboard",
            id=self.id,
            attributes={
                "title": self.title,
                "description": self.description,
                "hits": 0,
                "version": 1,
                "timeRestore": True,
                "timeFrom": self.since,
                "timeTo": "now",
                "refreshInterval": {"pause": True, "value": 0},
                "optionsJSON": dumps({"useMargins": True, "hidePanelTitles": False}),
                "panelsJSON": dumps(panels),
                "kibanaSavedObjectMeta": search_source(self.query),
            },
            references=tuple(references),
        )

    def _places(self) -> Iterator[tuple[int, int, int, int, SavedObject]]:
        """Left, top, width and height of each panel, and the panel."""
        y = 0
        for row in self.rows:
            x = 0
            for width, panel in row.panels:
                yield x, y, width, row.height, panel
                x += width
            y += row.height
