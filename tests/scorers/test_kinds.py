"""The kinds of scorers, each known by its word."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from es_rerank.scorers.abilities import Abilities
from es_rerank.scorers.kinds import SCORER_KINDS, ScorerSettings, kind_of

SCORER: TypeAdapter[ScorerSettings] = TypeAdapter(ScorerSettings)


def made(kind: str) -> ScorerSettings:
    """A scorer of this kind with little more than its word."""
    return SCORER.validate_python(
        {"kind": kind} if kind in ("minilm", "e5") else {"kind": kind, "model": "owner/model"}
    )


@pytest.mark.parametrize("kind", SCORER_KINDS)
def test_a_kind_has_all_that_is_asked_of_any(kind: str) -> None:
    """Every scorer's table has a kind, a concurrency, abilities and a fingerprint, whatever the kind is."""
    scorer = made(kind)
    assert isinstance(scorer, SCORER_KINDS[kind])
    assert (scorer.kind, kind_of(scorer)) == (kind, kind)
    assert scorer.concurrency >= 1
    assert scorer.start_timeout_s > 0
    assert isinstance(scorer.abilities, Abilities)
    assert scorer.fingerprint().startswith(f"{kind}-")


@pytest.mark.parametrize(
    ("table", "kind"), [({}, "minilm"), ({"kind": "vllm"}, "vllm"), ({"kind": 5}, 5), ("vllm", None), (None, None)]
)
def test_the_kind_of_a_table_is_the_word_that_it_has(table: Any, kind: Any) -> None:
    """An unchecked table without `kind` is MiniLM's; a value that is not a table has no kind."""
    assert kind_of(table) == kind
