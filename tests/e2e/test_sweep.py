"""A recorded window is all that a sweep needs: its orders are those of the running system, on every engine."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.judgment import Judgment
from es_rerank.tuning.order import order_of
from es_rerank.tuning.recording import RecordedQuery, Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Engine, System

WINDOW = 60
WORDS = ("robot", "island", "queen", "storm", "treasure", "war", "garden", "letter", "winter", "thief", "love", "glass")
QUERY = {"query": {"match": {"text": "the robot finds love on an island in winter"}}, "size": WINDOW}


@pytest.fixture(scope="module")
def system(any_engine: Engine, system_on: Callable[[Engine], System]) -> System:
    """Films by chance, some without a text to score, behind the system."""
    chance = random.Random(11)
    films: dict[str, dict[str, Any]] = {
        f"f{number}": {"title": f"Film {number}", "text": " ".join(chance.choices(WORDS, k=chance.randint(3, 30)))}
        for number in range(150)
    }
    any_engine.load("films-swept", films)
    return system_on(any_engine)


def recorded(answer: Any) -> RecordedQuery:
    """The window of an answer with scores, in engine order."""
    hits = sorted(answer["hits"]["hits"], key=lambda hit: hit["_es_rerank"]["engine_rank"])
    scores = [hit["_es_rerank"]["rank_score"] for hit in hits]
    return RecordedQuery(
        query_id="q1",
        user_query="words",
        status=answer["_es_rerank"]["status"],
        ids=tuple([(hit["_index"], hit["_id"]) for hit in hits]),
        engine_scores=tuple([hit["_es_rerank"]["engine_score"] for hit in hits]),
        judgments=tuple([None if score is None else Judgment(rank_score=score) for score in scores]),
    )


def test_settings_give_the_order_that_they_have_on_the_wire(system: System) -> None:
    """For 20 settings by chance, the order over the recorded window is the one that the proxy answers."""
    query = recorded(system.search("films-swept", QUERY, window=WINDOW, include=["status", "scores"]))
    assert query.status == "full"
    assert len(query.ids) == WINDOW
    chance = random.Random(5)
    for _ in range(20):
        setting = Setting(
            window=chance.randint(1, WINDOW),
            method=chance.choice(("zscore", "minmax", "rrf")),
            alpha=round(chance.random(), 3),
        )
        asked = {"window": setting.window, "method": setting.method, "alpha": setting.alpha}
        answer = system.search("films-swept", QUERY, **asked)
        assert answer["_es_rerank"]["status"] == "full"
        shown = tuple([(hit["_index"], hit["_id"]) for hit in answer["hits"]["hits"]])
        assert shown == order_of(query, setting), setting
