"""Judgment lists as a caller keeps them, on the embedded engine and on real ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from es_rerank.judgment import Judgment
from es_rerank.tuning.forms import read_grades
from es_rerank.tuning.recording import RecordedQuery, RecordingHead, Setting
from tests.conftest import Engine, System, send_json
from tests.proxy.own.asked import ENGINES, LISTS, RULE, Asked, asked_on

if TYPE_CHECKING:
    from collections.abc import Callable

MANUAL = Path(__file__).parents[3] / "docs" / "judgments.md"


@pytest.fixture(scope="module", params=ENGINES)
def asked(request: pytest.FixtureRequest, run_system: Callable[..., System]) -> Asked:
    """A proxy with a store before each engine in turn."""
    return asked_on(request.param, request, run_system)


def test_a_list_is_imported_shown_exported_and_deleted(asked: Asked) -> None:
    """Each form is read; what was imported is exported; the caller is named; a second import doubles nothing."""
    lines = '{"query_id": "q1", "object_id": "d1", "grade": 2, "user_query": "red"}\n'
    lines += '{"query_id": "q1", "object_id": "d2", "grade": 0, "who": "bob", "timestamp": "2026-11-28T09:00:00Z"}\n'
    for created in (2, 0):
        answer = asked("PUT", f"{LISTS}/mine", lines)
        assert (answer.status, answer.value["grades"]) == (200, 2)
        assert (answer.value["created"], answer.value["updated"]) == (created, 2 - created)
    assert asked("POST", f"{LISTS}/mine?form=csv", "query,docid,rating\r\nblue shoes,d3,0.5\r\n").status == 200
    assert asked("POST", f"{LISTS}/mine?source=clicks&index=films", "q1 0 d1 1\n").status == 200
    [shown] = [one for one in asked("GET", LISTS).value["judgments"] if one["name"] == "mine"]
    assert (shown["grades"], shown["queries"]) == (4, 2)
    assert {one["source"]: one["grades"] for one in shown["sources"]} == {"people": 3, "clicks": 1}
    exported = asked("GET", f"{LISTS}/mine").value
    shown = [(one["query_id"], one["object_id"], one["source"], one["grade"], one["who"]) for one in exported]
    assert sorted(shown) == [
        ("blue shoes", "d3", "people", 0.5, "ann"),
        ("q1", "d1", "clicks", 1.0, "ann"),
        ("q1", "d1", "people", 2.0, "ann"),
        ("q1", "d2", "people", 0.0, "bob"),
    ]
    table = asked("GET", f"{LISTS}/mine?form=csv")
    assert table.media_type == "text/csv; charset=UTF-8"
    assert {*read_grades("x", table.text.encode(), "csv")} == {*read_grades("x", json.dumps(exported).encode(), "json")}
    trec = asked("GET", f"{LISTS}/mine?form=trec&source=people")
    assert (trec.media_type, trec.text) == (
        "text/plain; charset=UTF-8",
        "blue%20shoes\t0\td3\t0.5\nq1\t0\td1\t2\nq1\t0\td2\t0\n",
    )
    assert asked("DELETE", f"{LISTS}/mine?source=clicks").value == {"name": "mine", "deleted": 1}
    assert asked("DELETE", f"{LISTS}/mine").value == {"name": "mine", "deleted": 3}
    assert asked("GET", f"{LISTS}/mine").status == 404


def test_a_wrong_line_refuses_the_whole_body(asked: Asked) -> None:
    """Line and reason are told, and nothing was written."""
    good = '{"query_id": "q1", "object_id": "d1", "grade": 2}\n'
    answer = asked("PUT", f"{LISTS}/wrong", good * 2 + '{"query_id": "q1", "object_id": "d2"}\n')
    assert (answer.status, answer.reason) == (400, "nothing was imported: the body, line 3: grade is missing")
    assert asked("GET", f"{LISTS}/wrong").status == 404
    for path, body, reason in (
        ("?form=xml", good, "[form] must be one of json, trec, beir, csv, book, was [xml]"),
        ("", "", "the body must hold judgments"),
        ("?format=csv&x=1", good, "unrecognized parameter: [x]"),
        ("?source=a,b", good, "source must have no comma"),
    ):
        answer = asked("PUT", f"{LISTS}/wrong{path}", body)
        assert answer.status == 400
        assert reason in answer.reason


def test_several_sources_are_never_mixed_and_their_agreement_is_said(asked: Asked) -> None:
    """TREC's form needs one source; kappa compares two of them."""
    people = "".join(f"q 0 d{n} {n % 3}\n" for n in range(6))
    model = "".join(f"q 0 d{n} {n % 3 or 1}\n" for n in range(6))
    asked("PUT", f"{LISTS}/both", people)
    asked("PUT", f"{LISTS}/both?source=llm:erank", model)
    answer = asked("GET", f"{LISTS}/both?form=trec")
    assert answer.status == 400
    assert answer.reason.endswith("choose one of llm:erank, people")
    assert asked("GET", f"{LISTS}/both?source=clicks").status == 404
    found = asked("GET", f"{LISTS}/both/_agreement?sources=people,llm:erank").value
    assert (found["n"], found["kappa"]) == (6, 0.5)
    assert "moderate agreement" in found["sentence"]
    assert asked("GET", f"{LISTS}/both/_agreement").value["n"] == 6
    assert "[sources] must be two sources" in asked("GET", f"{LISTS}/both/_agreement?sources=people").reason
    asked("DELETE", f"{LISTS}/both")


