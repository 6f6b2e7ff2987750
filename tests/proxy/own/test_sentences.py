"""Every reason word has a sentence."""

from __future__ import annotations

from es_rerank.proxy.own.sentences import RERANKED, SENTENCES
from es_rerank.reasons import OUTCOMES


def test_every_reason_has_a_sentence_of_its_own() -> None:
    """No reason is left without a sentence, and no two have the same."""
    assert SENTENCES.keys() == OUTCOMES.keys()
    said = [RERANKED, *SENTENCES.values()]
    assert len(set(said)) == len(said)
    assert all(sentence.endswith(".") for sentence in said)
