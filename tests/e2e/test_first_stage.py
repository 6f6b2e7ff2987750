"""First stages other than the words of a query, on the real engines: the answer is theirs, in another order."""

from __future__ import annotations

import contextlib
import json
import urllib.error
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System

INDEX = "films-staged"
RULES = """
[limits]
max_deadline_s = 120.0
[[rules]]
name = "staged"
indices = ["films-staged*"]
fields = ["text"]
any_language = true
deadline_s = 60.0
window = 12
first_stage = "any"
"""
WORDS = ("red", "fox", "old", "house", "island", "robot", "night")
FILMS = {
    str(number): {"text": " ".join(WORDS[number * step % 7] for step in range(1, 4 + number % 3)), "n": number}
    for number in range(30)
}
FOX: dict[str, Any] = {"match": {"text": "red fox"}}
KNN: dict[str, Any] = {"field": "v", "query_vector": [20, 1], "k": 8, "num_candidates": 30}
RESCORE: dict[str, Any] = {
    "window_size": 6,
    "query": {"rescore_query": {"match": {"text": "robot"}}, "rescore_query_weight": -2.0},
}
# A retriever takes no score below 0.
BOOSTED: dict[str, Any] = {"window_size": 6, "query": {"rescore_query": {"match": {"text": "robot"}}}}
SUMS: dict[str, Any] = {"sum": {"sum": {"field": "n"}}}


@dataclass(frozen=True, slots=True)
class Staged:
    """Films in an engine, and the engine behind a proxy whose rule takes any first stage."""

    engine: Engine
    system: System

    def direct(self, body: dict[str, Any], parameters: str = "") -> Any:
        """The engine's own answer."""
        return send_json(f"{self.engine.url}/{INDEX}/_search{parameters}", body, method="POST")

    def proxied(self, body: dict[str, Any], parameters: str = "", /, **controls: Any) -> Any:
        """The answer through the proxy, with the status."""
        asked = {"es_rerank": {"include": ["status", "scores"], **controls}}
        body = {**body, "ext": {**body.get("ext", {}), **asked}}
        return send_json(f"{self.system.url}/{INDEX}/_search{parameters}", body, method="POST")

    def refusal(self, url: str, body: dict[str, Any]) -> tuple[int, Any]:
        """With what a search of these films is refused."""
        with pytest.raises(urllib.error.HTTPError) as refused:
            send_json(f"{url}/{INDEX}/_search", body, method="POST")
        with refused.value as answer:
            return answer.code, json.load(answer)


@pytest.fixture(scope="module")
def staged(
    real_engine: Engine, system_on: Callable[[Engine], System], run_system: Callable[..., System]
) -> Iterator[Staged]:
    """Thirty films with vectors, where the engine has those."""
    system_on(real_engine)  # for its worker
    url = f"{real_engine.url}/{INDEX}"
    with contextlib.suppress(urllib.error.HTTPError):  # pytest may come back to an engine
        send_json(url, method="DELETE")
    fields: dict[str, Any] = {"text": {"type": "text"}, "n": {"type": "integer"}}
    if real_engine.name != "opensearch":
        fields["v"] = {"type": "dense_vector", "dims": 2, "index": True, "similarity": "l2_norm"}
    settings = {"number_of_shards": 1, "number_of_replicas": 0}
    send_json(url, {"settings": settings, "mappings": {"properties": fields}}, method="PUT")
    films = {key: {**film, "v": [film["n"], 1]} if "v" in fields else film for key, film in FILMS.items()}
    lines = [json.dumps(line) for key, film in films.items() for line in ({"index": {"_id": key}}, film)]
    send_json(f"{url}/_bulk?refresh=true", "".join(f"{line}\n" for line in lines).encode(), method="POST")
    yield Staged(real_engine, run_system(real_engine.url, extra=RULES))
    send_json(url, method="DELETE")


@pytest.fixture
def elastic(staged: Staged) -> Staged:
    """The same, on Elasticsearch."""
    if staged.engine.name == "opensearch":
        pytest.skip("OpenSearch has vectors and retrievers in plug-ins, if at all")
    return staged


