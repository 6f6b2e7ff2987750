"""The bound that the GPU benchmark holds its seconds against: hand-computed values."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

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
