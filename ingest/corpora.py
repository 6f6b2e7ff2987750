"""Corpora as a stream of documents: a BEIR folder, or a file of JSON lines or of bulk actions, plain or gzipped.

Owns how a line becomes a document and where its id comes from. Holds one line at a time. Knows no engine.
"""

from __future__ import annotations

import codecs
import gzip
import json
import os
import zlib
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ingest.actions import Action, read_action
from ingest.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

CORPUS_NAMES = ("corpus.jsonl", "corpus.jsonl.gz")
ID_NAMES = ("_id", "id")
# A longer id makes the engines refuse the whole request that it comes in.
MAX_ID_BYTES = 512
# Engines take requests of 100 MB by default, so a longer line could only be refused, after filling our memory.
MAX_LINE_BYTES = 64 * 1024 * 1024
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
GZIP_MARK = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The files of a collection: its documents, and what lies beside them to measure a search with."""

    documents: Path
    queries: Path | None = None
    judgments: tuple[Path, ...] = ()


class Document(NamedTuple):
    """One document. Where the source gives no `id`, it is None."""

    id: str | None
    source: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A line that is not a document: where it is (file and line) and why."""

    where: str
    reason: str


class _NoDocumentError(Exception):
    """Why an object is not a document."""


def find_corpus(source: Path) -> Corpus:
    """The collection at `source`: a file of JSON lines, or a BEIR folder.

    Such a folder has corpus.jsonl or corpus.jsonl.gz, and maybe queries.jsonl, qrels.tsv or qrels/*.tsv. Raises
    CorpusError.
    """
    if source.is_file():
        return Corpus(documents=source)
    if not source.is_dir():
        raise CorpusError(f"{source}: no such file or folder")
    found = [source / name for name in CORPUS_NAMES if (source / name).is_file()]
    if len(found) != 1:
        many = "it has both: name the one to load" if found else "it has neither"
        raise CorpusError(f"{source}: a BEIR folder has {' or '.join(CORPUS_NAMES)}, and {many}")
    queries = source / "queries.jsonl"
    judgments = [source / "qrels.tsv", *sorted(source.glob("qrels/*.tsv"))]
    return Corpus(
        documents=found[0],
        queries=queries if queries.is_file() else None,
        judgments=tuple(file for file in judgments if file.is_file()),
    )


def read_documents(file: Path, *, id_field: str | None = None, max_line_bytes: int = MAX_LINE_BYTES) -> DocumentReader:
    """Each line of `file` as a document, in order, or why it is not one. Blank lines are skipped.

    With `id_field`, the id is the value of that field, which every document must have. Without it, the id is the value
    of `_id`, or else of `id`, if the document has one. An id is a text of 1 to 512 bytes or a whole number. A field
    `_id` is never a part of the document, because engines refuse it there.

    Where the first JSON object is an action of the bulk API, the file is taken as its body: `index` and `create` have
    their document in the next line, and, without `id_field`, give its id. An action that would do anything else is told
    as unreadable.

    While it is read, CorpusError is raised where the file can't be read, or breaks off.
    """
    return DocumentReader(file, id_field, max_line_bytes)


