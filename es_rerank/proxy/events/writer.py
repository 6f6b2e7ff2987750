"""The thread that writes what waits in the buffer: in batches, again where the engine is busy, and never for long."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import uuid4

import msgspec

from es_rerank.official.client import ignore_engine_warnings
from es_rerank.proxy.events.event import SearchEvent
from es_rerank.proxy.events.troubles import Troubles
from es_rerank.store.indices import EVENTS, HITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from es_rerank.proxy.events.buffer import EventBuffer, Waiting
    from es_rerank.proxy.events.bulk import Refusal

LOG = logging.getLogger(__name__)
TRIES = 4
# Between tries, unless the engine asks for another pause: so a batch is given up after seven seconds of refusals.
PAUSES_S = (1.0, 2.0, 4.0)
LONGEST_PAUSE_S = 10.0
# How long a process that ends waits until the last documents are written.
STOP_LIMIT_S = 3.0
# Kinds of errors are the engine's words: more of them must not fill the memory.
MAX_KINDS = 20
OTHER_KINDS = "other"


class Sender(Protocol):
    """The way to the engine, see `es_rerank.proxy.events.bulk.BulkSender`."""

    def send(self, actions: Sequence[bytes]) -> list[Refusal | None]:
        """What becomes of each action."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class Action(NamedTuple):
    """One document on its way: the name of its index without the month, and its lines in a bulk request."""

    index_name: str
    lines: bytes


class EventWriter:
    """Writes what waits in the buffer, from a thread of its own, once `open` was called.

    What the engine does not take is tried again a few times where that may help, then dropped and counted by reason.
    """

    def __init__(
        self, buffer: EventBuffer, sender: Sender, *, flush_s: float, pauses_s: Sequence[float] = PAUSES_S
    ) -> None:
        self._buffer = buffer
        self._sender = sender
        self._flush_s = flush_s
        self._pauses_s = pauses_s
        self._process = uuid4().hex
        self._numbers = count()
        self._encode = msgspec.json.Encoder().encode
        self._open = False
        self._stopping = threading.Event()
        self._troubles = Troubles()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._failed: dict[str, int] = {}
        self.written = 0
        self.in_hand = 0

    def start(self) -> None:
        """Begin to look at the buffer."""
        self._thread.start()

    def open(self) -> None:
        """Begin to write: the engine knows the fields of our indices now."""
        self._open = True
        self._buffer.wake()

    def stop(self) -> None:
        """Write what waits, and end; don't wait for an engine that does not take it within STOP_LIMIT_S."""
        self._stopping.set()
        self._buffer.wake()
        self._thread.join(STOP_LIMIT_S)
        lost = len(self._buffer) + self.in_hand
        if lost:
            LOG.warning("%d documents of events were not written before the end", lost)

    def failed(self) -> Mapping[str, int]:
        """How many documents were given up, by reason."""
        return dict(self._failed)

    def _run(self) -> None:
        ignore_engine_warnings()
        while not self._stopping.is_set():
            self._buffer.await_batch(self._flush_s)
            self._write_all()
        self._write_all()  # what came since
        self._sender.close()

    def _write_all(self) -> None:
        """Write all that waits now."""
        self._troubles.note_dropped(self._buffer.dropped, waiting=len(self._buffer))
        while self._open and (waiting := self._buffer.take()):
            self.in_hand = len(waiting)
            try:
                self._write(list(self._actions(waiting)))
            except Exception:  # a fault of ours must not end the thread
                LOG.exception("writing events broke")
                self._give_up("internal_error", self.in_hand)
            self.in_hand = 0

    def _actions(self, waiting: Sequence[Waiting]) -> Iterator[Action]:
        """Each as it is written. What can't be encoded is given up.

        No other process makes the same ids, and `create` leaves a document that is there as it is: so each is there
        once, however often it is sent.
        """
        for one in waiting:
            time = one.timestamp
            name = EVENTS.name if isinstance(one, SearchEvent) else HITS.name
            begun = _begun_action(name, time.year, time.month, self._process)
            try:
                yield Action(name, b'%b%d"}}\n%b\n' % (begun, next(self._numbers), self._encode(one)))
            except ValueError:  # half a surrogate pair in a name
                self._give_up("unencodable", 1)

    def _write(self, actions: Sequence[Action]) -> None:
        """Write a batch, and again what the engine may take later."""
        for number in range(TRIES):
            answered = self._sender.send([action.lines for action in actions])
            self._troubles.note([action.index_name for action in actions], answered)
            again = []
            refusals: list[Refusal] = []
            may_wait = number + 1 < TRIES and not self._stopping.is_set()
            for action, refusal in zip(actions, answered, strict=True):
                if refusal is None:
                    self.written += 1
                    self.in_hand -= 1
                    continue
                refusals.append(refusal)
                if refusal.may_pass and may_wait:
                    again.append(action)
                else:
                    self._give_up(refusal.kind, 1)
            if not again:
                return
            actions = again
            self._stopping.wait(self._pause_s(number, refusals))

    def _pause_s(self, number: int, refusals: Sequence[Refusal]) -> float:
        asked_s = [refusal.asked_s for refusal in refusals if refusal.asked_s is not None]
        return min(max(asked_s), LONGEST_PAUSE_S) if asked_s else self._pauses_s[number]

    def _give_up(self, kind: str, documents: int) -> None:
        kind = kind if kind in self._failed or len(self._failed) < MAX_KINDS else OTHER_KINDS
        self._failed[kind] = self._failed.get(kind, 0) + documents
        self.in_hand -= documents


@lru_cache(maxsize=8)
def _begun_action(name: str, year: int, month: int, process: str) -> bytes:
    """The first line of a document of this month, up to the number in its id."""
    index = (EVENTS if name == EVENTS.name else HITS).at(datetime(year, month, 1, tzinfo=UTC))
    return f'{{"create":{{"_index":"{index}","_id":"{process}-'.encode()
