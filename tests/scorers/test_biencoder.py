"""The settings of bi-encoders: what can be asked of them, and which of them change a score."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from es_rerank.scorers import e5, minilm
from es_rerank.scorers.abilities import Abilities
from es_rerank.scorers.e5 import E5Settings
from es_rerank.scorers.minilm import MinilmSettings
from workers.scorers.biencoder import BiEncoder
from workers.scorers.models import E5, MINILM

if TYPE_CHECKING:
    from workers.scorers.models import Model

CHANGES = {"compute_type": "float32"}
KEEPS = {"threads": 16, "batch_size": 64, "vector_cache_bytes": 0, "concurrency": 1, "start_timeout_s": 60.0}
BOTH = pytest.mark.parametrize("plain", [MinilmSettings(), E5Settings(kind="e5")], ids=lambda plain: str(plain.kind))


@BOTH
def test_the_fingerprint_names_what_changes_a_score_and_nothing_else(plain: MinilmSettings | E5Settings) -> None:
    """Another precision is another scorer; another size of machine is the same one, with the same cache and queue."""
    assert set(type(plain).model_fields) - {"kind"} == {*CHANGES, *KEEPS}
    changed = [plain.model_copy(update={key: value}).fingerprint() for key, value in CHANGES.items()]
    assert len({plain.fingerprint(), *changed}) == len(CHANGES) + 1
    kept = [plain.model_copy(update={key: value}).fingerprint() for key, value in KEEPS.items()]
    assert {plain.model_copy(update=KEEPS).fingerprint(), *kept} == {plain.fingerprint()}


@pytest.mark.parametrize(("name", "value"), [("METHOD", 3), ("WEIGHTS_SHA256", "0"), ("MAX_TOKENS", 512)])
def test_the_fingerprint_names_what_is_no_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """Other weights, another cut of texts or another way from text to score make another scorer too."""
    before = MinilmSettings().fingerprint(), E5Settings(kind="e5").fingerprint()
    for module in (minilm, e5):
        monkeypatch.setattr(module, name, value)
    after = MinilmSettings().fingerprint(), E5Settings(kind="e5").fingerprint()
    assert len({*before, *after}) == 4


def test_what_a_model_makes_of_a_text_is_in_its_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other prefixes or another treatment of capitals are another scorer."""
    before = E5Settings(kind="e5").fingerprint()
    monkeypatch.setattr(e5, "INPUT", 2)
    assert E5Settings(kind="e5").fingerprint() != before


def test_what_each_can_do() -> None:
    """Neither thinks nor reads an instruction; MiniLM reads English only, and e5 any language."""
    assert MinilmSettings().abilities == Abilities(language="en", alpha=0.3)
    assert E5Settings(kind="e5").abilities == Abilities(language=None, alpha=0.3)
    assert not MinilmSettings().abilities.thinks


def test_the_fingerprints_are_kept() -> None:
    """The fingerprints are these: another one makes every cached score useless, so a change has to be meant."""
    assert MinilmSettings().fingerprint() == "minilm-ed291762cde8b2e8"
    assert E5Settings(kind="e5").fingerprint() == "e5-9e960a5952c3723e"


@pytest.mark.parametrize(("model", "settings"), [(MINILM, minilm), (E5, e5)], ids=["minilm", "e5"])
def test_the_fingerprint_is_of_what_the_scorer_loads(model: Model, settings: object) -> None:
    """The proxy, which loads nothing, makes cache keys of the weights and the cut that the worker's model has."""
    assert vars(settings)["WEIGHTS_SHA256"] in model.files.values()
    assert vars(settings)["MAX_TOKENS"] == model.max_tokens


@pytest.mark.parametrize("option", ["compute_type", "threads", "batch_size", "vector_cache_bytes"])
def test_the_scorers_own_defaults_are_those_of_its_settings(option: str) -> None:
    """A bi-encoder made by hand is the one that an empty table configures."""
    assert inspect.signature(BiEncoder).parameters[option].default == getattr(MinilmSettings(), option)
