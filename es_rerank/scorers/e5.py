"""e5: a small bi-encoder for a hundred languages on a CPU."""

from __future__ import annotations

from typing import Literal

from es_rerank.scorers.abilities import Abilities
from es_rerank.scorers.biencoder import ALPHA, METHOD, BiEncoderSettings
from es_rerank.scorers.fingerprint import fingerprint_of

WEIGHTS_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
MAX_TOKENS = 256
# Raised when the way from a text to the network's input changes. 1: the prefixes, small letters for capitals.
INPUT = 1


class E5Settings(BiEncoderSettings):
    """multilingual-e5-small with 4-bit weights: a bi-encoder for about a hundred languages."""

    kind: Literal["e5"]

    @property
    def abilities(self) -> Abilities:
        """It gives one number for a document, in any language."""
        return Abilities(alpha=ALPHA)

    def fingerprint(self) -> str:
        """Its name for queues, channels and cache keys. See `fingerprint_of`."""
        return fingerprint_of(
            self.kind,
            method=METHOD,
            input=INPUT,
            weights=WEIGHTS_SHA256,
            compute_type=self.compute_type,
            max_tokens=MAX_TOKENS,
        )
