"""A load over connections that break, and into a real engine that refuses for a while: every document is there once."""

from __future__ import annotations

import contextlib
import socket
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.official.client import connect
from es_rerank.official.patience import Patience
from ingest.load import load_documents
from tests.ingest.conftest import impatient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine

NAMES = (f"breaks-{number}" for number in count())
MAPPING = {"settings": {"number_of_shards": 1, "number_of_replicas": 0}}
DOCUMENTS = [(f"d{n}", {"t": f"text {n} " * 20}) for n in range(3000)]


class Relay:
    """Passes bytes between clients and an engine, and breaks a connection once for each of its `cuts`.

    A cut is a direction, `request` or `answer`, and how many bytes of it all connections pass together before it.
    """

    def __init__(self, port: int, cuts: list[tuple[str, int]]) -> None:
        self._port = port
        self._cuts = cuts
        self._passed = {"request": 0, "answer": 0}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def cuts_left(self) -> int:
        """How many connections are still to be broken."""
        return len(self._cuts)

    def close(self) -> None:
        """Take no more connections, and close all."""
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in (self._listener, *self._ends):
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._ends.append(client)
                engine = socket.create_connection(("127.0.0.1", self._port))
                self._ends.append(engine)
                self._start(self._pump, "request", client, engine)
                self._start(self._pump, "answer", engine, client)

    def _start(self, work: Callable[..., None], *values: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=values, daemon=True))
        self._threads[-1].start()

    def _pump(self, direction: str, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(4096):
                if self._is_cut(direction, len(piece)):
                    break
                target.sendall(piece)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _is_cut(self, direction: str, length: int) -> bool:
        with self._lock:
            self._passed[direction] += length
            due = [cut for cut in self._cuts if cut[0] == direction and cut[1] <= self._passed[direction]]
            for cut in due:
                self._cuts.remove(cut)
            return bool(due)


@pytest.fixture
def broken_way(any_engine: Engine) -> Iterator[Relay]:
    """The way to an engine, on which three requests and three answers break off."""
    cuts = [("request", 1000 * n) for n in (200, 700, 900)] + [("answer", 1000 * n) for n in (70, 200, 300)]
    relay = Relay(int(any_engine.url.rpartition(":")[2]), cuts)
    yield relay
    relay.close()


@pytest.mark.engines
@pytest.mark.parametrize("resume", [False, True])
def test_connections_that_break_cost_no_document(any_engine: Engine, broken_way: Relay, resume: bool) -> None:
    """Whether a request or its answer breaks off, every document is in the index once, and the load ends well."""
    index = next(NAMES)
    report = load_documents(broken_way.url, index, DOCUMENTS, MAPPING, resume=resume, patience=impatient(1000))
    assert broken_way.cuts_left == 0
    assert (report.indexed, report.refused, report.there, report.in_index) == (3000, 0, 0, 3000)
    assert report.replaced == 0
    client = connect(any_engine.url)
    assert client.count(index=index)["count"] == 3000
    client.indices.delete(index=index)
    client.close()


@pytest.mark.engines
def test_an_engine_without_room_is_waited_for(real_engine: Engine) -> None:
    """A real engine that refuses documents with 429, as one with a full disk does, gets them once it takes them."""
    index = next(NAMES)
    client = connect(real_engine.url)
    client.indices.create(index=index, body=MAPPING)
    said: list[str] = []

    def block(value: bool | None) -> None:
        client.indices.put_settings(index=index, body={"index.blocks.read_only_allow_delete": value})

    block(True)
    patience = Patience(say=said.append, sleep=lambda _: block(None) if len(said) > 1 else None)
    report = load_documents(client, index, DOCUMENTS, MAPPING, patience=patience)
    assert (report.indexed, report.replaced, report.refused, report.in_index) == (3000, 0, 0, 3000)
    assert len(said) == 2
    assert all("the engine takes nothing now: (429) index [" in line and "read-only" in line for line in said)
    client.indices.delete(index=index)
    client.close()
