"""Sends documents to the engine in one bulk request of the official client, and says what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import elasticsearch
import msgspec
import opensearchpy

from es_rerank.errors import EsRerankError
from es_rerank.official.client import (
    BUSY_STATUSES,
    CLIENT_ERRORS,
    connect,
    may_pass,
    reason_in,
    retry_after_s,
    status_and_reason,
)
from es_rerank.official.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from es_rerank.official.client import Client
    from es_rerank.official.login import ApiKey, Password

# A bulk request of a batch takes milliseconds. One that has no answer by then is sent again: ids make that harmless.
ANSWER_LIMIT_S = 10.0
# Of each item's answer, what is needed to know its fate: less to send, and less to parse beside the searches.
FILTER = "items.*.status,items.*.error"
CONFLICT = 409
BAD_REQUEST = 400


class Refusal(NamedTuple):
    """Why a document was not taken.

    `kind` is one word, to be counted: the engine's type of the error, or what became of the request. `words` are for
    the log, and hold nothing of a document. With `may_pass`, the same document may be taken later; then `asked_s` is
    how long the engine asks to wait, None where it doesn't.
    """

    kind: str
    words: str
    may_pass: bool = False
    asked_s: float | None = None


class _Item(msgspec.Struct):
    status: int
    error: Any = None


class _Answer(msgspec.Struct):
    items: list[dict[str, _Item]] = []


class BulkSender:
    """The way to the engine's hosts. Connects when it is first used, and to the next host once one fails.

    For one thread.
    """

    def __init__(
        self, urls: Sequence[str], *, login: Password | ApiKey | None, ca_file: Path | None, verify_tls: bool
    ) -> None:
        self._urls = urls
        self._login = login
        self._ca_file = ca_file
        self._verify_tls = verify_tls
        self._host = 0
        self._client: Client | None = None

    def send(self, actions: Sequence[bytes]) -> list[Refusal | None]:
        """What becomes of each action, parallel to them: None for a document that the engine has. Raises nothing.

        An action is the lines of one document in a bulk request. It has an id, so it can be sent again.
        """
        try:
            answered = self._bulk(b"".join(actions))
        except (*CLIENT_ERRORS, EsRerankError) as error:
            refusal = _refusal_of(error)
            if refusal.may_pass:
                self._leave_host()
            return [refusal] * len(actions)
        try:
            items = [item for one in msgspec.convert(answered, _Answer).items for item in one.values()]
        except msgspec.ValidationError:
            items = []
        if len(items) != len(actions):
            return [Refusal("unreadable_answer", "its answer is not that of a bulk request")] * len(actions)
        return [_fate_of(item) for item in items]

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _bulk(self, body: bytes) -> Any:
        """The engine's answer as a value. Raises the client's errors, and EngineError or SettingsError of `connect`."""
        if self._client is None:
            self._client = connect(
                self._urls[self._host],
                login=self._login,
                ca_file=self._ca_file,
                verify_tls=self._verify_tls,
                patience=Patience(max_wait_s=0),
                answer_limit_s=ANSWER_LIMIT_S,
            )
        if isinstance(self._client, opensearchpy.OpenSearch):
            return self._client.bulk(body=body, params={"filter_path": FILTER})
        operations: Any = body  # encoded already, which the client takes too
        return self._client.bulk(operations=operations, filter_path=FILTER).body

    def _leave_host(self) -> None:
        self.close()
        self._host = (self._host + 1) % len(self._urls)


def _fate_of(item: _Item) -> Refusal | None:
    if item.status < BAD_REQUEST or item.status == CONFLICT:  # it is there: an earlier try was carried out
        return None
    return _refusal(item.status, _type_of(item.error), reason_in(item.error), may_pass=item.status in BUSY_STATUSES)


def _refusal_of(error: Exception) -> Refusal:
    """Why a whole request was not carried out."""
    cause = error.__cause__ if isinstance(error, EsRerankError) else error
    if not isinstance(cause, CLIENT_ERRORS):  # what `connect` itself finds, which is about hosts and files
        return Refusal("no_engine", str(error), may_pass=True)
    status, reason = status_and_reason(cause)
    if status is None:
        timed_out = isinstance(cause, elasticsearch.ConnectionTimeout | opensearchpy.exceptions.ConnectionTimeout)
        return Refusal("no_answer" if timed_out else "unreachable", reason, may_pass=True)
    body = cause.body if isinstance(cause, elasticsearch.ApiError) else getattr(cause, "info", None)
    kind = _type_of(body.get("error") if isinstance(body, dict) else None)
    return _refusal(status, kind, reason, may_pass=may_pass(cause), asked_s=retry_after_s(cause))


def _refusal(status: int, kind: str, reason: str, *, may_pass: bool, asked_s: float | None = None) -> Refusal:
    """A refusal by the engine. Its reason is not told where it is about a document, as it may quote that."""
    kind = kind or f"http_{status}"
    words = kind if status == BAD_REQUEST else reason or kind
    return Refusal(kind, f"({status}) {words}", may_pass=may_pass, asked_s=asked_s)


def _type_of(error: Any) -> str:
    return str(error.get("type") or "") if isinstance(error, dict) else ""
