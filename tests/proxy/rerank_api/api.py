"""A configured rerank API for tests, and requests to it as the reader sees them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from es_rerank.proxy.rerank_api.read import open_members, read_request
from es_rerank.proxy.rerank_api.shapes import find_shape
from es_rerank.settings import Settings

if TYPE_CHECKING:
    from es_rerank.models import RerankApi
    from es_rerank.proxy.rerank_api.request import RerankRequest

KEY = "a-key-of-this-test"
TABLE: dict[str, Any] = {"keys": [KEY], "scorers": {"rerank-v3.5": "minilm", "thinker": "llm"}, "max_documents": 5}
PARTS: dict[str, Any] = {
    "upstream": {"urls": ["http://127.0.0.1:1"]},
    "redis": {"url": "redis://127.0.0.1:1/0"},
    "scorers": {"llm": {"kind": "vllm", "model": "m", "max_think_tokens": 512}},
}


def api_of(**changes: Any) -> RerankApi:
    """The API with some keys of its table changed."""
    api = Settings.model_validate({**PARTS, "rerank_api": {**TABLE, **changes}}).bound_rerank_api()
    assert api is not None
    return api


API = api_of()


def read(path: str, body: Any, api: RerankApi = API) -> RerankRequest:
    """The request with this body, a value for JSON or bytes, on a path."""
    members = open_members(body if isinstance(body, bytes) else json.dumps(body).encode())
    return read_request(find_shape(path.encode(), members), members, api)
