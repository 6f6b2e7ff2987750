"""Reads judgment lists from `es-rerank-judgments` as the caller: whole lists, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError
from es_rerank.proxy.offload import compute
from es_rerank.store.indices import JUDGMENTS
from es_rerank.tuning.documents import FIELDS, MAX_NAMED, read_grade, refusal_of, unique
from es_rerank.tuning.judged import PEOPLE, Grade, JudgmentList, JudgmentListError, judgment_list

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from es_rerank.proxy.own.call import OwnCall

PAGE_DOCUMENTS = 5000
# Reading one takes as long as opening so many bytes.
DOCUMENT_BYTES = 1000
MAX_SOURCES = 1000
# The pages' order. A pair that several sources or indices judge comes several times, and is never parted by a page.
ORDER = ("query_id", "object_id")
NEEDED = (*ORDER, "grade")
SEARCH = f"/{JUDGMENTS.name}/_search"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A document of the index, by its `_id`, its fields, and its place in the pages' order."""

    id: str
    fields: Mapping[str, Any]
    key: tuple[Any, ...]


async def read_judgments(call: OwnCall, name: str, source: str | None = None) -> JudgmentList:
    """The list `name` as it is now, read with the caller's credentials; without `source`, of its only source.

    The grades are in the order of query and document ids. Raises CallerError: 404 for a list or source that does not
    exist, 400 where several sources are mixed and none is chosen, or documents are wrong (the text has their ids and
    what is wrong), 501 without [store]. The engine's refusals are EngineRefusedError.
    """
    try:
        sources = await sources_of(call, name)
        if source is not None and source not in sources:
            raise CallerError(
                f"the judgment list [{name}] has no grade of the source [{source}]; it has {', '.join(sources)}",
                status=404,
            )
        return judgment_list(name, await read_grades(call, name, source if len(sources) > 1 else None), source=source)
    except JudgmentListError as error:
        raise CallerError(str(error)) from error


async def sources_of(call: OwnCall, name: str) -> Mapping[str, int]:
    """How many documents the list has by source. Raises CallerError, 404 for a list that does not exist."""
    call.need_store()
    body = {
        "size": 0,
        "query": {"term": {"name": name}},
        "aggs": {"sources": {"terms": {"field": "source", "size": MAX_SOURCES, "missing": PEOPLE}}},
    }
    answer = await call.ask_engine("POST", SEARCH, body, allowed=(404,))
    aggregations = {} if answer is None else answer.get("aggregations", {})
    buckets = aggregations.get("sources", {}).get("buckets", [])
    if not buckets:
        raise CallerError(f"there is no judgment list [{name}]; GET [/_es_rerank/judgments] lists all", status=404)
    return {bucket["key"]: bucket["doc_count"] for bucket in buckets}


async def read_grades(call: OwnCall, name: str, source: str | None = None) -> tuple[Grade, ...]:
    """The grades of a list that exists, of one source or of all. Raises CallerError for documents that are wrong."""
    wanted = wanted_by(name, source)
    await _refuse_unreadable(call, name, wanted)
    grades: list[tuple[str, Grade]] = []
    wrong: list[str] = []
    async for page in _pages(call, wanted):
        read, problems = await compute(len(page) * DOCUMENT_BYTES, _read_page, page)
        grades += read
        wrong += problems
    try:
        return await compute(len(grades) * DOCUMENT_BYTES, _whole, grades, wrong)
    except JudgmentListError as error:
        raise CallerError(f"the judgment list [{name}] can't be read: {error}") from error


def wanted_by(name: str, source: str | None) -> dict[str, Any]:
    """The query that finds a list's documents, of one source or of all. One without a source is people's."""
    filters: list[dict[str, Any]] = [{"term": {"name": name}}]
    if source == PEOPLE:
        unsaid = {"bool": {"must_not": [{"exists": {"field": "source"}}]}}
        filters.append({"bool": {"should": [{"term": {"source": source}}, unsaid]}})
    elif source is not None:
        filters.append({"term": {"source": source}})
    return {"bool": {"filter": filters}}


def _read_page(page: Sequence[_Found]) -> tuple[list[tuple[str, Grade]], list[str]]:
    """The grades of the documents, each behind its place, and what is wrong with those that have none."""
    grades: list[tuple[str, Grade]] = []
    wrong: list[str] = []
    for found in page:
        place = f"the document [{found.id}]"
        try:
            grades.append((place, read_grade(found.fields)))
        except JudgmentListError as error:
            wrong.append(f"{place}: {error}")
    return grades, wrong


def _whole(grades: Sequence[tuple[str, Grade]], wrong: Sequence[str]) -> tuple[Grade, ...]:
    refused = refusal_of(wrong)
    if refused is not None:
        raise refused
    return unique(grades)


async def _refuse_unreadable(call: OwnCall, name: str, wanted: Mapping[str, Any]) -> None:
    """Raise CallerError for documents that have no query, document or grade: pages ordered by them would pass them."""
    missing = [{"bool": {"must_not": [{"exists": {"field": field}}]}} for field in NEEDED]
    query = {"bool": {"filter": [wanted], "must": [{"bool": {"should": missing}}]}}
    body = {"size": MAX_NAMED, "query": query, "track_total_hits": True, "_source": [*FIELDS]}
    hits = (await call.ask_engine("POST", SEARCH, body))["hits"]
    if not hits["hits"]:
        return
    problems = [f"the document [{hit['_id']}]: {_why_unreadable(hit['_source'])}" for hit in hits["hits"]]
    more = hits["total"]["value"] - len(problems)
    problems += [f"and {more} more"] if more > 0 else []
    raise CallerError(f"the judgment list [{name}] can't be read: {'; '.join(problems)}")


def _why_unreadable(fields: Any) -> str:
    try:
        read_grade(fields)
    except JudgmentListError as error:
        return str(error)
    return f"one of {', '.join(NEEDED)} is not indexed"


async def _pages(call: OwnCall, wanted: Mapping[str, Any]) -> AsyncIterator[list[_Found]]:
    """Each document once, in order. A key that the end of a full page may have parted is read again with the next."""
    after: tuple[Any, ...] | None = None
    while True:
        body = {
            "size": PAGE_DOCUMENTS,
            "query": wanted,
            "sort": list(ORDER),
            "track_total_hits": False,
            "_source": [*FIELDS],
        }
        if after is not None:
            body["search_after"] = list(after)
        answer = await call.ask_engine("POST", SEARCH, body)
        page = [_Found(id=hit["_id"], fields=hit["_source"], key=tuple(hit["sort"])) for hit in answer["hits"]["hits"]]
        full = len(page) == PAGE_DOCUMENTS
        whole = [found for found in page if not full or found.key != page[-1].key]
        yield whole
        if not full:
            return
        if not whole:
            query_id, object_id = page[-1].key
            raise CallerError(f"more than {PAGE_DOCUMENTS - 1} documents judge [{object_id}] for [{query_id}]")
        after = whole[-1].key
