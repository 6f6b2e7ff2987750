"""What sweeps and comparisons compute, as they are asked for from Dev Tools; the figures are tested in tests/tuning."""

from __future__ import annotations

from es_rerank.proxy.own.arithmetic import ComparisonTask, SweepTask, compute_comparison, compute_sweep
from tests.tuning.cases import PRESENT, judged_as, query_of, recording_of

OWN = "The judgments 'qrels' (llm:erank) are those of the scorer 'erank' itself: "


def test_a_model_is_not_measured_by_itself_without_a_word() -> None:
    """A sweep and a comparison say so behind their verdict, once, and nothing of another model's judgments."""
    recording = recording_of(query_of("q1", [1, 9]), query_of("q2", [3, 2]))
    for fingerprint, said in (("f1", 1), ("f2", 0)):
        judgments = judged_as({"q1": {"d1": 1}, "q2": {"d0": 1}}, source="llm:erank", fingerprint=fingerprint)
        swept = compute_sweep(
            SweepTask(
                recording=recording, judgments=judgments, settings=(PRESENT,), metrics=("nDCG@10",), folds=2, run={}
            ),
            lambda _, __: None,
        )
        compared = compute_comparison(
            ComparisonTask(
                before=recording, before_setting=None, after=recording, after_setting=PRESENT, judgments=judgments,
                metric="nDCG@10", run={},
            ),
            lambda _, __: None,
        )  # fmt: skip
        assert (swept.verdict.count(OWN), compared.verdict.count(OWN)) == (said, said)


def test_a_comparison_names_what_either_recording_lacks() -> None:
    """A judged query that one of two recordings lacks counts 0 there, and is named, whichever of them it is."""
    both = recording_of(query_of("q1", [1, 9]), query_of("q2", [3, 2]))
    one = recording_of(query_of("q1", [1, 9]), query_of("q3", [3, 2]))
    judgments = judged_as({"q1": {"d1": 1}, "q2": {"d0": 1}})
    for before, after in ((both, one), (one, both)):
        compared = compute_comparison(
            ComparisonTask(
                before=before, before_setting=PRESENT, after=after, after_setting=PRESENT, judgments=judgments,
                metric="nDCG@10", run={},
            ),
            lambda _, __: None,
        )  # fmt: skip
        assert (compared.result["missing"], compared.result["unjudged"]) == (["q2"], ["q3"])
