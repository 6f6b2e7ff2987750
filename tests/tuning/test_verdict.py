"""The verdict: one sentence for each case, and a warning for each thing that weakens it."""

from __future__ import annotations

from typing import Any

import pytest

from es_rerank.tuning.findings import find
from es_rerank.tuning.graded import grade_recording
from es_rerank.tuning.grid import parse_grid
from es_rerank.tuning.recording import Setting
from es_rerank.tuning.verdict import Case, better, case_of, differences, p_text, verdict
from tests.tuning.cases import by_chance

NOW = Setting(window=100, method="zscore", alpha=0.2)
BEST = Setting(window=100, method="zscore", alpha=0.35)


def case(**changes: Any) -> Case:
    """A case without reason to change."""
    given = {
        "metric": "nDCG@10", "present": NOW, "best": BEST, "present_mean": 0.557, "held_out_mean": 0.561, "p": 0.21,
        "queries": 225, "settings": 1000, "judged_at_10": 0.9, "warning": None,
    }  # fmt: skip
    return Case(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "sentence", "changing"),
    [
        (
            {},
            (
                "alpha 0.35 (now 0.2): nDCG@10 0.557 → 0.561 on held-out queries, p = 0.21 over 225 queries: "
                "no reason to change."
            ),
            False,
        ),
        (
            {"held_out_mean": 0.61, "p": 0.0021},
            (
                "alpha 0.35 (now 0.2): nDCG@10 0.557 → 0.610 on held-out queries, p = 0.002 over 225 queries: "
                "better, a reason to change."
            ),
            True,
        ),
        (
            {"held_out_mean": 0.55, "p": 0.03},
            (
                "alpha 0.35 (now 0.2): nDCG@10 0.557 → 0.550 on held-out queries, p = 0.030 over 225 queries: "
                "the gain does not hold on queries that did not choose it, no reason to change."
            ),
            False,
        ),
        (
            {"queries": 9, "p": 0.004, "held_out_mean": 0.9},
            (
                "alpha 0.35 (now 0.2): nDCG@10 0.557 → 0.900 on held-out queries, p = 0.004 over 9 queries: "
                "too few queries to say anything, at least 10 are needed."
            ),
            False,
        ),
        (
            {"queries": 1, "p": 1.0},
            (
                "alpha 0.35 (now 0.2): nDCG@10 0.557 → 0.561 on held-out queries, p = 1.00 over 1 query: "
                "too few queries to say anything, at least 10 are needed."
            ),
            False,
        ),
        (
            {"best": NOW},
            (
                "alpha 0.2, zscore, window 100, paper (now): nDCG@10 0.557, none of 999 other settings is better over "
                "225 queries: no reason to change."
            ),
            False,
        ),
        (
            {"best": NOW, "settings": 2, "queries": 4},
            (
                "alpha 0.2, zscore, window 100, paper (now): nDCG@10 0.557, the other setting is not better over "
                "4 queries: too few to say which setting is best."
            ),
            False,
        ),
        (
            {"best": NOW, "settings": 1},
            "alpha 0.2, zscore, window 100, paper: nDCG@10 0.557 over 225 queries; no other setting was tried.",
            False,
        ),
        (
            {"best": NOW, "judged_at_10": 0.31, "warning": "A word."},
            (
                "alpha 0.2, zscore, window 100, paper (now): nDCG@10 0.557, none of 999 other settings is better over "
                "225 queries: no reason to change. Only 31% of the first 10 hits are judged, and the others count as "
                "not relevant: judge more before you trust a small difference. A word."
            ),
            False,
        ),
    ],
)
def test_each_case_has_its_sentence(changes: dict[str, Any], sentence: str, changing: bool) -> None:
    """The sentence says what was found, over how many queries, and what to do; only a clear win is one to act on."""
    assert verdict(case(**changes)) == sentence
    assert better(case(**changes)) is changing


def test_only_what_differs_is_named() -> None:
    """Each field that changes is there with its present value, in one order."""
    other = Setting(window=50, method="rrf", alpha=0.2, score="expected")
    assert differences(other, NOW) == "method rrf (now zscore), window 50 (now 100), score expected (now paper)"


@pytest.mark.parametrize(
    ("p", "text"),
    [(1.0, "p = 1.00"), (0.214, "p = 0.21"), (0.0496, "p = 0.050"), (0.001, "p = 0.001"), (0.0001, "p < 0.001")],
)
def test_p_has_the_digits_that_count(p: float, text: str) -> None:
    """Small ones have three places, and below 0.001 only that is said."""
    assert p_text(p) == text


def test_a_sweep_makes_its_case() -> None:
    """From a recording to the sentence: figures, p and numbers are those of the findings."""
    recording, judgments = by_chance(11, queries=40, window=20)
    graded = grade_recording(recording, judgments)
    findings = find(graded, parse_grid("alpha=0:1:0.1").settings(recording.head.setting), flips=500)
    found = case_of(findings)
    assert (found.queries, found.settings) == (40, 11)
    assert found.present_mean == pytest.approx(findings.sweep.values[findings.present].mean())
    assert found.held_out_mean == findings.choice.held_out_mean
    assert verdict(found).startswith(f"{differences(found.best, found.present)}: nDCG@10 {found.present_mean:.3f} → ")
