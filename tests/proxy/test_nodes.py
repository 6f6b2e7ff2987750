"""The proxy's own address in what an engine says of its nodes: there alone, and nothing else moves."""

from __future__ import annotations

import json

import pytest

from es_rerank.proxy.nodes import asks_for_nodes, with_address
from es_rerank.records import Request

ADDRESS = "search.example.org:9300"
# The paths of elasticsearch-py, elasticsearch-js, opensearch-py and opensearch-js; of the clients for Java and Go; of
# .NET; of opensearch-go 5; and of Kibana and OpenSearch Dashboards, which look for versions.
SNIFFED = (
    "/_nodes/_all/http", "/_nodes/http?timeout=1000ms", "/_nodes/http,settings?flat_settings=true",
    "/_nodes?filter_path=nodes.*.version,nodes.*.http.publish_address,nodes.*.ip", "/_nodes/node-1,node-2/http/",
    "/_nodes/_local/http,os",
)  # fmt: skip
OTHERS = (
    "/_nodes/stats", "/_nodes/stats/http", "/_nodes/node-1/stats", "/_nodes/hot_threads", "/_nodes/node-1/hotthreads",
    "/_nodes/usage", "/_cat/nodes", "/films/_nodes", "/_nodes/a/b/c", "/_nodesx",
)  # fmt: skip


@pytest.mark.parametrize("target", SNIFFED)
def test_what_clients_sniff_by_is_known(target: str) -> None:
    """Each path by which an official client looks for nodes is one whose answer is changed."""
    assert asks_for_nodes(Request(method="GET", target=target.encode(), headers=()))
    assert not asks_for_nodes(Request(method="POST", target=target.encode(), headers=()))


@pytest.mark.parametrize("target", OTHERS)
def test_what_tells_no_addresses_is_left_alone(target: str) -> None:
    """Statistics and whatever is no nodes info pass."""
    assert not asks_for_nodes(Request(method="GET", target=target.encode(), headers=()))


@pytest.mark.parametrize("published", ["10.0.0.1:9200", "es-1.internal/10.0.0.1:9200", "[::1]:9200"])
def test_the_published_address_alone_is_changed(published: str) -> None:
    """In either form it becomes ours for every node; all else keeps its bytes, other addresses and numbers too."""
    other = b'{"bound_address":["[::]:9200"],"publish_address":"10.0.0.1:9300","size":1.0E2}'
    node = b'{"name":"a","transport":%b,"http":{"size":1.0E2,"publish_address":%b},"version":"9.1.0"}'
    body = b'{"_nodes":{"total":2},"nodes":{"x":%b,"y":%b}}' % ((node % (other, json.dumps(published).encode()),) * 2)
    ours = b'{"_nodes":{"total":2},"nodes":{"x":%b,"y":%b}}' % ((node % (other, json.dumps(ADDRESS).encode()),) * 2)
    assert with_address(body, ADDRESS) == ours


@pytest.mark.parametrize(
    "body",
    [
        b"", b"---\nnodes: {}\n", b"[]", b"{}", b'{"nodes":[]}', b'{"nodes":{"a":1}}', b'{"nodes":{"a":{"http":null}}}',
        b'{"nodes":{"a":{"http":{"current_open":3}}}}', b'{"error":{"type":"x"},"status":403}',
        b"\xbfenodes\xbf\xff\xff",
    ],
)  # fmt: skip
def test_an_answer_without_addresses_is_the_engines_own(body: bytes) -> None:
    """Where no node has an address, or the answer is no JSON, nothing is written anew."""
    assert with_address(body, ADDRESS) is None
