"""What a search calls itself: the ids by which its event is joined with what the user did next. Pure.

The fields are those of User Behavior Insights (https://github.com/o19s/ubi). A search names them under `ext.ubi`, which
OpenSearch's plug-in reads too, or under `ext.es_rerank`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.proxy.search.control import MAX_NAME_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.rawjson import RawObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The ids of a search, and what the user asked, None where the search does not say that."""

    query_id: str
    user_query: str | None = None
    client_id: str | None = None
    application: str | None = None


class _Ubi(msgspec.Struct):
    query_id: str = ""


class _Ext(msgspec.Struct):
    ubi: _Ubi | None = None


ANSWERED_EXT = msgspec.json.Decoder(_Ext)


def names_of(call: SearchCall, asked: Mapping[str, Any], *, new_id: str) -> Names:
    """The names in `ext.ubi`, else those that were asked of es-rerank; `new_id` where there is no id.

    `asked` was checked before. What is no name in `ext.ubi` is left to the plug-in, and counts as missing here.
    """
    ext = (call.search or {}).get("ext")
    ubi = ext.get("ubi") if isinstance(ext, dict) else None
    given: Mapping[str, Any] = ubi if isinstance(ubi, dict) else {}
    user_query = given.get("user_query")
    return Names(
        query_id=_name(given, "query_id") or asked.get("query_id") or new_id,
        user_query=user_query if isinstance(user_query, str) and user_query else None,
        client_id=_name(given, "client_id") or asked.get("client_id"),
        application=_name(given, "application") or asked.get("application"),
    )


def answered_names(names: Names, top: RawObject) -> Names:
    """The names with the id that OpenSearch's plug-in answered: it makes one where `ext.ubi` has none."""
    if "ext" not in top:
        return names
    try:
        ubi = ANSWERED_EXT.decode(top["ext"]).ubi
    except ValueError:  # another plug-in's
        return names
    return names if ubi is None or not _is_name(ubi.query_id) else replace(names, query_id=ubi.query_id)


def _name(given: Mapping[str, Any], key: str) -> str | None:
    value = given.get(key)
    return value if _is_name(value) else None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS
