"""The rerank API over real connections: proxy, worker and Redis, whole and broken."""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import os
import random
import signal
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from es_rerank.demo.embedded import start_redis
from es_rerank.demo.processes import free_port
from tests.conftest import RULES, Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from es_rerank.demo.processes import Supervisor
    from tests.conftest import System

KEY = "the-key-of-this-test"
PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")
TABLE = f"""
[rerank_api]
keys = ["another-key-of-this-test", "{KEY}"]
scorers = {{ "rerank-v3.5" = "minilm", "second" = "minilm", "third" = "minilm" }}
"""
EXTRA = f"{RULES}{TABLE}deadline_s = 60.0\n"
CATS = [
    "A ship sails over the sea to the harbour.",
    "The cat sleeps on the warm roof.",
    "Cats and kittens play at home.",
]
QUESTION = "where does a cat sleep"
NUMBERS = itertools.count()
WORDS = [a + b for a in ("sun", "moon", "rain", "fire", "ice") for b in ("set", "rise", "fall", "man")]


class Answer(NamedTuple):
    """What a request was answered with."""

    status: int
    headers: Mapping[str, str]
    value: Any


def connect(system: System) -> http.client.HTTPConnection:
    """A connection to the proxy."""
    return http.client.HTTPConnection(urlsplit(system.url).netloc, timeout=120)


def send(
    connection: http.client.HTTPConnection, path: str, body: Any, *, key: str | None = KEY, **headers: str
) -> Answer:
    """Post a body, a value for JSON or bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    login = {} if key is None else {"authorization": f"Bearer {key}"}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, data, {"content-type": "application/json", **login, **names})
    reply = connection.getresponse()
    found = {name.lower(): ", ".join(reply.headers.get_all(name, ())) for name in reply.headers}
    return Answer(reply.status, found, json.loads(reply.read()))


def post(system: System, path: str, body: Any, *, key: str | None = KEY, **headers: str) -> Answer:
    """Post a body over a connection of its own."""
    connection = connect(system)
    try:
        return send(connection, path, body, key=key, **headers)
    finally:
        connection.close()


def asked(query: str = QUESTION, documents: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    """A request's body."""
    return {"query": query, "documents": documents or CATS, **more}


def long_texts(count: int) -> list[str]:
    """Texts that take long to score, and that no cache has."""
    chance = random.Random(next(NUMBERS) + time.time())
    return [" ".join(chance.choices(WORDS, k=150)) for _ in range(count)]


@pytest.fixture(scope="module")
def system(run_system: Callable[..., System], osmem_url: str) -> System:
    """A proxy with the API, and a worker."""
    system = run_system(osmem_url, extra=EXTRA)
    if not system.workers():
        system.start_worker()
    return system


def test_the_best_document_comes_first_in_every_shape(system: System) -> None:
    """Real scores, from 0 to 1 and falling, under each product's own keys."""
    results = post(system, "/v2/rerank", asked(model="rerank-v3.5", top_n=2)).value["results"]
    assert [one["index"] for one in results] == [1, 2]
    assert 1 > results[0]["relevance_score"] > results[1]["relevance_score"] > 0
    scores = {one["index"]: one["relevance_score"] for one in post(system, "/v2/rerank", asked()).value["results"]}
    assert post(system, "/v1/rerank", asked(return_documents=True)).value["results"][0] == {
        "index": 1, "relevance_score": scores[1], "document": {"text": CATS[1]},
    }  # fmt: skip
    voyage = post(system, "/v1/rerank", asked(top_k=1, truncation=True)).value
    assert voyage["data"] == [{"index": 1, "relevance_score": scores[1]}]
    assert post(system, "/rerank", asked(top_n=1)).value["results"][0]["document"] == {"text": CATS[1]}
    texts = {"query": QUESTION, "texts": CATS, "return_text": True}
    assert post(system, "/rerank", texts).value[0] == {"index": 1, "score": scores[1], "text": CATS[1]}
    raw = post(system, "/rerank", {**texts, "raw_scores": True}).value[0]
    assert raw["score"] == pytest.approx(scores[1] * 10)


@pytest.mark.parametrize("key", [None, "", "the-key-of-another", f"{KEY}x"])
@pytest.mark.parametrize("path", PATHS)
def test_without_a_key_nothing_is_answered(system: System, path: str, key: str | None) -> None:
    """401 in the shape of the path, before the body is read, and the connection goes on."""
    with closing(connect(system)) as connection:
        refused = send(connection, path, b"x" * 100_000, key=key)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert refused.value.keys() & {"message", "error"}
        assert send(connection, path, asked()).status == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "where"),
    [
        ("/v2/rerank", asked(model="gpt"), 404, ("message",)),
        ("/v1/rerank", asked(documents=[1]), 400, ("detail",)),
        ("/v1/rerank", asked(top_k=-1), 400, ("detail",)),
        ("/v1/rerank", asked(top_k=1, model="gpt"), 400, ("detail",)),
        ("/rerank", asked(top_n=-1), 400, ("error", "message")),
        ("/rerank", {"query": QUESTION, "texts": []}, 422, ("error",)),
        ("/rerank", b"{", 422, ("error",)),
        ("/v2/rerank", b"", 400, ("message",)),
        ("/v2/rerank", b" " * 5_000_000, 413, ("message",)),
        ("/v2/rerank", asked(documents=["x"] * 1001), 413, ("message",)),
    ],
)
def test_what_is_wrong_is_refused_in_the_products_shape(
    system: System, path: str, body: Any, status: int, where: tuple[str, ...]
) -> None:
    """The status and the place of the text are those that the product's clients look at."""
    answer = post(system, path, body)
    assert answer.status == status
    text = answer.value
    for name in where:
        text = text[name]
    assert len(text) > 20


def test_a_body_may_be_compressed(system: System) -> None:
    """A body in gzip is read, whatever is inside; what is no gzip, or too much once inflated, is refused."""
    packed = gzip.compress(json.dumps(asked()).encode())
    assert post(system, "/v2/rerank", packed, content_encoding="gzip").status == 200
    assert post(system, "/v2/rerank", b"x", content_encoding="gzip").status == 400
    assert post(system, "/v2/rerank", gzip.compress(b" " * 5_000_000), content_encoding="gzip").status == 413


def test_warnings_are_told_in_headers_and_meta(system: System) -> None:
    """A limit of tokens and an empty document are answered, and both are told."""
    answer = post(system, "/v2/rerank", asked(documents=[*CATS, ""], max_tokens_per_doc=512))
    assert answer.value["results"][-1] == {"index": 3, "relevance_score": 0.0}
    assert [text.partition(" ")[0] for text in answer.value["meta"]["warnings"]] == ["max_tokens_per_doc", "1"]
    assert "max_tokens_per_doc has no effect" in answer.headers["warning"]


def test_no_body_breaks_anything(system: System) -> None:
    """Bodies with bytes changed, dropped and doubled: each is answered or refused, over one connection."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    more = {
        "rank_fields": ["text"],
        "top_n": 1,
        "return_documents": True,
        "model": "second",
        "truncation_side": "right",
    }
    whole = [
        ("/v1/rerank", {**asked(documents=[CATS[0], {"text": CATS[1]}]), **more}),
        ("/v1/rerank", asked(top_k=1, truncation=False)),
        ("/rerank", {"query": QUESTION, "texts": CATS, "raw_scores": True, "truncate": True}),
    ]
    with closing(connect(system)) as connection:
        for _ in range(300):
            path, body = chance.choice(whole)
            data = bytearray(json.dumps(body).encode())
            for _ in range(chance.randint(1, 3)):
                place, kind = chance.randrange(len(data)), chance.randrange(4)
                if kind == 0:
                    data[place] = chance.randrange(256)
                elif kind == 1:
                    del data[place : place + chance.randint(1, 20)]
                elif kind == 2:
                    data[place:place] = data[: chance.randint(1, 40)]
                else:
                    data[place] = chance.choice(b'"[]{},:n')
            answer = send(connection, path, bytes(data) or b"{")
            assert answer.status in (200, 400, 404, 422), (seed, bytes(data), answer)


def test_a_body_for_which_there_is_no_room_is_told_to_come_back(
    run_system: Callable[..., System], osmem_url: str
) -> None:
    """While others hold the memory for bodies, a further one is a 429 with Retry-After."""
    held = "\n".join(f"max_{what}_bytes = 1000000" for what in ("request", "answer", "held"))
    system = run_system(osmem_url, extra=EXTRA.replace("[limits]", f"[limits]\n{held}"))
    give_up_s = time.monotonic() + 60
    while True:
        with closing(connect(system)) as slow:
            slow.putrequest("POST", "/v2/rerank")
            slow.putheader("authorization", f"Bearer {KEY}")
            slow.putheader("content-length", "900000")
            slow.endheaders(b" " * 800_000)
            answer = post(system, "/v2/rerank", b" " * 300_000)
        if answer.status != 400:
            break
        assert time.monotonic() < give_up_s  # the other one was held first, so that the slow one found no room
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")


def test_without_the_table_the_paths_are_the_engines(run_system: Callable[..., System], osmem_url: str) -> None:
    """A proxy without the API, and any method but POST, give what the engine says to such a path."""
    plain = run_system(osmem_url)
    for path in PATHS:
        through, direct = (post(one, path, asked(), key=None) for one in (plain, Engine("osmem", osmem_url)))  # type: ignore[arg-type]
        assert (through.status, through.value) == (direct.status, direct.value)


def test_health_counts_the_workers_of_the_api(
    run_system: Callable[..., System], osmem_url: str, system: System
) -> None:
    """A scorer that only the API uses is in the health too."""
    alone = run_system(osmem_url, extra=TABLE)
    assert list(alone.health()["parts"]["scorers"]) == ["minilm"]
    assert alone.workers() == system.workers()


def test_what_was_scored_once_needs_no_worker(
    run_system: Callable[..., System], osmem_url: str, own_redis_url: str
) -> None:
    """The worker killed: what the API or a search scored is answered from the cache, and anything new is a 503."""
    system = run_system(osmem_url, redis=own_redis_url, extra=EXTRA)
    Engine("osmem", osmem_url).load("prose", {str(place): {"text": text} for place, text in enumerate(CATS)})
    worker = system.start_worker()
    first = post(system, "/v2/rerank", asked())
    words = "cat sea kittens"
    status = system.search("prose", {"query": {"match": {"text": words}}})["_es_rerank"]
    assert (status["status"], status["scored"]) == ("full", 3)
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    again = post(system, "/v1/rerank", asked(documents=[{"body": text} for text in CATS], rank_fields=["body"]))
    assert [one.value["results"] for one in (first, again)] == [first.value["results"]] * 2
    assert post(system, "/v1/rerank", asked(query=words)).status == 200
    refused = post(system, "/v2/rerank", asked(query="something new"))
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.value["message"].startswith("no worker serves this model now (3 of 3 documents")
    assert post(system, "/rerank", {"query": "new", "texts": CATS}).value["error_type"] == "unhealthy"


def test_without_redis_the_answer_is_an_error(
    run_system: Callable[..., System], supervisor: Supervisor, osmem_url: str, tmp_path: Path
) -> None:
    """Redis gone: 503 in the product's shape, soon, and no made-up scores."""
    port = free_port()
    redis = start_redis(supervisor, port, tmp_path)
    system = run_system(osmem_url, redis=f"redis://127.0.0.1:{port}/0", extra=EXTRA)
    supervisor.end(redis)
    refused = post(system, "/v1/rerank", asked(top_k=1))
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert "does not reach its Redis" in refused.value["detail"]


