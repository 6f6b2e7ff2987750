"""Searches through the whole running system, on the embedded engine and every real one, next to the engine itself."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.conftest import send_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

FILM_COUNT = 150
WINDOW = 100
ALPHA = 0.3
SUBJECTS = ("a lonely robot", "two sisters", "an old sailor", "the young queen", "a stray dog", "three thieves")
DEEDS = ("learns to love", "escapes from prison", "finds a treasure", "loses everything", "returns to the sea")
PLACES = ("in a city of glass", "during a long war", "on a small island", "under the desert", "at the end of winter")
QUERY = {"query": {"match": {"text": "a film about a robot who finds love on an island"}}}
SKIPPED = {"sort": [{"title.keyword": "asc"}]}


class Pair:
    """An engine and the system before it, with the same films."""

    def __init__(self, engine: Engine, system: System) -> None:
        self.engine = engine
        self.system = system

    def direct(self, target: str, body: Any = None, method: str = "POST") -> Any:
        """What the engine says."""
        return send_json(self.engine.url + target, body, method=method)

    def proxied(self, target: str, body: Any = None, method: str = "POST") -> Any:
        """What the system says."""
        return send_json(self.system.url + target, body, method=method)


@pytest.fixture(scope="module")
def pair(any_engine: Engine, system_on: Callable[[Engine], System]) -> Pair:
    """Films, in an engine and behind the system."""
    chance = random.Random(7)
    films = {
        f"f{number}": {
            "title": f"Film {number}",
            "year": 1900 + number,
            "text": "A film. "
            + ". ".join(f"{chance.choice(SUBJECTS)} {chance.choice(DEEDS)} {chance.choice(PLACES)}" for _ in range(3)),
            "big": 2**60 + number,
            "ratio": 1.0,
        }
        for number in range(FILM_COUNT)
    }
    any_engine.load("films", films)
    return Pair(any_engine, system_on(any_engine))


def ids(answer: Any) -> list[str]:
    """The ids of an answer's hits, in order."""
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def without_took(answer: Any) -> Any:
    """An answer but for what changes from call to call."""
    return {key: value for key, value in answer.items() if key != "took"}


def z_scores(scores: list[float]) -> list[float]:
    """By the definition, apart from our own code."""
    deviation = statistics.pstdev(scores)
    return [(score - statistics.fmean(scores)) / deviation if deviation else 0.0 for score in scores]


def test_the_window_is_fused_as_the_model_card_does(pair: Pair) -> None:
    """The order is that of 0.3 z(engine) + 0.7 z(rank) over the whole window, recomputed from the answer's scores."""
    answer = pair.system.search("films", {**QUERY, "size": WINDOW}, include=["status", "scores"])
    status = answer["_es_rerank"]
    assert (status["status"], status["reason"], status["scored"], status["missing"]) == ("full", None, WINDOW, 0)
    assert (status["rule"], status["scorer"], status["window"]) == ("films", "minilm", WINDOW)
    hits = sorted(answer["hits"]["hits"], key=lambda hit: hit["_es_rerank"]["engine_rank"])
    assert [hit["_id"] for hit in hits] == ids(pair.direct("/films/_search", {**QUERY, "size": WINDOW}))
    engine = z_scores([hit["_es_rerank"]["engine_score"] for hit in hits])
    rank = z_scores([hit["_es_rerank"]["rank_score"] for hit in hits])
    fused = [ALPHA * one + (1 - ALPHA) * other for one, other in zip(engine, rank, strict=True)]
    for hit, expected in zip(hits, fused, strict=True):
        assert math.isclose(hit["_es_rerank"]["fused_score"], expected, abs_tol=1e-9)
    best_first = sorted(range(WINDOW), key=lambda index: (-fused[index], index))
    assert ids(answer) == [hits[index]["_id"] for index in best_first]


