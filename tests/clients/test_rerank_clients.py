"""Official rerank clients on the proxy: they get real scores, and each error as the exception that they know for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.rerank_session import DOCUMENTS, MODEL, OBJECTS
from tests.clients.transcript import run_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import System

KEY = "the-key-of-these-clients"
TABLE = f"""
[limits]
max_deadline_s = 120.0
[rerank_api]
keys = ["{KEY}"]
scorers = {{ "{MODEL}" = "minilm" }}
deadline_s = 60.0
"""
BEST = [1, 2, 0]


@pytest.fixture(scope="module")
def url(run_system: Callable[..., System], osmem_url: str) -> str:
    """A proxy with the API, and a worker."""
    system = run_system(osmem_url, extra=TABLE)
    if not system.workers():
        system.start_worker()
    return system.url


def order_of(outcome: dict[str, Any]) -> list[int]:
    """The documents' places, best first, of an outcome whose scores are real."""
    scores = [score for _, score, _ in outcome["value"]]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] < scores[0] <= 1 or len(scores) == 1
    return [place for place, _, _ in outcome["value"]]


def test_the_client_of_cohere(url: str) -> None:
    """Both versions of the API, objects and their fields, meta, and the exceptions with their message."""
    calls = run_program("rerank_session.py", "cohere", "cohere", url, KEY)
    for name in ("v2", "v2 async", "v1"):
        assert order_of(calls[name]) == BEST, name
    assert order_of(calls["v2 top"]) == BEST[:1]
    assert calls["v1 documents"]["value"][0][2] == {"text": DOCUMENTS[1]}
    assert calls["v1 objects"]["value"][0][::2] == [1, OBJECTS[1]]
    version, units, warnings = calls["v2 meta"]["value"]
    assert (version, units) == ("2", 0)
    assert "max_tokens_per_doc" in warnings[0]
    for name, raised, status, text in (
        ("no documents", "BadRequestError", 400, "documents must not be empty"),
        ("wrong model", "NotFoundError", 404, f"model 'gpt' is not served here; known are {MODEL}"),
        ("wrong key", "UnauthorizedError", 401, "a key is needed, as in 'Authorization: Bearer KEY'"),
    ):
        assert (calls[name]["raised"], calls[name]["status"]) == (raised, status)
        assert calls[name]["body"]["message"] == text


def test_the_client_of_voyage(url: str) -> None:
    """`top_k`, the documents of the results, the usage, and the exceptions with their detail."""
    calls = run_program("rerank_session.py", "voyageai", "voyageai", url, KEY)
    for name in ("all", "async"):
        assert order_of(calls[name]) == BEST, name
    assert order_of(calls["top"]) == BEST[:1]
    assert calls["top"]["value"][0][2] == DOCUMENTS[1]
    assert calls["tokens"]["value"] == 0
    assert [calls[name]["raised"] for name in ("no documents", "wrong model", "wrong key")] == [
        "InvalidRequestError", "InvalidRequestError", "AuthenticationError",
    ]  # fmt: skip
    assert "a key is needed" in calls["wrong key"]["body"]