@pytest.fixture
def opensearch_staged(staged: Staged) -> Staged:
    """The same, on OpenSearch."""
    if staged.engine.name != "opensearch":
        pytest.skip("only OpenSearch has search pipelines")
    return staged


def ids_of(answer: Any) -> list[str]:
    """The hits of an answer."""
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def rest_of(answer: Any) -> Any:
    """What an answer says beside its order, its scores, its time, and what is ours."""
    hits = sorted(({**hit, "_score": 0} for hit in answer["hits"]["hits"]), key=lambda hit: str(hit["_id"]))
    hits = [{key: value for key, value in hit.items() if key != "_es_rerank"} for hit in hits]
    others = {key: value for key, value in answer.items() if key not in {"took", "hits", "_es_rerank"}}
    return others, answer["hits"]["total"], hits


@pytest.mark.parametrize(
    ("stage", "search"),
    [
        ("vectors", {"knn": KNN}),
        ("vectors", {"query": {"knn": KNN}}),
        ("vectors", {"retriever": {"knn": KNN}}),
        ("vectors", {"knn": {**KNN, "k": None}, "size": 7}),
        ("vectors", {"query": {"knn": {"field": "v", "query_vector": [3, 1]}}, "size": 7}),
        ("hybrid", {"query": FOX, "knn": KNN, "size": 12}),
        (None, {"retriever": {"standard": {"query": FOX}}, "size": 12}),
        ("rescore", {"retriever": {"rescorer": {"retriever": {"standard": {"query": FOX}}, "rescore": BOOSTED}}}),
    ],
    ids=str,
)
def test_the_hits_are_those_of_the_engines_first_stage(elastic: Staged, stage: str | None, search: Any) -> None:
    """Vectors and retrievers find what they find without us, to the total and the sums; the order is the model's."""
    if search.get("knn", {}).get("k", 1) is None:
        search = {**search, "knn": {key: value for key, value in search["knn"].items() if key != "k"}}
    if stage == "rescore":
        search = {**search, "size": 6}
    search = {**search, "aggs": SUMS}
    own, ours = elastic.direct(search), elastic.proxied(search, query="a robot in an old house", alpha=0)
    assert rest_of(ours) == rest_of(own)
    status = ours["_es_rerank"]
    assert (status["status"], status.get("first_stage"), status["window"]) == ("full", stage, len(ids_of(own)))
    by_rank = sorted(ours["hits"]["hits"], key=lambda hit: int(hit["_es_rerank"]["engine_rank"]))
    assert ids_of({"hits": {"hits": by_rank}}) == ids_of(own)
    ranks = [hit["_es_rerank"]["rank_score"] for hit in ours["hits"]["hits"]]
    assert ranks == sorted(ranks, reverse=True)


def test_pages_of_a_rescored_search_tile_one_list(staged: Staged) -> None:
    """What was rescored is the window, whatever the rule's is; its pages hold each hit once, each with its score."""
    search = {"query": {"match": {"text": "fox island robot"}}, "rescore": RESCORE}
    own = staged.direct({**search, "size": 6})
    pages = [staged.proxied({**search, "from": start, "size": 2}) for start in (0, 2, 4)]
    assert {(page["_es_rerank"]["first_stage"], page["_es_rerank"]["window"]) for page in pages} == {("rescore", 6)}
    hits = [hit for page in pages for hit in page["hits"]["hits"]]
    assert sorted(hit["_id"] for hit in hits) == sorted(ids_of(own))
    by_rank = sorted(hits, key=lambda hit: int(hit["_es_rerank"]["engine_rank"]))
    engine = [(hit["_id"], hit["_es_rerank"]["engine_score"]) for hit in by_rank]
    assert engine == [(hit["_id"], hit["_score"]) for hit in own["hits"]["hits"]]
    behind = staged.proxied({**search, "from": 6, "size": 2})
    assert behind["_es_rerank"]["reason"] == "past_window"


