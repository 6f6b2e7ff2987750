"""What the scorer needs of an inference engine: the contract that vLLM and transformers both keep.

Two kinds of work, both on token ids: think, which generates and gives no probabilities, and read, which gives the
probabilities of a few tokens and generates nothing of interest. Knows nothing of prompts, scores or deadlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from es_rerank.errors import EsRerankError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class EngineDeadError(EsRerankError):
    """The engine can do nothing any more; the process has to end."""


class RefusedError(EsRerankError):
    """The engine would not do this one piece of work; the text says why. Other work goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """More tokens of the thinking. `cached_tokens` of its prompt had been computed before, for any request."""

    token_ids: tuple[int, ...]
    cached_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Natural log-probabilities over the whole vocabulary, before any sampling rule, parallel to `label_ids`.

    `first` is what may follow the prompt, `second` what may follow the prompt and `forced_id`.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    cached_tokens: int


class TokenEngine(Protocol):
    """Runs a causal language model for many callers at once, all of one event loop.

    Work with a lower `priority` goes first. Cancelling a call, or closing its iterator, drops its work within a step
    or two. Raises RefusedError for work that can't be done, EngineDeadError once no work can be done.
    """

    async def start(self) -> None:
        """Load the model. Raises WorkerStartError, with what to do, when it cannot be used on this machine."""
        ...

    def think(
        self, prompt_ids: Sequence[int], *, max_tokens: int, stop_ids: Sequence[int], priority: int
    ) -> AsyncIterator[Delta]:
        """Greedy continuation of the prompt, as it comes, a few tokens at a time, the first one at once.

        Ends after `max_tokens`, after one of `stop_ids` (which is given too), or after the model's end of turn
        (given too).
        """
        ...

    async def read(
        self, prompt_ids: Sequence[int], *, forced_id: int, label_ids: Sequence[int], priority: int
    ) -> Reading:
        """The log-probabilities of the labels in two places."""
        ...

    async def broken(self) -> str:
        """Wait until the engine is dead, and return the reason."""
        ...

    async def close(self) -> None:
        """Free the hardware: no process and no thread of the engine is left."""
        ...