def test_documents_of_people_are_read_or_refused_by_their_id(asked: Asked) -> None:
    """Missing fields have a meaning, unknown ones stay, and a document that is wrong is never passed over."""
    asked.keep("h1", name="hand", query_id="q1", object_id="d1", grade=2, note="seen on Monday")
    asked.keep("h2", name="hand", query_id="q1", object_id="d2", grade=1, source="people", index="films")
    assert [(one["object_id"], one["grade"]) for one in asked("GET", f"{LISTS}/hand?source=people").value] == [
        ("d1", 2.0),
        ("d2", 1.0),
    ]
    for key, fields, reason in (
        ("h3", {"query_id": "q1", "grade": 1}, "the document [h3]: object_id is missing"),
        ("h3", {"query_id": "q1", "object_id": "x" * 1025, "grade": 1}, "the document [h3]: object_id must have at"),
        ("h3", {"query_id": "q1", "object_id": "d3", "grade": "2"}, "the document [h3]: grade must be a number"),
        ("h3", {"query_id": "q1", "object_id": ["d3", "d4"], "grade": 1}, "the document [h3]: object_id must be a"),
        ("h3", {"query_id": "q1", "object_id": "d1", "grade": 1}, "are judged twice by people"),
    ):
        asked.keep(key, name="hand", **fields)
        answer = asked("GET", f"{LISTS}/hand")
        assert answer.status == 400
        assert "the judgment list [hand] can't be read: the document [h" in answer.reason
        assert reason in answer.reason
    asked.keep("h4", query_id="q1", object_id="d1", grade=1)
    assert asked("GET", LISTS).value["without_name"] == 1
    asked("DELETE", f"{LISTS}/hand")
    send_json(f"{asked.engine.url}/es-rerank-judgments/_doc/h4?refresh=true", method="DELETE")


def test_what_the_engine_does_not_take_is_refused_in_its_words(asked: Asked) -> None:
    """An index that takes no writes refuses each document: status and reason are the engine's."""
    if asked.engine.name == "osmem":
        pytest.skip("it has no blocks")
    settings = f"{asked.engine.url}/es-rerank-judgments/_settings"
    send_json(settings, {"index.blocks.write": True}, method="PUT")
    try:
        answer = asked("PUT", f"{LISTS}/blocked", "q 0 d 1\n")
    finally:
        send_json(settings, {"index.blocks.write": None}, method="PUT")
    assert (answer.status, answer.value["error"]["type"]) == (403, "cluster_block_exception")
    assert answer.reason.startswith("the engine did not take all 1 judgments: index [es-rerank-judgments] blocked")
    assert asked("GET", f"{LISTS}/blocked").status == 404


def test_a_long_list_is_read_whole(asked: Asked) -> None:
    """25,000 judgments, more than the engine gives in one answer; a pair in three indices is never parted or lost."""
    count = 25_000
    grades = [
        {"query_id": f"q{n // 21}", "object_id": f"d{n // 3}", "index": f"films-{n % 3}", "grade": n % 4}
        for n in range(count)
    ]
    assert asked("PUT", f"{LISTS}/long", grades).value["created"] == count
    found = asked("GET", f"{LISTS}/long?source=people").value
    assert len(found) == count
    assert {(one["query_id"], one["object_id"], one["index"], one["grade"]) for one in found} == {
        tuple(one.values()) for one in grades
    }
    assert asked("DELETE", f"{LISTS}/long").value["deleted"] == count


def window_id(number: int) -> str:
    """The id of a window of the recording r1."""
    return f"r1@{number:06d}"


