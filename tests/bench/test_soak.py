"""The pure parts of the soak: its schedule, what it finds wrong with an answer, and its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from bench.soak_promise import (
    BREAKS,
    GROUP_HITS,
    RECOVERY_S,
    SETTLED_S,
    WINDOW,
    Answered,
    Asked,
    Outages,
    Tally,
    Violation,
    check_pieces,
    check_search,
    documents,
    plan_breaks,
)
from bench.system import ROOT

ASKED = Asked(mark="mark1", group=2, start=5, size=3)
TOLD = replace(ASKED, status=True)
FULL: dict[str, Any] = {
    "status": "full",
    "reason": None,
    "window": WINDOW,
    "scored": WINDOW,
    "cached": 0,
    "missing": 0,
}
FAILED = {**FULL, "status": "failed", "reason": "no_redis", "scored": 0, "missing": WINDOW}
WARNED = '299 es-rerank "reranking failed (no_redis): hits are in engine order"'
NOTHING: dict[str, str] = {}


def answer(
    *ids: str, mark: str = "mark1", status: int = 200, block: dict[str, Any] | None = None, warning: str | None = None
) -> Answered:
    """An answer that took half a second."""
    body: dict[str, Any] = {"took": 1, "hits": {"hits": [{"_id": one} for one in ids]}, "aggregations": {mark: {}}}
    if block is not None:
        body["_es_rerank"] = block
    headers = {} if warning is None else {"warning": warning}
    return Answered(status=status, headers=headers, body=json.dumps(body).encode(), began_s=1.0, ended_s=1.5)


def wrong(asked: Asked, answered: Answered, broken: dict[str, str] = NOTHING, *, late_s: float = 2.0) -> str:
    """What is found wrong, as one text."""
    return "; ".join(check_search(asked, answered, broken, lately=bool(broken), late_s=late_s))


def test_a_seed_decides_the_breaks() -> None:
    """The same seed gives the same schedule, another one another; all kinds come, none in the time behind the end."""
    plan = plan_breaks(7, 10)
    assert plan == plan_breaks(7, 10)
    assert plan != plan_breaks(8, 10)
    assert {one.name for one in plan} == {*BREAKS}
    assert [one.at_s for one in plan] == sorted(one.at_s for one in plan)
    assert all(one.at_s + one.lasts_s <= 600 for one in plan)
    assert [one.name for one in plan[: len(BREAKS)]] != [one.name for one in plan[len(BREAKS) : 2 * len(BREAKS)]]


def test_a_part_is_broken_until_it_is_back() -> None:
    """A break explains what happens while it lasts and for a while after, and nothing before or later."""
    outages = Outages()
    number = outages.begin("redis", "redis killed", 10.0)
    assert outages.within(0.0, 9.0) == {}
    assert outages.within(5.0, 11.0) == outages.within(50.0, 51.0) == {"redis": "redis killed"}
    outages.end(number, 12.0)
    back_s = 12.0 + RECOVERY_S["redis"]
    assert outages.within(back_s - 1, back_s + 5) == {"redis": "redis killed"}
    assert outages.within(back_s + 1, back_s + 5) == {}
    assert outages.lately(12.0 + SETTLED_S - 1, 100.0)
    assert not outages.lately(12.0 + SETTLED_S + 1, 100.0)


def test_the_documents_fill_the_groups() -> None:
    """Each group has the same number of documents, whose ids begin with it."""
    ids = [one for one, _ in documents()]
    assert len(set(ids)) == len(ids)
    assert sum(one.startswith("2-") for one in ids) == GROUP_HITS
    assert Asked(mark="m", group=0, start=GROUP_HITS - 2, size=10).hits == 2
    assert Asked(mark="m", group=0, start=GROUP_HITS + 2, size=10).hits == 0


def test_a_right_answer_is_right() -> None:
    """Full service, with a status and without, and a failure that says so and has its cause."""
    assert not wrong(ASKED, answer("2-1", "2-2", "2-3"))
    assert not wrong(TOLD, answer("2-1", "2-2", "2-3", block=FULL))
    broken = {"redis": "redis killed"}
    assert not wrong(TOLD, answer("2-1", "2-2", "2-3", block=FAILED, warning=WARNED), broken)
    assert not wrong(ASKED, answer("2-1", "2-2", "2-3", warning=WARNED), broken)


@pytest.mark.parametrize(
    ("asked", "answered", "said"),
    [
        (ASKED, answer("2-1", "2-2"), "2 hits where the engine has 3"),
        (ASKED, answer("2-1", "2-2", "2-2"), "a hit comes twice"),
        (ASKED, answer("2-1", "2-2", "1-3"), "the answer to another search"),
        (ASKED, answer("2-1", "2-2", "2-3", mark="mark2"), "the answer to another search"),
        (ASKED, answer(status=502), "status 502"),
        (ASKED, replace(answer(), body=b"{"), "not an answer to a search"),
        (replace(ASKED, filtered=True), answer("2-1", "2-2", "2-3"), "filtered, it has"),
        (ASKED, answer("2-1", "2-2", "2-3", block=FULL), "nobody asked for"),
        (TOLD, answer("2-1", "2-2", "2-3"), "the status is missing"),
        (ASKED, answer("2-1", "2-2", "2-3", warning="299 - x"), "an odd warning"),
        (ASKED, answer("2-1", "2-2", "2-3", warning=WARNED), "no_redis, while only"),
        (TOLD, answer("2-1", "2-2", "2-3", block=FAILED, warning=WARNED), "no_redis, while only"),
        (TOLD, answer("2-1", "2-2", "2-3", block={**FAILED, "reason": "new_word"}), "new_word, while only"),
        (TOLD, answer("2-1", "2-2", "2-3", block=FAILED), "and the warning is None"),
        (TOLD, answer("2-1", "2-2", "2-3", block=FULL, warning=WARNED), "full, and the warning is"),
        (TOLD, answer("2-1", "2-2", "2-3", block={**FULL, "scored": 39, "missing": 1}), "does not fit"),
        (TOLD, answer("2-1", "2-2", "2-3", block={**FULL, "reason": "deadline"}), "does not fit"),
        (TOLD, answer("2-1", "2-2", "2-3", block={**FULL, "missing": 1}), "counts that do not fit"),
    ],
)
def test_each_broken_promise_is_found(asked: Asked, answered: Answered, said: str) -> None:
    """With nothing broken, whatever is not as promised is named."""
    assert said in wrong(asked, answered)


def test_only_what_was_broken_explains() -> None:
    """An error needs a broken engine, and so does a late answer; a broken worker does not explain `no_redis`."""
    assert not wrong(ASKED, answer(status=502), {"engine": "engine resets"})
    assert wrong(ASKED, answer(status=502), {"redis": "redis killed"})
    right = answer("2-1", "2-2", "2-3")
    assert wrong(ASKED, right, late_s=0.4) == "late: 0.50 s"
    assert not wrong(ASKED, right, {"engine": "engine slow"}, late_s=0.4)
    assert wrong(ASKED, answer("2-1", "2-2", warning=WARNED), {"worker": "worker killed"}).count(";") == 1
    assert wrong(ASKED, answer("2-1", "2-2"), {"engine": "engine slow"})


def test_each_search_of_an_msearch_gets_its_own_answer() -> None:
    """The marks come back in the order in which they were asked."""
    body = json.dumps({"responses": [{"aggregations": {"a": {}}}, {"aggregations": {"b": {}}}]}).encode()
    answered = replace(answer(), body=body)
    assert not check_pieces(answered, ["a", "b"], {})
    assert check_pieces(answered, ["b", "a"], {})
    assert check_pieces(replace(answered, body=b"{}"), ["a"], {})


def test_the_report_has_every_figure() -> None:
    """Latencies by caller, outcomes from status or warning or code, and the violations."""
    tally = Tally()
    for answered in (answer("2-1"), answer(block=FAILED), answer(warning=WARNED), answer(status=502)):
        tally.count("plain", answered, lately=answered.status != 502)
    for at_s in (1.0, 2.0):
        tally.violations.append(Violation(at_s=at_s, caller="plain", said="late: 9.00 s", broken=("redis full",)))
    report = tally.report()
    assert "| plain | 4 | 500 | 500 | 500 |" in report
    assert "| failed no_redis | 2 |" in report
    assert "| without a warning | 1 |" in report
    assert report.count("| status 502 | 1 |") == 2
    assert "- 2 times, first at 1.0 s, plain: late: 9.00 s (broken: redis full)" in report


def test_the_command_explains_itself() -> None:
    """It starts without an installed package beside it."""
    command = [sys.executable, str(ROOT / "bench" / "soak.py"), "--help"]
    assert "--seed" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
