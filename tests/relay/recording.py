"""An engine that reads HTTP strictly, keeps what it read by connection, and misbehaves as each request asks it to.

A request names a script of SCRIPTS in its header `x-script`. Whatever is answered says which request it belongs to.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing import BinaryIO

    Headers = tuple[tuple[bytes, bytes], ...]

CRLF = b"\r\n"
REQUEST_LINE = re.compile(rb"([A-Z]+) ([^\x00-\x20\x7f]+) (HTTP/1\.[01])\r\n")
HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\r\n")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
REFUSALS = (400, 408, 413, 414, 417, 431)
# An answer that belongs to no request.
FOREIGN = b"HTTP/1.1 200 OK\r\nx-caller: nobody\r\ncontent-length: 7\r\n\r\nforeign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How a request is answered.

    `early` means right after the head; the body is then drained, or, if `unread`, read as if it were the next request,
    as OpenSearch does. `behind` follows in one piece with the answer, `late` when the test says so.
    """

    status: int = 200
    early: bool = False
    unread: bool = False
    interim: tuple[int, ...] = ()
    behind: bytes = b""
    late: bytes = b""
    missing: int = 0
    """By how many bytes Content-Length is too small."""
    version: bytes = b"HTTP/1.1"
    framing: str = "length"
    """length, chunked, or close for an answer that ends with its connection."""
    header: bytes = b""
    always_body: bool = False
    """Also in an answer that can't have one."""
    closes: bool = False
    mute: bool = False
    """Says nothing to an expectation, and waits for the body."""

    def spoils(self, *, bodiless: bool) -> bool:
        """Whether no request may follow on the connection, after an answer with or without a body."""
        beyond = self.behind or (self.always_body if bodiless else self.missing)
        ends = self.version == b"HTTP/1.0" or b"close" in self.header or self.status in REFUSALS
        return bool(beyond) or ends or self.unread


