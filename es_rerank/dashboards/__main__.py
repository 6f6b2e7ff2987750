"""Writes the file that is shipped anew: `python -m es_rerank.dashboards`, after a change of a panel or of a mapping."""

from __future__ import annotations

from pathlib import Path

from es_rerank.dashboards.bundle import FILE_NAME, render

Path(__file__).with_name(FILE_NAME).write_text(render(), encoding="utf-8")