def test_scores_fall_and_stay_on_the_engines_scale(pair: Pair) -> None:
    """_score never rises down the list, starts at max_score, and ends no lower than the window's lowest of before."""
    before = pair.direct("/films/_search", {**QUERY, "size": FILM_COUNT})
    after = pair.proxied("/films/_search", {**QUERY, "size": FILM_COUNT})
    scores = [hit["_score"] for hit in after["hits"]["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == after["hits"]["max_score"]
    assert min(scores[:WINDOW]) >= before["hits"]["hits"][WINDOW - 1]["_score"]
    assert [hit["_score"] for hit in before["hits"]["hits"][WINDOW:]] == scores[WINDOW:]
    first_page = pair.proxied("/films/_search", {**QUERY, "size": 3, "from": 20})
    assert first_page["hits"]["max_score"] == after["hits"]["max_score"]


@pytest.mark.parametrize("size", [7, 10, 40, 130])
def test_pages_tile_the_ranked_list(pair: Pair, size: int) -> None:
    """Pages inside, across and past the window are slices of one list: every hit once, the tail in engine order."""
    whole = ids(pair.proxied("/films/_search", {**QUERY, "size": FILM_COUNT}))
    pages = [pair.proxied("/films/_search", {**QUERY, "from": start, "size": size}) for start in range(0, 150, size)]
    assert [hit for page in pages for hit in ids(page)] == whole
    assert len(set(whole)) == FILM_COUNT
    assert whole[WINDOW:] == ids(pair.direct("/films/_search", {**QUERY, "from": WINDOW, "size": 50}))


def test_an_answer_has_nothing_of_ours_unless_asked(pair: Pair) -> None:
    """But for order and scores, every part of the answer is the engine's: the same keys, totals and documents."""
    before = pair.direct("/films/_search", {**QUERY, "size": FILM_COUNT, "aggs": {"y": {"max": {"field": "year"}}}})
    after = pair.proxied("/films/_search", {**QUERY, "size": FILM_COUNT, "aggs": {"y": {"max": {"field": "year"}}}})
    assert list(after) == list(before)
    assert {**after["hits"], "hits": []} == {**before["hits"], "hits": []}
    assert after["aggregations"] == before["aggregations"]

    def by_id(answer: Any) -> dict[str, Any]:
        return {hit["_id"]: {**hit, "_score": 0} for hit in answer["hits"]["hits"]}

    assert by_id(after) == by_id(before)


@pytest.fixture(scope="module")
def prose(pair: Pair) -> Pair:
    """The same, with an index of German sentences and one of English ones."""
    for index, sentence in (
        ("prose-de", "Der {} sitzt auf dem Dach und singt ein Lied, während der Regen auf die Stadt fällt."),
        ("prose-en", "The {} sits on the roof and sings a song, while the rain falls on the town."),
    ):
        birds = ("Vogel", "Storch", "Rabe", "Spatz", "Fink", "Kauz", "Vogel Vogel", "Vogel Rabe", "Vogel Fink", "Star")
        pair.engine.load(index, {str(number): {"text": sentence.format(bird)} for number, bird in enumerate(birds)})
    return pair


def test_a_window_in_another_language_is_the_engines_on_every_page(prose: Pair) -> None:
    """MiniLM reads English: a German window is answered as the engine does, and only the status is ours."""
    for page in ({}, {"size": 3}, {"from": 3, "size": 4}):
        body = {"query": {"match": {"text": "welcher Vogel singt auf dem Dach"}}, **page}
        expected = without_took(prose.direct("/prose-de/_search", body))
        if prose.engine.name == "osmem":  # it gives the best score of the page, where the engines give that of all hits
            expected["hits"]["max_score"] = prose.direct("/prose-de/_search", {**body, "from": 0})["hits"]["max_score"]
        assert without_took(prose.proxied("/prose-de/_search", body)) == expected
        answer = without_took(prose.system.search("prose-de", body))
        status = answer.pop("_es_rerank")
        assert (status["status"], status["reason"], status["rule"]) == ("skipped", "language", "prose")
        assert answer == expected


def test_a_window_in_the_scorers_language_is_reranked(prose: Pair) -> None:
    """The same in English is reranked."""
    answer = prose.system.search("prose-en", {"query": {"match": {"text": "which Vogel sings on the roof"}}})
    assert answer["_es_rerank"]["status"] == "full"


def test_numbers_keep_their_digits(pair: Pair) -> None:
    """What JSON libraries lose, large integers and 1.0, arrives as it was sent."""
    request = urllib.request.Request(
        pair.system.url + "/films/_search", json.dumps(QUERY).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        raw = reply.read()
    assert b"115292150460684" in raw
    assert re.search(rb'"ratio": ?1\.0[,}]', raw)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sort": [{"year": "asc"}]}, "sort"),
        ({"size": 0}, "size_zero"),
        ({"from": 100, "size": 10}, "past_window"),
        ({"query": {"match_all": {}}}, "no_text_query"),
        ({"query": {"range": {"year": {"gt": 1950}}}}, "no_text_query"),
    ],
)
def test_what_is_not_ours_passes_and_says_why(pair: Pair, changes: dict[str, Any], reason: str) -> None:
    """A search that isn't reranked is the engine's answer, and its status names the reason; no Warning."""
    body = {**QUERY, **changes}
    before = pair.direct("/films/_search", body)
    assert without_took(pair.proxied("/films/_search", body)) == without_took(before)
    asked = pair.system.search("films", body)
    status = asked.pop("_es_rerank")
    assert (status["status"], status["reason"], status["rule"]) == ("skipped", reason, "films")
    assert without_took(asked) == without_took(before)


def test_a_request_may_turn_reranking_off(pair: Pair) -> None:
    """By `rerank: false` in the body or `ES-Rerank: off` in the header, the engine's own answer comes back."""
    before = without_took(pair.direct("/films/_search", QUERY))
    off = {**QUERY, "ext": {"es_rerank": {"rerank": False}}}
    assert without_took(pair.proxied("/films/_search", off)) == before
    target = f"/films/_search?q={quote('text:robot island')}"
    request = urllib.request.Request(pair.system.url + target, headers={"ES-Rerank": "off"})
    with urllib.request.urlopen(request) as reply:
        assert without_took(json.load(reply)) == without_took(pair.direct(target, method="GET"))


def test_a_search_without_a_body_is_reranked_and_says_so(pair: Pair) -> None:
    """`?q=` is a text query; `ES-Rerank: include=status` asks for the status where there is no body."""
    target = f"/films/_search?q={quote('text:(robot OR island) AND NOT text:queen')}&size=3"
    request = urllib.request.Request(pair.system.url + target, headers={"ES-Rerank": "include=status"})
    with urllib.request.urlopen(request) as reply:
        answer = json.load(reply)
    assert answer["_es_rerank"]["status"] == "full"
    assert len(answer["hits"]["hits"]) == 3


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_form_of_the_same_search_is_answered_alike(pair: Pair, method: str) -> None:
    """A body on GET or POST, and the `source` parameter, give the same hits."""
    expected = ids(pair.proxied("/films/_search", QUERY))
    assert ids(pair.proxied("/films/_search", QUERY, method=method)) == expected
    if pair.engine.name != "osmem":  # which does not know the parameter
        source = quote(json.dumps(QUERY))
        target = f"/films/_search?source={source}&source_content_type=application/json"
        assert ids(pair.proxied(target, method="GET")) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"_source": False},
        {"_source": ["year"]},
        {"_source": {"excludes": ["text", "title"]}},
        {"_source": False, "fields": ["year"]},
        {"_source": False, "fields": ["title", "year"]},
        {"stored_fields": ["year"]},
    ],
)
def test_hidden_text_is_scored_and_stays_hidden(pair: Pair, changes: dict[str, Any]) -> None:
    """Where the client hides the text it is scored all the same, and each hit has just what the engine gives."""
    if pair.engine.name == "osmem" and ("fields" in changes or "stored_fields" in changes):
        pytest.skip("osmem answers `fields` in its own way")
    visible = ids(pair.proxied("/films/_search", {**QUERY, "size": 20}))
    answer = pair.system.search("films", {**QUERY, "size": 20, **changes})
    assert answer.pop("_es_rerank")["status"] == "full"
    assert ids(answer) == visible
    direct = pair.direct("/films/_search", {**QUERY, "size": FILM_COUNT, **changes})
    expected = {hit["_id"]: {**hit, "_score": 0} for hit in direct["hits"]["hits"]}
    for hit in answer["hits"]["hits"]:
        assert {**hit, "_score": 0} == expected[hit["_id"]]


