"""One session of an official client with one URL, printed as a JSON transcript: a program, run by the tests beside it.

It runs in a process of its own, where PYTHONPATH names the client's version. Nothing in a transcript changes from
one session to the next on the same engine, so two of them are compared as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import json
import re
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

TIMEOUT_S = 60
CLASS_NAMES = {"elasticsearch": "Elasticsearch", "opensearchpy": "OpenSearch"}
# Times, names that the engine makes up, and how long an answer is and said to be, which follows the digits of `took`.
VOLATILE = frozenset(
    {
        "took", "_scroll_id", "pit_id", "creation_time", "uuid", "index_uuid", "content-length",
        "transfer-encoding", "number_of_pending_tasks", "task_max_waiting_in_queue_millis",
    }
)  # fmt: skip
INDEX_ID = re.compile(r"/[\w-]{22}\]")
STRANGE_ID = "a/b c?d=ü€+%2F"
TEXT = {"type": "text", "analyzer": "english"}
INDEX_BODY = {
    # Segments, whose numbers `explain` shows, must not depend on when a refresh by itself comes.
    "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"},
    "mappings": {
        "properties": {"title": TEXT, "text": TEXT, "year": {"type": "integer"}, "owner": {"type": "keyword"}}
    },
}
FILMS = {
    "1": ("Robot", "A robot. The robot repairs a robot in a factory of robots."),
    "2": ("Circuits", "A machine learns what tenderness is, and marries the woman who built it; a robot in love."),
    "3": ("Harbour", "An old sailor returns to his island and finds his house under sand."),
    "4": ("Love", "Love, love, love: four sisters talk of love for an hour."),
    "5": ("The Mechanic", "A mechanic falls for a robot that falls apart."),
    "6": ("Winter", "Thieves rob a bank in winter and fall out over the loot."),
    "7": ("Steel Heart", "An android who was made to fight falls in love with an enemy."),
    "8": ("Robot Wars", "The robots fall upon the city, and people fall by thousands."),
    "9": ("A Letter", "A widow writes letters to nobody and falls in love with the answer."),
    "10": ("Falls", "A film about a waterfall, who owns it and who falls."),
}
QUERY = {"match": {"text": "a robot who falls in love"}}


class Recorder:
    """Calls a client, sync or async, and keeps what it gave or raised under the name of each call."""

    def __init__(self) -> None:
        self.calls: dict[str, Any] = {}
        self.orders: dict[str, list[str]] = {}

    async def call(self, name: str, method: Callable[..., Any], *arguments: Any, hide: str = "", **named: Any) -> Any:
        """The call's result, or None where it raised. `hide` is one more volatile key."""
        hidden = VOLATILE | {hide}
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                result = method(*arguments, **named)
                if inspect.isawaitable(result):
                    result = await result
                outcome = {"type": type(result).__name__, "value": plain(result, hidden), **head_of(result, hidden)}
            except Exception as error:  # noqa: BLE001  whatever it is, it must be the same through the proxy
                result, outcome = None, {"raised": raised(error, hidden), **head_of(error, hidden)}
        self.calls[name] = {**outcome, "warnings": [f"{entry.category.__name__}: {entry.message}" for entry in warned]}
        return result

    async def reranked(self, name: str, method: Callable[..., Any], **named: Any) -> None:
        """A call of one search or many, whose hits may change in order and score, but with nothing else changed."""
        if await self.call(name, method, **named) is None:
            return
        value = self.calls[name]["value"]
        found = [answer["hits"] for answer in value.get("responses", [value]) if "hits" in answer]
        self.orders[name] = [hit["_id"] for hits in found for hit in hits["hits"]]
        for hits in found:
            hits["hits"] = sorted(({**hit, "_score": None} for hit in hits["hits"]), key=lambda hit: str(hit["_id"]))
            hits["max_score"] = None


def plain(value: Any, hidden: frozenset[str]) -> Any:
    """A result as JSON has it, without what is hidden."""
    value = getattr(value, "body", value)
    if isinstance(value, dict):
        return {key: plain(item, hidden) for key, item in value.items() if key not in hidden}
    if isinstance(value, list | tuple):
        return [plain(item, hidden) for item in value]
    if isinstance(value, str):
        return INDEX_ID.sub("/(id)]", value)
    return value if isinstance(value, int | float | None) else repr(value)


def raised(error: Exception, hidden: frozenset[str]) -> dict[str, Any]:
    """An exception: its class, its status, what it says and the body that came with it."""
    return {
        "class": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "text": plain(str(error), hidden),
        "body": plain(getattr(error, "info", None), hidden),
        "errors": plain(getattr(error, "errors", None), hidden),
    }