PLAIN = Script()
# What an engine may do, or really does, to any caller: the caller's own answer is right.
FAIR: dict[str, Script] = {
    "plain": PLAIN,
    "interim": Script(interim=(100, 102, 103)),
    "chunked": Script(framing="chunked"),
    "until-close": Script(framing="close"),
    "http-1.0": Script(version=b"HTTP/1.0"),
    "says-close": Script(header=b"connection: close\r\n"),
    "behind": Script(behind=FOREIGN),
    "behind-chunks": Script(framing="chunked", behind=FOREIGN),
    "behind-part": Script(behind=FOREIGN[:30]),
    "late": Script(late=FOREIGN),
    "late-chunks": Script(framing="chunked", late=FOREIGN),
    "late-twice": Script(late=FOREIGN * 2),
    "late-part": Script(late=FOREIGN[:30]),
    "late-interim": Script(late=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "late-garbage": Script(late=b"garbage"),
    "late-crlf": Script(late=CRLF),
    "mute": Script(mute=True),
}
UNFAIR: dict[str, Script] = {
    "short": Script(missing=10),
    "body-always": Script(always_body=True),
    "body-with-204": Script(status=204, always_body=True),
    "body-with-304": Script(status=304, always_body=True),
    "closes": Script(closes=True),
    "early-200": Script(early=True),
    "early-401": Script(status=401, early=True),
    "early-closes": Script(status=413, early=True, closes=True),
    **{f"refused-{status}": Script(status=status) for status in REFUSALS},
    **{f"early-{status}": Script(status=status, early=True) for status in REFUSALS},
    **{f"unread-{status}": Script(status=status, early=True, unread=True) for status in REFUSALS},
}
# Only if the body is not whole when the answer comes: otherwise only the engine can know what went wrong.
WITHHELD: dict[str, Script] = {
    **{f"unread-{status}": Script(status=status, early=True, unread=True) for status in (200, 401, 500)},
    "unread-interim": Script(status=413, early=True, unread=True, interim=(100,)),
}
SCRIPTS = FAIR | UNFAIR | WITHHELD


@dataclass(slots=True, kw_only=True)
class Recorded:
    """A request as it was read. `spoilt` says that its connection should not have carried one any more."""

    number: int
    connection: int
    method: bytes
    target: bytes
    headers: Headers
    body: bytes | None
    """None until it was read to its end."""
    spoilt: bool

    def header(self, name: bytes) -> bytes:
        """The first value of a header, or nothing."""
        return next((value for key, value in self.headers if key.lower() == name), b"")

    @property
    def expects(self) -> bool:
        """Whether it has any other expectation than a single `100-continue`, be it an empty one."""
        return [value for name, value in self.headers if name.lower() == b"expect"] not in ([], [b"100-continue"])


class _UnreadableError(Exception):
    """The bytes that were read are not strict HTTP/1.1."""


class _Connection:
    def __init__(self, number: int, wire: socket.socket) -> None:
        self.number = number
        self.wire = wire
        self.stream = cast("BinaryIO", wire.makefile("rb"))
        self.spoilt = False
        self.late = b""

    def line(self) -> bytes:
        line = self.stream.readline(1 << 20)
        if line and not line.endswith(b"\n"):
            raise EOFError
        return line

    def exactly(self, count: int) -> bytes:
        data = self.stream.read(min(count, 1 << 30))
        if len(data) < count:
            raise EOFError
        return data

    def end(self) -> None:
        """End the connection, so that the peer notices it."""
        with suppress(OSError):
            self.wire.shutdown(socket.SHUT_RDWR)

    def read_head(self) -> tuple[bytes, bytes, Headers] | None:
        """Method, target and headers of the next request; None where the peer has ended."""
        first = self.line()
        if not first:
            return None
        found = REQUEST_LINE.fullmatch(first)
        if found is None:
            raise _UnreadableError(first)
        headers = []
        while (line := self.line()) != CRLF:
            field = HEADER_LINE.fullmatch(line)
            if field is None:
                raise _UnreadableError(line) if line else EOFError
            headers.append((field[1], field[2]))
        return found[1], found[2], tuple(headers)

    def read_body(self, headers: Headers) -> bytes:
        """The body that the headers announce."""
        lengths = [value for name, value in headers if name.lower() == b"content-length"]
        codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
        if len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
            raise _UnreadableError(repr((lengths, codings)))
        if codings:
            return self._read_chunks()
        if lengths and not re.fullmatch(rb"\d+", lengths[0]):
            raise _UnreadableError(lengths[0])
        return self.exactly(int(lengths[0])) if lengths else b""

    def _read_chunks(self) -> bytes:
        body = b""
        while True:
            line = self.line()
            found = CHUNK_LINE.fullmatch(line)
            if found is None:
                raise _UnreadableError(line) if line else EOFError
            chunk = self.exactly(int(found[1], 16))
            if self.exactly(2) != CRLF:
                raise _UnreadableError("chunk without an end")
            if not chunk:
                return body
            body += chunk


class RecordingEngine:
    """The engine, listening on `port` until it is closed."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.unreadable: list[str] = []
        """What was no HTTP on a connection that was in order."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._listener.close()

    def forget(self) -> None:
        """Clear the records, drop late bytes that were not sent, and end connections that nobody should use."""
        with self._lock:
            self.requests = []
            self.unreadable = []
            for connection in self._connections:
                connection.late = b""
                if connection.spoilt:
                    connection.end()

    def send_late(self, limit_s: float = 1.0) -> None:
        """Send the scripts' late bytes on connections that are idle now; the peer then has some time to end them."""
        with self._lock:
            spoilt = [connection for connection in self._connections if connection.late]
            for connection in spoilt:
                connection.spoilt = True
                with suppress(OSError):
                    connection.wire.sendall(connection.late)
                connection.late = b""
        give_up_s = time.monotonic() + limit_s
        while time.monotonic() < give_up_s and any(connection in self._connections for connection in spoilt):
            time.sleep(0.005)

    def first_class(self, target: bytes) -> list[Recorded]:
        """The requests for a target that came on a connection that may carry them."""
        return [request for request in self.requests if request.target == target and not request.spoilt]

    def misplaced(self) -> list[Recorded]:
        """The requests on a spoilt connection that came from no body: somebody used it again."""
        return [request for request in self.requests if request.spoilt and request.target != b"/smuggled"]

    def _accept(self) -> None:
        for number in itertools.count(1):
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            connection = _Connection(number, wire)
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: _Connection) -> None:
        with connection.wire, connection.stream:
            try:
                while self._serve_one(connection):
                    pass
            except _UnreadableError as error:
                with self._lock:
                    if not connection.spoilt:
                        self.unreadable.append(f"connection {connection.number}: {error}")
                with suppress(OSError):
                    connection.wire.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            except (OSError, EOFError, ValueError):
                pass
        with self._lock:
            self._connections.remove(connection)

    def _serve_one(self, connection: _Connection) -> bool:
        """Serve the next request; says whether there may be another."""
        head = connection.read_head()
        if head is None:
            return False
        method, target, headers = head
        with self._lock:
            request = Recorded(
                number=next(self._numbers),
                connection=connection.number,
                method=method,
                target=target,
                headers=headers,
                body=None,
                spoilt=connection.spoilt,
            )
            self.requests.append(request)
        script = SCRIPTS.get(request.header(b"x-script").decode("latin-1"), PLAIN)
        if request.header(b"expect") == b"100-continue" and not (script.early or script.mute):
            connection.wire.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif request.expects:  # as OpenSearch does
            script = SCRIPTS["unread-417"]
        if not script.early:
            request.body = connection.read_body(headers)
        self._answer(connection, request, script)
        if script.early and not script.unread:
            request.body = connection.read_body(headers)
        return not script.closes and script.framing != "close"

    def _answer(self, connection: _Connection, request: Recorded, script: Script) -> None:
        echo = {
            "number": request.number,
            "target": request.target.decode("latin-1"),
            "caller": request.header(b"x-caller").decode("latin-1"),
            "body": None if request.body is None else hashlib.sha256(request.body).hexdigest(),
        }
        body = json.dumps(echo).encode()
        head = b"%s %d Scripted\r\nx-number: %d\r\nx-caller: %s\r\nx-target: %s\r\n" % (
            script.version, script.status, request.number, request.header(b"x-caller"), request.target,
        ) + script.header  # fmt: skip
        bodiless = request.method == b"HEAD" or script.status in (204, 304)
        if script.framing == "chunked":
            head += b"transfer-encoding: chunked\r\n"
            body = b"5;x=y\r\n%s\r\n%x\r\n%s\r\n0\r\nx-trailer: 1\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
        elif script.framing == "length" and script.status != 204:
            head += b"content-length: %d\r\n" % (len(body) - script.missing)
        if bodiless and not script.always_body:
            body = b""
        raw = b"".join(b"HTTP/1.1 %d Interim\r\nlink: </a>\r\n\r\n" % status for status in script.interim)
        with self._lock:
            connection.spoilt |= script.spoils(bodiless=bodiless)
            connection.late += script.late
        connection.wire.sendall(raw + head + CRLF + body + script.behind)
