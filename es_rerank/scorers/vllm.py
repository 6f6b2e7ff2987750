"""An LLM on vLLM."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from es_rerank.scorers.fingerprint import fingerprint_of
from es_rerank.scorers.llm import METHOD, LlmSettings


class VllmSettings(LlmSettings):
    """The LLM on vLLM, on one GPU or several, or on a CPU where vLLM was built for it."""

    kind: Literal["vllm"]
    tensor_parallel_size: Annotated[StrictInt, Field(ge=1, le=64)] = 1
    quantization: Literal["none", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block"] = "none"
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    gpu_memory_share: Annotated[StrictFloat, Field(gt=0, le=1, allow_inf_nan=False)] = 0.9
    max_num_seqs: Annotated[StrictInt, Field(ge=1, le=8192)] = 512
    max_batched_tokens: Annotated[StrictInt, Field(ge=64, le=1_048_576)] = 16_384
    compile: StrictBool = True
    cpu_kv_cache_gib: Annotated[StrictInt, Field(ge=1, le=4096)] = 4

    def fingerprint(self) -> str:
        """Its name for queues, channels and cache keys. See `fingerprint_of`."""
        return fingerprint_of(
            self.kind,
            method=METHOD,
            **self._fingerprint_parts(),
            quantization=self.quantization,
            kv_cache_dtype=self.kv_cache_dtype,
        )
