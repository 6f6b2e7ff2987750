"""Seconds for a query of 100 documents on a GPU, in each mode, against what the card can do at best.

For a machine with an NVIDIA GPU and `pip install '.[vllm]'`: `python bench/gpu.py`. The model has Qwen3-4B's shape and
random weights, which cost what trained ones do. It never closes its tag, so every thinking is as long as its budget.
The bound (`Roofline`) is the prompts' arithmetic at the measured rate of matrix products and, for each step of
thinking, the weights and the cache of keys and values at the measured memory bandwidth. Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = 100
DOCUMENT_TOKENS = 300
# Instruction, query and template before the document, and what follows it (bytes are tokens here).
SHARED_TOKENS, TAIL_TOKENS = 250, 330
BUDGETS = (128, 256, 512)
THINK_TOP = 20
LIMITS = {"max_query_tokens": 128, "max_document_tokens": 512, "max_think_tokens": 512}
BYTES = 2  # of a bf16 number


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A dense decoder's shape, as far as work and memory go."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """All weights, with tied embeddings: attention's four matrices, the gated feed-forward's three, the norms."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads) + 2 * self.head_dim
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * layer + self.vocabulary * self.hidden + self.hidden

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values for one token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BYTES

    def prefill_flops(self, tokens: int) -> float:
        """Operations for a prompt's tokens: two for each weight but the embedding's; attention is left out."""
        return 2.0 * tokens * (self.parameters - self.vocabulary * self.hidden)


QWEN3_4B = Shape(layers=36, hidden=2560, intermediate=9728, heads=32, kv_heads=8, head_dim=128, vocabulary=151_936)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """What a card does at best: bytes moved and operations done in a second."""

    bytes_per_s: float
    flops_per_s: float

    def decode_s(self, shape: Shape, *, documents: int, prompt_tokens: int, think_tokens: int) -> float:
        """Thinking: each step reads all weights once, and of every document what has been written so far."""
        weights = think_tokens * shape.parameters * BYTES
        mean_context = prompt_tokens + think_tokens / 2
        cache = think_tokens * documents * mean_context * shape.kv_bytes
        return (weights + cache) / self.bytes_per_s

    def prefill_s(self, shape: Shape, tokens: int) -> float:
        """Reading prompts of so many tokens, shared ones counted once."""
        return shape.prefill_flops(tokens) / self.flops_per_s

    def query_s(self, shape: Shape, *, documents: int, own_tokens: int, shared_tokens: int, think_tokens: int) -> float:
        """One query of documents that share the beginning of their prompts."""
        prefill_s = self.prefill_s(shape, shared_tokens + documents * own_tokens)
        return prefill_s + self.decode_s(
            shape, documents=documents, prompt_tokens=shared_tokens + own_tokens, think_tokens=think_tokens
        )


def measure_card(torch: Any) -> Roofline:
    """The memory bandwidth of a large copy (read and written), and the rate of large bf16 matrix products."""
    size, width = 2 << 30, 8192
    copy_s = _copy_s(torch, size)
    product_s = _product_s(torch, width)
    torch.cuda.empty_cache()
    return Roofline(bytes_per_s=2 * size / copy_s, flops_per_s=2 * width**3 / product_s)


