"""Loading: into the embedded engine, into real ones, and into a fake one that fails as it is told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.errors import EngineError, SettingsError
from es_rerank.official.client import connect
from es_rerank.official.patience import Patience
from ingest.bulk import CHUNK_DOCUMENTS
from ingest.corpora import Unreadable
from ingest.errors import CorpusError, LoadStoppedError, MappingError
from ingest.load import Problem, load_documents
from ingest.mapping import text_mapping
from tests.ingest.conftest import LOST, impatient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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

    assert (again.replaced, again.in_index) == (1, 4)

    anew = load_documents(url, index, numbers(1), LONG_MAPPING, recreate=True)
    assert (anew.indexed, anew.created, anew.in_index) == (1, True, 1)
    assert stored(url, index) == {"d0": {"n": 0}}


def check_a_second_load(url: str) -> None:
    """What loading the same again means on every engine: nothing is there twice, and the counts say what is there."""
    index = next(NAMES)
    items: list[Item] = [("a", {"n": 1}), (None, {"n": 2, "t": "x"}), ("a", {"n": 3}), (None, {"t": "x", "n": 2})]
    first = load_documents(url, index, items, LONG_MAPPING)
    assert (first.indexed, first.replaced, first.there, first.in_index) == (4, 2, 0, 2)
    before = stored(url, index)
    assert before["a"] == {"n": 3}
    second = load_documents(url, index, items, LONG_MAPPING)
    assert (second.indexed, second.replaced, second.in_index) == (4, 4, 2)
    assert stored(url, index) == before

    more: list[Item] = [("a", {"n": 100}), (None, {"n": 2, "t": "x"}), ("b", {"n": 4}), ("c", {"n": "many"})]
    resumed = load_documents(url, index, more, LONG_MAPPING, resume=True)
    assert (resumed.indexed, resumed.replaced, resumed.there, resumed.refused, resumed.in_index) == (1, 0, 2, 1, 3)
    assert stored(url, index) == {**before, "b": {"n": 4}}


def check_a_refused_mapping(url: str) -> None:
    """An index body that the engine refuses is an error with its reason."""
    body = {"mappings": {"properties": {"title": {"type": "text", "analyzer": "klingon"}}}}
    with pytest.raises(MappingError, match=r"refuses the settings or the mapping of .*analyzer \[klingon\]"):
        load_documents(url, next(NAMES), numbers(1), body)


def test_a_whole_load(osmem_url: str) -> None:
    """Documents are in the index, searchable by their analyzer, replaced by id; the refused and unreadable counted."""
    check_a_whole_load(osmem_url)


def test_the_same_documents_are_never_there_twice(osmem_url: str) -> None:
    """With ids or without, in one load or in two, a document is replaced or passed over, and the counts say so."""
    check_a_second_load(osmem_url)


def test_a_refused_mapping(osmem_url: str) -> None:
    """An index body that the engine refuses is an error with its reason."""
    check_a_refused_mapping(osmem_url)


@pytest.mark.engines
def test_real_engines_load_alike(real_engine: Engine) -> None:
    """Each real engine, Elasticsearch 8 under a client of version 9 too, takes a load as the embedded one does."""
    check_a_whole_load(real_engine.url)
    check_a_second_load(real_engine.url)
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
            assert taken - len(fake_engine.documents) <= CHUNK_DOCUMENTS + 1
            yield document

    assert load_documents(fake_engine.url, "i", documents(), {}).indexed == 5000
    assert [source["n"] for _, source in fake_engine.documents] == list(range(5000))


BUSY = [
    pytest.param(429, id="too many requests"),
    pytest.param((429, "30"), id="too many requests, with a wish"),
    pytest.param(502, id="bad gateway"),
    pytest.param(503, id="unavailable"),
    pytest.param(504, id="gateway time-out"),
    pytest.param(0, id="no answer"),
    pytest.param(LOST, id="an answer that is lost"),
]


@pytest.mark.parametrize("answer", [*BUSY, {1: {"status": 429, "error": {"reason": "full"}}}, {2: {"status": 503}}])
def test_no_document_is_lost_or_doubled_by_a_busy_engine(fake_engine: FakeEngine, answer: Any) -> None:
    """What a busy or lost engine did not take is sent again until it is in the index, however often that is needed."""
    fake_engine.bulk_answers.extend([{}, answer, answer, answer])
    report = load_documents(fake_engine.url, "i", numbers(1200), {}, patience=impatient(1000))
    assert (report.indexed, report.replaced, report.refused, report.in_index) == (1200, 0, 0, 1200)
    assert set(fake_engine.ids()) == {f"d{n}" for n in range(1200)}
    if answer != LOST:
        assert len(fake_engine.ids()) == 1200


@pytest.mark.parametrize("answer", [LOST, {0: {"status": 429}}])
def test_a_load_that_resumes_waits_too(fake_engine: FakeEngine, answer: Any) -> None:
    """A document that met itself, because its answer was lost, counts as loaded; one that was there before does not."""
    load_documents(fake_engine.url, "i", numbers(10), {})
    fake_engine.bulk_answers.append(answer)
    report = load_documents(fake_engine.url, "i", numbers(100, 5), {}, resume=True, patience=impatient(1000))
    assert report.in_index == len(fake_engine.ids()) == 105
    assert report.indexed + report.there == 100
    assert report.there == (0 if answer == LOST else 5)


def test_the_engine_is_waited_for_as_long_as_it_asks(fake_engine: FakeEngine) -> None:
    """A pause is the answer's `Retry-After`, and each is told; without one, pauses grow until a request is taken."""
    pauses: list[float] = []
    said: list[str] = []
    fake_engine.bulk_answers.extend([(429, "7"), 429, 503, 429, {}, 429])
    patience = Patience(say=said.append, sleep=pauses.append)
    assert load_documents(fake_engine.url, "i", numbers(501), {}, patience=patience).indexed == 501
    assert pauses == [7, 1, 2, 4, 1]
    assert said[:2] == [
        "the engine takes nothing now: (429) as it was told. Trying again in 7 s, as it asks for (Ctrl-C ends it)",
        "the engine takes nothing now: (429) as it was told. Trying again in 1 s (Ctrl-C ends it)",
    ]