class DocumentReader:
    """The documents of a file, one after the other. Made by `read_documents`."""

    def __init__(self, file: Path, id_field: str | None, max_line_bytes: int) -> None:
        self._file = file
        self._id_field = id_field
        self._max_line_bytes = max_line_bytes
        self._raw: BinaryIO | None = None
        self._size_bytes = 0
        self._is_bulk = False
        self._items = self._read()

    def __iter__(self) -> DocumentReader:
        return self

    def __next__(self) -> Document | Unreadable:
        return next(self._items)

    @property
    def is_bulk(self) -> bool:
        """Whether the file is the body of bulk requests. Known once a first item was read."""
        return self._is_bulk

    def share_read(self) -> float:
        """How much of the file was read, from 0 to 1; of a packed file, how much of its packed bytes."""
        if self._raw is None or not self._size_bytes:
            return 0.0
        return 1.0 if self._raw.closed else self._raw.tell() / self._size_bytes

    def _read(self) -> Iterator[Document | Unreadable]:
        values = self._values()
        for number, value in values:
            if isinstance(value, dict):
                self._is_bulk = read_action(value) is not None
                rest = chain([(number, value)], values)
                yield from self._from_actions(rest) if self._is_bulk else self._from_lines(rest)
                return
            yield self._unreadable(number, value)

    def _values(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """The object in each line that is not blank, after its number, or the reason why there is none."""
        number = 0
        try:
            with self._file.open("rb") as raw:
                self._raw, self._size_bytes = raw, os.fstat(raw.fileno()).st_size
                stream = gzip.GzipFile(fileobj=raw) if self._file.suffix == ".gz" else raw
                for number, line in enumerate(_lines(stream, self._max_line_bytes), start=1):
                    if number == 1:
                        _check_start(self._file, line or b"")
                    if line is None or line.strip():
                        yield number, _object(line, self._max_line_bytes)
        except (OSError, EOFError, zlib.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            where = f"breaks off behind line {number}" if number else "cannot be read"
            raise CorpusError(f"{self._file}: {where}: {reason}") from error

    def _from_lines(self, values: Iterable[tuple[int, dict[str, Any] | str]]) -> Iterator[Document | Unreadable]:
        for number, value in values:
            yield self._document(number, value)

    def _from_actions(self, values: Iterable[tuple[int, dict[str, Any] | str]]) -> Iterator[Document | Unreadable]:
        """The documents of a bulk body. After a line that is wrong it goes on with the next action."""
        waiting: Action | None = None
        number_of_waiting = 0
        for number, value in values:
            action = read_action(value)
            if waiting is not None and action is None:
                if waiting.refusal is None:
                    yield self._document(number, value, waiting.id)
                waiting = None
                continue
            if waiting is not None and waiting.refusal is None:
                yield self._unreadable(number_of_waiting, f"its document is missing: line {number} is an action too")
            if action is None:
                reason = value if isinstance(value, str) else "has no action before it, index or create"
                yield self._unreadable(number, reason)
            elif action.refusal is not None:
                yield self._unreadable(number, action.refusal)
            waiting, number_of_waiting = (action if action is not None and action.has_document else None), number
        if waiting is not None and waiting.refusal is None:
            yield self._unreadable(number_of_waiting, "its document is missing: the file ends here")

    def _document(self, number: int, value: dict[str, Any] | str, id_of_action: Any = None) -> Document | Unreadable:
        """The document in a line, whose id an action may give; or why it is not one."""
        if isinstance(value, str):
            return self._unreadable(number, value)
        try:
            if id_of_action is None or self._id_field is not None:
                document_id = _id(value, self._id_field)
            else:
                document_id = _checked_id("the _id of its action", id_of_action)
        except _NoDocumentError as error:
            return self._unreadable(number, str(error))
        value.pop("_id", None)
        return Document(document_id, value) if value else self._unreadable(number, "has no field beside its id")

    def _unreadable(self, number: int, reason: str) -> Unreadable:
        return Unreadable(where=f"{self._file.name}, line {number}", reason=reason)


def holds_actions(file: Path) -> bool:
    """Whether `file` is the body of bulk requests: action lines and documents by turns. Raises CorpusError."""
    documents = read_documents(file)
    next(documents, None)
    return documents.is_bulk


def _check_start(file: Path, line: bytes) -> None:
    """Raise CorpusError for a file of which no line could be read, with what to do about it."""
    if line.startswith(UTF_16_MARKS):
        raise CorpusError(f"{file}: is UTF-16 text; save it as UTF-8")
    if line.startswith(GZIP_MARK):
        raise CorpusError(f"{file}: is packed by gzip; its name must end in .gz")


def _lines(stream: BinaryIO | gzip.GzipFile, max_bytes: int) -> Iterator[bytes | None]:
    """The lines, without byte order marks; None for one that is too long to be held."""
    while line := stream.readline(max_bytes):
        if len(line) < max_bytes or line.endswith(b"\n"):
            # Some programs write it at the start of a file, and `cat` leaves it at the start of a later line.
            yield line.removeprefix(codecs.BOM_UTF8)
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(max_bytes)
        yield None


def _object(line: bytes | None, max_bytes: int) -> dict[str, Any] | str:
    """The JSON object in a line, or why there is none."""
    if line is None:
        return f"is longer than {max_bytes} bytes; one line must be one document"
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _why_not_json(line, error)
    return value if isinstance(value, dict) else f"must be a JSON object, was {type(value).__name__}"


def _why_not_json(line: bytes, error: Exception) -> str:
    """The decoder's reason, or our own where Python's decoder takes the line."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return f"is not JSON: {error}"
    return "is not JSON that engines take: it has NaN, an infinite number, or half of a surrogate pair"


def _id(source: dict[str, Any], id_field: str | None) -> str | None:
    if id_field is not None and id_field not in source:
        raise _NoDocumentError(f"has no field {id_field!r}, where its id should be")
    name = id_field or next((name for name in ID_NAMES if name in source), None)
    return None if name is None else _checked_id(f"its id, {name},", source[name])


def _checked_id(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= MAX_ID_BYTES:
        wanted = f"a text of 1 to {MAX_ID_BYTES} bytes or a whole number"
        raise _NoDocumentError(f"{name} must be {wanted}, was {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