def head_of(result: Any, hidden: frozenset[str]) -> dict[str, Any]:
    """Status and headers of the answer, where the client shows them."""
    meta = getattr(result, "meta", None)
    if meta is None:
        return {}
    headers = {name.lower(): value for name, value in meta.headers.items()}
    return {"http": meta.http_version, "status": meta.status, "headers": plain(headers, hidden)}


def actions(index: str, films: dict[str, tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """What the bulk helpers take."""
    for year, (key, (title, text)) in enumerate(films.items(), start=1990):
        source = {"title": title, "text": text, "year": year, "owner": f"owner-{year % 2}"}
        yield {"_index": index, "_id": key, "_source": source}


class Session:
    """The calls, in order. Where one is refused those that need its result are left out."""

    def __init__(self, package: Any, client: Any, index: str) -> None:
        self.client = client
        self.index = index
        self.helpers = importlib.import_module(f"{package.__name__}.helpers")
        self.is_opensearch = package.__name__ == "opensearchpy"
        self.is_async = type(client).__name__.startswith("Async")
        self.recorder = Recorder()
        self.call = self.recorder.call

    async def run(self) -> None:
        """The whole session."""
        await self.write()
        await self.read()
        await self.search()
        await self.page()
        await self.err()
        await self.call_with_options()
        await self.change()

    async def write(self) -> None:
        """Make an index and fill it."""
        client, index = self.client, self.index
        bulk = self.helpers.async_bulk if self.is_async else self.helpers.bulk
        await self.call("info", client.info)
        await self.call("ping", client.ping)
        await self.call("create", client.indices.create, index=index, body=INDEX_BODY)
        await self.call("create again", client.indices.create, index=index, body=INDEX_BODY)
        await self.call("exists", client.indices.exists, index=index)
        await self.call("exists not", client.indices.exists, index=f"{index}-none")
        await self.call("bulk", bulk, client, actions(index, FILMS), raise_on_error=False)
        broken = [*actions(index, {"11": FILMS["1"]}), {"_index": index, "_id": "12", "_source": {"year": "none"}}]
        await self.call("bulk with an error", bulk, client, broken)
        await self.call("index a strange id", client.index, index=index, id=STRANGE_ID, body={"title": STRANGE_ID})
        await self.call("refresh", client.indices.refresh, index=index)

    async def read(self) -> None:
        """Documents by id, and what the engine says of the index."""
        client, index = self.client, self.index
        await self.call("get", client.get, index=index, id="1")
        await self.call("get a strange id", client.get, index=index, id=STRANGE_ID)
        await self.call("get a missing id", client.get, index=index, id="none")
        await self.call("document exists", client.exists, index=index, id=STRANGE_ID)
        await self.call("mget", client.mget, index=index, body={"ids": ["1", "none"]})
        await self.call("count", client.count, index=index, body={"query": QUERY})
        await self.call("explain", client.explain, index=index, id="2", body={"query": QUERY})
        await self.call("analyze", client.indices.analyze, index=index, body={"field": "text", "text": "Robots fell"})
        await self.call("mapping", client.indices.get_mapping, index=index)
        await self.call("cat", client.cat.indices, index=index, h="health,index,pri,docs.count", v=True)
        await self.call("health", client.cluster.health, index=index, timeout="1s")

    async def search(self) -> None:
        """Searches, reranked and not."""
        client, index, reranked = self.client, self.index, self.recorder.reranked
        aggs = {"years": {"max": {"field": "year"}}, "owners": {"terms": {"field": "owner"}}}
        await reranked("reranked", client.search, index=index, body={"query": QUERY})
        await reranked("reranked page", client.search, index=index, body={"query": QUERY, "aggs": aggs, "size": 50})
        await reranked("reranked q", client.search, index=index, q="text:(robot OR love)", _source_includes="year")
        await self.call("sorted", client.search, index=index, body={"query": QUERY, "sort": [{"year": "asc"}]})
        await self.call("size 0", client.search, index=index, body={"query": QUERY, "size": 0, "aggs": aggs})
        filtered = {"query": {"term": {"owner": "owner-1"}}, "aggs": aggs, "sort": ["_doc"]}
        await self.call("filtered", client.search, index=index, body=filtered)
        searches = [{"index": index}, {"query": QUERY}, {"index": f"{index}-none"}, {"query": QUERY}]
        await reranked("msearch", client.msearch, body=searches)

    async def page(self) -> None:
        """All hits, by the helper that scrolls and by a point in time."""
        client, index = self.client, self.index
        await self.call("scan", self.scan)
        if self.is_opensearch:
            opened = await self.call("pit", client.create_pit, index=index, params={"keep_alive": "1m"})
        else:
            opened = await self.call("pit", client.open_point_in_time, index=index, keep_alive="1m", hide="id")
        if opened is None:
            return
        key = opened["pit_id" if self.is_opensearch else "id"]
        body = {"query": QUERY, "size": 3, "sort": [{"year": "asc"}], "pit": {"id": key, "keep_alive": "1m"}}
        await self.call("pit page", client.search, body=body)
        await self.call("pit next page", client.search, body={**body, "search_after": [1992]})
        if self.is_opensearch:
            await self.call("pit end", client.delete_pit, body={"pit_id": [key]})
        else:
            await self.call("pit end", client.close_point_in_time, id=key)

    async def scan(self) -> list[Any]:
        """All hits of a scroll of four pages, and its end."""
        named = {"index": self.index, "query": {"query": QUERY}, "size": 3}
        if self.is_async:
            hits: AsyncIterator[Any] = self.helpers.async_scan(self.client, **named)
            return [hit async for hit in hits]
        return list(self.helpers.scan(self.client, **named))

    async def err(self) -> None:
        """What the engine refuses."""
        client, index = self.client, self.index
        await self.call("bad query", client.search, index=index, body={"query": {"match": {"text": {"quary": "x"}}}})
        await self.call("no query", client.search, index=index, body={"query": {"nonsense": {}}})
        await self.call("no index", client.search, index=f"{index}-none", body={"query": QUERY})
        await self.call("too deep", client.search, index=index, body={"query": QUERY}, from_=9_990, size=100)
        await self.call("conflict", client.create, index=index, id="1", body={"title": "x"})

    async def call_with_options(self) -> None:
        """Searches under the client's options for one call, which go into headers."""
        body = {"query": {"range": {"year": {"gt": 1995}}}, "sort": ["year"]}
        reranked = {"query": QUERY}
        headers = {"x-opaque-id": "ours", "x-more": "1"}
        client: Any = self.client
        named: dict[str, Any] = {"headers": headers}
        if not self.is_opensearch:
            client, named = self.client.options(request_timeout=30, opaque_id="ours", headers=headers), {}
        await self.call("with options", client.search, index=self.index, body=body, **named)
        await self.recorder.reranked("reranked with options", client.search, index=self.index, body=reranked, **named)

    async def change(self) -> None:
        """Updates, deletes, and the end of the index."""
        client, index = self.client, self.index
        await self.call("update", client.update, index=index, id="1", body={"doc": {"year": 2001}})
        await self.call("update a missing id", client.update, index=index, id="none", body={"doc": {"year": 2001}})
        await self.call("refresh again", client.indices.refresh, index=index)
        owned = {"query": {"term": {"owner": "owner-1"}}}
        await self.call("update by query", client.update_by_query, index=index, body=owned, refresh=True)
        await self.call("delete by query", client.delete_by_query, index=index, body=owned, refresh=True)
        await self.call("delete", client.delete, index=index, id=STRANGE_ID)
        await self.call("delete again", client.delete, index=index, id=STRANGE_ID)
        await self.call("delete index", client.indices.delete, index=index)


async def run(options: argparse.Namespace) -> Recorder:
    """The session, on a client made for it."""
    package = importlib.import_module(options.package)
    class_name = ("Async" if options.is_async else "") + CLASS_NAMES[options.package]
    timeout = {"timeout" if options.package == "opensearchpy" else "request_timeout": TIMEOUT_S}
    # A retry would hide an answer that the engine alone would not give.
    client = getattr(package, class_name)(options.url, max_retries=0, **timeout, **json.loads(options.client))
    session = Session(package, client, options.index)
    try:
        await session.run()
    finally:
        closed = client.close()
        if inspect.isawaitable(closed):
            await closed
    return session.recorder


def main() -> None:
    """Run the session and print its transcript."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", choices=sorted(CLASS_NAMES))
    parser.add_argument("url")
    parser.add_argument("--async", action="store_true", dest="is_async")
    parser.add_argument("--index", default="films-clients")
    parser.add_argument("--client", default="{}", help="more arguments of the client, as JSON")
    recorder = asyncio.run(run(parser.parse_args()))
    json.dump({"calls": recorder.calls, "orders": recorder.orders}, sys.stdout)


if __name__ == "__main__":
    main()