@pytest.mark.parametrize("answer", [answer for answer in BUSY if answer.values[0] not in {0, LOST}])
@pytest.mark.parametrize("position", range(5))
def test_every_request_of_a_load_waits_for_a_busy_engine(fake_engine: FakeEngine, answer: Any, position: int) -> None:
    """Not only documents: the first contact, the look for the index, its making, the refresh and the count wait too."""
    fake_engine.other_answers.extend([{}] * position + [answer, answer])
    report = load_documents(fake_engine.url, "i", numbers(2), {}, patience=impatient(1000))
    assert (report.indexed, report.in_index, report.created) == (2, 2, True)


def test_an_index_whose_making_was_not_answered_is_not_made_twice(fake_engine: FakeEngine) -> None:
    """Where the answer to the making of an index is lost, the load looks whether it was made."""
    fake_engine.other_answers.extend([{}, {}, LOST])
    assert load_documents(fake_engine.url, "i", numbers(2), {}, patience=impatient(1000)).created
    assert [request for request in fake_engine.requests if request[0] == "PUT" and request[1] == "/i"] == [
        ("PUT", "/i")
    ]


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
    """Where the engine takes nothing for longer than one waits, the load ends with the count so far."""
    fake_engine.bulk_answers.extend([{}, answer])
    with pytest.raises(LoadStoppedError, match=rf"stopped taking documents: {reason}\. The index has \d+ doc") as error:
        load_documents(fake_engine.url, "i", numbers(1000), {}, patience=impatient())
    assert sum(path.endswith("_bulk") for _, path in fake_engine.requests) == 2
    indexed = 999 if "left out" in reason else 500
    assert f"The index has {indexed} documents of this load so far" in str(error.value)
    assert str(error.value).endswith("load again with --resume, and without --recreate")


def test_a_request_that_is_refused_whole_is_counted_document_by_document(fake_engine: FakeEngine) -> None:
    """Each document of a request that is malformed counts as refused, and the load goes on."""
    fake_engine.bulk_answers.extend([400, {}])
    report = load_documents(fake_engine.url, "i", numbers(600), {})
    assert (report.indexed, report.refused) == (100, 500)
    assert report.examples[0] == Problem(kind="refused", name="d0", reason="as it was told")


