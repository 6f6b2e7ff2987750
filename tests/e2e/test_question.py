"""What searches ask, through the whole running system: the engine's own mapping says which clauses count."""

from __future__ import annotations

import contextlib
import json
import urllib.error
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

INDEX = "films-questioned"
FIELDS: dict[str, Any] = {
    "text": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
    "genre": {"type": "keyword"},
    "kind": {"type": "alias", "path": "genre"},
    "year": {"type": "integer"},
    "shown": {"type": "boolean"},
    "day": {"type": "date"},
    "address": {"type": "ip"},
    "maker": {"properties": {"name": {"type": "text"}, "code": {"type": "keyword"}}},
}
# Kinds of texts that only this engine has here: in Elasticsearch they come with a module that the test's lacks.
MORE_FIELDS: dict[str, Any] = {"short": {"type": "match_only_text"}, "typed": {"type": "search_as_you_type"}}
FILM = {
    "text": "a red fox on a small island",
    "genre": "drama",
    "year": 1987,
    "shown": True,
    "day": "2024-01-01",
    "address": "10.0.0.1",
    "maker": {"name": "north light", "code": "nl"},
    "short": "a red fox",
    "typed": "a red fox",
}
FOX = {"match": {"text": "red fox"}}
VALUES = [
    {"match": {"genre": "drama"}},
    {"match": {"kind": "drama"}},
    {"match": {"text.raw": FILM["text"]}},
    {"match": {"year": "1987"}},
    {"match": {"shown": "true"}},
    {"match": {"day": "2024-01-01"}},
    {"match": {"address": "10.0.0.1"}},
    {"match": {"maker.code": "nl"}},
    {"multi_match": {"query": "drama", "fields": ["genre^3", "maker.code"]}},
    {"query_string": {"query": "genre:drama AND year:1987"}},
]


class Films:
    """Films in an engine and behind the system."""

    def __init__(self, engine: Engine, system: System) -> None:
        self.engine = engine
        self.system = system
        self.fields = FIELDS | (MORE_FIELDS if engine.name == "opensearch" else {})
        if engine.name == "osmem":
            self.fields = {name: self.fields[name] for name in self.fields if name != "kind"}

    def asked(self, query: dict[str, Any], /, **controls: Any) -> dict[str, Any]:
        """The status of a search, which has its question; it finds the film."""
        answer = self.system.search(INDEX, {"query": query}, include=["question"], **controls)
        assert [hit["_id"] for hit in answer["hits"]["hits"]] == ["1"]
        return dict(answer["_es_rerank"])


@pytest.fixture(scope="module")
def films(any_engine: Engine, system_on: Callable[[Engine], System]) -> Films:
    """One film whose fields are of many types."""
    films = Films(any_engine, system_on(any_engine))
    with contextlib.suppress(urllib.error.HTTPError):  # pytest may come back to an engine
        send_json(f"{any_engine.url}/{INDEX}", method="DELETE")
    send_json(f"{any_engine.url}/{INDEX}", {"mappings": {"properties": films.fields}}, method="PUT")
    film = {name: value for name, value in FILM.items() if name in films.fields}
    send_json(f"{any_engine.url}/{INDEX}/_doc/1?refresh=true", film, method="PUT")
    return films


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_values_are_no_part_of_the_question(films: Films, value: dict[str, Any]) -> None:
    """A clause on a keyword, number, boolean, date or address in the `must` leaves no words behind."""
    if "kind" in str(value) and "kind" not in films.fields:
        pytest.skip("this engine has no field aliases")
    status = films.asked({"bool": {"must": [value, FOX]}})
    assert (status["status"], status["question"]) == ("full", "red fox")


def test_all_texts_are(films: Films) -> None:
    """Every kind of text counts, below an object too."""
    clauses = [FOX, {"match": {"maker.name": "north light"}}]
    words = "red fox north light"
    if "short" in films.fields:
        clauses += [{"match": {"short": "a fox"}}, {"match_bool_prefix": {"typed": "a re"}}]
        words += " a fox a re"
    assert films.asked({"bool": {"must": clauses}})["question"] == words


