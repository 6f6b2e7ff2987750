"""Asks paths of es-rerank by an official client's `perform_request`, and prints the answers as JSON.

python own_paths.py PACKAGE URL INDEX
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

QUERY = {"query": {"match": {"text": "a robot in love"}}}
EVALUATION = {"requests": [{"id": "a", "request": QUERY, "ratings": []}], "metric": {"precision": {"k": 3}}}


def main() -> None:
    """Ask, and print."""
    package_name, url, index = sys.argv[1:]
    package = importlib.import_module(package_name)
    is_opensearch = package_name == "opensearchpy"
    client = (package.OpenSearch if is_opensearch else package.Elasticsearch)(url, max_retries=0)
    asks = client.transport.perform_request if is_opensearch else client.perform_request
    version = "" if is_opensearch else str(package.VERSION[0])
    media_type = f"application/vnd.elasticsearch+json; compatible-with={version}" if version else "application/json"
    headers = {"accept": media_type, "content-type": media_type}

    def ask(method: str, target: str, body: Any = None) -> Any:
        named: dict[str, Any] = {} if is_opensearch else {"headers": headers}
        try:
            answer = asks(method, target, body=body, **named)
        except package.exceptions.NotFoundError as error:
            return error.status_code
        return getattr(answer, "body", answer)

    answers = {
        "root": ask("GET", "/_es_rerank"),
        "stats": ask("GET", "/_es_rerank/_stats"),
        "table": ask("GET", "/_es_rerank/_cat/rules?format=json"),
        "explain": ask("POST", f"/_es_rerank/{index}/_explain", QUERY),
        "evaluation": ask("POST", f"/_es_rerank/{index}/_rank_eval", EVALUATION),
        "missing": ask("GET", "/_es_rerank/nothing"),
    }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
