"""MiniLM: a small bi-encoder for English on a CPU, the default."""

from __future__ import annotations

from typing import Literal

from es_rerank.scorers.abilities import Abilities
from es_rerank.scorers.biencoder import ALPHA, METHOD, BiEncoderSettings
from es_rerank.scorers.fingerprint import fingerprint_of

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256


class MinilmSettings(BiEncoderSettings):
    """The CPU default: all-MiniLM-L6-v2, a bi-encoder for English."""

    kind: Literal["minilm"] = "minilm"

    @property
    def abilities(self) -> Abilities:
        """It gives one number for a document, and reads English only."""
        return Abilities(language="en", alpha=ALPHA)

    def fingerprint(self) -> str:
        """Its name for queues, channels and cache keys. See `fingerprint_of`."""
        return fingerprint_of(
            self.kind,
            method=METHOD,
            weights=WEIGHTS_SHA256,
            compute_type=self.compute_type,
            max_tokens=MAX_TOKENS,
        )