def test_a_question_in_the_url_leaves_values_out_too(films: Films) -> None:
    """`q` with `lang:en` and the like asks only what is sought in texts."""
    query = quote("genre:drama AND text:(red fox)")
    ext = {"ext": {"es_rerank": {"include": ["question"]}}}
    answer = send_json(f"{films.system.url}/{INDEX}/_search?q={query}", ext, method="POST")
    assert answer["_es_rerank"]["question"] == "red fox"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"bool": {"should": [{"term": {"text": "red"}}, {"term": {"text": "fox"}}]}}, "red fox"),
        ({"prefix": {"text": {"value": "isl"}}}, "isl"),
        (
            {"span_near": {"clauses": [{"span_term": {"text": "red"}}, {"span_term": {"text": "fox"}}], "slop": 0}},
            "red fox",
        ),
        ({"intervals": {"text": {"match": {"query": "red fox"}}}}, "red fox"),
        (
            {"more_like_this": {"fields": ["text"], "like": "red fox", "min_term_freq": 1, "min_doc_freq": 1}},
            "red fox",
        ),
        ({"bool": {"must": [FOX, {"match": {"maker.name": {"query": "north", "boost": 0}}}]}}, "red fox"),
    ],
)
def test_every_way_to_ask_for_words_is_read(films: Films, query: dict[str, Any], words: str) -> None:
    """Terms for words, spans, intervals and likeness find the film and ask its words; a boost of 0 asks nothing."""
    status = films.asked(query)
    assert (status["status"], status["question"]) == ("full", words)


def test_terms_on_keywords_are_no_question(films: Films) -> None:
    """A search of values alone passes through as before."""
    query = {"bool": {"should": [{"term": {"genre": "drama"}}, {"term": {"genre": "crime"}}]}}
    assert films.asked(query)["reason"] == "no_text_query"


def test_a_persons_own_words_rank_a_search_without_a_text(films: Films) -> None:
    """With `query`, hits of filters alone are ranked by these words, and the engine sees none of it."""
    query = {"bool": {"filter": [{"term": {"genre": "drama"}}]}}
    status = films.asked(query, query="a  film about a fox")
    assert (status["status"], status["question"], status["scored"]) == ("full", "a film about a fox", 1)
    body = json.dumps({"query": query, "ext": {"es_rerank": {"query": ""}}}).encode()
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        send_json(f"{films.system.url}/{INDEX}/_search", body, method="POST")
    refused.value.close()


def test_the_same_words_have_the_same_scores(films: Films) -> None:
    """A question that is asked with a keyword beside it is found in the cache of the one without."""
    text = f"fox island {films.engine.name}"  # all engines share a cache
    words = {"match": {"text": text}}
    assert films.asked(words)["cached"] == 0
    assert films.asked({"bool": {"must": [{"match": {"genre": "drama"}}, words]}})["cached"] == 1
    assert films.asked({"match": {"genre": "drama"}}, query=text)["cached"] == 1


def test_among_many_searches_each_has_its_own_question(films: Films) -> None:
    """A search in an `_msearch` has the question that it has alone, also one whose words only a mapping makes texts."""
    words = {"bool": {"should": [{"term": {"text": "red"}}, {"term": {"text": "fox"}}]}}
    queries = [{"bool": {"must": [VALUES[0], FOX]}}, words, FOX]
    ext = {"es_rerank": {"include": ["question"]}}
    lines = [line for query in queries for line in ({"index": INDEX}, {"query": query, "ext": ext})]
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    answers = send_json(f"{films.system.url}/_msearch", body, method="POST")["responses"]
    assert [answer["_es_rerank"]["question"] for answer in answers] == ["red fox"] * 3
    assert {answer["_es_rerank"]["status"] for answer in answers} == {"full"}
