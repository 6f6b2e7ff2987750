"""Asks the engine which fields are texts, as the caller, and keeps the answers for a while.

What is kept of a field that a caller's own search named is whether it is a text. It is kept by caller and index
expression, so nobody learns what only another one may see. Whatever goes wrong, nothing is known, and no search fails.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from es_rerank.proxy.caller import MAX_ASKED_BYTES, KeptAnswers, asked_as
from es_rerank.rules.indices import MAX_EXPRESSION_CHARACTERS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from es_rerank.clock import Clock
    from es_rerank.memory import MemoryBudget
    from es_rerank.proxy.caller import Fetches
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.records import Request

# What `_field_caps` calls a field whose words are analysed; it counts `match_only_text` and `semantic_text` as `text`.
TEXT_TYPES = frozenset({"text", "match_only_text", "search_as_you_type", "annotated_text", "semantic_text", "semantic"})
# What is no field of its own, and so says nothing of a clause that names it.
NO_TYPES = frozenset({"object", "nested", "unmapped"})
MAX_KEPT = 16_384
_Key = tuple[bytes, str, str]
"""A caller, an index expression, and a field."""


class _Caps(msgspec.Struct, frozen=True):
    """An answer of `_field_caps`: by field, and by type, what else there is to know."""

    fields: dict[str, dict[str, msgspec.Raw]]


class FieldTypes:
    """Which fields are texts, as the engine tells each caller: see `KeptAnswers`. At most MAX_KEPT fields are kept."""

    def __init__(self, engine: Fetches, memory: MemoryBudget, clock: Clock) -> None:
        self._answers: KeptAnswers[_Key, bool] = KeptAnswers(engine, memory, clock, max_kept=MAX_KEPT)

    def begin(self, call: SearchCall, fields: Sequence[str]) -> asyncio.Task[None] | None:
        """Begin to ask about the fields of a search, as far as nothing is kept of them; None if nothing is asked.

        Nobody is asked with an index expression of more than MAX_EXPRESSION_CHARACTERS. The fields are those that
        `Question.fields_in_doubt` gives, which bounds their number and the length of their names.
        """

        async def ask(keys: Sequence[_Key], due_s: float) -> Mapping[_Key, bool]:
            request = caps_request(call, [field for _, _, field in keys])
            found = await self._answers.fetch(request, due_s, read_caps)
            return {key: found[key[2]] for key in keys if key[2] in found}

        if len(call.expression) > MAX_EXPRESSION_CHARACTERS:
            return None
        return self._answers.begin(self._keys_of(call, fields), ask)

    async def find(self, call: SearchCall, fields: Sequence[str], due_s: float) -> Mapping[str, bool]:
        """By field, whether it is a text, as far as that is known by the instant `due_s`. Never raises.

        What comes later is kept for other searches.
        """
        known = await self._answers.known_by(due_s, self.begin(call, fields), self._keys_of(call, fields))
        return {field: is_text for (_, _, field), is_text in known.items()}

    def _keys_of(self, call: SearchCall, fields: Sequence[str]) -> list[_Key]:
        caller = self._answers.caller_of(call)
        return [(caller, call.expression, field) for field in fields]


def caps_request(call: SearchCall, fields: Sequence[str]) -> Request:
    """The request for the types of fields in the indices that a search names, with the search's own headers.

    Of many long names, the last ones are left out.
    """
    path = f"/{quote(call.expression, safe=',*', errors='replace')}" if call.expression else ""
    head = f"{path}/_field_caps?ignore_unavailable=true&allow_no_indices=true&fields="
    names = [quote(field, safe="", errors="replace") for field in fields]
    while names and len(head) + len(",".join(names)) > MAX_ASKED_BYTES:
        names.pop()
    return asked_as(call, head + ",".join(names))


def read_caps(body: bytes) -> Mapping[str, bool]:
    """Of an answer of `_field_caps`: by field, whether it is a text in some index. Raises ValueError.

    Fields that no index has are not among them.
    """
    fields = msgspec.json.decode(body, type=_Caps).fields
    return {name: not TEXT_TYPES.isdisjoint(types) for name, types in fields.items() if types.keys() - NO_TYPES}
