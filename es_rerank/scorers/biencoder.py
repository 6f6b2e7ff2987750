"""What the embedded scorers have in common: a small network on a CPU that makes a vector of each text by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from es_rerank.tables import Seconds, Section

# 1: the normalised mean of the last hidden states of the text's beginning; ten times the cosine, 0 if it is negative.
# 2: the same, of vectors that are rounded to float16.
METHOD = 2
# The engine's weight where a rule has none. ERank's 0.2 is for a stronger model: 0.3 is better on English collections.
ALPHA = 0.3


class BiEncoderSettings(Section):
    """What can be set of a bi-encoder on a CPU, whatever its network. It reads no instruction."""

    compute_type: Literal["float32", "int8"] = "int8"
    threads: Annotated[StrictInt, Field(ge=1, le=256)] = 2
    batch_size: Annotated[StrictInt, Field(ge=1, le=1024)] = 16
    vector_cache_bytes: Annotated[StrictInt, Field(ge=0)] = 64 * 1024 * 1024
    concurrency: Annotated[StrictInt, Field(ge=1, le=256)] = 8
    start_timeout_s: Seconds = 120.0