def test_a_sort_by_score_keeps_its_sort_values(pair: Pair) -> None:
    """With `_score` first in `sort`, hits are reranked and carry the new score in the first sort slot."""
    answer = pair.proxied("/films/_search", {**QUERY, "sort": ["_score", {"year": "desc"}], "size": 30})
    assert len(ids(answer)) == 30
    for hit in answer["hits"]["hits"]:
        assert hit["sort"] == [hit["_score"], hit["_source"]["year"]]


@pytest.mark.parametrize(
    ("controls", "field"),
    [
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": "0.2"}, "alpha"),
        ({"method": "magic"}, "method"),
        ({"window": 0}, "window"),
        ({"window": 201}, "window"),
        ({"deadline_s": 121}, "deadline_s"),
        ({"include": ["everything"]}, "include"),
        ({"upstream": "http://elsewhere"}, "upstream"),
    ],
)
def test_what_a_request_may_not_ask_is_a_400(pair: Pair, controls: dict[str, Any], field: str) -> None:
    """Anything but the named fields within their limits is refused, in the engine's shape, naming the field."""
    body = {**QUERY, "ext": {"es_rerank": controls}}
    with pytest.raises(urllib.error.HTTPError) as caught:
        pair.proxied("/films/_search", body)
    with caught.value as refusal:
        error = json.load(refusal)
    assert (refusal.code, error["status"]) == (400, 400)
    assert field in error["error"]["reason"]


