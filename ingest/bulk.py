"""Sends documents by the official clients' bulk helpers, again where the engine was busy, and says what became of each.

Every document has an id, so that sending it again replaces it and never doubles it. Knows no files.
"""

from __future__ import annotations

import hashlib
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import elasticsearch
import elasticsearch.helpers
import msgspec
import opensearchpy.helpers

from es_rerank.official.client import (
    BUSY_STATUSES,
    CLIENT_ERRORS,
    may_pass,
    reason_in,
    retry_after_s,
    status_and_reason,
    status_and_words,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from es_rerank.official.client import Client
    from es_rerank.official.patience import Patience

CHUNK_DOCUMENTS = 500
CHUNK_BYTES = 10 * 1024 * 1024
# These say that the login may not write here, rather than that something is wrong with the document.
STOPPING_STATUSES = frozenset({401, 403})
# The only busy status that says for sure that nothing was carried out.
NOT_TAKEN = 429
CONFLICT = 409
TOO_LARGE = 413
Fate = Literal["added", "replaced", "loaded", "there", "refused"]


class Outcome(NamedTuple):
    """What became of one document.

    `added`: it is new. `replaced`: it took the place of another one of its id. `loaded`: it is in the index, and
    because it had to be sent again nobody knows which of the two. `there`: one of its id was there, and stays.
    `refused`: the engine does not take it, for `reason`.
    """

    id: str
    fate: Fate
    reason: str = ""


class EngineStopsError(Exception):
    """The engine takes no more documents; the text says why."""


class _Busy(NamedTuple):
    """Why a document has to be sent again, how many seconds the engine asks to wait, and whether it may have it."""

    reason: str
    asked_s: float | None
    may_have_it: bool


def content_id(source: Mapping[str, Any]) -> str:
    """The id of a document that has none: 32 hexadecimal digits, the BLAKE2b hash of its fields, whatever their order.

    So the same document has the same id in every load, and two that are alike are one.
    """
    return hashlib.blake2b(msgspec.json.encode(source, order="sorted", enc_hook=str), digest_size=16).hexdigest()


def send(
    client: Client,
    index: str,
    documents: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    only_missing: bool,
    patience: Patience,
) -> Iterator[Outcome]:
    """What becomes of each of the documents, which are (id, fields) pairs of different ids.

    With `only_missing` a document whose id the index has is not replaced. What a busy engine does not take, or does not
    answer, is sent again after a pause; so the outcomes have an order of their own. A request that is too large is sent
    in halves. Raises EngineStopsError where the engine stops taking documents, or `patience` ends.
    """
    waiting = list(documents)
    doubtful: set[str] = set()
    while waiting:
        again = []
        busy: _Busy | None = None
        answers = _answers(client, index, waiting, only_missing=only_missing)
        for document, answer in zip(waiting, answers, strict=True):
            if isinstance(answer, Outcome):
                yield answer if answer.id not in doubtful else _met_itself(answer)
                continue
            busy = answer
            again.append(document)
            if busy.may_have_it:
                doubtful.add(document[0])
        waiting = again
        if busy is None:
            patience.end_wait()
        elif not patience.wait(busy.reason, busy.asked_s):
            raise EngineStopsError(busy.reason)


def _met_itself(outcome: Outcome) -> Outcome:
    """The outcome of a document that may have been there by its first sending."""
    return outcome._replace(fate="loaded") if outcome.fate in {"replaced", "there"} else outcome


def _answers(
    client: Client, index: str, documents: Sequence[tuple[str, Mapping[str, Any]]], *, only_missing: bool
) -> Iterator[Outcome | _Busy]:
    """For each document in order its outcome, or why it has to be sent again. Raises EngineStopsError."""
    of_elasticsearch = isinstance(client, elasticsearch.Elasticsearch)
    helpers: Any = elasticsearch.helpers if of_elasticsearch else opensearchpy.helpers
    operation = "create" if only_missing else "index"
    actions = [{"_op_type": operation, "_index": index, "_id": key, "_source": fields} for key, fields in documents]
    outcomes = helpers.streaming_bulk(
        client,
        actions,
        chunk_size=CHUNK_DOCUMENTS,
        max_chunk_bytes=CHUNK_BYTES,
        raise_on_error=False,
        raise_on_exception=False,
    )
    done = 0
    failure: Exception | None = None
    try:
        for accepted, outcome in outcomes:
            [details] = outcome.values()
            failure = details.get("exception")
            if failure is not None and _ends_sending(failure, len(documents) - done):
                break
            yield _answer(documents[done][0], details, accepted=accepted, failure=failure)
            done += 1
    except CLIENT_ERRORS as error:  # one client reports a lost connection as an outcome, the other raises it
        failure = error
    rest = documents[done:]
    if not rest:
        return
    if failure is None:
        raise EngineStopsError(f"its answers left out {len(rest)} documents")
    status, said = status_and_words(failure)
    if status == TOO_LARGE:
        middle = len(rest) // 2
        yield from _answers(client, index, rest[:middle], only_missing=only_missing)
        yield from _answers(client, index, rest[middle:], only_missing=only_missing)
    elif may_pass(failure):
        yield from repeat(_Busy(said, retry_after_s(failure), may_have_it=status != NOT_TAKEN), len(rest))
    else:
        raise EngineStopsError(said) from failure


def _ends_sending(failure: Exception, remaining: int) -> bool:
    """Whether a refusal of a whole request is about the request, and not about each document in it."""
    status, _ = status_and_reason(failure)
    return status is None or status in STOPPING_STATUSES or may_pass(failure) or (status == TOO_LARGE and remaining > 1)


def _answer(key: str, details: Mapping[str, Any], *, accepted: bool, failure: Exception | None) -> Outcome | _Busy:
    """What an item of the engine's answer means. Raises EngineStopsError where it is not about the document."""
    if failure is not None:
        return Outcome(key, "refused", status_and_reason(failure)[1])
    if accepted and details.get("result") == "noop":
        return Outcome(key, "refused", "a pipeline of the index drops it")
    if accepted:
        return Outcome(key, "replaced" if details.get("result") == "updated" else "added")
    status, reason = int(details["status"]), reason_in(details.get("error"))
    if status in BUSY_STATUSES:
        return _Busy(f"({status}) {reason}", None, may_have_it=status != NOT_TAKEN)
    if status in STOPPING_STATUSES:
        raise EngineStopsError(f"({status}) {reason}")
    return Outcome(key, "there") if status == CONFLICT else Outcome(key, "refused", reason)
