"""What a configuration says of inference endpoints is bound to scorers, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from es_rerank.settings import Settings


def settings_of(**inference: Any) -> Settings:
    """A configuration with these keys of [inference], and a scorer that thinks beside MiniLM."""
    return Settings.model_validate(
        {
            "upstream": {"urls": ["http://127.0.0.1:1"]},
            "redis": {"url": "redis://127.0.0.1:1/0"},
            "scorers": {"llm": {"kind": "vllm", "model": "m", "max_think_tokens": 512}},
            "inference": {"scorers": {"a": "minilm", ".rerank-v1-elasticsearch": "llm"}, **inference},
        }
    )


def test_each_endpoint_has_its_scorer_and_the_tables_own_policy() -> None:
    """Keys about thinking hold for the scorers that think; the model alone orders; workers serve these scorers."""
    settings = settings_of(budget_tokens=64, deadline_s=5.0, any_language=True, instruction="What helps?")
    endpoints = settings.book().endpoints
    plain, thinking = endpoints["a"], endpoints[".rerank-v1-elasticsearch"]
    assert (plain.rule.name, plain.rule.scorer, plain.alpha, plain.deadline_s) == ("a", "minilm", 0.0, 5.0)
    assert (plain.language, plain.rule.instruction, plain.rule.budget_tokens) == (None, "What helps?", None)
    assert (thinking.rule.scorer, thinking.rule.budget_tokens, thinking.alpha) == ("llm", 64, 0.0)
    assert settings.used_scorers().keys() == {"minilm", "llm"}
    assert settings.book().scorers().keys() == {"minilm", "llm"}


def test_without_the_table_there_is_no_endpoint() -> None:
    """Every `text_similarity_reranker` is the engine's."""
    assert not settings_of().model_copy(update={"inference": None}).book().endpoints


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"scorers": {}}, "at least one item is needed"),
        (
            {"scorers": {"a": "minilm", "b": "other"}},
            "inference.scorers: item 2 names no scorer; known are minilm, llm",
        ),
        ({"deadline_s": 31.0}, "inference.deadline_s = 31.0: at most limits.max_deadline_s = 30.0"),
        ({"budget_tokens": 513}, "inference.budget_tokens = 513: at most scorers.llm.max_think_tokens = 512"),
        ({"budget_tokens": 5, "mode": "direct"}, "mode 'direct' answers without thinking"),
        ({"scorers": {"a": "minilm"}, "mode": "direct"}, "inference.mode: none of the scorers"),
    ],
)
def test_what_cant_be_used_is_refused(changes: dict[str, Any], text: str) -> None:
    """The error names the key and what is allowed."""
    with pytest.raises(ValidationError) as raised:
        settings_of(**changes)
    assert text in str(raised.value)
