"""Loading: into the embedded engine, into real ones, and into a fake one that fails as it is told."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.errors import SettingsError
from ingest import load
from ingest.corpora import Unreadable
from ingest.engine import connect
from ingest.errors import CorpusError, EngineError, LoadStoppedError, MappingError
from ingest.load import Problem, load_documents
from ingest.mapping import text_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.load import Item
    from tests.conftest import Engine
    from tests.ingest.conftest import FakeEngine

NAMES = (f"ingest-{number}" for number in count())
LONG_MAPPING = {"mappings": {"properties": {"n": {"type": "long"}}}}


def stored(url: str, index: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The sources in an index by id, or those that a search finds."""
    client = connect(url)
    hits = client.search(index=index, body={"size": 1000, "query": {"match_all": {}}, **(body or {})})["hits"]["hits"]
    client.close()
    return {hit["_id"]: hit["_source"] for hit in hits}


def numbers(how_many: int, start: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """That many documents with ids of their own."""
    return ((f"d{n}", {"n": n}) for n in range(start, start + how_many))


def check_a_whole_load(url: str) -> None:
    """The promises of a load that every engine keeps."""
    index = next(NAMES)
    items: list[Item | Unreadable] = [
        ("a", {"title": "The wings of birds", "text": "They fly."}),
        Unreadable(where="c.jsonl, line 2", reason="is not JSON"),
        (None, {"title": "Fish", "text": "They swim.", "born": "2020-01-01", "n": 1}),
        ("c", {"title": "Stones", "n": "many"}),
        ("ü/?&", {"title": "Trees", "born": "never"}),
    ]
    report = load_documents(url, index, items, text_mapping())
    assert (report.indexed, report.refused, report.unreadable, report.created) == (3, 1, 1, True)
    unreadable, refused = report.examples
    assert unreadable == Problem(kind="unreadable", name="c.jsonl, line 2", reason="is not JSON")
    assert (refused.kind, refused.name) == ("refused", "c")
    assert "failed to parse field [n]" in refused.reason
    assert 0 < report.took_s < 60
    found = stored(url, index, {"query": {"multi_match": {"query": "a flying wing", "fields": ["title", "text"]}}})
    assert list(found) == ["a"]
    everything = stored(url, index)
    assert len(everything) == 3
    assert everything["ü/?&"] == {"title": "Trees", "born": "never"}

    again = load_documents(url, index, [("a", {"title": "Planes"}), ("d", {"title": "Rocks"})], text_mapping())
    assert (again.indexed, again.created) == (2, False)
    assert stored(url, index)["a"] == {"title": "Planes"}
    assert len(stored(url, index)) == 4

    anew = load_documents(url, index, numbers(1), LONG_MAPPING, recreate=True)
    assert (anew.indexed, anew.created) == (1, True)
    assert stored(url, index) == {"d0": {"n": 0}}


def check_a_refused_mapping(url: str) -> None:
    """An index body that the engine refuses is an error with its reason."""
    body = {"mappings": {"properties": {"title": {"type": "text", "analyzer": "klingon"}}}}
    with pytest.raises(MappingError, match=r"refuses the settings or the mapping of .*analyzer \[klingon\]"):
        load_documents(url, next(NAMES), numbers(1), body)


def test_a_whole_load(osmem_url: str) -> None:
    """Documents are in the index, searchable by their analyzer, replaced by id; the refused and unreadable counted."""
    check_a_whole_load(osmem_url)


def test_a_refused_mapping(osmem_url: str) -> None:
    """An index body that the engine refuses is an error with its reason."""
    check_a_refused_mapping(osmem_url)


@pytest.mark.engines
def test_real_engines_load_alike(real_engine: Engine) -> None:
    """Each real engine, Elasticsearch 8 under a client of version 9 too, takes a load as the embedded one does."""
    check_a_whole_load(real_engine.url)
    check_a_refused_mapping(real_engine.url)


def test_many_documents_go_in_chunks(osmem_url: str) -> None:
    """More documents than a chunk holds are all loaded, also through a client of the caller's, which stays open."""
    index = next(NAMES)
    client = connect(osmem_url)
    report = load_documents(client, index, numbers(2345), LONG_MAPPING, total_count=2345)
    assert (report.indexed, report.refused, report.examples) == (2345, 0, ())
    assert client.count(index=index)["count"] == 2345


def test_documents_are_taken_as_they_are_sent(fake_engine: FakeEngine) -> None:
    """Documents stream: no more of them are taken than one chunk ahead of what the engine has."""
    taken = 0

    def documents() -> Iterator[tuple[str, dict[str, Any]]]:
        nonlocal taken
        for document in numbers(5000):
            taken += 1
            assert taken - len(fake_engine.documents) <= load.CHUNK_DOCUMENTS + 1
            yield document

    assert load_documents(fake_engine.url, "i", documents(), {}).indexed == 5000
    assert [source["n"] for _, source in fake_engine.documents] == list(range(5000))


def test_a_busy_engine_is_asked_again(fake_engine: FakeEngine) -> None:
    """A document, or a whole request, that is refused with 429 is sent again and is not lost."""
    fake_engine.bulk_answers.extend([{1: {"status": 429, "error": {"reason": "full"}}}, {}, 429])
    first = load_documents(fake_engine.url, "i", numbers(3), {})
    second = load_documents(fake_engine.url, "i", numbers(3), {})
    assert (first.indexed, first.refused, second.indexed) == (3, 0, 3)
    assert [action["index"]["_id"] for action, _ in fake_engine.documents] == ["d0", "d2", "d1", "d0", "d1", "d2"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (429, r"\(429\) as it was told"),
        (503, r"\(503\) as it was told"),
        (401, r"\(401\) as it was told"),
        ({0: {"status": 403, "error": {"reason": "blocked"}}}, r"\(403\) blocked"),
        (0, "Remote end closed connection without response"),
        ({7: {"status": 0}}, "its answers left out 1 documents"),
    ],
)
def test_an_engine_that_stops_ends_the_load(fake_engine: FakeEngine, answer: Any, reason: str) -> None:
    """An answer that the engine takes nothing now ends the load with the count so far, and is not a refusal."""
    fake_engine.bulk_answers.extend([{}, answer])
    with pytest.raises(
        LoadStoppedError, match=rf"stopped taking documents: .*{reason}.* It has \d+ of this load"
    ) as error:
        load_documents(fake_engine.url, "i", numbers(1000), {}, max_retries=0)
    assert sum(path.endswith("_bulk") for _, path in fake_engine.requests) == 2
    indexed = 999 if "left out" in reason else 500
    assert f"It has {indexed} of this load so far" in str(error.value)


