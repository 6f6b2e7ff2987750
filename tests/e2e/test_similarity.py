"""Elasticsearch's `text_similarity_reranker` through the whole system, on engines without endpoint and licence."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Engine, send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

INDEX = "films-similar"
WORDS = ("robot", "love", "island", "war", "desert", "sailor", "queen", "glass", "winter", "prison")
QUESTION = "a robot who finds love on an island"
EXTRA = """
[limits]
max_deadline_s = 120.0
deadline_s = 60.0
[inference]
scorers = { "ours" = "minilm" }
any_language = true
[rerank_api]
keys = ["0123456789abcdef"]
scorers = { "m" = "minilm" }
deadline_s = 60.0
"""
STANDARD = {"standard": {"query": {"match": {"text": "robot love island"}}}}
KNN = {"knn": {"field": "v", "query_vector": [3, 1], "k": 15, "num_candidates": 40}}


class Films:
    """Films in an engine and behind the system."""

    def __init__(self, engine: Engine, system: System) -> None:
        self.engine = engine
        self.system = system

    def direct(self, body: dict[str, Any]) -> Any:
        """The engine's own answer."""
        return send_json(f"{self.engine.url}/{INDEX}/_search", body, method="POST")

    def search(self, body: dict[str, Any], **asked: Any) -> Any:
        """The answer to a search whose inner retriever is reranked."""
        said = {"retriever": STANDARD, "inference_id": "ours", "inference_text": QUESTION, "field": "text", **asked}
        whole = {**body, "retriever": {"text_similarity_reranker": said}}
        return send_json(f"{self.system.url}/{INDEX}/_search", whole, method="POST")

    def relevance(self, texts: list[str]) -> list[float]:
        """The relevance of texts by the rerank API, which asks the same scorer."""
        body = json.dumps({"query": QUESTION, "documents": texts, "model": "m"}).encode()
        headers = {"authorization": "Bearer 0123456789abcdef", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.system.url}/v2/rerank", body, headers, method="POST")
        with urllib.request.urlopen(request, timeout=120) as reply:
            results = json.load(reply)["results"]
        scores = {one["index"]: one["relevance_score"] for one in results}
        return [scores[index] for index in range(len(texts))]


@pytest.fixture(scope="module", params=("elasticsearch", "elasticsearch9"))
def films(request: pytest.FixtureRequest, run_system: Callable[..., System]) -> Iterator[Films]:
    """Films with a text and a vector, in an index that no rule covers."""
    engine: Engine = request.getfixturevalue(request.param)
    chance = random.Random(11)
    texts = [" ".join(chance.choices(WORDS, k=12)) for _ in range(40)]
    with contextlib.suppress(urllib.error.HTTPError):
        send_json(f"{engine.url}/{INDEX}", method="DELETE")
    vector = {"type": "dense_vector", "dims": 2, "similarity": "l2_norm"}
    fields = {"text": {"type": "text"}, "n": {"type": "integer"}, "v": vector}
    send_json(f"{engine.url}/{INDEX}", {"mappings": {"properties": fields}}, method="PUT")
    films = [{"text": text, "n": number, "v": [number, 1]} for number, text in enumerate(texts)]
    lines = [line for film in films for line in ({"index": {"_id": f"f{film['n']}"}}, film)]
    bulk = "".join(json.dumps(line) + "\n" for line in lines).encode()
    assert not send_json(f"{engine.url}/{INDEX}/_bulk?refresh=true", bulk, method="POST")["errors"]
    system = run_system(engine.url, extra=EXTRA)
    if not system.workers():
        system.start_worker()
    try:
        yield Films(engine, system)
    finally:
        send_json(f"{engine.url}/{INDEX}", method="DELETE")


@pytest.mark.parametrize("inner", [STANDARD, KNN], ids=["standard", "knn"])
def test_the_inner_retrievers_hits_come_in_the_order_of_their_relevance(films: Films, inner: dict[str, Any]) -> None:
    """The same hits, unchanged but for their scores, ordered by what the rerank API says of the same texts."""
    found = films.direct({"retriever": inner, "size": 15})["hits"]
    hits = films.search({"size": 15}, retriever=inner, rank_window_size=15)["hits"]
    scores = films.relevance([hit["_source"]["text"] for hit in found["hits"]])
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    assert [hit["_id"] for hit in hits["hits"]] == [found["hits"][index]["_id"] for index in order]
    assert [hit["_score"] for hit in hits["hits"]] == pytest.approx([1 + scores[index] for index in order], abs=1e-5)
    assert hits["total"] == found["total"]
    by_id = {hit["_id"]: {**hit, "_score": None} for hit in found["hits"]}
    assert [{**hit, "_score": None} for hit in hits["hits"]] == [by_id[hit["_id"]] for hit in hits["hits"]]


def test_pages_tile_the_window_and_end_with_it(films: Films) -> None:
    """The pages together are the whole, and behind the window there is none."""
    whole = films.search({"size": 20}, rank_window_size=20)["hits"]["hits"]
    pages = [films.search({"from": start, "size": 7}, rank_window_size=20)["hits"] for start in (0, 7, 14, 21)]
    assert [hit for page in pages for hit in page["hits"]] == whole
    assert len(whole) == 20
    assert (
        films.search({}, rank_window_size=13)["hits"]["hits"]
        == films.search({"size": 13}, rank_window_size=13)["hits"]["hits"]
    )


