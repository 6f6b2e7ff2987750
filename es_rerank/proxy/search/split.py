"""Takes a `text_similarity_reranker` of ours off a search: the engine is asked for its inner retriever. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from es_rerank.errors import CallerError
from es_rerank.proxy.search.decide import asked_page
from es_rerank.proxy.search.retriever import window_limit
from es_rerank.proxy.search.similarity import NAME, read_similarity
from es_rerank.rawjson import RAW_LIST, RAW_OBJECT, edit_object

if TYPE_CHECKING:
    import msgspec

    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.similarity import Similarity
    from es_rerank.rawjson import RawObject
    from es_rerank.records import Request
    from es_rerank.rules.book import RuleBook


def may_split(request: Request, book: RuleBook) -> bool:
    """Whether a request may hold a reranker of ours, as far as its bytes tell; bytes that hide it are not looked at."""
    return bool(book.endpoints) and isinstance(request.body, bytes) and NAME.encode() in request.body


def split_off(call: SearchCall, book: RuleBook) -> SearchCall:
    """The call of the inner retriever, which has what the reranker asks as its `similarity`; or the call as it is.

    Its page is the part of the client's that the reranker answers: it gives no hit behind its window. So whatever goes
    to the engine, reranked or not, is a search that the engine can do without the endpoint.
    Raises CallerError, in Elasticsearch's words, for what is wrong in the reranker.
    """
    if call.search is None or not book.endpoints or "retriever" not in call.search:
        return call
    read = read_similarity(call.search["retriever"], book.endpoints, max_window=book.limits.max_window)
    if read is None:
        return call
    similarity, asked = read
    limit = window_limit(asked["retriever"])
    if limit is not None and limit < similarity.window:
        similarity = replace(similarity, window=limit)
    if "scroll" in call.parameters:
        raise _invalid(f"cannot specify [{NAME}] and [scroll]")
    outer = RAW_OBJECT.decode(RAW_OBJECT.decode(RAW_OBJECT.decode(call.body)["retriever"])[NAME])
    changes: dict[str, Any] = {"retriever": _with_filter(outer["retriever"], outer.get("filter"))}
    inner = asked["retriever"]
    if "sort" in inner.get("standard", ()):
        changes["track_scores"] = True  # else hits have none, and so none if they can't be reranked
    body = edit_object(call.body, changes)
    call = replace(call.with_body(body, {**call.search, **changes, "retriever": inner}), similarity=similarity)
    return _on_page(call, similarity)


def _on_page(call: SearchCall, similarity: Similarity) -> SearchCall:
    """The call with the part of its page that lies in the window. Without a size, the page is the whole window."""
    most = similarity.rank_window_size
    page = asked_page(call, default_size=most)
    if page is None:
        return call  # the engine judges it
    if page.size > most:
        raise _invalid(f"[{NAME}] requires [rank_window_size: {most}] be greater than or equal to [size: {page.size}]")
    return call.on_page(page.start, max(0, min(page.size, similarity.window - page.start)))


def _with_filter(retriever: msgspec.Raw, added: msgspec.Raw | None) -> Any:
    """A retriever with one more filter, or several: all of its filters hold."""
    if added is None:
        return retriever
    [(kind, body)] = RAW_OBJECT.decode(retriever).items()
    members: RawObject = RAW_OBJECT.decode(body)
    filters = [one for raw in (members.get("filter"), added) if raw is not None for one in _listed(raw)]
    return {kind: {**members, "filter": filters}}


def _listed(raw: msgspec.Raw) -> list[msgspec.Raw]:
    return RAW_LIST.decode(raw) if bytes(raw)[:1] == b"[" else [raw]


def _invalid(problem: str) -> CallerError:
    """An error as Elasticsearch's validation of a request gives one."""
    return CallerError(f"Validation Failed: 1: {problem};", kind="action_request_validation_exception")
