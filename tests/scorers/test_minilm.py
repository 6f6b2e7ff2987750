"""MiniLM's settings: what can be asked of it, and which of them change a score."""

from __future__ import annotations

import inspect

import pytest

from es_rerank.scorers import minilm
from es_rerank.scorers.abilities import Abilities
from es_rerank.scorers.minilm import MinilmSettings
from workers.scorers.minilm import WEIGHTS_SHA256, MiniLM

CHANGES = {"compute_type": "int8"}
KEEPS = {"threads": 16, "batch_size": 64, "vector_cache_bytes": 0, "concurrency": 1, "start_timeout_s": 60.0}


def test_the_fingerprint_names_what_changes_a_score_and_nothing_else() -> None:
    """Another precision is another scorer; another size of machine is the same one, with the same cache and queue."""
    plain = MinilmSettings()
    assert set(MinilmSettings.model_fields) - {"kind"} == {*CHANGES, *KEEPS}
    changed = [plain.model_copy(update={key: value}).fingerprint() for key, value in CHANGES.items()]
    assert len({plain.fingerprint(), *changed}) == len(CHANGES) + 1
    kept = [plain.model_copy(update={key: value}).fingerprint() for key, value in KEEPS.items()]
    assert {plain.model_copy(update=KEEPS).fingerprint(), *kept} == {plain.fingerprint()}


@pytest.mark.parametrize(("name", "value"), [("METHOD", 2), ("WEIGHTS_SHA256", "0"), ("MAX_TOKENS", 512)])
def test_the_fingerprint_names_what_is_no_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """Other weights, another cut of texts or another way from text to score make another scorer too."""
    before = MinilmSettings().fingerprint()
    monkeypatch.setattr(minilm, name, value)
    assert MinilmSettings().fingerprint() != before


def test_nothing_can_be_asked_of_it() -> None:
    """It does not think, and an instruction changes no score."""
    assert MinilmSettings().abilities == Abilities(max_think_tokens=0, reads_instruction=False)
    assert not MinilmSettings().abilities.thinks


def test_the_fingerprint_is_kept() -> None:
    """The fingerprint is this one: another one makes every cached score useless, so a change has to be meant."""
    assert MinilmSettings().fingerprint() == "minilm-3f320bd027aaeb85"


def test_the_fingerprint_is_of_the_weights_that_the_scorer_loads() -> None:
    """The hash stands in both places, because a proxy doesn't import a scorer."""
    assert WEIGHTS_SHA256["model.safetensors"] == minilm.WEIGHTS_SHA256


@pytest.mark.parametrize("option", ["compute_type", "threads", "batch_size", "vector_cache_bytes"])
def test_the_scorers_own_defaults_are_those_of_its_settings(option: str) -> None:
    """MiniLM made by hand is the MiniLM that an empty table configures."""
    assert inspect.signature(MiniLM).parameters[option].default == getattr(MinilmSettings(), option)
