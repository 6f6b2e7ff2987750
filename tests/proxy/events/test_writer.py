"""The thread that writes: what it tries again, what it gives up, and that nothing ends it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from es_rerank.proxy.events import writer as writing
from es_rerank.proxy.events.buffer import BATCH_DOCUMENTS, EventBuffer
from es_rerank.proxy.events.bulk import Refusal
from es_rerank.proxy.events.event import shown_hits_of
from es_rerank.proxy.events.writer import MAX_KINDS, OTHER_KINDS, TRIES, EventWriter
from tests.proxy.events.samples import event_with, searched_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from es_rerank.proxy.events.event import SearchEvent

BUSY = Refusal("es_rejected_execution_exception", "(429) busy", may_pass=True)
READ_ONLY = Refusal("cluster_block_exception", "(403) index blocked")
LIMIT_S = 30.0
EVENT = event_with(searched_with())


class FakeSender:
    """Answers each request with the next of some answers, for each of its documents; then takes everything.

    An answer may be an exception. The contract is `Sender`; `BulkSender` is held to it in test_bulk.
    """

    def __init__(self, *answers: Refusal | Exception | None) -> None:
        self.answers = list(answers)
        self.sent: list[list[bytes]] = []
        self.closed = False
        self.goes_on = threading.Event()
        self.goes_on.set()

    def send(self, actions: Sequence[bytes]) -> list[Refusal | None]:
        """See `Sender`."""
        self.sent.append(list(actions))
        self.goes_on.wait()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return [answer] * len(actions)

    def close(self) -> None:
        """See `Sender`."""
        self.closed = True


@contextmanager
def running(
    sender: FakeSender, *, most: int = 100_000, opened: bool = True
) -> Iterator[tuple[EventBuffer, EventWriter]]:
    """A writer at work, without pauses between its tries."""
    buffer = EventBuffer(most)
    writer = EventWriter(buffer, sender, flush_s=0.01, pauses_s=(0.0,) * (TRIES - 1))
    writer.start()
    if opened:
        writer.open()
    try:
        yield buffer, writer
    finally:
        sender.goes_on.set()
        writer.stop()


def await_true(check: Callable[[], bool]) -> None:
    """Wait until it is so."""
    give_up_s = time.monotonic() + LIMIT_S
    while not check():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def ids_in(actions: Sequence[bytes]) -> list[str]:
    """The ids of documents as they are sent."""
    return [str(msgspec.json.decode(action.splitlines()[0])["create"]["_id"]) for action in actions]


def test_documents_go_to_the_index_of_their_month() -> None:
    """An event and its rows, each with its own id, as lines of a bulk request."""
    sender = FakeSender()
    searched = searched_with()
    with running(sender) as (buffer, writer):
        buffer.put([EVENT, *shown_hits_of(searched, EVENT)])
        await_true(lambda: writer.written == 4)
    lines = [
        [msgspec.json.decode(line) for line in action.splitlines()] for actions in sender.sent for action in actions
    ]
    names = [action["create"]["_index"] for action, _ in lines]
    assert names == ["es-rerank-events-2026.11", *["es-rerank-hits-2026.11"] * 3]
    assert len({action["create"]["_id"] for action, _ in lines}) == 4
    assert lines[0][1]["timestamp"] == "2026-11-28T10:00:00Z"
    assert [source["position"] for _, source in lines[1:]] == [1, 2, 3]
    assert writer.failed() == {}


def test_nothing_is_written_before_the_engine_knows_the_fields() -> None:
    """Documents wait until the writer is opened, and are written then."""
    sender = FakeSender()
    with running(sender, opened=False) as (buffer, writer):
        buffer.put([EVENT] * (BATCH_DOCUMENTS + 1))
        time.sleep(0.1)
        assert not sender.sent
        writer.open()
        await_true(lambda: writer.written == BATCH_DOCUMENTS + 1)
    assert [len(actions) for actions in sender.sent] == [BATCH_DOCUMENTS, 1]


def test_what_may_pass_is_sent_again_under_the_same_ids() -> None:
    """A busy engine gets the same documents once more, so that none is there twice."""
    sender = FakeSender(BUSY, BUSY)
    with running(sender) as (buffer, writer):
        buffer.put([EVENT] * 3)
        await_true(lambda: writer.written == 3)
    assert len(sender.sent) == 3
    assert sender.sent[0] == sender.sent[1] == sender.sent[2]
    assert len(set(ids_in(sender.sent[0]))) == 3
    assert writer.failed() == {}


def test_tries_end_and_what_is_given_up_is_counted_by_reason() -> None:
    """An engine that stays busy is asked a few times, one that refuses once; then the next have their turn."""
    sender = FakeSender(*[BUSY] * TRIES, READ_ONLY)
    with running(sender) as (buffer, writer):
        buffer.put([EVENT] * 2)
        await_true(lambda: len(writer.failed()) == 1)
        buffer.put([EVENT] * 3)
        await_true(lambda: len(writer.failed()) == 2)
        buffer.put([EVENT])
        await_true(lambda: writer.written == 1)
    assert len(sender.sent) == TRIES + 2
    assert writer.failed() == {BUSY.kind: 2, READ_ONLY.kind: 3}
    assert (len(buffer), writer.in_hand) == (0, 0)


def test_only_the_refused_documents_of_a_request_are_sent_again() -> None:
    """Where an engine takes some, the others alone are tried again."""

    class Half(FakeSender):
        """Takes every second document."""

        def send(self, actions: Sequence[bytes]) -> list[Refusal | None]:
            self.sent.append(list(actions))
            return [None if number % 2 else BUSY for number in range(len(actions))]

    sender = Half()
    with running(sender) as (buffer, writer):
        buffer.put([EVENT] * 16)
        await_true(lambda: writer.written + sum(writer.failed().values()) == 16)
    assert [len(actions) for actions in sender.sent] == [16, 8, 4, 2]
    assert (writer.written, writer.failed()) == (15, {BUSY.kind: 1})


def test_a_fault_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """What breaks in it costs the batch, which is counted, and is logged; the next is written."""
    sender = FakeSender(ZeroDivisionError())
    with running(sender) as (buffer, writer):
        buffer.put([EVENT] * 2)
        await_true(lambda: writer.failed() == {"internal_error": 2})
        buffer.put([EVENT])
        await_true(lambda: writer.written == 1)
    assert "ZeroDivisionError" in caplog.text


def test_what_cant_be_encoded_is_given_up_alone() -> None:
    """Half a surrogate pair in a name spoils its own event only."""
    sender = FakeSender()
    with running(sender) as (buffer, writer):
        buffer.put([event_with(searched_with(expression="\ud800")), EVENT])
        await_true(lambda: writer.written == 1)
        await_true(lambda: writer.failed() == {"unencodable": 1})


def test_a_full_buffer_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """While the engine hangs, further documents are dropped, and the log says so once; all are accounted for."""
    sender = FakeSender()
    sender.goes_on.clear()
    with running(sender, most=10) as (buffer, writer):
        buffer.put([EVENT] * 10)
        await_true(lambda: len(sender.sent) == 1)
        for _ in range(30):
            buffer.put([EVENT])
        assert buffer.dropped == 20
        sender.goes_on.set()
        await_true(lambda: writer.written == 20)
        await_true(lambda: "max_waiting" in caplog.text)
    assert caplog.text.count("max_waiting") == 1
    assert buffer.recorded == writer.written + buffer.dropped


def test_reasons_do_not_fill_the_memory() -> None:
    """They are words of the engine, so only so many of them are kept apart."""
    sender = FakeSender(*[Refusal(f"error-{number}", "x") for number in range(3 * MAX_KINDS)])
    with running(sender) as (buffer, writer):
        for number in range(3 * MAX_KINDS):
            buffer.put([EVENT])
            await_true(lambda number=number: sum(writer.failed().values()) == number + 1)  # type: ignore[misc]
    assert len(writer.failed()) == MAX_KINDS + 1
    assert writer.failed()[OTHER_KINDS] == 2 * MAX_KINDS


def test_what_waits_is_written_at_the_end() -> None:
    """Whatever came last is sent before the thread ends, and its connections are closed."""
    sender = FakeSender()
    buffer = EventBuffer(100_000)
    writer = EventWriter(buffer, sender, flush_s=60.0)
    writer.start()
    writer.open()
    buffer.put([EVENT] * 3)
    writer.stop()
    assert writer.written == 3
    assert sender.closed


def test_an_engine_that_hangs_does_not_keep_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The end is not waited for longer than its limit, and the log says how much was not written."""
    monkeypatch.setattr(writing, "STOP_LIMIT_S", 0.1)
    sender = FakeSender()
    sender.goes_on.clear()
    with running(sender) as (buffer, writer):
        buffer.put([EVENT] * 7)
        await_true(lambda: len(sender.sent) == 1)
        writer.stop()
        assert "7 documents of events were not written" in caplog.text


