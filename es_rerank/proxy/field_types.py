"""Asks the engine which fields are texts, as the caller, and keeps the answers for a while.

What is kept of a field that a caller's own search named is whether it is a text. It is kept by caller and index
expression, so nobody learns what only another one may see. Whatever goes wrong, nothing is known, and no search fails.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from es_rerank.errors import UpstreamError
from es_rerank.proxy.caller import asked_as, caller_of
from es_rerank.proxy.http.coding import UnreadableBodyError, decode_body
from es_rerank.proxy.search.endpoint import MAX_TARGET_BYTES
from es_rerank.records import first_header
from es_rerank.rules.indices import MAX_EXPRESSION_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.clock import Clock
    from es_rerank.memory import MemoryBudget
    from es_rerank.proxy.caller import Fetches
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.records import Request

LOG = logging.getLogger(__name__)
# What `_field_caps` calls a field whose words are analysed; it counts `match_only_text` and `semantic_text` as `text`.
TEXT_TYPES = frozenset({"text", "match_only_text", "search_as_you_type", "annotated_text", "semantic_text", "semantic"})
# What is no field of its own, and so says nothing of a clause that names it.
NO_TYPES = frozenset({"object", "nested", "unmapped"})
KEPT_S = 300.0
KEPT_UNKNOWN_S = 30.0
MAX_KEPT = 16_384
MAX_ASKING = 64
# How long the engine has for its answer; what a search waits for it is the search's own affair.
ASKED_S = 5.0
MAX_ANSWER_BYTES = 1024 * 1024
_Key = tuple[bytes, str, str]
"""A caller, an index expression, and a field."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """Whether a field is a text, None if the engine did not say; and until when that is believed."""

    is_text: bool | None
    until_s: float


class _Caps(msgspec.Struct, frozen=True):
    """An answer of `_field_caps`: by field, and by type, what else there is to know."""

    fields: dict[str, dict[str, msgspec.Raw]]


class FieldTypes:
    """Which fields are texts, as the engine tells each caller. Used in one event loop only.

    A field's type is kept for KEPT_S, and that nothing was told of it for KEPT_UNKNOWN_S. At most MAX_KEPT are kept;
    the one that was met first makes room. Searches that want to know the same at the same time ask once.
    """

    def __init__(self, engine: Fetches, memory: MemoryBudget, clock: Clock) -> None:
        self._engine = engine
        self._memory = memory
        self._clock = clock
        self._kept: dict[_Key, _Kept] = {}
        self._asking: dict[tuple[bytes, str, tuple[str, ...]], asyncio.Task[None]] = {}
        self._salt = os.urandom(16)

    def begin(self, call: SearchCall, fields: Sequence[str]) -> asyncio.Task[None] | None:
        """Begin to ask about the fields of a search, as far as nothing is kept of them; None if nothing is asked.

        Nobody is asked with an index expression of more than MAX_EXPRESSION_CHARACTERS. The fields are those that
        `Question.fields_in_doubt` gives, which bounds their number and the length of their names.
        """
        if len(call.expression) > MAX_EXPRESSION_CHARACTERS:
            return None
        caller = caller_of(call, self._salt)
        missing = tuple(field for field in fields if self._kept_of((caller, call.expression, field)) is None)
        key = (caller, call.expression, missing)
        asking = self._asking.get(key)
        if asking is None and missing and len(self._asking) < MAX_ASKING:
            asking = self._asking[key] = asyncio.create_task(self._ask(call, caller, missing))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return asking

    async def find(self, call: SearchCall, fields: Sequence[str], due_s: float) -> Mapping[str, bool]:
        """By field, whether it is a text, as far as that is known by the instant `due_s`. Never raises.

        What comes later is kept for other searches.
        """
        asking = self.begin(call, fields)
        if asking is not None:
            with suppress(TimeoutError):
                async with self._clock.limit(due_s):
                    await asyncio.shield(asking)
        caller = caller_of(call, self._salt)
        kept = {field: self._kept_of((caller, call.expression, field)) for field in fields}
        return {field: one.is_text for field, one in kept.items() if one is not None and one.is_text is not None}

    def _kept_of(self, key: _Key) -> _Kept | None:
        """What is kept of a field, be it that nothing is known; None if nothing is kept any more."""
        kept = self._kept.get(key)
        return kept if kept is not None and kept.until_s > self._clock.monotonic_s() else None

    async def _ask(self, call: SearchCall, caller: bytes, fields: tuple[str, ...]) -> None:
        """Ask about these fields, and keep what comes. Never raises."""
        found: Mapping[str, bool] = {}
        due_s = self._clock.monotonic_s() + ASKED_S
        try:
            async with self._clock.limit(due_s):
                found = await self._fetch(caps_request(call, fields), due_s)
        except (TimeoutError, UpstreamError, UnreadableBodyError, ValueError) as error:
            LOG.debug("the types of the fields of a search are not known: %s", error)
        except Exception:  # no search fails because of this
            LOG.exception("asking for the types of fields broke")
        now_s = self._clock.monotonic_s()
        for field in fields:
            is_text = found.get(field)
            until_s = now_s + (KEPT_UNKNOWN_S if is_text is None else KEPT_S)
            self._kept.pop((caller, call.expression, field), None)
            if len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[caller, call.expression, field] = _Kept(is_text, until_s)

    async def _fetch(self, request: Request, due_s: float) -> Mapping[str, bool]:
        with self._memory.share() as share:
            reply = await self._engine.fetch(request, max_bytes=MAX_ANSWER_BYTES, hold=share.take, due_s=due_s)
            if reply.status != 200:
                raise ValueError(f"the engine answered {reply.status}")
            coding = first_header(reply.headers, b"content-encoding")
            return read_caps(decode_body(reply.body, coding, max_bytes=MAX_ANSWER_BYTES))


def caps_request(call: SearchCall, fields: Sequence[str]) -> Request:
    """The request for the types of fields in the indices that a search names, with the search's own headers.

    Of many long names, the last ones are left out.
    """
    path = f"/{quote(call.expression, safe=',*', errors='replace')}" if call.expression else ""
    head = f"{path}/_field_caps?ignore_unavailable=true&allow_no_indices=true&fields="
    names = [quote(field, safe="", errors="replace") for field in fields]
    while names and len(head) + len(",".join(names)) > MAX_TARGET_BYTES - len("GET  HTTP/1.1"):
        names.pop()
    return asked_as(call, head + ",".join(names))


def read_caps(body: bytes) -> Mapping[str, bool]:
    """Of an answer of `_field_caps`: by field, whether it is a text in some index. Raises ValueError.

    Fields that no index has are not among them.
    """
    fields = msgspec.json.decode(body, type=_Caps).fields
    return {name: not TEXT_TYPES.isdisjoint(types) for name, types in fields.items() if types.keys() - NO_TYPES}