def test_a_model_judges_from_a_recording(asked: Asked) -> None:
    """The windows of a recording become grades of their own source; a second time replaces them all.

    All windows count, those that a search does not find yet too, and only a replay that is done has all.
    """
    head = RecordingHead(
        id="r1",
        time="2026-11-28T09:00:00Z",
        index="films",
        rule="films",
        rules_version="1",
        scorer="erank",
        fingerprint="f1",
        window=4,
        setting=Setting(window=4, method="zscore", alpha=0.2),
    )
    sure = Judgment(distribution=(0.0,) * 10 + (0.9,))
    for number in range(25):
        query = RecordedQuery(
            query_id=f"q{number}",
            user_query=f"words {number}",
            status="partial",
            ids=(("films", "a"), ("films", "b")),
            engine_scores=(2.0, 1.0),
            judgments=(sure, None),
        )
        window = {"recording": "r1", "position": number, "query_id": f"q{number}", "query": msgspec.to_builtins(query)}
        send_json(f"{asked.engine.url}/es-rerank-windows/_doc/{window_id(number)}", window, method="PUT")
    time = {"timestamp": head.time, "updated": head.time}
    job = {"id": "r1", "kind": "replay", "state": "interrupted", **time, "index": "films", "done": 24, "total": 25}
    job["result"] = {"head": msgspec.to_builtins(head)}
    send_json(f"{asked.engine.url}/es-rerank-jobs/_doc/r1?refresh=true", job, method="PUT")
    answer = asked("POST", f"{LISTS}/model/_from_recording?recording=r1")
    assert (answer.status, "has 24 of 25 queries" in answer.reason) == (409, True)
    job |= {"state": "done", "done": 25}
    send_json(f"{asked.engine.url}/es-rerank-jobs/_doc/r1?refresh=true", job, method="PUT")
    asked("PUT", f"{LISTS}/model?source=llm:erank", "old 0 a 1\n")
    asked("PUT", f"{LISTS}/model", "q1 0 a 1\n")
    answer = asked("POST", f"{LISTS}/model/_from_recording?recording=r1").value
    assert (answer["source"], answer["grades"], answer["without_grade"], answer["deleted"]) == ("llm:erank", 25, 25, 1)
    grades = asked("GET", f"{LISTS}/model?source=llm:erank").value
    assert [{one["grade"] for one in grades}, {one["fingerprint"] for one in grades}] == [{3.0}, {"f1"}]
    assert {one["query_id"] for one in grades} == {f"q{number}" for number in range(25)}
    assert asked("POST", f"{LISTS}/model/_from_recording?recording=r2").status == 404
    assert asked("POST", f"{LISTS}/model/_from_recording").status == 400
    answer = asked("POST", f"{LISTS}/model/_from_recording?recording=r1&max_grade=11")
    assert answer.reason == "[max_grade] must be a whole number from 1 to 10, was [11]"
    for path in ("es-rerank-jobs/_doc/r1", *[f"es-rerank-windows/_doc/{window_id(number)}" for number in range(25)]):
        send_json(f"{asked.engine.url}/{path}", method="DELETE")
    asked("DELETE", f"{LISTS}/model")


def test_the_requests_of_the_manual_work(request: pytest.FixtureRequest, run_system: Callable[..., System]) -> None:
    """Each request in docs/judgments.md is understood as it stands there; those on lists that are made up find none."""
    asked = asked_on("osmem", request, run_system)
    blocks = re.findall(r"```\n((?:GET|PUT|POST|DELETE) .+?)```", MANUAL.read_text(), re.DOTALL)
    requests = [one for block in blocks for one in re.split(r"\n\n", block.strip())]
    assert len(requests) == 7
    for one in requests:
        line, _, body = one.partition("\n")
        method, _, path = line.partition(" ")
        answer = asked(method, path, body or None)
        assert answer.status == (404 if "_from_" in path or "_agreement" in path else 200), (line, answer)
    asked("DELETE", f"{LISTS}/mine")


def test_without_a_store_it_is_said(run_system: Callable[..., System], osmem_url: str) -> None:
    """Every path answers 501 and names the table that is missing."""
    asked = Asked(run_system(osmem_url, extra=RULE), Engine("osmem", osmem_url))
    for method, path in (
        ("GET", LISTS),
        ("GET", f"{LISTS}/a"),
        ("PUT", f"{LISTS}/a"),
        ("DELETE", f"{LISTS}/a"),
        ("POST", f"{LISTS}/a/_from_clicks"),
        ("POST", f"{LISTS}/a/_from_recording"),
        ("GET", f"{LISTS}/a/_agreement"),
    ):
        answer = asked(method, path, None if method in ("GET", "DELETE") else "q 0 d 1\n")
        assert answer.status == 501
        assert answer.reason.endswith("needs the table [store] in the configuration")
