"""The bound that the GPU benchmark holds its seconds against: hand-computed values."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.workers.scripted import whole_ids
from workers.scorers.erank.prompt import PLACE, ErankPrompt

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> Any:
    """The script as a module; it needs no GPU until it measures."""
    spec = importlib.util.spec_from_file_location("bench_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_shape_is_qwen3_4b(gpu: Any) -> None:
    """4.02 thousand million parameters, and 147,456 bytes of keys and values for a token."""
    assert gpu.QWEN3_4B.parameters == pytest.approx(4.02e9, rel=0.003)
    assert gpu.QWEN3_4B.kv_bytes == 147_456


def test_thinking_is_bound_by_what_it_reads(gpu: Any) -> None:
    """100 documents of 520 tokens that think 410 at 3.35 TB/s: 3.3 TB of weights and 4.4 TB of cache, 2.3 s."""
    card = gpu.Roofline(bytes_per_s=3.35e12, flops_per_s=989e12)
    thinking_s = card.decode_s(gpu.QWEN3_4B, documents=100, prompt_tokens=520, think_tokens=410)
    assert thinking_s == pytest.approx((410 * 8.04e9 + 410 * 100 * 725 * 147_456) / 3.35e12, rel=0.01)
    assert 2.2 < thinking_s < 2.4


def test_reading_is_bound_by_its_arithmetic(gpu: Any) -> None:
    """30,000 tokens at two operations a weight and 989 TFLOP/s take 0.22 s; the shared beginning counts once."""
    card = gpu.Roofline(bytes_per_s=3.35e12, flops_per_s=989e12)
    assert card.prefill_s(gpu.QWEN3_4B, 30_000) == pytest.approx(0.22, rel=0.03)
    direct_s = card.query_s(gpu.QWEN3_4B, documents=100, own_tokens=300, shared_tokens=200, think_tokens=0)
    assert direct_s == pytest.approx(card.prefill_s(gpu.QWEN3_4B, 30_200))


def test_queries_at_once_share_the_weights(gpu: Any) -> None:
    """Three queries read three caches and the weights once: 410 * (8.04 + 3 * 10.69) GB at 3.35 TB/s, 4.9 s."""
    card = gpu.Roofline(bytes_per_s=3.35e12, flops_per_s=989e12)
    three_s = card.decode_s(gpu.QWEN3_4B, documents=100, prompt_tokens=520, think_tokens=410, queries=3)
    assert three_s == pytest.approx(4.91, rel=0.01)


def test_a_cascade_reads_each_prompt_once(gpu: Any) -> None:
    """What a cascade takes above direct mode is the thinking of its few documents, and no prompt of theirs."""
    card = gpu.Roofline(bytes_per_s=3.35e12, flops_per_s=989e12)
    size = {"documents": 100, "own_tokens": 400, "shared_tokens": 120}
    direct_s = card.query_s(gpu.QWEN3_4B, **size, think_tokens=0)
    cascade_s = card.query_s(gpu.QWEN3_4B, **size, think_tokens=256, think_documents=20)
    thinking_s = card.decode_s(gpu.QWEN3_4B, documents=20, prompt_tokens=520, think_tokens=256)
    assert cascade_s == pytest.approx(direct_s + thinking_s)


def test_tokens_are_counted_where_prompts_part(gpu: Any) -> None:
    """The common beginning, and the longest rest."""
    assert gpu.count_tokens([(1, 2, 3), (1, 2, 4, 5)]) == (2, 2)


def test_the_tokenizer_carries_the_prompt(gpu: Any) -> None:
    """A document of 300 tokens in a prompt of about 450, the same ids in pieces as of the whole text."""
    frame = f"<|im_start|>user\n{PLACE}<|im_end|>\n<|im_start|>assistant\n"
    prompt = ErankPrompt(gpu.make_tokenizer().to_str(), frame, max_query_tokens=128, max_document_tokens=512)
    texts = gpu.make_texts(1, 3)
    built = prompt.build(instruction=gpu.INSTRUCTION, query="question 000001", texts=texts)
    for text, one in zip(texts, built, strict=True):
        [ids] = one.chunks
        whole = whole_ids(prompt, instruction=gpu.INSTRUCTION, query="question 000001", document=text, frame=frame)
        assert list(ids) == whole
        assert 430 < len(ids) < 480
    assert len(prompt.think_ids) == 1
    assert len(prompt.stop_ids) == 3
    assert len(gpu.make_tokenizer().encode(texts[0], add_special_tokens=False).ids) == gpu.DOCUMENT_TOKENS