def test_filters_floors_and_everything_beside_hold(films: Films) -> None:
    """`filter` narrows the inner retriever, `min_score` the answer; aggregations, highlights and `_source` are kept."""
    body = {
        "size": 9,
        "aggs": {"most": {"max": {"field": "n"}}},
        "highlight": {"fields": {"text": {}}},
        "_source": ["n"],
        "track_total_hits": True,
    }
    low = {"range": {"n": {"lt": 20}}}
    inner = {"standard": {**STANDARD["standard"], "filter": [low]}}
    found = films.direct({**body, "retriever": inner})
    answer = films.search(body, filter=low)
    assert answer["aggregations"] == found["aggregations"]
    assert answer["hits"]["total"] == found["hits"]["total"]
    assert {hit["_source"]["n"] < 20 and [*hit["_source"]] == ["n"] for hit in answer["hits"]["hits"]} == {True}
    assert all("highlight" in hit for hit in answer["hits"]["hits"])
    scores = [hit["_score"] for hit in answer["hits"]["hits"]]
    least = scores[4] - 1 - 1e-6
    kept = films.search(body, filter=low, min_score=least)["hits"]
    assert [hit["_score"] for hit in kept["hits"]] == scores[:5]
    assert kept["total"] == {"value": 5, "relation": "eq"}


def test_a_sorted_inner_retriever_is_reranked(films: Films) -> None:
    """Its first hits by another order than that of scores are the window."""
    inner = {"standard": {"query": {"match_all": {}}, "sort": [{"n": "desc"}]}}
    hits = films.search({}, retriever=inner)["hits"]["hits"]
    assert {hit["_id"] for hit in hits} == {f"f{number}" for number in range(30, 40)}
    assert [hit["_score"] for hit in hits] == sorted((hit["_score"] for hit in hits), reverse=True)
    assert not any("sort" in hit for hit in hits)


def test_a_point_in_time_is_read_and_comes_back(films: Films) -> None:
    """With a `pit`, no index is in the path, and the answer has its id."""
    pit = send_json(f"{films.engine.url}/{INDEX}/_pit?keep_alive=1m", method="POST")["id"]
    said = {"retriever": STANDARD, "inference_id": "ours", "inference_text": QUESTION, "field": "text"}
    body = {"pit": {"id": pit}, "retriever": {"text_similarity_reranker": said}}
    try:
        answer = send_json(f"{films.system.url}/_search", body, method="POST")
    finally:
        send_json(f"{films.engine.url}/_pit", {"id": pit}, method="DELETE")
    assert "pit_id" in answer
    assert [hit["_id"] for hit in answer["hits"]["hits"]] == [hit["_id"] for hit in films.search({})["hits"]["hits"]]


@pytest.mark.parametrize(
    ("body", "asked", "kind", "words"),
    [
        ({}, {"field": None}, "parsing_exception", "field doesn't support values of type: VALUE_NULL"),
        ({}, {"chunk_rescorer": {"size": 2}}, "illegal_argument_exception", "es-rerank does not do [size: 2]"),
        ({"size": 11}, {}, "action_request_validation_exception", "requires [rank_window_size: 10]"),
        ({"sort": "n"}, {}, "action_request_validation_exception", "cannot specify [retriever] and [sort]"),
        ({}, {"retriever": {"nope": {}}}, "parsing_exception", "unknown retriever [nope]"),
        ({}, {"inference_id": "theirs"}, "parsing_exception", "unknown retriever [text_similarity_reranker]"),
    ],
)
def test_a_refusal_is_elasticsearchs_or_like_it(
    films: Films, body: dict[str, Any], asked: dict[str, Any], kind: str, words: str
) -> None:
    """What is wrong in the reranker we say in Elasticsearch's form; all else the engine says itself."""
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        films.search(body, **asked)
    with refused.value as reply:
        error = json.load(reply)
    assert error["status"] == 400
    assert error["error"]["type"] == kind
    assert words in error["error"]["reason"]


class RecordingEngine:
    """Keeps the searches that it is sent, and answers each with hits in the published shape."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                engine.asked.append((self.path, body))
                hits = [
                    {"_index": "a", "_id": str(n), "_score": 0.1 / n, "_source": {"text": text}}
                    for n, text in enumerate(("a desert war", "a robot in love on an island"), start=1)
                ]
                total = {"value": 2, "relation": "eq"}
                answer = {"took": 1, "timed_out": False, "_shards": {"total": 1, "failed": 0}}
                data = json.dumps({**answer, "hits": {"total": total, "max_score": 0.1, "hits": hits}}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is http.server's
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def recording() -> Iterator[RecordingEngine]:
    """An engine that has every retriever."""
    engine = RecordingEngine()
    thread = threading.Thread(target=engine.server.serve_forever, daemon=True)
    thread.start()
    yield engine
    engine.server.shutdown()
    engine.server.server_close()


def test_retrievers_that_need_a_licence_are_sent_as_they_are(
    recording: RecordingEngine, run_system: Callable[..., System]
) -> None:
    """`rrf` and `linear` go to the engine unchanged, and their sums are no obstacle."""
    system = run_system(recording.url, extra=EXTRA)
    if not system.workers():
        system.start_worker()
    for inner in (
        {"rrf": {"retrievers": [STANDARD, KNN], "rank_window_size": 50, "rank_constant": 20}},
        {
            "linear": {
                "retrievers": [{"retriever": STANDARD, "weight": 2.5, "normalizer": "minmax"}],
                "rank_window_size": 50,
            }
        },
    ):
        said = {"retriever": inner, "inference_id": "ours", "inference_text": QUESTION, "field": "text"}
        body = {"retriever": {"text_similarity_reranker": {**said, "rank_window_size": 40}}, "size": 5}
        answer = send_json(f"{system.url}/a/_search", body, method="POST")
        assert [hit["_id"] for hit in answer["hits"]["hits"]] == ["2", "1"]
        assert recording.asked.pop() == ("/a/_search?from=0&size=40", {"retriever": inner, "size": 5})
        assert not recording.asked
