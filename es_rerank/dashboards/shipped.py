"""The file of all dashboards as it lies in the package."""

from __future__ import annotations

from importlib.resources import files

FILE_NAME = "es-rerank.ndjson"


def shipped() -> bytes:
    """The file's bytes; `es_rerank.dashboards.bundle` makes them."""
    return files("es_rerank.dashboards").joinpath(FILE_NAME).read_bytes()
