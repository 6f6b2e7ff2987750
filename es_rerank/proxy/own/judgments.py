"""Judgment lists as a caller keeps them: what there is, import, export, delete, and how far sources agree.

The engine is asked with the caller's own credentials, so it decides who may read and who may change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.errors import CallerError
from es_rerank.proxy.offload import compute
from es_rerank.proxy.own.call import OwnAnswer, Text
from es_rerank.proxy.own.judgment_lists import (
    DOCUMENT_BYTES,
    SEARCH,
    read_grades,
    read_judgments,
    sources_of,
    wanted_by,
)
from es_rerank.proxy.own.judgment_writes import delete_grades, write_grades
from es_rerank.tuning.agreement import agreement_of
from es_rerank.tuning.documents import MAX_KEY_CHARACTERS
from es_rerank.tuning.exports import EXPORT_FORMS, to_csv, to_json, to_trec
from es_rerank.tuning.forms import FORMS, Form, form_of
from es_rerank.tuning.forms import read_grades as grades_in
from es_rerank.tuning.judged import PEOPLE, JudgmentListError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.own.call import OwnCall

MAX_LISTS = 1000
MAX_SOURCES = 100
BODY = "the body"
# Up to so many queries are counted exactly.
EXACT_COUNT = 40_000
COUNTS: Mapping[str, Any] = {
    "queries": {"cardinality": {"field": "query_id", "precision_threshold": EXACT_COUNT}},
    "last_change": {"max": {"field": "timestamp"}},
}


async def answer_all(call: OwnCall) -> OwnAnswer:
    """`GET /_es_rerank/judgments`: all lists by name, with their sources, and how many documents are in none."""
    call.allow()
    call.need_store()
    sources = {"terms": {"field": "source", "size": MAX_SOURCES, "missing": PEOPLE}, "aggs": COUNTS}
    names = {"terms": {"field": "name", "size": MAX_LISTS, "order": {"_key": "asc"}}}
    body = {
        "size": 0,
        "aggs": {
            "lists": {**names, "aggs": {**COUNTS, "sources": sources}},
            "nameless": {"missing": {"field": "name"}},
        },
    }
    answer = await call.ask_engine("POST", SEARCH, body, allowed=(404,))
    if answer is None:
        return OwnAnswer(value={"judgments": [], "without_name": 0})
    found = answer["aggregations"]
    lists = [
        {
            "name": bucket["key"],
            **_counts(bucket),
            "sources": [{"source": one["key"], **_counts(one)} for one in bucket["sources"]["buckets"]],
        }
        for bucket in found["lists"]["buckets"]
    ]
    left_out = found["lists"]["sum_other_doc_count"]
    warnings = (f"only the first {MAX_LISTS} lists are shown",) if left_out else ()
    value = {"judgments": lists, "without_name": found["nameless"]["doc_count"]}
    return OwnAnswer(value=value, warnings=warnings)


async def export(call: OwnCall) -> OwnAnswer:
    """`GET /_es_rerank/judgments/{name}`: all grades as a JSON list, CSV or TREC's qrels (of one source alone)."""
    call.allow("form", "source")
    name, source = call.names["name"], call.parameters.get("source")
    form = call.parameters.get("form", "json")
    if form not in EXPORT_FORMS:
        raise CallerError(f"[form] must be one of {', '.join(EXPORT_FORMS)}, was [{form}]")
    if form == "trec" or source is not None:
        grades = (await read_judgments(call, name, source)).grades
    else:
        await sources_of(call, name)
        grades = await read_grades(call, name)
    cost_bytes = len(grades) * DOCUMENT_BYTES
    if form == "json":
        return OwnAnswer(value=msgspec.Raw(await compute(cost_bytes, to_json, grades)))
    try:
        if form == "csv":
            text = await compute(cost_bytes, to_csv, grades)
            return OwnAnswer(value=Text(text=text, media_type=b"text/csv; charset=UTF-8"))
        text = await compute(cost_bytes, to_trec, grades)
        return OwnAnswer(value=Text(text=text, media_type=b"text/plain; charset=UTF-8"))
    except JudgmentListError as error:
        raise CallerError(f"the judgment list [{name}]: {error}") from error


async def put(call: OwnCall) -> OwnAnswer:
    """`PUT` or `POST /_es_rerank/judgments/{name}`: the body's grades are added, or take the place of their pair's."""
    call.allow("form", "source", "index")
    call.need_store()
    name = call.names["name"]
    if len(name) > MAX_KEY_CHARACTERS:
        raise CallerError(f"the name of a judgment list must have at most {MAX_KEY_CHARACTERS} characters")
    body = await call.body()
    if not body.strip():
        raise CallerError("the body must hold judgments: JSON, JSON lines, TREC's qrels or CSV")
    options = {"source": call.parameters.get("source", PEOPLE), "index": call.parameters.get("index", "")}
    try:
        grades = await compute(len(body), grades_in, BODY, body, _form(call, body), **options)
    except JudgmentListError as error:
        raise CallerError(f"nothing was imported: {error}") from error
    return OwnAnswer(value={"name": name, **await write_grades(call, name, grades)})


async def delete(call: OwnCall) -> OwnAnswer:
    """`DELETE /_es_rerank/judgments/{name}`: the whole list, or what one source says in it."""
    call.allow("source")
    name, source = call.names["name"], call.parameters.get("source")
    sources = await sources_of(call, name)
    if source is not None and source not in sources:
        known = ", ".join(sources)
        raise CallerError(f"the judgment list [{name}] has no source [{source}]; it has {known}", status=404)
    return OwnAnswer(value={"name": name, "deleted": await delete_grades(call, wanted_by(name, source))})


async def agree(call: OwnCall) -> OwnAnswer:
    """`GET /_es_rerank/judgments/{name}/_agreement`: how far two sources agree, as kappa."""
    call.allow("sources")
    name = call.names["name"]
    given = call.parameters.get("sources")
    chosen = list(await sources_of(call, name)) if given is None else [one.strip() for one in given.split(",")]
    if len(chosen) != 2 or chosen[0] == chosen[1]:
        has = f"; the list has {', '.join(chosen)}" if given is None else ""
        raise CallerError(f"[sources] must be two sources with a comma between them{has}")
    one, other = [await read_judgments(call, name, source) for source in chosen]
    cost_bytes = (len(one.grades) + len(other.grades)) * DOCUMENT_BYTES
    agreement = await compute(cost_bytes, agreement_of, one, other)
    return OwnAnswer(value={"name": name, **msgspec.to_builtins(agreement)})


def _form(call: OwnCall, body: bytes) -> Form:
    given = call.parameters.get("form")
    if given is None:
        media_type = call.request.header(b"content-type") or b""
        return form_of(body, is_csv=media_type.lower().startswith(b"text/csv"))
    if given not in FORMS:
        raise CallerError(f"[form] must be one of {', '.join(FORMS)}, was [{given}]")
    return given


def _counts(bucket: Mapping[str, Any]) -> dict[str, Any]:
    """How much there is in a bucket; `last_change` is None where no document has a time."""
    return {
        "grades": bucket["doc_count"],
        "queries": bucket["queries"]["value"],
        "last_change": bucket["last_change"].get("value_as_string"),
    }
