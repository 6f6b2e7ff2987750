"""Loads documents into an index, and counts what became of each.

Decides what ends a load. Holds one chunk at a time. Knows no files.
"""

from __future__ import annotations

import re
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from es_rerank.errors import SettingsError
from es_rerank.official.client import CLIENT_ERRORS, ask, connect
from es_rerank.official.patience import Patience
from ingest.bulk import CHUNK_DOCUMENTS, EngineStopsError, content_id, send
from ingest.corpora import Unreadable
from ingest.errors import CorpusError, LoadStoppedError
from ingest.index import prepare_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from es_rerank.official.client import Client
    from ingest.bulk import Outcome

Item = tuple[str | None, "Mapping[str, Any]"]

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

    The engine took `indexed` documents; `replaced` of them took the place of another one of their id, which came before
    in the same load or was in the index. A document that was sent again, because no answer had come, may have met
    itself there, and is not counted as one that replaced another. `there` documents were passed over, because a load
    that resumes leaves what the index has. `refused` ones were refused by the engine, and `unreadable` lines were not
    documents. `examples` has the first five problems of each kind, in the order in which they were met.

    `in_index` is how many documents the whole index has after the load, None where the engine does not say. `created`
    says whether the index was made for this load, which took `took_s` seconds.
    """

    indexed: int
    replaced: int
    there: int
    refused: int
    unreadable: int
    in_index: int | None
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
    resume: bool = False,
    progress: bool = True,
    total_count: int | None = None,
    share_read: Callable[[], float] | None = None,
    patience: Patience | None = None,
) -> LoadReport:
    """Load (id, fields) pairs into `index`, by a client or into the engine at a URL, and make them searchable.

    A missing index is made with the body `mapping`. An index that exists keeps its own, and documents of the same id
    are replaced. With `recreate` the index is made anew, and with `resume` a document whose id the index has is passed
    over. Nothing is made or deleted before a first document was read, and nothing is deleted before the engine has
    tried `mapping` (see `prepare_index`). A document without an id (None) gets one that is made from its fields, so
    that loading it again never doubles it, and two that are alike are one.

    A busy engine, and one that is gone for a time, is waited for with `patience`; without it, as long as it takes. With
    `progress` a bar is drawn on standard error where that is a terminal. Its end is `total_count`, or is estimated from
    `share_read`, which says how much of the source was read, from 0 to 1.

    Raises SettingsError for an index name that engines refuse, CorpusError where no document is among the items, or
    none among the first thousand, MappingError where the engine refuses `mapping`, EngineError where the engine can't
    be used, LoadStoppedError where it stops taking documents half-way, or the source breaks off half-way: then all
    documents before the break are loaded.
    """
    if not INDEX_NAME.fullmatch(index):
        raise SettingsError(
            f"the index name {index!r}: lower-case letters, digits, '-', '_' and '.' are allowed, the first being "
            "a letter or a digit"
        )
    if recreate and resume:
        raise SettingsError("recreate and resume: an index that is made anew has nothing to resume; take one of them")
    began_s = time.monotonic()
    patience = patience or Patience()
    tally = _Tally()
    items = iter(documents)
    first = _first_document(items, tally)
    with closing(connect(engine, patience=patience)) if isinstance(engine, str) else nullcontext(engine) as client:
        created = prepare_index(client, index, mapping, recreate=recreate, patience=patience)
        try:
            with tqdm(total=total_count, unit=" documents", disable=None if progress else True) as bar:
                for chunk in _chunks(chain([first], tally.pass_documents(items))):
                    for outcome in send(client, index, chunk, only_missing=resume, patience=patience):
                        tally.count(outcome)
                    _draw(bar, tally, share_read)
        except EngineStopsError as error:
            raise tally.stopped(f"the engine stopped taking documents: {error}") from error
        if tally.broken is not None:
            raise tally.stopped(str(tally.broken)) from tally.broken
        in_index = _count(client, index, patience)
    return tally.report(in_index=in_index, took_s=time.monotonic() - began_s, created=created)


@dataclass(slots=True)
class _Tally:
    """The counts of one load, as it goes on."""

    indexed: int = 0
    replaced: int = 0
    there: int = 0
    refused: int = 0
    unreadable: int = 0
    examples: list[Problem] = field(default_factory=list)
    broken: CorpusError | None = None

    def pass_documents(self, items: Iterator[Item | Unreadable]) -> Iterator[Item]:
        """The documents among the items; the others are counted. Where the source breaks off, they end."""
        try:
            for item in items:
                if isinstance(item, Unreadable):
                    self.unreadable += 1
                    self._keep(self.unreadable, Problem(kind="unreadable", name=item.where, reason=item.reason))
                else:
                    yield item
        except CorpusError as error:
            self.broken = error

    def count(self, outcome: Outcome) -> None:
        """Count what became of one document."""
        if outcome.fate == "refused":
            self.refused += 1
            self._keep(self.refused, Problem(kind="refused", name=outcome.id, reason=outcome.reason))
        elif outcome.fate == "there":
            self.there += 1
        else:
            self.indexed += 1
            self.replaced += outcome.fate == "replaced"

    def read(self) -> int:
        """How many documents have been dealt with."""
        return self.indexed + self.there + self.refused

    def stopped(self, reason: str) -> LoadStoppedError:
        """The error for a load that ends half-way."""
        return LoadStoppedError(
            f"{reason}. The index has {self.indexed + self.there} documents of this load so far. To go on where it "
            "stopped, load again with --resume, and without --recreate"
        )

    def report(self, *, in_index: int | None, took_s: float, created: bool) -> LoadReport:
        """The counts as they stand."""
        return LoadReport(
            indexed=self.indexed,
            replaced=self.replaced,
            there=self.there,
            refused=self.refused,
            unreadable=self.unreadable,
            in_index=in_index,
            took_s=took_s,
            examples=tuple(self.examples),
            created=created,
        )

    def _keep(self, count: int, problem: Problem) -> None:
        if count <= EXAMPLES_OF_A_KIND:
            self.examples.append(problem)


def _first_document(items: Iterator[Item | Unreadable], tally: _Tally) -> Item:
    """The first document. Raises CorpusError where there is none."""
    for document in tally.pass_documents(islice(items, UNREADABLE_AT_START)):
        return document
    if tally.broken is not None:
        raise tally.broken
    if not tally.unreadable:
        raise CorpusError("there is no document to load")
    first = tally.examples[0]
    raise CorpusError(
        f"of the first {tally.unreadable} lines none is a document; {first.name}: {first.reason}. "
        "Every line must be a JSON object of its own"
    )


def _chunks(documents: Iterable[Item]) -> Iterator[Sequence[tuple[str, Mapping[str, Any]]]]:
    """The documents in chunks, each with an id. No chunk has an id twice: a chunk may be loaded in any order."""
    chunk: dict[str, Mapping[str, Any]] = {}
    for document_id, fields in documents:
        key = content_id(fields) if document_id is None else document_id
        if key in chunk or len(chunk) == CHUNK_DOCUMENTS:
            yield list(chunk.items())
            chunk = {}
        chunk[key] = fields
    if chunk:
        yield list(chunk.items())


def _draw(bar: tqdm[Any], tally: _Tally, share_read: Callable[[], float] | None) -> None:
    """Bring the bar up to date; without a known end, by what the documents so far say of the whole source."""
    share = share_read() if share_read is not None and not bar.disable else 0.0
    if share > 0:
        bar.total = max(tally.read(), round(tally.read() / share))
    bar.update(tally.read() - bar.n)


def _count(client: Client, index: str, patience: Patience) -> int | None:
    """How many documents the index has, all of them searchable. None where the login may not ask.

    Then the documents are searchable too, a second later, when the engine refreshes the index by itself.
    """
    try:
        ask(lambda: client.indices.refresh(index=index), patience)
        return int(ask(lambda: client.count(index=index), patience)["count"])
    except CLIENT_ERRORS:
        return None
