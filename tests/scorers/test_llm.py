"""The settings of LLMs, on any engine: what can be asked of them, and which of them change a score."""

from __future__ import annotations

import re

import pytest

from es_rerank.scorers import llm, transformers, vllm
from es_rerank.scorers.abilities import Abilities
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.scorers.template import DEFAULT_TEMPLATE, PromptTemplate
from es_rerank.scorers.transformers import TransformersSettings
from es_rerank.scorers.vllm import VllmSettings

VLLM = VllmSettings(kind="vllm", model="owner/model")
TRANSFORMERS = TransformersSettings(kind="transformers", model="owner/model")
CHANGES = {
    "model": "owner/other",
    "revision": "v2",
    "dtype": "float32",
    "max_query_tokens": 100,
    "max_document_tokens": 100,
    "long_documents": "best_chunk",
    "prompt_file": PromptTemplate("{instruction}\n{query}\n{document}"),
    "quantization": "fp8_per_block",
    "kv_cache_dtype": "fp8",
}
KEEPS = {
    "max_think_tokens": 100,  # how long the model may think is in each key of the cache
    "max_chunks": 8,  # counts only for documents that are cut
    "check_answer": False,  # in what form answers are read is agreed upon by the workers
    "concurrency": 1,
    "start_timeout_s": 60.0,
    "tensor_parallel_size": 2,
    "gpu_memory_share": 0.5,
    "max_num_seqs": 8,
    "max_batched_tokens": 4096,
    "compile": False,
    "cpu_kv_cache_gib": 8,
    "device": "cpu",
}


@pytest.mark.parametrize("scorer", [VLLM, TRANSFORMERS], ids=["vllm", "transformers"])
def test_an_llms_fingerprint_names_what_changes_a_score_and_nothing_else(
    scorer: VllmSettings | TransformersSettings,
) -> None:
    """Every key changes a score or it doesn't; keys for the size of a machine change neither cache nor queue."""
    keys = set(type(scorer).model_fields) - {"kind"}
    assert keys <= set(CHANGES) | set(KEEPS)
    changed = [scorer.model_copy(update={key: CHANGES[key]}).fingerprint() for key in keys & set(CHANGES)]
    assert len({scorer.fingerprint(), *changed}) == len(changed) + 1
    assert {scorer.model_copy(update={key: KEEPS[key]}).fingerprint() for key in keys & set(KEEPS)} == {
        scorer.fingerprint()
    }


def test_chunks_count_where_there_are_some() -> None:
    """The number of pieces is part of the fingerprint: the best of four is another score than the best of eight."""
    four, eight = (VLLM.model_copy(update={"long_documents": "best_chunk", "max_chunks": count}) for count in (4, 8))
    assert four.fingerprint() != eight.fingerprint()


def test_a_file_with_the_default_prompt_is_the_default() -> None:
    """The prompt's text is in the fingerprint, not the path of its file."""
    assert VLLM.model_copy(update={"prompt_file": DEFAULT_TEMPLATE}).fingerprint() == VLLM.fingerprint()


def test_each_kind_of_engine_has_scores_of_its_own() -> None:
    """Each kind of engine has a fingerprint of its own, since engines round differently."""
    prints = [VLLM.fingerprint(), TRANSFORMERS.fingerprint(), MinilmSettings().fingerprint()]
    assert len(set(prints)) == 3
    assert [name.split("-")[0] for name in prints] == ["vllm", "transformers", "minilm"]


def test_a_fingerprint_does_not_spell_the_model() -> None:
    """A fingerprint does not contain the model's name or path, since it appears in Redis and in logs."""
    scorer = VLLM.model_copy(update={"model": "/home/someone/models/private-one"})
    assert re.fullmatch(r"vllm-[0-9a-f]{16}", scorer.fingerprint())


def test_the_fingerprints_of_llms_are_kept() -> None:
    """The fingerprints are these: another one makes every cached score useless, so a change has to be meant."""
    assert VLLM.fingerprint() == "vllm-cab59aab012e0b8c"
    assert TRANSFORMERS.fingerprint() == "transformers-75fcb21b0b5b7088"


@pytest.mark.parametrize("scorer", [VLLM, TRANSFORMERS], ids=["vllm", "transformers"])
def test_an_llms_fingerprint_names_what_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, scorer: VllmSettings | TransformersSettings
) -> None:
    """Another default prompt or another way from an answer to a score makes another scorer too."""
    prints = [scorer.fingerprint()]
    for module in (vllm, transformers):
        monkeypatch.setattr(module, "METHOD", llm.METHOD + 1)
    prints.append(scorer.fingerprint())
    monkeypatch.setattr(llm, "DEFAULT_TEMPLATE", PromptTemplate("{instruction}\n{query}\n{document}"))
    prints.append(scorer.fingerprint())
    assert len(set(prints)) == 3


@pytest.mark.parametrize("scorer", [VLLM, TRANSFORMERS], ids=["vllm", "transformers"])
def test_an_llm_thinks_and_reads_instructions(scorer: VllmSettings | TransformersSettings) -> None:
    """An LLM thinks up to `max_think_tokens` about a document, and it reads instructions."""
    asked = scorer.model_copy(update={"max_think_tokens": 64})
    assert asked.abilities == Abilities(max_think_tokens=64, reads_instruction=True)
    assert asked.abilities.thinks
