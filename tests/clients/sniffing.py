"""Searches by an official client that looks for nodes, in each way that it has: a program, run by the tests beside it.

Prints, for each way, whether each search came through the proxy, which adds a status where a header asks for it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
import warnings
from typing import Any

CLASS_NAMES = {"elasticsearch": "Elasticsearch", "opensearchpy": "OpenSearch"}
NOBODY = "http://127.0.0.1:1"
SEARCHES = 12
# By package: the client's arguments for each way to sniff. Between two looks elasticsearch-py waits ten seconds anyway.
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "elasticsearch": {
        "off": {},
        "on start": {"sniff_on_start": True},
        "before requests": {"sniff_before_requests": True, "sniff_timeout": 60},
        "on failure": {"sniff_on_node_failure": True, "sniff_timeout": 60},
    },
    "opensearchpy": {
        "off": {},
        "on start": {"sniff_on_start": True},
        "before requests": {"sniffer_timeout": 0.01, "sniff_timeout": 60},
        "on failure": {"sniff_on_connection_fail": True, "sniff_timeout": 60},
    },
}


def through_proxy(package: str, hosts: list[str], index: str, options: dict[str, Any]) -> list[bool]:
    """For each search of one client, whether the proxy answered it."""
    timeout = {"timeout" if package == "opensearchpy" else "request_timeout": 60}
    client = getattr(importlib.import_module(package), CLASS_NAMES[package])(hosts, max_retries=4, **timeout, **options)
    body = {"query": {"match": {"text": "fox"}}}
    headers = {"es-rerank": "include=status"}
    try:
        return ["_es_rerank" in client.search(index=index, body=body, headers=headers) for _ in range(SEARCHES)]
    finally:
        client.close()


def main() -> None:
    """Search in each way, and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", choices=sorted(CLASS_NAMES))
    parser.add_argument("url")
    parser.add_argument("index")
    asked = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    seen = {
        way: through_proxy(
            asked.package, [NOBODY, asked.url] if way == "on failure" else [asked.url], asked.index, options
        )
        for way, options in WAYS[asked.package].items()
    }
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
