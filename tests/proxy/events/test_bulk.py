"""What the engine says to documents: on every engine, and on one that refuses as it is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.demo.processes import free_port
from es_rerank.official.login import Password
from es_rerank.proxy.events import bulk
from es_rerank.proxy.events.bulk import BulkSender, Refusal
from tests.conftest import send_json
from tests.ingest.conftest import VERSIONS, FakeEngine, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Engine

INDEX = "bulk-of-events"
SECRET = "hush-hush"


def sender_to(*urls: str, login: Password | None = None) -> BulkSender:
    """A sender to these hosts."""
    return BulkSender(urls, login=login, ca_file=None, verify_tls=True)


def action_for(key: str, source: dict[str, Any] | None = None) -> bytes:
    """The lines of a document."""
    action = {"create": {"_index": INDEX, "_id": key}}
    return f"{json.dumps(action)}\n{json.dumps(source or {'n': 1})}\n".encode()


@pytest.fixture(params=sorted(VERSIONS))
def told(request: pytest.FixtureRequest) -> Iterator[FakeEngine]:
    """An engine that refuses as it is told, as OpenSearch and as Elasticsearch."""
    with serve(FakeEngine(product=request.param)) as engine:
        yield engine


def test_a_document_is_there_once_however_often_it_is_sent(any_engine: Engine) -> None:
    """A second sending of the same document is not an error, and changes nothing; one that can't be read is told."""
    send_json(f"{any_engine.url}/{INDEX}", {"mappings": {"properties": {"n": {"type": "integer"}}}}, method="PUT")
    sender = sender_to(any_engine.url)
    try:
        assert sender.send([action_for("a"), action_for("b")]) == [None, None]
        assert sender.send([action_for("b", {"n": 2}), action_for("c")]) == [None, None]
        good, bad = sender.send([action_for("d"), action_for("e", {"n": "secret words"})])
        assert good is None
        assert bad is not None
        assert bad.kind in {"mapper_parsing_exception", "document_parsing_exception"}
        assert not bad.may_pass
        assert "secret" not in bad.words  # the engine's reason quotes the document
        send_json(f"{any_engine.url}/{INDEX}/_refresh", method="POST")
        assert send_json(f"{any_engine.url}/{INDEX}/_count")["count"] == 4
        assert send_json(f"{any_engine.url}/{INDEX}/_doc/b")["_source"] == {"n": 1}
    finally:
        sender.close()
        send_json(f"{any_engine.url}/{INDEX}", method="DELETE")


BLOCKS = {"write": False, "read_only": False, "read_only_allow_delete": True}
"""Each block of an index, and whether a document may be taken later: the last is what a full disk sets."""


@pytest.mark.parametrize("block", BLOCKS)
def test_a_read_only_index_and_a_full_disk_are_told(real_engine: Engine, block: str) -> None:
    """The word is the engine's, and what is refused for want of room may be tried again."""
    send_json(f"{real_engine.url}/{INDEX}", {}, method="PUT")
    settings = f"{real_engine.url}/{INDEX}/_settings"
    send_json(settings, {f"index.blocks.{block}": True}, method="PUT")
    sender = sender_to(real_engine.url)
    try:
        [refusal] = sender.send([action_for("a")])
        assert refusal is not None
        assert (refusal.kind, refusal.may_pass) == ("cluster_block_exception", BLOCKS[block])
        send_json(settings, {f"index.blocks.{block}": None}, method="PUT")
        assert sender.send([action_for("a")]) == [None]
    finally:
        sender.close()
        send_json(f"{real_engine.url}/{INDEX}", method="DELETE")


@pytest.mark.parametrize(
    ("status", "kind", "may_pass"),
    [
        (429, "some_exception", True),
        (503, "some_exception", True),
        (403, "some_exception", False),
        (413, "some_exception", False),
        (500, "some_exception", False),
        (0, "unreachable", True),
    ],
)
def test_a_whole_request_can_be_refused(told: FakeEngine, status: int, kind: str, may_pass: bool) -> None:
    """Each of its documents gets the same word; a later request may be taken."""
    told.bulk_answers.append(status)
    sender = sender_to(told.url)
    refusals = sender.send([action_for("a"), action_for("b")])
    assert [(one.kind, one.may_pass) for one in refusals if one is not None] == [(kind, may_pass)] * 2
    assert sender.send([action_for("a"), action_for("b")]) == [None, None]
    sender.close()


def test_a_busy_engine_says_how_long_it_wants_to_be_left_alone(told: FakeEngine) -> None:
    """`Retry-After` comes with the refusal."""
    told.bulk_answers.append((429, "7"))
    sender = sender_to(told.url)
    [refusal] = sender.send([action_for("a")])
    assert refusal == Refusal("some_exception", "(429) as it was told", may_pass=True, asked_s=7.0)
    sender.close()


def test_an_engine_that_hangs_is_given_up(told: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer within the limit is a refusal that may pass."""
    monkeypatch.setattr(bulk, "ANSWER_LIMIT_S", 0.3)
    told.hangs_after = 1
    sender = sender_to(told.url)
    [refusal] = sender.send([action_for("a")])
    assert refusal is not None
    assert (refusal.kind, refusal.may_pass) == ("no_answer", True)
    told.release()
    assert sender.send([action_for("a")]) == [None]
    sender.close()


def test_the_next_host_is_asked_when_one_is_gone(told: FakeEngine) -> None:
    """A host that can't be reached costs one try, whether it was there before or not."""
    sender = sender_to(f"http://127.0.0.1:{free_port()}", told.url)
    [refusal] = sender.send([action_for("a")])
    assert refusal is not None
    assert (refusal.kind, refusal.may_pass) == ("unreachable", True)
    assert sender.send([action_for("a")]) == [None]
    told.bulk_answers.append(0)
    assert sender.send([action_for("b")]) != [None]
    assert sender.send([action_for("b")]) != [None]  # the first host again
    assert sender.send([action_for("b")]) == [None]
    sender.close()


def test_a_wrong_login_is_told_without_it(told: FakeEngine) -> None:
    """The engine's words come, the password does not, and trying again is of no use."""
    told.login = "another"
    sender = sender_to(told.url, login=Password(user="ann", password=SECRET))
    [refusal] = sender.send([action_for("a")])
    assert refusal is not None
    assert (refusal.kind, refusal.may_pass) == ("security_exception", False)
    assert SECRET not in repr(refusal)
    sender.close()


@pytest.mark.parametrize("odd", [{0: {"status": 0}}, {0: {"status": "x"}}])
def test_an_answer_that_leaves_documents_out_is_none(told: FakeEngine, odd: Any) -> None:
    """Without a status for each document, nobody knows what became of any."""
    told.bulk_answers.append(odd)
    sender = sender_to(told.url)
    kinds = [None if one is None else one.kind for one in sender.send([action_for("a"), action_for("b")])]
    assert kinds == ["unreadable_answer"] * 2
    sender.close()
