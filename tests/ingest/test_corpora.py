"""Corpora: which files make a collection, and what a line becomes."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from ingest import corpora
from ingest.corpora import Corpus, Document, Unreadable, find_corpus, read_documents
from ingest.errors import CorpusError

if TYPE_CHECKING:
    from pathlib import Path


def written(file: Path, *lines: Any) -> Path:
    """A file of JSON lines; texts and bytes stand as they are."""
    parts = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    content = b"\n".join(parts)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_a_beir_folder_is_found(tmp_path: Path, name: str) -> None:
    """A folder's corpus, queries and judgments are found, the judgments of all splits."""
    for other in ("queries.jsonl", "qrels.tsv"):
        (tmp_path / other).touch()
    (tmp_path / "qrels").mkdir()
    for split in ("train.tsv", "test.tsv", "notes.txt"):
        (tmp_path / "qrels" / split).touch()
    corpus = written(tmp_path / name, {"_id": "1", "text": "a"})
    assert find_corpus(tmp_path) == Corpus(
        documents=corpus,
        queries=tmp_path / "queries.jsonl",
        judgments=(tmp_path / "qrels.tsv", tmp_path / "qrels" / "test.tsv", tmp_path / "qrels" / "train.tsv"),
    )


def test_a_file_is_a_corpus_of_its_own(tmp_path: Path) -> None:
    """A file is taken as it is, whatever its name, and a folder needs no queries."""
    file = written(tmp_path / "corpus.jsonl", {"text": "a"})
    assert find_corpus(file) == find_corpus(tmp_path) == Corpus(documents=file)


def test_what_is_no_corpus_is_an_error(tmp_path: Path) -> None:
    """A missing source, a folder without a corpus and one with two are errors that say what is expected."""
    with pytest.raises(CorpusError, match="missing: no such file or folder"):
        find_corpus(tmp_path / "missing")
    with pytest.raises(CorpusError, match=r"a BEIR folder has corpus.jsonl or corpus.jsonl.gz, and it has neither"):
        find_corpus(tmp_path)
    for name in corpora.CORPUS_NAMES:
        (tmp_path / name).touch()
    with pytest.raises(CorpusError, match="it has both: name the one to load"):
        find_corpus(tmp_path)


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_documents_come_in_order_with_their_ids(tmp_path: Path, name: str) -> None:
    """The id is `_id`, which leaves the document, or else `id`, which stays; without both there is none."""
    file = written(
        tmp_path / name,
        {"_id": "a", "id": "other", "text": "1"},
        b"",
        {"id": 7, "text": "2"},
        {"text": "3"},
        '  {"_id": "d", "text": "4", "nested": {"n": [1.5, null, true]}}  \r',
    )
    assert list(read_documents(file)) == [
        Document("a", {"id": "other", "text": "1"}),
        Document("7", {"id": 7, "text": "2"}),
        Document(None, {"text": "3"}),
        Document("d", {"text": "4", "nested": {"n": [1.5, None, True]}}),
    ]


def test_a_named_field_is_the_id(tmp_path: Path) -> None:
    """A named id field is the only source of ids: it stays in the document, and a line without it is unreadable."""
    file = written(tmp_path / "x.jsonl", {"sku": 12, "_id": "a", "t": "1"}, {"_id": "b", "t": "2"})
    document, missing = read_documents(file, id_field="sku")
    assert document == Document("12", {"sku": 12, "t": "1"})
    assert missing == Unreadable(where="x.jsonl, line 2", reason="has no field 'sku', where its id should be")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"title,text", "is not JSON: "),
        (b'{"a": 1} {"a": 2}', "is not JSON: "),
        (b'{"a": "\xff"}', "is not JSON: 'utf-8' codec can't decode"),
        (b"[" * 100_000, "is not JSON: maximum recursion depth exceeded"),
        (b'{"a": NaN}', "is not JSON that engines take: it has NaN"),
        (b'{"a": "\\ud83d"}', "is not JSON that engines take: it has NaN, an infinite number, or half of a surrogate"),
        (b'["a"]', "must be a JSON object, was list"),
        (b"{}", "has no field beside its id"),
        (b'{"_id": "1"}', "has no field beside its id"),
        (b'{"_id": "", "t": 1}', 'its id, _id, must be a text of 1 to 512 bytes or a whole number, was ""'),
        (b'{"_id": true, "t": 1}', "its id, _id, must be a text of 1 to 512 bytes or a whole number, was true"),
        (b'{"id": null, "t": 1}', "its id, id, must be a text of 1 to 512 bytes or a whole number, was null"),
        (json.dumps({"_id": "ü" * 257, "t": 1}).encode(), "its id, _id, must be a text of 1 to 512 bytes"),
    ],
)
def test_a_line_that_is_no_document_is_told_and_passed_over(tmp_path: Path, line: bytes, reason: str) -> None:
    """A bad line is named with its number and the reason, and those around it are read."""
    good = {"_id": "1", "text": "a"}
    before, bad, after = read_documents(written(tmp_path / "c.jsonl", good, line, good))
    assert before == after == Document("1", {"text": "a"})
    assert isinstance(bad, Unreadable)
    assert bad.where == "c.jsonl, line 2"
    assert bad.reason.startswith(reason)
    assert len(bad.reason) < 250


def test_a_line_that_is_too_long_is_passed_over(tmp_path: Path) -> None:
    """A line beyond the limit is unreadable, and the next line is read from its own beginning."""
    file = written(tmp_path / "c.jsonl", {"t": "x" * 200}, {"t": "y"}, {"t": "z" * 300})
    first, second, third = read_documents(file, max_line_bytes=64)
    assert second == Document(None, {"t": "y"})
    assert isinstance(first, Unreadable)
    assert isinstance(third, Unreadable)
    assert first.reason == "is longer than 64 bytes; one line must be one document"


def test_a_file_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    """A gzip file cut short gives its readable documents and then an error that says where it ends."""
    whole = gzip.compress(b"".join(b'{"t": "%d"}\n' % number for number in range(50_000)))
    file = tmp_path / "c.jsonl.gz"
    file.write_bytes(whole[: len(whole) // 2])
    documents = read_documents(file)
    assert next(documents) == Document(None, {"t": "0"})
    with pytest.raises(CorpusError, match=r"c\.jsonl\.gz: breaks off behind line \d{4,5}: "):
        list(documents)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A file that is named .gz and is not gzip is an error that names the file."""
    file = tmp_path / "c.jsonl.gz"
    file.write_bytes(b'{"t": "1"}\n')
    with pytest.raises(CorpusError, match=r"c\.jsonl\.gz: cannot be read: Not a gzipped file"):
        next(iter(read_documents(file)))


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Reading holds a line at a time: 40 MB of documents are read in less than 1 MB of memory."""
    file = tmp_path / "c.jsonl"
    line = json.dumps({"_id": "1", "text": "word " * 800}).encode() + b"\n"
    with file.open("wb") as stream:
        for _ in range(10_000):
            stream.write(line)
    documents = read_documents(file)
    list(islice(documents, 100))
    tracemalloc.start()
    count = sum(1 for _ in documents)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 9_900
    assert peak_bytes < 1_000_000
