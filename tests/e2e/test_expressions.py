"""How a search names its indices, through the whole system on every engine, next to the engine itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.conftest import RULES, send_json
from tests.e2e.features import ALL_HITS, INDEX, MATCH, Pair, hits_of, load_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System


@pytest.fixture(scope="module")
def pair(any_engine: Engine, system_on: Callable[[Engine], System]) -> Pair:
    """Each engine with its films, and the system before it."""
    return load_pair(any_engine, system_on(any_engine))


@pytest.mark.parametrize(
    ("expression", "query"),
    [
        (f"{INDEX},films-none", "ignore_unavailable=true"),
        ("films-feat*,-films-none*", "expand_wildcards=open&ignore_unavailable=true"),
        ("films-none*", "allow_no_indices=true"),
        ("films-none*", "allow_no_indices=false"),
        (f"{INDEX},films-none", "ignore_unavailable=false"),
    ],
)
def test_indices_that_are_missing_mean_what_they_mean(pair: Pair, expression: str, query: str) -> None:
    """The parameters about indices go with the window, so that what is found and what is refused is the engine's."""
    target = f"/{expression}/_search?{query}"
    search = {"query": MATCH, "size": ALL_HITS}
    status, direct = pair.ask(target, search, through=False)
    through_status, through = pair.ask(target, search, through=True, headers={"es-rerank": "include=status"})
    assert through_status == status
    if status != 200:
        assert through == direct
        return
    before, after = json.loads(direct), json.loads(through)
    assert after.pop("_es_rerank")["status"] == "full"
    assert sorted(hits_of(after), key=str) == sorted(hits_of(before), key=str)


@pytest.fixture(scope="module")
def far(pair: Pair, run_system: Callable[..., System]) -> Iterator[Pair]:
    """An engine that knows itself as a remote cluster and another one that is gone, and rules for remote clusters."""
    if pair.engine.name == "osmem":
        pytest.skip("osmem knows no remote clusters and no date math")
    [node] = send_json(f"{pair.engine.url}/_nodes/transport")["nodes"].values()
    remotes = {"me": [node["transport"]["publish_address"]], "gone": ["127.0.0.1:1"]}
    known = {name: {"seeds": seeds, "skip_unavailable": True} for name, seeds in remotes.items()}
    forgotten = {name: {"seeds": None, "skip_unavailable": None} for name in remotes}
    url = f"{pair.engine.url}/_cluster/settings"
    send_json(url, {"persistent": {"cluster": {"remote": known}}}, method="PUT")
    names = 'indices = ["*:films*", "<films-*"]'
    try:
        yield Pair(pair.engine, run_system(pair.engine.url, extra=RULES.replace('indices = ["films*"]', names)))
    finally:
        send_json(url, {"persistent": {"cluster": {"remote": forgotten}}}, method="PUT")


@pytest.mark.parametrize("minimized", ["true", "false"])
def test_hits_of_a_remote_cluster_are_reranked(far: Pair, minimized: str) -> None:
    """Where a rule names the cluster; `_index` has its name in front, and `_clusters` counts it."""
    target = f"/me:{INDEX}/_search?ccs_minimize_roundtrips={minimized}"
    search = {"query": MATCH, "size": ALL_HITS}
    before = json.loads(far.ask(target, search, through=False)[1])
    after = json.loads(far.ask(target, search, through=True, headers={"es-rerank": "include=status"})[1])
    assert after.pop("_es_rerank")["status"] == "full"
    assert {hit["_index"] for hit in after["hits"]["hits"]} == {f"me:{INDEX}"}
    assert sorted(hits_of(after), key=str) == sorted(hits_of(before), key=str)
    assert after["_clusters"]["successful"] == before["_clusters"]["successful"] == 1


def test_a_cluster_that_is_skipped_makes_no_window(far: Pair) -> None:
    """The answer is then the engine's own, in its order, and the status says why."""
    target = f"/me:{INDEX},gone:{INDEX}/_search"
    before = json.loads(far.ask(target, {"query": MATCH}, through=False)[1])
    after = json.loads(far.ask(target, {"query": MATCH}, through=True, headers={"es-rerank": "include=status"})[1])
    assert after.pop("_es_rerank")["reason"] == "partial_answer"
    assert after["hits"] == before["hits"]
    assert after["_clusters"]["skipped"] == before["_clusters"]["skipped"] == 1


def test_date_math_is_one_more_name(pair: Pair, far: Pair) -> None:
    """A rule says so by a pattern for date math; another rule does not cover it, and the search passes."""
    now = datetime.now(UTC)
    days = [f"films-{day:%Y.%m.%d}" for day in (now, now + timedelta(days=1))]  # the test may run over midnight
    try:
        for day in days:
            far.engine.load(day, {"1": {"text": "a robot"}, "2": {"text": "a robot who finds love"}})
        target = "/%3Cfilms-%7Bnow%2Fd%7D%3E/_search"
        for system, reason in ((far, None), (pair, "no_rule")):
            body = system.ask(target, {"query": MATCH}, through=True, headers={"es-rerank": "include=status"})[1]
            answer = json.loads(body)
            assert answer["_es_rerank"]["reason"] == reason
            assert {hit["_id"] for hit in answer["hits"]["hits"]} == {"1", "2"}
    finally:
        for day in days:
            send_json(f"{far.engine.url}/{day}", method="DELETE")
