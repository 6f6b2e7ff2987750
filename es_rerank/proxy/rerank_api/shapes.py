"""The shapes that rerank requests and answers have: which one a request has, and how each says that it refuses. Pure.

A shape is found by the path and the keys of the body. Before the body was read, the path alone decides.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Container

Shape = Literal["cohere_v2", "v1", "voyage", "vllm", "tei"]
"""`v1` is what Cohere's first version and Jina have in common: answers and errors hold what either looks for."""

PATH_SHAPES: dict[bytes, Shape] = {b"/v2/rerank": "cohere_v2", b"/v1/rerank": "v1", b"/rerank": "tei"}
"""All paths of the API, and the shape of what is said before the body is known.

vLLM's own 401 is a text under `error` too.
"""
VOYAGE_KEYS = ("top_k", "truncation")
VLLM_KEYS = ("truncate_prompt_tokens", "truncation_side", "max_tokens_per_query", "use_activation", "activation")
# What a product answers instead of the status that is usual for the others.
STATUSES: dict[Shape, dict[int, int]] = {"tei": {400: 422, 404: 422}, "voyage": {404: 400, 413: 400}}
TEI_TYPES = {
    401: "unauthorized", 408: "timeout", 413: "validation", 422: "validation", 429: "overloaded", 503: "unhealthy",
}  # fmt: skip
VLLM_TYPES = {
    400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 408: "TimeoutError",
    413: "BadRequestError", 429: "RateLimitError", 503: "ServiceUnavailableError",
}  # fmt: skip


def find_shape(path: bytes, keys: Container[str]) -> Shape:
    """The shape of a request on one of the paths, whose body has these keys."""
    if path == b"/rerank" and "texts" in keys and "documents" not in keys:
        return "tei"
    if path != b"/v2/rerank" and any(key in keys for key in VOYAGE_KEYS):
        return "voyage"
    if path == b"/rerank" or any(key in keys for key in VLLM_KEYS):
        return "vllm"
    return PATH_SHAPES[path]


def error_of(shape: Shape, status: int, text: str) -> tuple[int, dict[str, Any]]:
    """The status and the body by which a product refuses what others would refuse with `status`."""
    status = STATUSES.get(shape, {}).get(status, status)
    if shape == "cohere_v2":
        return status, {"id": str(uuid.uuid4()), "message": text}
    if shape == "v1":
        return status, {"message": text, "detail": text}
    if shape == "voyage":
        return status, {"detail": text}
    if shape == "tei":
        return status, {"error": text, "error_type": TEI_TYPES.get(status, "backend")}
    kind = VLLM_TYPES.get(status, "InternalServerError")
    return status, {"error": {"message": text, "type": kind, "param": None, "code": status}}
