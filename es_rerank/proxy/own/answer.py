"""Writes an answer of ours as the engines write theirs: JSON, `pretty`, `filter_path`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from es_rerank.proxy.http.own import own_reply
from es_rerank.proxy.own.call import Table, Text
from es_rerank.proxy.search.filter_path import filter_answer
from es_rerank.proxy.search.pretty import pretty_print
from es_rerank.records import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.own.call import OwnAnswer
    from es_rerank.records import Request

FORMAT_PARAMETERS = ("pretty", "filter_path", "format", "human", "error_trace", "v", "h", "s", "help")


def write_answer(request: Request, parameters: Mapping[str, str], answer: OwnAnswer, product: bytes | None) -> Reply:
    """The answer, written as the URL's parameters want it. `product` is the engine's product header, None for none."""
    value = answer.value
    if isinstance(value, Text):
        reply = own_reply(request, answer.status, value.text.encode(), product)
        headers = tuple((key, value.media_type if key == b"content-type" else held) for key, held in reply.headers)
        return Reply(status=reply.status, headers=headers, body=reply.body)
    if isinstance(value, Table):
        value = [dict(zip(value.columns, row, strict=True)) for row in value.rows]
    body = msgspec.json.encode(value)
    filtered = parameters.get("filter_path", "").strip(" ,")
    if filtered:
        body = filter_answer(body, filtered)
    if parameters.get("pretty", "false") in ("", "true"):
        body = pretty_print(body)
    reply = own_reply(request, answer.status, body, product)
    warnings = tuple((b"warning", f'299 es-rerank "{text}"'.encode()) for text in answer.warnings)
    return Reply(status=reply.status, headers=(*reply.headers, *warnings), body=reply.body)
