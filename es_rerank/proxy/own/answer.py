"""Writes an answer of ours as the engines write theirs: JSON, YAML or a table, `pretty`, `filter_path`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
import yaml

from es_rerank.errors import CallerError
from es_rerank.proxy.http.own import error_body, own_reply
from es_rerank.proxy.own.call import Table, Text
from es_rerank.proxy.own.table import table_help, table_records, table_text
from es_rerank.proxy.search.filter_path import filter_answer
from es_rerank.proxy.search.pretty import pretty_print
from es_rerank.proxy.search.query_string import is_on
from es_rerank.records import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.own.call import OwnAnswer
    from es_rerank.records import Request

Format = Literal["json", "yaml", "text"]
FORMAT_PARAMETERS = ("pretty", "filter_path", "format", "human", "error_trace", "v", "h", "s", "help")
TEXT_TYPE = b"text/plain; charset=UTF-8"
YAML_TYPE = b"application/yaml"
LONGEST_LINE = 10**9
# How much longer than encoding an answer it takes to filter and print it, and to print it as YAML.
PRINTING_COST = 10
YAML_COST = 200
COMPATIBLE_YAML = b"application/vnd.elasticsearch+yaml"


def write_answer(request: Request, parameters: Mapping[str, str], answer: OwnAnswer, product: bytes | None) -> Reply:
    """The answer, written as the URL's parameters want it. `product` is the engine's product header, None for none.

    A `Table` is text, unless `format` or `Accept` asks for something else. Raises CallerError for an unknown format
    and for a column that does not exist.
    """
    value = answer.value
    if isinstance(value, Text):
        reply = own_reply(request, answer.status, value.text.encode(), product)
        headers = tuple((key, value.media_type if key == b"content-type" else held) for key, held in reply.headers)
        return Reply(status=reply.status, headers=headers, body=reply.body)
    form = _format_of(request, parameters, is_table=isinstance(value, Table))
    if isinstance(value, Table):
        if is_on(parameters, "help"):
            text = table_help(value)
            return _reply(request, answer, text.encode(), "text", product)
        if form == "text":
            text = table_text(value, parameters, head=is_on(parameters, "v"))
            return _reply(request, answer, text.encode(), "text", product)
        value = table_records(value, parameters)
    body = msgspec.json.encode(value)
    filtered = parameters.get("filter_path", "").strip(" ,")
    if filtered:
        body = filter_answer(body, filtered)
    return _reply(request, answer, _printed(body, form, parameters), form, product)


def writing_cost(request: Request, parameters: Mapping[str, str], answer: OwnAnswer) -> int:
    """How much there is to compute for writing the answer, in bytes of one that is only encoded."""
    accept = request.header(b"accept") or b""
    is_yaml = "yaml" in parameters.get("format", "") or b"yaml" in accept
    return len(msgspec.json.encode(answer.value)) * (YAML_COST if is_yaml else PRINTING_COST)


def write_error(  # noqa: PLR0917
    request: Request, parameters: Mapping[str, str], status: int, kind: str, reason: str, product: bytes | None
) -> Reply:
    """An error of ours, in the form that the answer would have had. As in the engines, no filter holds for it."""
    return write_refusal(request, parameters, status, error_body(status, kind, reason), product)


def write_refusal(
    request: Request, parameters: Mapping[str, str], status: int, body: bytes, product: bytes | None
) -> Reply:
    """An error whose JSON is there already, in the form that the answer would have had. Errors are never text."""
    form: Format
    try:
        form = _format_of(request, parameters, is_table=False)
    except CallerError:
        form = "json"
    return own_reply(request, status, _printed(body, form, parameters), product, media_type=_media_type(request, form))


def _reply(request: Request, answer: OwnAnswer, body: bytes, form: Format, product: bytes | None) -> Reply:
    reply = own_reply(request, answer.status, body, product, media_type=_media_type(request, form))
    warnings = tuple((b"warning", _warning(text)) for text in answer.warnings)
    return Reply(status=reply.status, headers=(*reply.headers, *warnings), body=reply.body)


def _warning(text: str) -> bytes:
    """A Warning header. A quotation mark would end its text, and a line end the header."""
    plain = " ".join(text.replace("\\", "\\\\").replace('"', '\\"').splitlines())
    return f'299 es-rerank "{plain}"'.encode("ascii", "replace")


def _printed(body: bytes, form: Format, parameters: Mapping[str, str]) -> bytes:
    if form == "yaml":
        return _as_yaml(msgspec.json.decode(body))
    return pretty_print(body) if is_on(parameters, "pretty") else body


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # the package has no types
    """Writes a text with line ends or control characters between quotation marks, where YAML keeps each of them."""


def _represent_text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)


def _as_yaml(value: Any) -> bytes:
    written = yaml.dump(
        value, Dumper=_Dumper, explicit_start=True, sort_keys=False, allow_unicode=True, width=LONGEST_LINE
    )
    return str(written).encode()


def _format_of(request: Request, parameters: Mapping[str, str], *, is_table: bool) -> Format:
    """The form of an answer: that of the parameter `format`, else the first of `Accept` that we can write."""
    asked = parameters.get("format", "")
    allowed: tuple[Format, ...] = ("text", "json", "yaml") if is_table else ("json", "yaml")
    if asked:
        for form in allowed:
            if asked == form:
                return form
        raise CallerError(f"[format] must be one of [{', '.join(allowed)}], was [{asked}]")
    for media_type in (request.header(b"accept") or b"").lower().split(b","):
        if b"yaml" in media_type:
            return "yaml"
        if b"json" in media_type:
            return "json"
        if b"text/plain" in media_type:
            break
    return allowed[0]


def _media_type(request: Request, form: Format) -> bytes | None:
    """The media type that has to be named; None leaves it to what was asked for."""
    if form == "json":
        return None
    if form == "text":
        return TEXT_TYPE
    accept = (request.header(b"accept") or b"").strip()
    return accept if accept.startswith(COMPATIBLE_YAML) and b"," not in accept else YAML_TYPE
