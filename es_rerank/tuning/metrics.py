"""What holds where nothing is named: metrics, by their names in ir-measures, and folds. Imports nothing heavy."""

from __future__ import annotations

PRIMARY = "nDCG@10"
SHOWN_JUDGED = "Judged@10"  # stands beside every metric
USUAL = (PRIMARY, "RR@10", "AP@100", "R@100", SHOWN_JUDGED)
FOLDS = 5  # of the cross-validation