def test_pauses_are_those_that_the_engine_asks_for() -> None:
    """`Retry-After` counts, up to a limit; without it the pauses grow."""
    writer = EventWriter(EventBuffer(1), FakeSender(), flush_s=1.0)
    asking = Refusal("busy", "(429)", may_pass=True, asked_s=3.0)
    assert [writer._pause_s(number, [BUSY]) for number in range(TRIES - 1)] == [1.0, 2.0, 4.0]
    assert writer._pause_s(0, [BUSY, asking]) == 3.0
    assert writer._pause_s(0, [asking._replace(asked_s=3600.0)]) == 10.0


@pytest.mark.parametrize(("month", "name"), [(1, "es-rerank-events-2027.01"), (12, "es-rerank-events-2027.12")])
def test_a_new_month_is_a_new_index(month: int, name: str) -> None:
    """The time of the event decides, not that of writing."""
    event: SearchEvent = msgspec.structs.replace(EVENT, timestamp=datetime(2027, month, 1, tzinfo=UTC))
    sender = FakeSender()
    with running(sender) as (buffer, writer):
        buffer.put([event])
        await_true(lambda: writer.written == 1)
    action: dict[str, Any] = msgspec.json.decode(sender.sent[0][0].splitlines()[0])
    assert action["create"]["_index"] == name
