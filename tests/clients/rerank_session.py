"""One session of a rerank client with a proxy, printed as JSON: a program, run by the test beside it.

It runs in a process of its own, where PYTHONPATH names the client's folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

QUERY = "where does a cat sleep"
DOCUMENTS = ["A ship sails over the sea.", "The cat sleeps on the warm roof.", "Kittens play at home."]
OBJECTS = [{"title": "animals", "body": text} for text in DOCUMENTS]
FIELDS = ["body", "title"]
MODEL = "rerank-v3.5"
WRONG_KEY = "not-a-key-of-this-proxy"
ONCE: Any = {"max_retries": 0}


def outcome_of(call: Callable[[], Any]) -> dict[str, Any]:
    """What a call gave, or what it raised: the class, the status and the body or text that the client found."""
    try:
        return {"value": call()}
    except Exception as error:  # noqa: BLE001  every client has its own
        status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
        return {"raised": type(error).__name__, "status": status, "body": getattr(error, "body", None) or str(error)}


def use_cohere(url: str, key: str) -> dict[str, Any]:
    """Cohere's own client: both versions, synchronous and not."""
    import cohere  # type: ignore[import-not-found]

    old = cohere.Client(key, base_url=url)
    new = cohere.ClientV2(key, base_url=url)

    def listed(answer: Any) -> list[Any]:
        rows = [row.dict() for row in answer.results]
        return [[row["index"], row["relevance_score"], row.get("document")] for row in rows]

    async def ask_async() -> Any:
        client = cohere.AsyncClientV2(key, base_url=url)
        return listed(await client.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS))

    def ask(client: Any, **more: Any) -> Any:
        asked = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "request_options": ONCE, **more}
        return client.rerank(**asked)

    def meta() -> Any:
        found = ask(new, max_tokens_per_doc=512).meta
        return [found.api_version.version, found.billed_units.search_units, found.warnings]

    return {
        "v2": outcome_of(lambda: listed(ask(new))),
        "v2 top": outcome_of(lambda: listed(ask(new, top_n=1))),
        "v2 async": outcome_of(lambda: asyncio.run(ask_async())),
        "v2 meta": outcome_of(meta),
        "v1": outcome_of(lambda: listed(ask(old))),
        "v1 documents": outcome_of(lambda: listed(ask(old, return_documents=True, top_n=1))),
        "v1 objects": outcome_of(
            lambda: listed(ask(old, documents=OBJECTS, rank_fields=FIELDS, return_documents=True, top_n=1))
        ),
        "no documents": outcome_of(lambda: listed(ask(new, documents=[]))),
        "wrong model": outcome_of(lambda: listed(ask(new, model="gpt"))),
        "wrong key": outcome_of(lambda: listed(ask(cohere.ClientV2(WRONG_KEY, base_url=url)))),
    }


def use_voyage(url: str, key: str) -> dict[str, Any]:
    """Voyage's own client: synchronous and not."""
    import voyageai  # type: ignore[import-not-found]

    voyageai.api_base = f"{url}/v1"

    def listed(answer: Any) -> list[Any]:
        return [[row.index, row.relevance_score, row.document] for row in answer.results]

    async def ask_async() -> Any:
        return listed(await voyageai.AsyncClient(api_key=key).rerank(QUERY, DOCUMENTS, MODEL))

    def ask(key: str = key, documents: list[str] = DOCUMENTS, model: str = MODEL, **more: Any) -> Any:
        return voyageai.Client(api_key=key).rerank(QUERY, documents, model, **more)

    return {
        "all": outcome_of(lambda: listed(ask())),
        "top": outcome_of(lambda: listed(ask(top_k=1))),
        "async": outcome_of(lambda: asyncio.run(ask_async())),
        "tokens": outcome_of(lambda: ask().total_tokens),
        "no documents": outcome_of(lambda: listed(ask(documents=[]))),
        "wrong model": outcome_of(lambda: listed(ask(model="gpt"))),
        "wrong key": outcome_of(lambda: listed(ask(key=WRONG_KEY))),
    }


def main() -> None:
    """Run the session that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=("cohere", "voyageai"))
    parser.add_argument("url")
    parser.add_argument("key")
    options = parser.parse_args()
    use = use_cohere if options.client == "cohere" else use_voyage
    print(json.dumps(use(options.url, options.key)))  # noqa: T201


if __name__ == "__main__":
    main()
