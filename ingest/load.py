"""Loads documents into an index by the official clients' bulk helpers, and counts what became of each.

Decides when an index is made and what ends a load. Holds one chunk at a time. Knows no files.
"""

from __future__ import annotations

import re
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal

import elasticsearch
import elasticsearch.helpers
import opensearchpy.helpers
from tqdm import tqdm

from es_rerank.errors import SettingsError
from ingest.corpora import Unreadable
from ingest.engine import CLIENT_ERRORS, connect, engine_errors, reason_in, status_and_reason
from ingest.errors import CorpusError, LoadStoppedError, MappingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ingest.engine import Client

Item = tuple[str | None, "Mapping[str, Any]"]

CHUNK_DOCUMENTS = 500
CHUNK_BYTES = 10 * 1024 * 1024
# An engine that is too busy (429) is asked again after 1, 2, 4, 8 and 16 seconds.
MAX_RETRIES = 5
FIRST_PAUSE_S = 1
# These say that the engine takes nothing now, rather than that something is wrong with the document.
STOPPING_STATUSES = frozenset({401, 403, 429, 502, 503, 504})
EXAMPLES_OF_A_KIND = 5
UNREADABLE_AT_START = 1000
INDEX_NAME = re.compile(r"(?![-_+.])[^\s\\/*?\"<>|,#:A-Z]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One document that is not in the index: its id (or file and line, where no id could be read), and why."""

    kind: Literal["refused", "unreadable"]
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What became of all documents, in counts.

    `indexed` documents are in the index, `refused` ones were refused by the engine, and `unreadable` lines were not
    documents. `examples` has the first five problems of each kind, in the order in which they were met. `created` says
    whether the index was made for this load, which took `took_s` seconds.
    """

    indexed: int
    refused: int
    unreadable: int
    took_s: float
    examples: tuple[Problem, ...]
    created: bool


def load_documents(
    engine: Client | str,
    index: str,
    documents: Iterable[Item | Unreadable],
    mapping: Mapping[str, Any],
    *,
    recreate: bool = False,
    progress: bool = True,
    total_count: int | None = None,
    max_retries: int = MAX_RETRIES,
) -> LoadReport:
    """Load (id, fields) pairs into `index`, by a client or into the engine at a URL, and make them searchable.

    A missing index is made with the body `mapping`. An index that exists keeps its own, and documents of the same id
    are replaced; with `recreate` the index is deleted first. Nothing is deleted or made before a first document was
    read. A document without an id (None) gets one from the engine. With `progress` a bar is drawn on standard error
    where that is a terminal; `total_count` gives it an end. A request that the engine is too busy for is sent again,
    with growing pauses, `max_retries` times.

    Raises SettingsError for an index name that engines refuse, CorpusError where no document is among the items, or
    none among the first thousand, MappingError where the engine refuses `mapping`, EngineError where the engine can't
    be used, LoadStoppedError where it stops taking documents half-way.
    """
    if not INDEX_NAME.fullmatch(index):
        raise SettingsError(
            f"the index name {index!r}: lower-case letters, digits, '-', '_' and '.' are allowed, the first being "
            "a letter or a digit"
        )
    began_s = time.monotonic()
    tally = _Tally()
    items = iter(documents)
    first = _first_document(items, tally)
    with closing(connect(engine)) if isinstance(engine, str) else nullcontext(engine) as client:
        created = _prepare_index(client, index, mapping, recreate=recreate)
        actions = tally.pass_actions(index, chain([first], tally.pass_documents(items)))
        try:
            with tqdm(total=total_count, unit=" documents", disable=None if progress else True) as bar:
                for accepted, outcome in _bulk(client, actions, max_retries=max_retries):
                    tally.count(accepted, outcome)
                    bar.update()
        except CLIENT_ERRORS as error:
            raise tally.stopped_by(error) from error
        tally.check_complete()
        with engine_errors("the documents are loaded, but the engine"):
            client.indices.refresh(index=index)
    return tally.report(took_s=time.monotonic() - began_s, created=created)


@dataclass(slots=True)
class _Tally:
    """The counts of one load, as it goes on."""

    sent: int = 0
    indexed: int = 0
    refused: int = 0
    unreadable: int = 0
    examples: list[Problem] = field(default_factory=list)

    def pass_documents(self, items: Iterator[Item | Unreadable]) -> Iterator[Item]:
        """The documents among the items; the others are counted."""
        for item in items:
            if isinstance(item, Unreadable):
                self.unreadable += 1
                self._keep(self.unreadable, Problem(kind="unreadable", name=item.where, reason=item.reason))
            else:
                yield item

    def pass_actions(self, index: str, documents: Iterable[Item]) -> Iterator[dict[str, Any]]:
        """The documents as the bulk helpers take them; each is counted as sent."""
        for document_id, source in documents:
            self.sent += 1
            identity = {} if document_id is None else {"_id": document_id}
            yield {"_index": index, "_source": source, **identity}

    def count(self, accepted: bool, outcome: dict[str, Any]) -> None:
        """Count the engine's answer for one document. Raises LoadStoppedError if it is not about that document."""
        if accepted:
            self.indexed += 1
            return
        [details] = outcome.values()
        status, reason = _read_refusal(details)
        if status is None or status in STOPPING_STATUSES:
            raise self._stopped(f"({status}) {reason}" if status else reason)
        self.refused += 1
        self._keep(self.refused, Problem(kind="refused", name=str(details.get("_id") or "(no id)"), reason=reason))

    def check_complete(self) -> None:
        """Raises LoadStoppedError where the engine gave no outcome for some document."""
        silent = self.sent - self.indexed - self.refused
        if silent:
            raise self._stopped(f"its answers left out {silent} documents")

    def stopped_by(self, error: Exception) -> LoadStoppedError:
        """The error for a load that a client's error ends."""
        status, reason = status_and_reason(error)
        return self._stopped(f"({status}) {reason}" if status else reason)

    def report(self, *, took_s: float, created: bool) -> LoadReport:
        """The counts as they stand."""
        return LoadReport(
            indexed=self.indexed,
            refused=self.refused,
            unreadable=self.unreadable,
            took_s=took_s,
            examples=tuple(self.examples),
            created=created,
        )

    def _keep(self, count: int, problem: Problem) -> None:
        if count <= EXAMPLES_OF_A_KIND:
            self.examples.append(problem)

    def _stopped(self, reason: str) -> LoadStoppedError:
        return LoadStoppedError(
            f"the engine stopped taking documents: {reason}. It has {self.indexed} of this load so far. Load again "
            "once it works: documents with an id are replaced; without --recreate, the others would be there twice"
        )


def _first_document(items: Iterator[Item | Unreadable], tally: _Tally) -> Item:
    """The first document. Raises CorpusError where there is none."""
    for document in tally.pass_documents(islice(items, UNREADABLE_AT_START)):
        return document
    if not tally.unreadable:
        raise CorpusError("there is no document to load")
    first = tally.examples[0]
    raise CorpusError(
        f"of the first {tally.unreadable} lines none is a document; {first.name}: {first.reason}. "
        "Every line must be a JSON object of its own"
    )


def _prepare_index(client: Client, index: str, mapping: Mapping[str, Any], *, recreate: bool) -> bool:
    """Make the index where needed. Returns whether it was made."""
    with engine_errors("the engine"):
        there = bool(client.indices.exists(index=index))
        if there and not recreate:
            return False
        if there:
            client.indices.delete(index=index)
        try:
            client.indices.create(index=index, body=dict(mapping))
        except CLIENT_ERRORS as error:
            status, reason = status_and_reason(error)
            if status == 400:
                raise MappingError(f"the engine refuses the settings or the mapping of {index}: {reason}") from error
            raise
    return True


def _bulk(
    client: Client, actions: Iterable[dict[str, Any]], *, max_retries: int
) -> Iterator[tuple[bool, dict[str, Any]]]:
    """The engine's answer for each document, by the helpers of the client's own package."""
    of_elasticsearch = isinstance(client, elasticsearch.Elasticsearch)
    helpers: Any = elasticsearch.helpers if of_elasticsearch else opensearchpy.helpers
    outcomes: Iterator[tuple[bool, dict[str, Any]]] = helpers.streaming_bulk(
        client,
        actions,
        chunk_size=CHUNK_DOCUMENTS,
        max_chunk_bytes=CHUNK_BYTES,
        raise_on_error=False,
        raise_on_exception=False,
        max_retries=max_retries,
        initial_backoff=FIRST_PAUSE_S,
    )
    return outcomes


def _read_refusal(details: dict[str, Any]) -> tuple[int | None, str]:
    """The status of a document that was not taken, None where the engine did not answer, and the reason."""
    if "exception" in details:
        return status_and_reason(details["exception"])
    return int(details["status"]), reason_in(details.get("error"))