def test_scores_without_words_are_ranked_by_a_persons(staged: Staged) -> None:
    """A function of the document is a first stage too, once the request says what is asked; all scores are equal."""
    search: dict[str, Any] = {"query": {"function_score": {"query": {"range": {"n": {"lt": 9}}}, "weight": 3}}}
    assert staged.proxied(search)["_es_rerank"]["reason"] == "no_text_query"
    answer = staged.proxied(search, query="a red fox")
    assert (answer["_es_rerank"]["status"], answer["_es_rerank"]["window"]) == ("full", 9)
    assert sorted(ids_of(answer)) == sorted(ids_of(staged.direct(search)))


def test_elasticsearch_judges_an_ext_that_it_does_not_know(elastic: Staged) -> None:
    """`ext.rerank` is refused as it is without us."""
    search = {"query": FOX, "ext": {"rerank": {"query_context": {"query_text": "a fox"}}}}
    assert elastic.refusal(elastic.system.url, search) == elastic.refusal(elastic.engine.url, search)


@pytest.fixture
def pipelines(opensearch_staged: Staged) -> Iterator[Staged]:
    """Two pipelines: `staged-even` finds fewer hits, `staged-named` changes what is answered."""
    url = f"{opensearch_staged.engine.url}/_search/pipeline"
    few = {"request_processors": [{"filter_query": {"query": {"range": {"n": {"lt": 15}}}}}]}
    renamed = {"response_processors": [{"rename_field": {"field": "n", "target_field": "number"}}]}
    send_json(f"{url}/staged-few", few, method="PUT")
    send_json(f"{url}/staged-named", renamed, method="PUT")
    yield opensearch_staged
    for name in ("few", "named"):
        send_json(f"{url}/staged-{name}", method="DELETE")


def test_a_pipeline_that_finds_is_a_first_stage(pipelines: Staged) -> None:
    """Its hits are reranked, whether it is named in the URL or the body; one that changes answers is the engine's."""
    body = {"query": FOX, "size": 12}
    own = pipelines.direct(body, "?search_pipeline=staged-few")
    for answer in (
        pipelines.proxied(body, "?search_pipeline=staged-few"),
        pipelines.proxied({**body, "search_pipeline": "staged-few"}),
    ):
        assert (answer["_es_rerank"]["status"], answer["_es_rerank"]["first_stage"]) == ("full", "pipeline")
        assert rest_of(answer) == rest_of(own)
    for name in ("staged-named", "_none"):
        own = pipelines.direct(body, f"?search_pipeline={name}")
        answer = pipelines.proxied(body, f"?search_pipeline={name}")
        assert answer["_es_rerank"]["reason"] == ("search_pipeline" if name == "staged-named" else None)
        assert rest_of(answer) == rest_of(own)


def test_opensearchs_own_request_is_reranked_without_its_plug_in(pipelines: Staged) -> None:
    """The text that is asked is the question, and the engine never sees an `ext` that it would refuse."""
    for context in ({"query_text": "a robot"}, {"query_text_path": "query.match.text.query"}):
        search = {"query": FOX, "ext": {"rerank": {"query_context": context}}}
        answer = pipelines.proxied(search, include=["question"])
        words = context.get("query_text", "red fox")
        assert (answer["_es_rerank"]["status"], answer["_es_rerank"]["question"]) == ("full", words)


def test_a_default_pipeline_that_we_cant_stand_in_for_is_kept(pipelines: Staged) -> None:
    """The client's own search goes to the engine, `ext.rerank` and all: here it lacks the plug-in, and says so."""
    settings = f"{pipelines.engine.url}/{INDEX}/_settings"
    search = {"query": FOX, "ext": {"rerank": {"query_context": {"query_text": "a fox"}}}}
    send_json(settings, {"index.search.default_pipeline": "staged-named"}, method="PUT")
    try:
        fresh = f"{INDEX}*"  # so that the proxy does not know its pipeline yet
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            send_json(f"{pipelines.system.url}/{fresh}/_search", search, method="POST")
        refused.value.close()
        pipelines.system.await_log(f'"index":"{fresh}"')
        [line] = [line for line in pipelines.system.log_lines() if line.get("index") == fresh]
        assert line["reason"] == "search_pipeline"
    finally:
        send_json(settings, {"index.search.default_pipeline": None}, method="PUT")
