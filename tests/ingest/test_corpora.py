"""Corpora: which files make a collection, and what a line becomes."""

from __future__ import annotations

import gzip
import hashlib
import json
import tracemalloc
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import corpora
from ingest.corpora import Corpus, Document, Unreadable, find_corpus, holds_actions, read_documents
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


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_a_byte_order_mark_costs_no_document(tmp_path: Path, name: str) -> None:
    """A mark at the start of a file, or of a later line where files were put together, is no part of a document."""
    file = written(tmp_path / name, BOM + b'{"_id": "1", "t": 1}', BOM, BOM + b'{"_id": "2", "t": 2}')
    assert list(read_documents(file)) == [Document("1", {"t": 1}), Document("2", {"t": 2})]


@pytest.mark.parametrize("form", ["utf-16-le", "utf-16-be"])
def test_a_file_of_another_encoding_is_refused(tmp_path: Path, form: str) -> None:
    """A UTF-16 file is an error that says what to do."""
    file = written(tmp_path / "c.jsonl", ('\ufeff{"t": "1"}\n' * 3).encode(form))
    with pytest.raises(CorpusError, match=r"c\.jsonl: is UTF-16 text; save it as UTF-8"):
        next(read_documents(file))


def test_a_packed_file_of_another_name_is_refused(tmp_path: Path) -> None:
    """A gzip file whose name does not end in .gz is an error that says what to do."""
    file = written(tmp_path / "c.jsonl", gzip.compress(b'{"t": "1"}\n'))
    with pytest.raises(CorpusError, match=r"c\.jsonl: is packed by gzip; its name must end in \.gz"):
        next(read_documents(file))


@pytest.mark.parametrize("name", ["b.ndjson", "b.ndjson.gz"])
def test_the_documents_of_a_bulk_body_are_read_with_their_ids(tmp_path: Path, name: str) -> None:
    """The id is the action's, or else as for other documents; what an action says of indices is not looked at."""
    file = written(
        tmp_path / name,
        BOM + b'{"index": {"_index": "a", "_id": "1", "_type": "_doc"}}\r',
        '{"t": "one"}\r',
        {"create": {"_index": "b", "_id": 2}},
        {"_id": "other", "t": "two"},
        b"",
        {"index": {}},
        {"id": "own", "t": "three"},
        {"index": {"_id": None, "require_alias": True}},
        {"t": "four"},
        {"index": {"_id": "5"}},
        {"index": "a document that looks like an action", "t": 5},
    )
    assert holds_actions(file)
    assert list(read_documents(file)) == [
        Document("1", {"t": "one"}),
        Document("2", {"t": "two"}),
        Document("own", {"id": "own", "t": "three"}),
        Document(None, {"t": "four"}),
        Document("5", {"index": "a document that looks like an action", "t": 5}),
    ]


