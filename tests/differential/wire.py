"""One caller on a connection that is kept: a request as bytes, its answer as bytes."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing import Self

TIMEOUT_S = 120.0
CHUNK_BYTES = 7
HEADERS_OF_A_HOP = frozenset({"host", "connection", "content-length", "transfer-encoding"})
JSON_TYPE = ("Content-Type", "application/json")
LINES_TYPE = ("Content-Type", "application/x-ndjson")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request. `target` is sent as it stands; a `body` of None sends no Content-Length."""

    method: str = "GET"
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    chunked: bool = False
    """Whether the body goes in chunks of a few bytes."""

    def with_parameters(self, more: str) -> Asked:
        """The same with more parameters in its URL, behind those that it has."""
        return replace(self, target=self.target + ("&" if "?" in self.target else "?") + more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers (in order, names in lower case) and body of an answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The first value of a header, or nothing."""
        return next((value for key, value in self.headers if key == name), "")


class Caller:
    """Sends requests to a URL, one after the other. A context manager: leaving it closes the connection."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        """The connection is opened by the first request."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, asked: Asked) -> Answer:
        """The answer to a request. Raises OSError where there is none."""
        wire = self._connection
        try:
            wire.putrequest(asked.method, asked.target, skip_host=True, skip_accept_encoding=True)
            wire.putheader("Host", self._host)
            for name, value in asked.headers:
                if name.lower() not in HEADERS_OF_A_HOP:
                    wire.putheader(name, value)
            if asked.body is not None and asked.chunked:
                pieces = [asked.body[at : at + CHUNK_BYTES] for at in range(0, len(asked.body), CHUNK_BYTES)]
                wire.putheader("Transfer-Encoding", "chunked")
                wire.endheaders(pieces, encode_chunked=True)
            else:
                if asked.body is not None:
                    wire.putheader("Content-Length", str(len(asked.body)))
                wire.endheaders(asked.body)
            reply = wire.getresponse()
            headers = tuple((name.lower(), value) for name, value in reply.getheaders())
            return Answer(status=reply.status, headers=headers, body=reply.read())
        except (OSError, http.client.HTTPException):
            self.close()  # the next request opens another
            raise
