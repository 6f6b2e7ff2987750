"""Seconds for a query of 100 documents on a GPU, in each mode, against what the card can do at best.

For a machine with an NVIDIA GPU and `pip install '.[vllm]'`: `python bench/gpu.py`. The model has Qwen3-4B's shape and
random weights (8 GB in the folder for temporary files), which take as long as trained ones. The model never closes
its tag, so it always thinks for its whole budget; a trained model often ends sooner.
The bound (`Roofline`) adds the time of the prompts' arithmetic, at the measured rate of matrix products, and for each
step of thinking the time to read the weights and the cache of keys and values, at the measured memory bandwidth.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = 100
DOCUMENT_TOKENS = 300
INSTRUCTION = "Given a query, retrieval relevant passage."
BUDGETS = (128, 256, 512)
THINK_TOP = 20
LIMITS = {"max_query_tokens": 128, "max_document_tokens": 512, "max_think_tokens": 512}
ROUNDS = 3  # the median counts
BYTES = 2  # of a bf16 number
START, STOP, OPEN, CLOSE = "<|im_start|>", "<|im_end|>", "<think>", "</think>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# How Qwen3 splits text before it merges bytes: without it a digit or an angle bracket would be joined to a neighbour.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Bytes, and whole words of the prompt's own text, so that the prompt is about as long as in the real vocabulary.
TRAINED_VOCABULARY = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A dense decoder's shape, as far as it decides work and memory."""

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

    def decode_s(
        self, shape: Shape, *, documents: int, prompt_tokens: int, think_tokens: int, queries: int = 1
    ) -> float:
        """Seconds of thinking: each step reads all weights once, and every document's cache so far.

        Queries that think at once share the weights. What the documents' prompts share is counted for each document,
        because usual attention kernels read it for each. Left out are the read of the answer, arithmetic and writes.
        """
        weights = think_tokens * shape.parameters * BYTES
        mean_context = prompt_tokens + think_tokens / 2
        cache = think_tokens * queries * documents * mean_context * shape.kv_bytes
        return (weights + cache) / self.bytes_per_s

    def prefill_s(self, shape: Shape, tokens: int) -> float:
        """Seconds to read prompts of so many tokens; shared tokens count once."""
        return shape.prefill_flops(tokens) / self.flops_per_s

    def query_s(
        self,
        shape: Shape,
        *,
        documents: int,
        own_tokens: int,
        shared_tokens: int,
        think_tokens: int,
        think_documents: int | None = None,
        queries: int = 1,
    ) -> float:
        """Seconds for queries at once; their documents share the prompts' beginning, and each prompt is read once.

        Only `think_documents` of each query are thought about, by default all. In a cascade their prompts are in the
        cache by then.
        """
        prefill_s = self.prefill_s(shape, queries * (shared_tokens + documents * own_tokens))
        return prefill_s + self.decode_s(
            shape,
            documents=documents if think_documents is None else think_documents,
            prompt_tokens=shared_tokens + own_tokens,
            think_tokens=think_tokens,
            queries=queries,
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


def make_tokenizer() -> Any:
    """A tokenizer with Qwen3's rules and the tokens that the prompt needs, trained on the prompt's own text."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415

    from es_rerank.scorers.template import DEFAULT_TEXT  # noqa: PLC0415  found by `main`

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TRAINED_VOCABULARY,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([DEFAULT_TEXT, INSTRUCTION, "question", "user\nassistant\n"], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (START, STOP)])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in (OPEN, CLOSE)])
    return tokenizer


def make_model(folder: Path, torch: Any, *, shape: Shape = QWEN3_4B, device: str = "cuda") -> None:
    """Write a folder like a real model's: this shape, random bf16 weights that never end thinking, a tokenizer."""
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config  # noqa: PLC0415

    tokenizer = make_tokenizer()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=STOP, chat_template=TEMPLATE).save_pretrained(folder)
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
        eos_token_id=tokenizer.token_to_id(STOP),
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    # Embeddings are tied: a row of zeros has the logit 0, and of so many random logits some are always above it.
    ends = [tokenizer.token_to_id(token) for token in (START, STOP, CLOSE)]
    with torch.no_grad():
        model.get_input_embeddings().weight[ends] = 0
    model.save_pretrained(folder)
    del model
    if device == "cuda":
        torch.cuda.empty_cache()


def make_texts(number: int, documents: int) -> tuple[str, ...]:
    """A query's documents, new ones for each number; each character is a token, as it is in no word of the prompt."""
    return tuple(f"{place:04d} {number:06d} ".ljust(DOCUMENT_TOKENS, "x") for place in range(documents))