@pytest.mark.parametrize(
    ("alpha", "method"), [(1.0, "zscore"), (0.0, "zscore"), (0.5, "minmax"), (0.5, "rrf"), (0.2, "zscore")]
)
def test_a_request_may_choose_how_to_fuse(pair: Pair, alpha: float, method: str) -> None:
    """Method and alpha of the request are used: alpha 1 is engine order, and 0 that of the rank scores."""
    body = {**QUERY, "size": WINDOW}
    answer = pair.system.search("films", body, alpha=alpha, method=method, include=["status", "scores"])
    scores = [hit["_es_rerank"] for hit in answer["hits"]["hits"]]
    fused = [score["fused_score"] for score in scores]
    assert fused == sorted(fused, reverse=True)
    if alpha == 1.0:
        assert [score["engine_rank"] for score in scores] == list(range(1, WINDOW + 1))
    if alpha == 0.0:
        rank_scores = [score["rank_score"] for score in scores]
        assert rank_scores == sorted(rank_scores, reverse=True)


def test_a_smaller_window_is_reranked_alone(pair: Pair) -> None:
    """`window: 10` reranks ten hits; the rest of the page follows in engine order."""
    before = ids(pair.direct("/films/_search", {**QUERY, "size": 30}))
    answer = pair.system.search("films", {**QUERY, "size": 30}, window=10)
    assert answer["_es_rerank"]["window"] == 10
    assert sorted(ids(answer)[:10]) == sorted(before[:10])
    assert ids(answer)[10:] == before[10:]


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/films/_search", {"query": {"match": {"text": {"query": "a", "fuzzines": 1}}}}),
        ("/films/_search", {"query": {"nonsense": {}}}),
        ("/films/_search?from=9990&size=100", QUERY),
        ("/films/_search?from=50&size=9990", QUERY),
        ("/films/_search?sizze=3", QUERY),
        ("/films-none/_search", QUERY),
        ("/films-none/_search?filter_path=error.type&pretty", QUERY),
        ("/films/_search", b'{"query": {"match": '),
    ],
)
def test_the_engines_refusals_are_byte_for_byte_its_own(pair: Pair, target: str, body: Any) -> None:
    """Status and body of a refusal are what the client would have got without us."""
    answers = []
    for url in (pair.engine.url, pair.system.url):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(url + target, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request) as reply:
                answers.append((reply.status, b""))
        except urllib.error.HTTPError as error:
            with error:
                answers.append((error.code, error.read()))
    assert answers[0] == answers[1]


