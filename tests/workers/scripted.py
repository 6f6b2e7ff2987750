"""An engine that keeps the contract of `TokenEngine` and does what the test says, and a tokenizer for it.

The same contract is held to real engines in tests/llm.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from es_rerank.scorers.template import DEFAULT_TEMPLATE, PromptTemplate
from workers.scorers.erank.engine import Delta, EngineDeadError, Reading, RefusedError
from workers.scorers.erank.prompt import PLACE, ErankPrompt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

FRAME = f"<|im_start|>user\n{PLACE}<|im_end|>\n<|im_start|>assistant\n"
LABELS = 11
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_tokenizer(*, think_is_token: bool = True) -> str:
    """A tokenizer file of single bytes and added tokens: as exact as any, and small."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
    if think_is_token:
        tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    return str(tokenizer.to_str())


def merging_tokenizer(*, splits_like: Literal["gpt2", "qwen"]) -> str:
    """A tokenizer file that merges bytes, trained on a little text; what it never merges across, its kind decides."""
    tokenizer = Tokenizer(models.BPE())
    own = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splits_like == "gpt2")
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = own if splits_like == "gpt2" else pre_tokenizers.Sequence([split, own])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, min_frequency=1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    words = ["a b.", ":\n", ")\n\n", "\n\n", "\n\n\n", "  x", "Query: ship", "\nDocument: ship\n"]
    tokenizer.train_from_iterator(
        [DEFAULT_TEMPLATE.text, *words, *(one + two for one in words for two in words)], trainer
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    return str(tokenizer.to_str())


def make_prompt(
    tokenizer_json: str | None = None,
    *,
    template: PromptTemplate = DEFAULT_TEMPLATE,
    max_query_tokens: int = 64,
    max_document_tokens: int = 64,
    max_chunks: int = 1,
) -> ErankPrompt:
    """The prompt in single bytes."""
    return ErankPrompt(
        tokenizer_json or byte_tokenizer(),
        FRAME,
        template=template,
        max_query_tokens=max_query_tokens,
        max_document_tokens=max_document_tokens,
        max_chunks=max_chunks,
    )


def whole_ids(
    prompt: ErankPrompt,
    *,
    instruction: str,
    query: str,
    document: str,
    frame: str,
    template: PromptTemplate = DEFAULT_TEMPLATE,
) -> list[int]:
    """The prompt's whole text, tokenised at once: what its pieces must be, for text that needs no cutting."""
    content = template.text.format(instruction=instruction, query=query, document=document)
    return list(prompt._full.encode(frame.replace(PLACE, content), add_special_tokens=False).ids)


def reading_of(distribution: Sequence[float]) -> Reading:
    """The reading from which this distribution follows."""
    first = [*distribution[:10], 1e-9]
    first[1] = distribution[1] + distribution[10]
    share = distribution[10] / first[1] if first[1] else 0.0
    second = [share or 1e-30, *[1e-9] * 9, 1 - share or 1e-30]
    return Reading(first=tuple(map(_log, first)), second=tuple(map(_log, second)), cached_tokens=0)


def _log(value: float) -> float:
    return math.log(value) if value else -math.inf


class ScriptedEngine:
    """Thinks `thinking` (by what the prompt holds), a token a step, and reads `distribution`.

    `refused` is a text whose prompts are refused. `step` is awaited before every token, which then takes `token_s`, so
    a test decides when it comes. Only so many as `seats` think at once. `dead` makes everything raise.
    """

    def __init__(
        self, prompt: ErankPrompt, *, thinking: str = "hm</think>", refused: str = "", seats: int = 64
    ) -> None:
        self.prompt = prompt
        self.thinking = prompt._full.encode(thinking, add_special_tokens=False).ids
        self.refused = prompt._plain.encode(refused, add_special_tokens=False).ids
        self.distribution: Sequence[float] = (0, 0, 0, 0, 0, 0, 0, 0, 0.75, 0.25, 0)
        self.step = asyncio.Event()
        self.step.set()
        self.token_s = 0.0
        self.seats = asyncio.Semaphore(seats)
        self.dead = False
        self.thinks: list[tuple[int, ...]] = []
        self.reads: list[tuple[int, ...]] = []
        self.running = 0
        self.started = self.closed = False

    async def start(self) -> None:
        """See `TokenEngine`."""
        self.started = True

    async def think(
        self, prompt_ids: Sequence[int], *, max_tokens: int, stop_ids: Sequence[int], priority: int
    ) -> AsyncIterator[Delta]:
        """See `TokenEngine`."""
        self._check(prompt_ids)
        self.thinks.append(tuple(prompt_ids))
        self.running += 1
        try:
            begun = self._begun(prompt_ids)
            async with self.seats:
                for token in self.thinking[begun : begun + max_tokens]:
                    await self.step.wait()
                    await asyncio.sleep(self.token_s)
                    self._check(prompt_ids)
                    yield Delta(token_ids=(token,), cached_tokens=0)
                    if token in stop_ids:
                        return
        finally:
            self.running -= 1

    async def read(
        self, prompt_ids: Sequence[int], *, forced_id: int, label_ids: Sequence[int], priority: int
    ) -> Reading:
        """See `TokenEngine`."""
        self._check(prompt_ids)
        self.reads.append(tuple(prompt_ids))
        self.running += 1
        try:
            await asyncio.sleep(0)
            assert len(label_ids) == LABELS
            return reading_of(self.distribution)
        finally:
            self.running -= 1

    async def broken(self) -> str:
        """See `TokenEngine`."""
        while not self.dead:  # noqa: ASYNC110  the test sets it
            await asyncio.sleep(0.01)
        return "dead"

    async def close(self) -> None:
        """See `TokenEngine`."""
        self.closed = True

    def _begun(self, prompt_ids: Sequence[int]) -> int:
        """How much of the script the prompt has at its end, from where it goes on, as a model does."""
        close = self.prompt.think_end_ids
        if tuple(prompt_ids[-len(close) :]) == close and _holds(self.thinking, list(close)):
            return len(self.thinking) - _length_behind(self.thinking, close)
        return _length_behind(prompt_ids, self.prompt.think_ids)

    def _check(self, prompt_ids: Sequence[int]) -> None:
        if self.dead:
            raise EngineDeadError("dead")
        if self.refused and _holds(list(prompt_ids), self.refused):
            raise RefusedError("refused for the test")


def _holds(ids: list[int], part: list[int]) -> bool:
    return any(ids[place : place + len(part)] == part for place in range(len(ids) - len(part) + 1))


def _length_behind(ids: Sequence[int], tag: Sequence[int]) -> int:
    """How many tokens follow the last occurrence of a tag."""
    places = range(len(ids) - len(tag), -1, -1)
    return next(len(ids) - place - len(tag) for place in places if tuple(ids[place : place + len(tag)]) == tuple(tag))
