"""What of the user's words is kept in an event: nothing, a keyed hash, or the words. Pure."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from es_rerank.tables import EventSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptQuery:
    """What is kept of a query; both are None where nothing is."""

    user_query: str | None = None
    user_query_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryKeeper:
    """Says what is kept of a query. `key` is that of the hash; no repr shows it."""

    kind: Literal["off", "hashed", "plain"]
    key: bytes = field(default=b"", repr=False)

    def keep(self, user_query: str) -> KeptQuery:
        """What is kept of it. The hash is HMAC-SHA256 (RFC 2104) of its UTF-8, in hexadecimal digits."""
        if self.kind == "plain":
            return KeptQuery(user_query=user_query)
        if self.kind == "hashed":
            digest = hmac.digest(self.key, user_query.encode("utf-8", "replace"), "sha256")
            return KeptQuery(user_query_hash=digest.hex())
        return KeptQuery()


def query_keeper(settings: EventSettings) -> QueryKeeper:
    """The keeper that the configuration asks for."""
    key = "" if settings.hash_key is None else settings.hash_key.get_secret_value()
    return QueryKeeper(kind=settings.query_text, key=key.encode())