def test_a_document_that_a_pipeline_drops_is_not_loaded(fake_engine: FakeEngine) -> None:
    """A document that the engine accepts and does not keep is told as refused."""
    fake_engine.bulk_answers.append({1: {"status": 200, "result": "noop"}})
    report = load_documents(fake_engine.url, "i", numbers(3), {})
    assert (report.indexed, report.refused) == (2, 1)
    assert report.examples == (Problem(kind="refused", name="d1", reason="a pipeline of the index drops it"),)


def test_a_request_that_is_too_large_is_sent_in_halves(fake_engine: FakeEngine) -> None:
    """A server before the engine with a small limit takes all documents but those that are too large by themselves."""
    fake_engine.max_bulk_bytes = 2000
    items = [(f"d{n}", {"text": "x" * (5000 if n == 321 else 50)}) for n in range(600)]
    report = load_documents(fake_engine.url, "i", items, {})
    assert (report.indexed, report.refused) == (599, 1)
    assert report.examples == (Problem(kind="refused", name="d321", reason="too large"),)
    assert fake_engine.ids() == [f"d{n}" for n in range(600) if n != 321]


def test_a_document_that_comes_twice_is_the_last_one(fake_engine: FakeEngine) -> None:
    """The last of a source stays, also where the engine was too busy for the first of them."""
    fake_engine.bulk_answers.append({0: {"status": 429}})
    items = [("a", {"n": 1}), ("b", {"n": 2}), ("a", {"n": 3})]
    report = load_documents(fake_engine.url, "i", items, {}, patience=impatient(10))
    assert (report.indexed, report.replaced, report.in_index) == (3, 1, 2)
    assert [source["n"] for _, source in fake_engine.documents] == [2, 1, 3]


def test_a_source_that_breaks_off_is_loaded_up_to_there(fake_engine: FakeEngine) -> None:
    """What was read before the break is in the index, and the error says how much that is."""

    def documents() -> Iterator[tuple[str, dict[str, Any]]]:
        yield from numbers(700)
        raise CorpusError("c.jsonl.gz: breaks off behind line 700: bad data")

    with pytest.raises(LoadStoppedError, match=r"breaks off behind line 700: bad data\. The index has 700 documents"):
        load_documents(fake_engine.url, "i", documents(), {})
    assert len(fake_engine.ids()) == 700


def test_a_killed_load_goes_on_where_it_stopped(fake_engine: FakeEngine, tmp_path: Path) -> None:
    """A load that is killed in the middle, and started again, leaves every document in the index once."""
    file = tmp_path / "c.jsonl"
    file.write_text("\n".join(json.dumps({"t": f"text {n}"}) for n in range(1200)))
    command = [sys.executable, "-m", "es_rerank", "ingest", str(file), "--index", "i", "--url", fake_engine.url]
    fake_engine.hangs_after = 3
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        assert fake_engine.hung.wait(60)
        process.send_signal(signal.SIGKILL)
    loaded = len(fake_engine.ids())
    assert 0 < loaded < 1200
    fake_engine.release()
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True, timeout=60)
    assert "1,200 documents are in i (was there and keeps its own mapping)" in done.stdout
    assert (
        f": {1200 - loaded:,} loaded, of which 0 replaced one with the same id; {loaded:,} were there already"
        in done.stdout
    )
    assert len(fake_engine.ids()) == len(set(fake_engine.ids())) == 1200


def test_a_reading_login_gets_no_count(fake_engine: FakeEngine) -> None:
    """Where the login may write and not ask, the documents are loaded, and their number in the index is not known."""
    fake_engine.other_answers.extend([{}, {}, {}, 403])
    report = load_documents(fake_engine.url, "i", numbers(2), {})
    assert (report.indexed, report.in_index) == (2, None)


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


def test_to_recreate_and_to_resume_exclude_each_other(fake_engine: FakeEngine) -> None:
    """An index that is made anew has nothing to resume."""
    with pytest.raises(SettingsError, match="recreate and resume"):
        load_documents(fake_engine.url, "i", numbers(1), {}, recreate=True, resume=True)
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
