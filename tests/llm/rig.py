"""What the tests of this folder are built from: one event loop for an engine, and what engines say of themselves."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM

from workers.scorers.protocol import DocumentScore, ScoreJob

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from workers.scorers.erank.scorer import Erank

LIMIT_S = 240.0
INSTRUCTION = "Given a query, retrieval relevant passage."


class LoopThread:
    """An event loop in a thread, as a worker has one: an engine dies with the loop that first touched it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The coroutine's result, waited for in this thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT_S)

    def close(self) -> None:
        """End the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


async def judge(
    scorer: Erank, texts: Sequence[str], *, query: str = "a ship at sea", within_s: float = LIMIT_S, **more: Any
) -> list[DocumentScore]:
    """All outcomes of a job, in order of its documents."""
    due_s = asyncio.get_running_loop().time() + within_s
    job = ScoreJob(query=query, instruction=INSTRUCTION, texts=tuple(texts), due_s=due_s, **more)
    found = [one async for batch in scorer.score(job) for one in batch]
    return sorted(found, key=lambda one: one.index)


def metric(name: str) -> float:
    """The sum of one of vLLM's figures in this process; of a histogram, how many values it has seen."""
    from vllm.v1.metrics.reader import get_metrics_snapshot

    found = [one for one in get_metrics_snapshot() if one.name == name]
    assert found, f"vLLM has no figure {name}"
    return float(sum(one.count if hasattr(one, "count") else one.value for one in found))


def await_true(holds: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait until something holds; the limit is far above what it may take."""
    give_up_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


class PlainModel:
    """An independent forward pass: transformers alone, whole prompts, no cache."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def log_probabilities(self, ids: Sequence[int]) -> Any:
        """What follows the last of the ids, over the whole vocabulary."""
        with torch.inference_mode():
            logits = self._model(torch.tensor([list(ids)])).logits[0, -1]
        return torch.log_softmax(logits.float(), dim=-1)

    def distribution(self, prompt_ids: Sequence[int], digits: Sequence[int], close: int) -> list[float]:
        """P(0) to P(10) behind a prompt, from two forward passes and the definition."""
        first = self.log_probabilities(prompt_ids).exp()
        second = self.log_probabilities([*prompt_ids, digits[1]]).exp()
        share = second[digits[0]] / (second[digits[0]] + second[close])
        one = first[digits[1]]
        found = [float(first[digit]) for digit in digits]
        return [found[0], float(one * (1 - share)), *found[2:], float(one * share)]
