"""MiniLM: a small bi-encoder for English on a CPU, the default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from es_rerank.scorers.abilities import Abilities
from es_rerank.scorers.fingerprint import fingerprint_of
from es_rerank.tables import Seconds, Section

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256
# 1: the normalised mean of the last hidden states of the text's beginning; ten times the cosine, 0 if it is negative.
METHOD = 1


class MinilmSettings(Section):
    """The CPU default: all-MiniLM-L6-v2, a bi-encoder for English. It reads no instruction."""

    kind: Literal["minilm"] = "minilm"
    compute_type: Literal["float32", "int8"] = "float32"
    threads: Annotated[StrictInt, Field(ge=1, le=256)] = 2
    batch_size: Annotated[StrictInt, Field(ge=1, le=1024)] = 16
    vector_cache_bytes: Annotated[StrictInt, Field(ge=0)] = 64 * 1024 * 1024
    concurrency: Annotated[StrictInt, Field(ge=1, le=256)] = 8
    start_timeout_s: Seconds = 120.0

    @property
    def abilities(self) -> Abilities:
        """It gives one number for a document; it neither thinks nor reads an instruction."""
        return Abilities()

    def fingerprint(self) -> str:
        """Its name for queues, channels and cache keys. See `fingerprint_of`."""
        return fingerprint_of(
            self.kind,
            method=METHOD,
            weights=WEIGHTS_SHA256,
            compute_type=self.compute_type,
            max_tokens=MAX_TOKENS,
        )
