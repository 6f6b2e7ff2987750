"""Corpora as a stream of documents: a BEIR folder, or a file of JSON lines, plain or gzipped.

Owns how a line becomes a document and where its id comes from. Holds one line at a time. Knows no engine.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ingest.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

CORPUS_NAMES = ("corpus.jsonl", "corpus.jsonl.gz")
ID_NAMES = ("_id", "id")
# A longer id makes the engines refuse the whole request that it comes in.
MAX_ID_BYTES = 512
# Engines take requests of 100 MB by default, so a longer line could only be refused, after filling our memory.
MAX_LINE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The files of a collection: its documents, and what lies beside them to measure a search with."""

    documents: Path
    queries: Path | None = None
    judgments: tuple[Path, ...] = ()


class Document(NamedTuple):
    """One document. Without an `id` the engine makes one."""

    id: str | None
    source: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A line that is not a document: where it is (file and line) and why."""

    where: str
    reason: str


class _NoDocumentError(Exception):
    """Why a line is not a document."""


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


def read_documents(
    file: Path, *, id_field: str | None = None, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Document | Unreadable]:
    """Each line of `file` as a document, in order, or why it is not one. Blank lines are skipped.

    With `id_field`, the id is the value of that field, which every document must have. Without it, the id is the value
    of `_id`, or else of `id`, if the document has one. An id is a text of 1 to 512 bytes or a whole number. A field
    `_id` is never a part of the document, because engines refuse it there. Raises CorpusError where the file can't be
    read, or breaks off.
    """
    number = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(_lines(stream, max_line_bytes), start=1):
                if line is not None and not line.strip():
                    continue
                try:
                    yield _document(line, id_field, max_line_bytes)
                except _NoDocumentError as error:
                    yield Unreadable(where=f"{file.name}, line {number}", reason=str(error))
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        where = f"breaks off behind line {number}" if number else "cannot be read"
        raise CorpusError(f"{file}: {where}: {reason}") from error


def _lines(stream: BinaryIO | gzip.GzipFile, max_bytes: int) -> Iterator[bytes | None]:
    """The lines; None for one that is too long to be held."""
    while line := stream.readline(max_bytes):
        if len(line) < max_bytes or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(max_bytes)
        yield None


def _document(line: bytes | None, id_field: str | None, max_bytes: int) -> Document:
    if line is None:
        raise _NoDocumentError(f"is longer than {max_bytes} bytes; one line must be one document")
    source = _object(line)
    document_id = _id(source, id_field)
    source.pop("_id", None)
    if not source:
        raise _NoDocumentError("has no field beside its id")
    return Document(document_id, source)


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _NoDocumentError(_why_not_json(line, error)) from None
    if not isinstance(value, dict):
        raise _NoDocumentError(f"must be a JSON object, was {type(value).__name__}")
    return value


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
    if name is None:
        return None
    value = source[name]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= MAX_ID_BYTES:
        wanted = f"a text of 1 to {MAX_ID_BYTES} bytes or a whole number"
        raise _NoDocumentError(f"its id, {name}, must be {wanted}, was {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
