"""Makes a scorer from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.scorers.minilm import MiniLM

if TYPE_CHECKING:
    from es_rerank.settings import MinilmSettings
    from workers.scorers.protocol import Scorer


def make_scorer(settings: MinilmSettings) -> Scorer:
    """The scorer, not yet started."""
    return MiniLM(
        fingerprint=settings.fingerprint(),
        compute_type=settings.compute_type,
        threads=settings.threads,
        batch_size=settings.batch_size,
        vector_cache_bytes=settings.vector_cache_bytes,
    )
