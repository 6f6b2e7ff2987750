"""The metrics that are shown where none are named, by their names in ir-measures (es_rerank/tuning/measures.py)."""

from __future__ import annotations

PRIMARY = "nDCG@10"
SHOWN_JUDGED = "Judged@10"  # stands beside every metric
USUAL = (PRIMARY, "RR@10", "AP@100", "R@100", SHOWN_JUDGED)
