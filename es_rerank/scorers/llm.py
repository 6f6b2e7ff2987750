"""What every LLM that judges by thinking has in common, on whatever engine it runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt, StrictStr

from es_rerank.scorers.abilities import Abilities
from es_rerank.tables import Seconds, Section

# The hash of the prompt's text. Only the workers have that text, but the proxy needs its hash for fingerprints.
PROMPT_SHA256 = "4b83a9a63363df7354690b519b068404c1addd6e56a47505ec422677d30eb8e1"
# 1: the eleven answers are read after `</think><answer>`, the answer 10 by its two tokens; of a long document, the best
# piece counts.
METHOD = 1


class LlmSettings(Section):
    """An LLM that thinks about each document and answers with an integer from 0 to 10: ERank or one like it.

    `model` is a name on the model hub or a local folder. `max_think_tokens` is the longest reasoning that any search
    may ask for; ERank was trained on at most 2,048 tokens. `concurrency` is how many queries are served at once.
    """

    model: Annotated[StrictStr, Field(min_length=1)]
    revision: StrictStr = ""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_query_tokens: Annotated[StrictInt, Field(ge=16, le=32_768)] = 2048
    max_document_tokens: Annotated[StrictInt, Field(ge=16, le=32_768)] = 2048
    max_think_tokens: Annotated[StrictInt, Field(ge=1, le=32_768)] = 2048
    long_documents: Literal["cut", "best_chunk"] = "cut"
    max_chunks: Annotated[StrictInt, Field(ge=2, le=64)] = 4
    concurrency: Annotated[StrictInt, Field(ge=1, le=256)] = 16
    start_timeout_s: Seconds = 1800.0

    @property
    def abilities(self) -> Abilities:
        """It thinks, and it reads the instruction that says what counts as relevant."""
        return Abilities(max_think_tokens=self.max_think_tokens, reads_instruction=True)

    def _fingerprint_parts(self) -> dict[str, str | float]:
        """What changes a score under any kind of engine."""
        return {
            "model": self.model,
            "revision": self.revision,
            "dtype": self.dtype,
            "prompt": PROMPT_SHA256,
            "max_query_tokens": self.max_query_tokens,
            "max_document_tokens": self.max_document_tokens,
            "chunks": self.max_chunks if self.long_documents == "best_chunk" else 1,
        }
