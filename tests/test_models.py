"""The models of the rerank API: which scorer a name means, and what can't be configured."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from es_rerank.settings import Settings

KEY = "a-key-of-this-test"
PARTS: dict[str, Any] = {
    "upstream": {"urls": ["http://127.0.0.1:1"]},
    "redis": {"url": "redis://127.0.0.1:1/0"},
    "scorers": {"llm": {"kind": "vllm", "model": "m", "max_think_tokens": 512}},
}
TABLE: dict[str, Any] = {"keys": [KEY], "scorers": {"first": "minilm", "second": "llm"}}


def settings_of(**changes: Any) -> Settings:
    """A configuration with these changes in its table."""
    return Settings.model_validate({**PARTS, "rerank_api": {**TABLE, **changes}})


def test_without_the_table_there_is_no_api() -> None:
    """The API is off unless it is configured."""
    assert Settings.model_validate(PARTS).bound_rerank_api() is None


def test_each_name_means_its_scorer() -> None:
    """A model has its scorer's fingerprint, and thinks as long as the scorer may, or as the table says."""
    settings = settings_of()
    api = settings.bound_rerank_api()
    assert api is not None
    known = settings.known_scorers()
    assert [(one.name, one.scorer_name, one.budget_tokens) for one in api.models.values()] == [
        ("first", "minilm", 0),
        ("second", "llm", 512),
    ]
    assert [one.fingerprint for one in api.models.values()] == [
        known["minilm"].fingerprint(),
        known["llm"].fingerprint(),
    ]
    assert api.default.name == "first"
    for changes, budget_tokens in (({"mode": "direct"}, 0), ({"budget_tokens": 64}, 64)):
        changed = settings_of(**changes, default_model="second").bound_rerank_api()
        assert changed is not None
        assert (changed.default.name, changed.default.budget_tokens) == ("second", budget_tokens)


def test_a_scorer_of_the_api_is_in_use() -> None:
    """Its scorers count as used, beside those of rules, and so have workers; MiniLM only where it is named."""
    assert list(settings_of(scorers={"m": "llm"}).used_scorers()) == ["llm"]
    rule = {"name": "r", "indices": ["r"], "fields": ["f"]}
    both = Settings.model_validate({**PARTS, "rules": [rule], "rerank_api": {**TABLE, "scorers": {"m": "llm"}}})
    assert list(both.used_scorers()) == ["minilm", "llm"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"keys": []}, "at least one item is needed"),
        ({"keys": ["fifteen-letters"]}, "16 characters or more are needed"),
        ({"keys": [KEY, "a key with blanks in it"]}, "and no blank"),
        ({"keys": ["ein-schlüssel-mit-umlaut"]}, "sign of ASCII"),
        ({"scorers": {}}, "at least one item is needed"),
        ({"scorers": {"": "minilm"}}, "at least 1 character"),
        (
            {"scorers": {"m": "minilm", "n": "other"}},
            "rerank_api.scorers: item 2 names no scorer; known are minilm, llm",
        ),
        ({"default_model": "third"}, "rerank_api.default_model: is no model of rerank_api.scorers"),
        ({"deadline_s": 31.0}, "rerank_api.deadline_s = 31.0: at most limits.max_deadline_s = 30.0"),
        ({"budget_tokens": 513}, "rerank_api.budget_tokens = 513: at most scorers.llm.max_think_tokens = 512"),
        ({"budget_tokens": 5, "mode": "direct"}, "mode 'direct' answers without thinking"),
        ({"scorers": {"m": "minilm"}, "mode": "direct"}, "rerank_api.mode: none of the scorers"),
        ({"scorers": {"m": "minilm"}, "budget_tokens": 5}, "rerank_api.budget_tokens: none of the scorers"),
        ({"max_documents": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cant_be_used_is_refused(changes: dict[str, Any], text: str) -> None:
    """The error names the key and what is allowed, and no key of a caller."""
    with pytest.raises(ValidationError) as raised:
        settings_of(**changes)
    assert text in str(raised.value)
    assert KEY not in str(raised.value)