def test_an_index_that_allows_no_window_is_still_searched(pair: Pair) -> None:
    """Where max_result_window is below our window, the engine's own page comes back, with a Warning that says so."""
    if pair.engine.name == "osmem":
        pytest.skip("osmem does not enforce max_result_window")
    pair.engine.load("films-small", {"1": {"title": "x", "text": "robot island"}})
    pair.direct("/films-small/_settings", {"index.max_result_window": 50}, method="PUT")
    answer = pair.system.search("films-small", QUERY)
    pair.direct("/films-small", method="DELETE")  # it would spoil every search of everything
    assert ids(answer) == ["1"]
    assert (answer["_es_rerank"]["status"], answer["_es_rerank"]["reason"]) == ("failed", "engine_refused")


def test_no_hit_is_lost_where_one_index_of_two_allows_no_window(pair: Pair) -> None:
    """When our window fails on some shards only, the client still gets all that its own request finds."""
    if pair.engine.name == "osmem":
        pytest.skip("osmem does not enforce max_result_window")
    small = {f"s{number}": {"title": "x", "text": "robot island love"} for number in range(20)}
    pair.engine.load("films-small", small)
    pair.direct("/films-small/_settings", {"index.max_result_window": 50}, method="PUT")
    before = pair.direct("/films,films-small/_search", QUERY)
    asked = pair.system.search("films,films-small", QUERY)
    pair.direct("/films-small", method="DELETE")
    status = asked.pop("_es_rerank")
    assert (status["status"], status["reason"]) == ("skipped", "partial_answer")
    assert without_took(asked) == without_took(before)
    assert before["_shards"]["failed"] == 0


def test_an_index_named_by_a_parameter_is_an_index(pair: Pair) -> None:
    """`/_search?index=films` is a search on films."""
    request = urllib.request.Request(
        f"{pair.system.url}/_search?index=films&q=text:robot", headers={"ES-Rerank": "include=status"}
    )
    with urllib.request.urlopen(request) as reply:
        assert json.load(reply)["_es_rerank"]["rule"] == "films"


def test_pretty_and_filter_path_look_as_the_engine_makes_them(pair: Pair) -> None:
    """A filtered, pretty answer has the engine's own bytes around the hits that it names."""
    target = "/films/_search?pretty&filter_path=hits.hits._source.year,hits.total,timed_out"
    answers = []
    for url in (pair.engine.url, pair.system.url):
        body = json.dumps({**QUERY, "size": 1, "query": {"match": {"title": "17"}}}).encode()
        request = urllib.request.Request(url + target, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            answers.append(reply.read())
    assert answers[0].strip() == answers[1].strip()


def test_a_repeated_search_is_served_from_the_cache(pair: Pair) -> None:
    """The second time, every score comes from the cache and no worker is asked."""
    body = {"query": {"match": {"text": "a sailor and the sea"}}}
    first = pair.system.search("films", body)
    second = pair.system.search("films", body)
    assert second["_es_rerank"]["cached"] == second["_es_rerank"]["window"] > 0
    assert "score" not in second["_es_rerank"]["took_ms"]
    assert ids(first) == ids(second)


@pytest.mark.parametrize("coding", ["gzip", "identity", "br, gzip;q=0.5"])
def test_compressed_answers_are_reranked_too(pair: Pair, coding: str) -> None:
    """A client that accepts gzip gets reranked hits in whatever coding the engine chose of those that we can write."""
    import gzip

    request = urllib.request.Request(
        pair.system.url + "/films/_search",
        json.dumps(QUERY).encode(),
        {"content-type": "application/json", "accept-encoding": coding},
    )
    with urllib.request.urlopen(request) as reply:
        raw = reply.read()
        if reply.headers["content-encoding"] == "gzip":
            raw = gzip.decompress(raw)
    assert ids(json.loads(raw)) == ids(pair.proxied("/films/_search", QUERY))