def _copy_s(torch: Any, size: int) -> float:
    source = torch.empty(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return _best_of(torch, lambda: target.copy_(source))


def _product_s(torch: Any, width: int) -> float:
    one = torch.randn(width, width, dtype=torch.bfloat16, device="cuda")
    other = torch.randn(width, width, dtype=torch.bfloat16, device="cuda")
    return _best_of(torch, lambda: one @ other)


def _best_of(torch: Any, work: Any, times: int = 10) -> float:
    best_s = float("inf")
    for _ in range(times):
        torch.cuda.synchronize()
        began_s = time.perf_counter()
        work()
        torch.cuda.synchronize()
        best_s = min(best_s, time.perf_counter() - began_s)
    return best_s


def make_model(folder: Path, torch: Any) -> None:
    """A folder as of a real model: Qwen3-4B's shape, random bf16 weights (8 GB), a tokenizer of bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config  # noqa: PLC0415

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        chat_template=(
            "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
    ).save_pretrained(folder)
    shape = QWEN3_4B
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()


async def run_modes(folder: Path, card: Roofline) -> list[str]:
    """Rows of the table: seconds a query alone and with two others, the bound and its share."""
    sys.path.insert(0, str(ROOT))
    from es_rerank.settings import VllmSettings  # noqa: PLC0415  found by the line above
    from workers.scorers.factory import make_scorer  # noqa: PLC0415
    from workers.scorers.protocol import ScoreJob  # noqa: PLC0415

    scorer = make_scorer(VllmSettings(kind="vllm", model=str(folder), **LIMITS))
    await scorer.start()
    loop = asyncio.get_running_loop()
    turn = iter(range(10**6))

    async def query(documents: int, budget_tokens: int) -> None:
        number = next(turn)
        texts = tuple(f"{place:04d} {number:06d} ".ljust(DOCUMENT_TOKENS, "x") for place in range(documents))
        job = ScoreJob(
            query=f"question {number:06d}",
            instruction="Given a query, retrieval relevant passage.",
            texts=texts,
            deadline_s=loop.time() + 600,
            budget_tokens=budget_tokens,
        )
        async for batch in scorer.score(job):
            if any(one.status != "ok" for one in batch):
                raise SystemExit(f"A document was not scored: {batch}")

    async def cascade() -> None:
        await query(DOCUMENTS, 0)
        await query(THINK_TOP, BUDGETS[1])

    def bound_s(documents: int, think_tokens: int) -> float:
        own = DOCUMENT_TOKENS + TAIL_TOKENS
        return card.query_s(
            QWEN3_4B, documents=documents, own_tokens=own, shared_tokens=SHARED_TOKENS, think_tokens=think_tokens
        )

    modes: list[tuple[str, Any, float]] = [
        ("direct", lambda: query(DOCUMENTS, 0), bound_s(DOCUMENTS, 0)),
        *(
            (f"think, {budget} tokens", lambda budget=budget: query(DOCUMENTS, budget), bound_s(DOCUMENTS, budget))
            for budget in BUDGETS
        ),
        (f"cascade, {THINK_TOP} think {BUDGETS[1]}", cascade, bound_s(DOCUMENTS, 0) + bound_s(THINK_TOP, BUDGETS[1])),
    ]
    rows = []
    for name, run, least_s in modes:
        await run()  # warm
        began_s = loop.time()
        await run()
        alone_s = loop.time() - began_s
        began_s = loop.time()
        await asyncio.gather(run(), run(), run())
        three_s = loop.time() - began_s
        rows.append(f"| {name} | {alone_s:.2f} | {three_s / 3:.2f} | {least_s:.2f} | {alone_s / least_s:.2f} |")
    await scorer.close()
    return rows


def main() -> None:
    """Measure and print. Ends with a plain message where there is no GPU."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    try:
        import torch  # noqa: PLC0415  an extra
        import vllm  # noqa: PLC0415
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install '.[vllm]' on a machine with an NVIDIA GPU.") from error
    if not torch.cuda.is_available():
        raise SystemExit("There is no NVIDIA GPU that torch can use on this machine.")
    card = measure_card(torch)
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name), torch)
        rows = asyncio.run(run_modes(Path(name), card))
    print(
        f"{torch.cuda.get_device_name()}, vLLM {vllm.__version__}, torch {torch.__version__}; measured "
        f"{card.bytes_per_s / 1e12:.2f} TB/s and {card.flops_per_s / 1e12:.0f} TFLOP/s in bf16; {DOCUMENTS} documents "
        f"of {DOCUMENT_TOKENS} tokens, shape {json.dumps(QWEN3_4B.parameters)} parameters.\n"
    )
    print("| mode | s a query, alone | s a query, three at once | bound, s | alone / bound |")
    print("| --- | ---: | ---: | ---: | ---: |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