def test_a_named_field_is_the_id_in_a_bulk_body_too(tmp_path: Path) -> None:
    """With a named id field, the action's id does not count."""
    file = written(tmp_path / "b.ndjson", {"index": {"_id": "1"}}, {"sku": "s"}, {"index": {"_id": "2"}}, {"t": 1})
    document, missing = read_documents(file, id_field="sku")
    assert document == Document("s", {"sku": "s"})
    assert missing == Unreadable(where="b.ndjson, line 4", reason="has no field 'sku', where its id should be")


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        ([{"delete": {"_id": "9"}}], {1: "is the action 'delete'; only index and create can be loaded"}),
        ([{"update": {"_id": "9"}}, {"doc": {"t": 1}}], {1: "is the action 'update'; only index and create"}),
        ([{"update": {"_id": "9"}}, "no json"], {1: "is the action 'update'"}),
        ([{"index": {"_id": "9", "routing": "r"}}, {"t": 1}], {1: "its action has 'routing', which is not followed"}),
        ([{"index": {"_id": "9", "pipeline": "p"}}, {"t": 1}], {1: "its action has 'pipeline', which is not followed"}),
        ([{"index": {"_id": ""}}, {"t": 1}], {2: "the _id of its action must be a text of 1 to 512 bytes or a whole"}),
        ([{"index": {"_id": "9"}}, "no json"], {2: "is not JSON"}),
        ([{"index": {"_id": "9"}}, ["a"]], {2: "must be a JSON object, was list"}),
        ([{"index": {"_id": "9"}}, {}], {2: "has no field beside its id"}),
        ([{"index": {"_id": "9"}}], {1: "its document is missing: line 4 is an action too"}),
        ([{"t": 1}], {1: "has no action before it, index or create"}),
        (["no json"], {1: "is not JSON"}),
        (["no json", {"t": 1}], {1: "is not JSON", 2: "has no action before it, index or create"}),
    ],
)
def test_a_wrong_action_costs_no_other_document(tmp_path: Path, lines: list[Any], problems: dict[int, str]) -> None:
    """What can't be loaded of a bulk body is told once, with its line, and what comes before and behind is read."""
    good = [{"index": {"_id": "1"}}, {"t": 1}]
    before, *told, after = read_documents(written(tmp_path / "b.ndjson", *good, *lines, *good))
    assert before == after == Document("1", {"t": 1})
    assert len(told) == len(problems)
    for unreadable, (number, reason) in zip(told, problems.items(), strict=True):
        assert isinstance(unreadable, Unreadable)
        assert unreadable.where == f"b.ndjson, line {number + 2}"
        assert unreadable.reason.startswith(reason)


def test_a_bulk_body_that_ends_too_early_is_told(tmp_path: Path) -> None:
    """An action at the end of the file has no document, and that is told."""
    [unreadable] = read_documents(written(tmp_path / "b.ndjson", {"index": {"_id": "1"}}))
    assert unreadable == Unreadable(where="b.ndjson, line 1", reason="its document is missing: the file ends here")


@pytest.mark.parametrize(
    "document",
    [
        {"index": {"_id": "1"}, "t": 1},
        {"index": "text"},
        {"index": {"name": "S&P 500"}},
        {"delete": ["_id"]},
        {"_index": "a", "_id": "1", "t": 1},
    ],
)
def test_a_document_is_not_taken_for_an_action(tmp_path: Path, document: dict[str, Any]) -> None:
    """A field that is called as an operation does not make a document an action."""
    file = written(tmp_path / "c.jsonl", document, document)
    assert not holds_actions(file)
    assert len([item for item in read_documents(file) if isinstance(item, Document)]) == 2


SOURCES = st.dictionaries(
    st.text(max_size=5).map("f{}".format), st.text(max_size=5) | st.integers(-5, 5), min_size=1, max_size=3
)
IDS = st.none() | st.text(min_size=1, max_size=5) | st.integers(-5, 5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.lists(st.tuples(st.sampled_from(["index", "create"]), IDS, SOURCES), min_size=1, max_size=6),
    packed=st.booleans(),
)
def test_what_was_written_as_a_bulk_body_is_read(tmp_path: Path, documents: list[Any], packed: bool) -> None:
    """Each document is read under the id that its action gives, in order."""
    lines = []
    for operation, document_id, source in documents:
        lines += [{operation: {"_index": "a", "_id": document_id}}, {"n": 1, **source}]
    file = written(tmp_path / ("b.ndjson.gz" if packed else "b.ndjson"), *lines)
    read = [item for item in read_documents(file) if isinstance(item, Document)]
    assert [one.source for one in read] == [{"n": 1, **source} for _, _, source in documents]
    wanted = [None if one is None else str(one) for _, one, _ in documents]
    assert [one.id for one, given_id in zip(read, wanted, strict=True) if given_id] == [one for one in wanted if one]


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_the_share_that_was_read_grows_to_the_whole(tmp_path: Path, name: str) -> None:
    """The share grows with the documents, in step with them, and is 1 at the end; before the start it is 0."""
    lines = [json.dumps({"t": hashlib.sha256(b"%d" % n).hexdigest()}) for n in range(20_000)]
    reader = read_documents(written(tmp_path / name, *lines))
    shares = [reader.share_read()]
    for number, _ in enumerate(reader, start=1):
        shares.append(reader.share_read())
        assert abs(shares[-1] - number / 20_000) < 0.2
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


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
