"""Writes the file that is shipped anew: `python -m es_rerank.dashboards`, after a change of a panel or of a mapping."""

from __future__ import annotations

from pathlib import Path

from es_rerank.dashboards.bundle import render
from es_rerank.dashboards.shipped import FILE_NAME

Path(__file__).with_name(FILE_NAME).write_text(render(), encoding="utf-8")