def count_tokens(prompts: Sequence[Sequence[int]]) -> tuple[int, int]:
    """How many tokens all prompts share at their beginning, and the most that one prompt has after them."""
    shared = 0
    while len({tuple(ids[: shared + 1]) for ids in prompts}) == 1:
        shared += 1
    return shared, max(map(len, prompts)) - shared


async def run_modes(  # noqa: C901  three small steps inside, which share the scorer
    folder: Path,
    card: Roofline,
    *,
    shape: Shape = QWEN3_4B,
    documents: int = DOCUMENTS,
    think_top: int = THINK_TOP,
    budgets: Sequence[int] = BUDGETS,
    **settings: Any,
) -> list[str]:
    """Rows of the table: seconds of one query and of three at once, each with its bound and the ratio."""
    from es_rerank.scorers.vllm import VllmSettings  # noqa: PLC0415  found by `main`
    from workers.scorers.erank.model import find_model, load_prompt  # noqa: PLC0415
    from workers.scorers.factory import make_scorer  # noqa: PLC0415
    from workers.scorers.protocol import ScoreJob  # noqa: PLC0415

    prompt, _ = load_prompt(find_model(str(folder), ""), max_chunks=1, **LIMITS)
    built = prompt.build(instruction=INSTRUCTION, query=f"question {0:06d}", texts=make_texts(0, documents))
    shared_tokens, own_tokens = count_tokens([(*one.chunks[0], *prompt.direct_ids) for one in built])
    scorer = make_scorer(VllmSettings(kind="vllm", model=str(folder), check_answer=False, **LIMITS, **settings))
    await scorer.start()
    loop = asyncio.get_running_loop()
    numbers = iter(range(10**6))

    async def score(number: int, count: int, budget: int) -> None:
        job = ScoreJob(
            query=f"question {number:06d}",
            instruction=INSTRUCTION,
            texts=make_texts(number, documents)[:count],
            due_s=loop.time() + 600,
            budget_tokens=budget,
        )
        async for batch in scorer.score(job):
            for one in batch:
                if one.judgment is None or one.judgment.think_tokens != budget:
                    raise SystemExit(f"A document was not scored after {budget} tokens of thinking: {one}")

    async def query(thinkers: int, budget: int) -> None:
        """Score all documents in the mode that these numbers mean; a cascade thinks about prompts that it has read."""
        number = next(numbers)
        if thinkers < documents:
            await score(number, documents, 0)
        if thinkers:
            await score(number, thinkers, budget)

    async def seconds(queries: int, thinkers: int, budget: int) -> float:
        began_s = loop.time()
        await asyncio.gather(*(query(thinkers, budget) for _ in range(queries)))
        return loop.time() - began_s

    modes = [
        ("direct", 0, 0),
        *((f"think, {budget} tokens", documents, budget) for budget in budgets),
        (f"cascade, {think_top} think {budgets[-2]}", think_top, budgets[-2]),
    ]
    rows = []
    try:
        for name, thinkers, budget in modes:
            cells = []
            for queries in (1, 3):
                await seconds(queries, thinkers, budget)  # warm
                took_s = statistics.median([await seconds(queries, thinkers, budget) for _ in range(ROUNDS)])
                least_s = card.query_s(
                    shape,
                    documents=documents,
                    own_tokens=own_tokens,
                    shared_tokens=shared_tokens,
                    think_tokens=budget,
                    think_documents=thinkers,
                    queries=queries,
                )
                cells.append(f"{took_s:.2f} | {least_s:.2f} | {took_s / least_s:.2f}")
            rows.append(f"| {name} | {' | '.join(cells)} |")
    finally:
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
    sys.path.insert(0, str(ROOT))
    card = measure_card(torch)
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name), torch)
        rows = asyncio.run(run_modes(Path(name), card))
    print(
        f"{torch.cuda.get_device_name()}, vLLM {vllm.__version__}, torch {torch.__version__}; measured "
        f"{card.bytes_per_s / 1e12:.2f} TB/s and {card.flops_per_s / 1e12:.0f} TFLOP/s in bf16; {DOCUMENTS} documents "
        f"of {DOCUMENT_TOKENS} tokens, {QWEN3_4B.parameters:,} parameters with random values, median of {ROUNDS}; "
        "every thinking is as long as its budget.\n"
    )
    print("| mode | one query, s | bound, s | ratio | three at once, s until all are done | bound, s | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
