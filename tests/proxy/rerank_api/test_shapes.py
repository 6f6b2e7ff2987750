"""Which product's shape a request has, and how each product refuses."""

from __future__ import annotations

from typing import Any

import pytest

from es_rerank.proxy.rerank_api.shapes import Shape, error_of, find_shape


@pytest.mark.parametrize(
    ("path", "keys", "shape"),
    [
        ("/v2/rerank", "query documents model top_n", "cohere_v2"),
        ("/v2/rerank", "query documents top_k", "cohere_v2"),
        ("/v2/rerank", "query documents truncate_prompt_tokens", "vllm"),
        ("/v2/rerank", "query texts", "cohere_v2"),
        ("/v1/rerank", "query documents model top_n return_documents rank_fields", "v1"),
        ("/v1/rerank", "", "v1"),
        ("/v1/rerank", "query texts", "v1"),
        ("/v1/rerank", "query documents model top_k truncation", "voyage"),
        ("/v1/rerank", "query documents use_activation", "vllm"),
        ("/rerank", "query documents model top_n", "vllm"),
        ("/rerank", "query documents top_k", "voyage"),
        ("/rerank", "query texts truncate raw_scores", "tei"),
        ("/rerank", "query texts documents", "vllm"),
        ("/rerank", "", "vllm"),
    ],
)
def test_path_and_keys_tell_the_shape(path: str, keys: str, shape: Shape) -> None:
    """The path narrows it down, and keys that only one product has decide."""
    assert find_shape(path.encode(), set(keys.split())) == shape


ERRORS: list[tuple[Shape, int, int, dict[str, Any]]] = [
    ("cohere_v2", 400, 400, {"message": "why"}),
    ("v1", 404, 404, {"message": "why", "detail": "why"}),
    ("voyage", 404, 400, {"detail": "why"}),
    ("voyage", 413, 400, {"detail": "why"}),
    ("voyage", 429, 429, {"detail": "why"}),
    ("vllm", 400, 400, {"error": {"message": "why", "type": "BadRequestError", "param": None, "code": 400}}),
    ("vllm", 503, 503, {"error": {"message": "why", "type": "ServiceUnavailableError", "param": None, "code": 503}}),
    ("tei", 400, 422, {"error": "why", "error_type": "validation"}),
    ("tei", 413, 413, {"error": "why", "error_type": "validation"}),
    ("tei", 429, 429, {"error": "why", "error_type": "overloaded"}),
    ("tei", 503, 503, {"error": "why", "error_type": "unhealthy"}),
    ("tei", 500, 500, {"error": "why", "error_type": "backend"}),
]


@pytest.mark.parametrize(("shape", "status", "answered", "body"), ERRORS)
def test_each_product_refuses_in_its_own_way(shape: Shape, status: int, answered: int, body: dict[str, Any]) -> None:
    """Status and body are what a client of the product reads."""
    code, found = error_of(shape, status, "why")
    assert (code, {**found, **body}) == (answered, found)
    assert set(found) - set(body) <= {"id"}
