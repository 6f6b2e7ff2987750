"""An LLM on Hugging Face transformers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from es_rerank.scorers.fingerprint import fingerprint_of
from es_rerank.scorers.llm import METHOD, LlmSettings


class TransformersSettings(LlmSettings):
    """The LLM on Hugging Face transformers with its continuous batching: slower than vLLM, and runs anywhere."""

    kind: Literal["transformers"]
    device: Literal["auto", "cuda", "cpu"] = "auto"
    max_num_seqs: Annotated[StrictInt, Field(ge=1, le=8192)] = 64

    def fingerprint(self) -> str:
        """Its name for queues, channels and cache keys. See `fingerprint_of`."""
        return fingerprint_of(self.kind, method=METHOD, **self._fingerprint_parts())