def test_one_request_too_many_is_told_to_come_back(run_system: Callable[..., System], osmem_url: str) -> None:
    """While as many wait for workers as may, a further one is a 429 with Retry-After; what is cached is answered."""
    system = run_system(osmem_url, extra=EXTRA.replace("[limits]", "[limits]\nmax_in_flight = 1"))
    assert post(system, "/v2/rerank", asked()).status == 200
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(post, system, "/rerank", asked(documents=long_texts(120))) for _ in range(2)]
        wait(slow, return_when=FIRST_COMPLETED)
        assert post(system, "/v2/rerank", asked()).status == 200
        served, refused = sorted((one.result() for one in slow), key=lambda answer: answer.status)
    assert (served.status, refused.status, refused.headers["retry-after"]) == (200, 429, "1")
    assert refused.value["error"]["type"] == "RateLimitError"


def test_a_deadline_that_passes_is_an_error_and_the_next_request_is_served(
    run_system: Callable[..., System], osmem_url: str, own_redis_url: str
) -> None:
    """A worker that stands still: a 503 says how many scores are missing; once it goes on, asking again is answered."""
    system = run_system(osmem_url, redis=own_redis_url, extra=f"{RULES}{TABLE}deadline_s = 2.0\n")
    worker = system.start_worker()
    os.kill(worker.process.pid, signal.SIGSTOP)
    refused = post(system, "/v2/rerank", asked())
    os.kill(worker.process.pid, signal.SIGCONT)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert "within the deadline" in refused.value["message"]
    assert "(3 of 3 documents have no score)" in refused.value["message"]
    give_up_s = time.monotonic() + 60
    while (answer := post(system, "/v2/rerank", asked())).status != 200:
        assert answer.status == 503
        assert time.monotonic() < give_up_s


def test_a_caller_who_leaves_harms_nobody(system: System) -> None:
    """A connection that is cut while scores are awaited, or in the middle of a body, leaves the next one served."""
    for body, length in ((asked(documents=long_texts(120)), None), (asked(), 100_000)):
        data = json.dumps(body).encode()
        headers = {"authorization": f"Bearer {KEY}", "content-length": str(length or len(data))}
        with closing(connect(system)) as connection:
            connection.request("POST", "/v2/rerank", data, headers)
            time.sleep(0.2)
    assert post(system, "/v2/rerank", asked()).status == 200


def test_the_log_has_a_line_and_no_secret(system: System) -> None:
    """One line a request: the shape, the model, how many documents; no key, no query, no document."""
    post(system, "/v2/rerank", asked(query="unheard words", model="third"))
    give_up_s = time.monotonic() + 30
    while not (lines := [line for line in system.log_lines() if line.get("model") == "third"]):
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    [line] = lines
    assert (line["message"], line["shape"], line["scorer"]) == ("rerank", "cohere_v2", "minilm")
    assert (line["documents"], line["scored"], line["http_status"], line["reason"]) == (3, 3, 200, None)
    assert line["took_ms"] > 0
    for secret in (KEY, "unheard", "kittens"):
        assert secret not in system.proxy.log.read_text()
