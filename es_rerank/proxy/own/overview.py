"""Says what there is below our path: `GET /_es_rerank`, `GET /_es_rerank/_cat` and `GET /_es_rerank/_stats`."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from es_rerank.proxy.own.call import OwnAnswer, Table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from es_rerank.proxy.own.call import OwnCall, Route

CAT = "/_es_rerank/_cat/"
ROUTE_COLUMNS = {"path": "where it is", "about": "what it answers"}


def list_routes(routes: Callable[[], Sequence[Route]]) -> Callable[[OwnCall], Awaitable[OwnAnswer]]:
    """The handler that names the versions and each of these routes. They are asked for when it answers."""

    async def answer(call: OwnCall) -> OwnAnswer:
        call.allow()
        listed = [{"methods": list(one.methods), "path": one.path, "about": one.about} for one in routes()]
        value = {
            "name": "es-rerank",
            "version": version("es-rerank"),
            "rules_version": call.parts.rules.book.version,
            "paths": listed,
        }
        return OwnAnswer(value=value)

    return answer


def list_tables(routes: Callable[[], Sequence[Route]]) -> Callable[[OwnCall], Awaitable[OwnAnswer]]:
    """The handler that lists, as a table, those of these routes that are tables."""

    async def answer(call: OwnCall) -> OwnAnswer:
        call.allow()
        rows = [(one.path, one.about) for one in routes() if one.path.startswith(CAT)]
        return OwnAnswer(value=Table(columns=(*ROUTE_COLUMNS,), about=(*ROUTE_COLUMNS.values(),), rows=rows))

    return answer


async def stats(call: OwnCall) -> OwnAnswer:
    """See `SearchStats.block`."""
    call.allow()
    return OwnAnswer(value=call.parts.stats.block())
