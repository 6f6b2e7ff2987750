"""A rerank request as a value, whatever shape it came in. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import msgspec

    from es_rerank.models import Model
    from es_rerank.proxy.rerank_api.shapes import Shape


def first_byte(raw: msgspec.Raw) -> bytes:
    """What a JSON value begins with, which tells its kind, without a copy of it."""
    return memoryview(raw)[:1].tobytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest:
    """What is asked: how well each document answers the question, by which model.

    `documents` are as they came, and `texts` is parallel to them, with None for a document without text. `top` is how
    many results are wanted, None for all. With `raw_scores` they are rank scores, 0 to 10, else 0 to 1. Without
    `may_cut`, a document that is too long for the model is refused. `warnings` say in ASCII what has no effect here.
    """

    shape: Shape
    model: Model
    question: str
    documents: tuple[msgspec.Raw, ...]
    texts: tuple[str | None, ...]
    top: int | None
    with_documents: bool
    raw_scores: bool
    may_cut: bool
    warnings: tuple[str, ...]