def test_a_request_that_is_refused_whole_is_counted_document_by_document(fake_engine: FakeEngine) -> None:
    """Each document of a request that is too large, or malformed, counts as refused, and the load goes on."""
    fake_engine.bulk_answers.extend([413, {}])
    report = load_documents(fake_engine.url, "i", numbers(600), {})
    assert (report.indexed, report.refused) == (100, 500)
    assert report.examples[0] == Problem(kind="refused", name="d0", reason="as it was told")


def test_only_the_first_of_many_problems_are_kept(fake_engine: FakeEngine) -> None:
    """Of each kind of problem five examples are kept and all are counted."""
    refused = {n: {"status": 400, "error": {"type": "t", "reason": f"r{n}"}} for n in range(20)}
    fake_engine.bulk_answers.append(refused)
    bad = [Unreadable(where=f"line {n}", reason="no") for n in range(30)]
    report = load_documents(fake_engine.url, "i", [*bad, *numbers(25)], {})
    assert (report.indexed, report.refused, report.unreadable) == (5, 20, 30)
    assert [problem.name for problem in report.examples] == [
        *(f"line {n}" for n in range(5)),
        *(f"d{n}" for n in range(5)),
    ]


def test_nothing_is_touched_before_a_document_was_read(fake_engine: FakeEngine) -> None:
    """A source without any document is an error that leaves the engine alone, recreate or not."""
    bad = (Unreadable(where=f"line {n}", reason="is no JSON") for n in count(1))
    for items, problem in (
        ([], "there is no document to load"),
        (islice(bad, 7), "of the first 7 lines none is a document; line 1: is no JSON"),
        (bad, "of the first 1000 lines none is a document"),
    ):
        with pytest.raises(CorpusError, match=problem):
            load_documents(fake_engine.url, "i", items, {}, recreate=True)
    assert fake_engine.requests == []


@pytest.mark.parametrize("name", ["*", "_all", "a*", "a,b", "A", "-a", "", ".a", "a b", "a/b", "a" * 256])
def test_an_index_name_is_checked_before_anything_is_sent(fake_engine: FakeEngine, name: str) -> None:
    """A name that is a pattern, which would delete more than one index, or that engines refuse is an error."""
    with pytest.raises(SettingsError, match="the index name"):
        load_documents(fake_engine.url, name, numbers(1), {}, recreate=True)
    assert fake_engine.requests == []


def test_a_refusal_before_the_load_is_an_error(fake_engine: FakeEngine) -> None:
    """An engine that takes the login, and then refuses the index, is an error, not a half-way stop."""
    fake_engine.login = None
    client = connect(fake_engine.url)
    fake_engine.login = "another"
    with pytest.raises(EngineError, match=r"the engine asks for another login \(401"):
        load_documents(client, "i", numbers(1), {})


def test_no_bar_is_drawn_where_there_is_no_terminal(fake_engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    """A library call prints nothing into a file, a pipe or a test."""
    load_documents(fake_engine.url, "i", numbers(1), {})
    load_documents(fake_engine.url, "i", numbers(1), {}, progress=False)
    assert capfd.readouterr() == ("", "")
