"""What a scorer can do, so that no other code has to know its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_rerank.language import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a kind of scorer can do.

    `max_think_tokens` is the longest thinking about a document that may be asked for, 0 for a scorer that does not
    think. `reads_instruction` is False if an instruction changes no score; cache keys then don't depend on it.
    `language` is the only one that it reads, None if it reads any. `alpha` is the engine's weight in the fused score
    that suits it, for rules that set none; 0.2 is ERank's (arXiv 2509.00520), and a weaker model wants more.
    """

    max_think_tokens: int = 0
    reads_instruction: bool = False
    language: Language | None = None
    alpha: float = 0.2

    @property
    def thinks(self) -> bool:
        """Whether the scorer has modes, a budget, reasoning and two scores of one judgment."""
        return self.max_think_tokens > 0
