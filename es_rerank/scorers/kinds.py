"""Every kind of scorer, by its word in the configuration. A new kind is added here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from es_rerank.scorers.e5 import E5Settings
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.scorers.transformers import TransformersSettings
from es_rerank.scorers.vllm import VllmSettings

if TYPE_CHECKING:
    from es_rerank.tables import Section

SCORER_KINDS: dict[str, type[Section]] = {
    "minilm": MinilmSettings,
    "e5": E5Settings,
    "vllm": VllmSettings,
    "transformers": TransformersSettings,
}


def kind_of(scorer: Any) -> Any:
    """The kind that a scorer's table names, before or after the table is checked; `minilm` if it names none."""
    return scorer.get("kind", "minilm") if isinstance(scorer, dict) else getattr(scorer, "kind", None)


ScorerSettings = Annotated[
    Annotated[MinilmSettings, Tag("minilm")]
    | Annotated[E5Settings, Tag("e5")]
    | Annotated[VllmSettings, Tag("vllm")]
    | Annotated[TransformersSettings, Tag("transformers")],
    Discriminator(kind_of),
]
"""A scorer's table: each kind has `kind`, `concurrency`, `start_timeout_s`, `abilities` and `fingerprint()`."""
