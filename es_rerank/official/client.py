"""The official client for the engine at a URL, and what its errors mean.

Decides which client is the right one and how it logs in, translates both clients' errors, and asks a busy engine again.
Knows no documents.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import elastic_transport
import elasticsearch
import opensearchpy

from es_rerank.errors import EngineError, SettingsError
from es_rerank.official.login import authorization
from es_rerank.official.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from elastic_transport import TransportApiResponse

    from es_rerank.official.login import ApiKey, Password

Client = elasticsearch.Elasticsearch | opensearchpy.OpenSearch
Answer = TypeVar("Answer")

OLDEST_ELASTICSEARCH = 8
# Engines answer a chunk within seconds; one that takes longer is merging or short of memory, and may recover.
ANSWER_LIMIT_S = 120.0
# The engine, or a server before it, takes nothing now; the same request may be taken later.
BUSY_STATUSES = frozenset({429, 502, 503, 504})
OTHER_FORMS = re.compile(r"compatible-with=\d+")
# How urllib3 begins its messages.
CONNECTION_NAME = re.compile(r"^HTTPS?Connection(?:Pool)?\([^)]*\): ")
NO_REASON = "it gives no reason"
DEFAULT_PORTS = {"http": 80, "https": 443}
CLIENT_ERRORS = (
    elasticsearch.ApiError,
    elasticsearch.TransportError,
    opensearchpy.exceptions.OpenSearchException,
    opensearchpy.exceptions.ImproperlyConfigured,
)
# What an engine says in a header beside its answer, such as that security is off.
ENGINE_WARNINGS = (elasticsearch.ElasticsearchWarning, opensearchpy.OpenSearchWarning)


class CompatibleTransport(elastic_transport.Transport):
    """Asks for Elasticsearch 8's form of the API, which both 8 and 9 have, whatever the client's own version.

    A client of version 9 asks for 9, to which an Elasticsearch 8 answers 400. Headers given to the client, or to its
    `options`, don't change that, because each call sets its own.
    """

    def perform_request(self, method: str, target: str, **options: Any) -> TransportApiResponse:
        """See elastic_transport."""
        headers = options.get("headers") or {}
        options["headers"] = {name: OTHER_FORMS.sub("compatible-with=8", value) for name, value in headers.items()}
        return super().perform_request(method, target, **options)


class TellingConnection(opensearchpy.Urllib3HttpConnection):
    """Keeps the answer's `Retry-After` with the error of a busy engine, as `retry_after`. The client drops all headers.

    To the base class such a status is no error, so that it returns the headers; then it makes the error that it would
    have raised.
    """

    def perform_request(  # type: ignore[override]  # as the transport calls it
        self, method: str, url: str, params: Any = None, body: Any = None, *, ignore: Any = (), **options: Any
    ) -> Any:
        """See opensearchpy."""
        status, headers, data = super().perform_request(
            method, url, params, body, ignore=(*ignore, *BUSY_STATUSES), **options
        )
        if status not in BUSY_STATUSES or status in ignore:
            return status, headers, data
        try:
            self._raise_error(status, data, headers.get("content-type"))
        except opensearchpy.exceptions.TransportError as error:
            error.retry_after = headers.get("retry-after")  # type: ignore[attr-defined]
            raise


def connect(
    url: str,
    *,
    login: Password | ApiKey | None = None,
    ca_file: Path | None = None,
    verify_tls: bool = True,
    patience: Patience | None = None,
    answer_limit_s: float = ANSWER_LIMIT_S,
) -> Client:
    """The official client for the engine at `url`, after asking which engine it is.

    `version` of `GET /` tells which one it is, never a header: some OpenSearch servers send Elasticsearch's header.
    Without `verify_tls` any certificate is trusted. No answer is waited for longer than `answer_limit_s`. The client
    never asks again by itself: `ask` does, as a busy engine is waited for here too, with `patience`. Raises
    SettingsError for a URL or a file that can't be used, EngineError where no engine answers or the engine is an
    unknown one.
    """
    address = _address(url)
    options = _client_options(address, login, ca_file)
    if not verify_tls:
        options |= {"verify_certs": False, "ssl_show_warn": False}
    with engine_errors(f"the engine at {url}"):
        client = opensearchpy.OpenSearch(address, timeout=answer_limit_s, connection_class=TellingConnection, **options)
        version = _version(ask(client.info, patience or Patience(), reached=False))
        if version.get("distribution") == "opensearch":
            return client
        client.close()
    _check_elasticsearch(url, version)
    return elasticsearch.Elasticsearch(
        address, transport_class=CompatibleTransport, request_timeout=answer_limit_s, **options
    )


@contextmanager
def engine_errors(engine: str) -> Iterator[None]:
    """Turn the clients' errors into EngineError, whose text begins with `engine`, as in `the engine at URL`."""
    try:
        yield
    except CLIENT_ERRORS as error:
        raise EngineError(f"{engine} {_what_happened(error)}") from error


def ask(request: Callable[[], Answer], patience: Patience, *, reached: bool = True) -> Answer:
    """The answer to a request that the engine may get twice. Raises the client's error once `patience` ends.

    A busy engine is waited for, and so is one that is lost, but not one that was never `reached`: its URL is wrong.
    """
    while True:
        try:
            answer = request()
        except CLIENT_ERRORS as error:
            status, said = status_and_words(error)
            waits = may_pass(error) and (reached or status is not None)
            if not waits or not patience.wait(said, retry_after_s(error)):
                raise
        else:
            patience.end_wait()
            return answer


def request(client: Client, method: str, target: str, body: str | None = None) -> Any:
    """The answer to any request, JSON, for paths of which the clients know nothing. Raises the client's errors."""
    headers = {"accept": "application/json"} | ({} if body is None else {"content-type": "application/json"})
    if isinstance(client, elasticsearch.Elasticsearch):
        return client.perform_request(method, target, headers=headers, body=body).body
    return client.transport.perform_request(method, target, headers=headers, body=body)


def ignore_engine_warnings() -> None:
    """Hide what an engine says beside its answers, such as that security is off, from here to the end of the block."""
    for category in ENGINE_WARNINGS:
        warnings.simplefilter("ignore", category)


def may_pass(error: Exception) -> bool:
    """Whether the same request may be taken later: the engine is busy, or no answer came over the network."""
    if isinstance(error, elastic_transport.TlsError | opensearchpy.exceptions.SSLError):
        return False
    if isinstance(error, elasticsearch.ConnectionError | elasticsearch.ConnectionTimeout):
        return True
    return isinstance(error, opensearchpy.exceptions.ConnectionError) or status_and_reason(error)[0] in BUSY_STATUSES


def retry_after_s(error: Exception) -> float | None:
    """How many seconds the engine asks to wait, from the `Retry-After` of its answer; None if it doesn't."""
    meta = getattr(error, "meta", None)
    text = str((getattr(error, "retry_after", None) if meta is None else meta.headers.get("retry-after")) or "")
    try:
        seconds = float(text or "nan")
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def status_and_reason(error: Exception) -> tuple[int | None, str]:
    """The HTTP status of a client's error, None where no answer came, and the reason in the engine's words."""
    if isinstance(error, elasticsearch.ApiError):
        return error.status_code, reason_in(_error_of(error.body)) or NO_REASON
    if isinstance(error, opensearchpy.exceptions.TransportError) and isinstance(error.status_code, int):
        return error.status_code, reason_in(_error_of(error.info)) or NO_REASON
    return None, _cause(error)


def status_and_words(error: Exception) -> tuple[int | None, str]:
    """The same, with the status before the reason."""
    status, reason = status_and_reason(error)
    return status, f"({status}) {reason}" if status else reason


def reason_in(error: Any) -> str:
    """The reasons in an `error` of the engine's JSON, from the outermost to the cause; '' where it has none."""
    reasons: list[str] = []
    while isinstance(error, dict):
        reason = str(error.get("reason") or error.get("type"))
        if not reasons or reason not in reasons[-1]:  # an outer reason often quotes its cause
            reasons.append(reason)
        error = error.get("caused_by")
    return ": ".join(reasons) or str(error or "")


def _address(url: str) -> str:
    """The URL with its port: one client demands a port, the other would assume 9200."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        parts, port = urlsplit(""), 0
    if parts.username or parts.password:
        raise SettingsError(
            "the URL must carry no user or password, since others can read a command line: "
            "give --user NAME and the password in ES_RERANK_INGEST_PASSWORD"
        )
    if not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(f"the URL {url!r}: an http:// or https:// URL with a host is needed")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return parts._replace(netloc=f"{host}:{port}").geturl()


def _client_options(address: str, login: Password | ApiKey | None, ca_file: Path | None) -> dict[str, Any]:
    """Options that both clients take under the same names. A login is a header, as each would encode it differently."""
    options: dict[str, Any] = {"max_retries": 0}
    if login is not None:
        options["headers"] = {"authorization": authorization(login)}
    if ca_file is not None:
        if not ca_file.is_file():
            raise SettingsError(f"the CA file {str(ca_file)!r}: no such file")
        if not address.startswith("https:"):
            raise SettingsError(f"the CA file {str(ca_file)!r} is of no use: the URL does not begin with https://")
        options["ca_certs"] = str(ca_file)
    return options


def _version(info: Any) -> dict[str, Any]:
    version = info.get("version") if isinstance(info, dict) else None
    return version if isinstance(version, dict) else {}


def _check_elasticsearch(url: str, version: dict[str, Any]) -> None:
    number = str(version.get("number", ""))
    if "build_flavor" not in version or not number:
        raise EngineError(
            f"{url} answers, but is neither Elasticsearch nor OpenSearch, by `version` of its GET /: {version}. "
            "Give the URL of the engine itself, or of es-rerank before it"
        )
    major = number.partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST_ELASTICSEARCH:
        raise EngineError(
            f"{url} is Elasticsearch {number}: {OLDEST_ELASTICSEARCH} or later is needed, or any OpenSearch"
        )


def _what_happened(error: Exception) -> str:
    """What an error means, for people, and what to do about it."""
    status, reason = status_and_reason(error)
    if status == 401:
        return (
            f"asks for another login (401: {reason}). Give --user NAME and the password in "
            "ES_RERANK_INGEST_PASSWORD, or an API key in ES_RERANK_INGEST_API_KEY"
        )
    if status == 403:
        return f"does not allow this to the login in use (403: {reason}). Give one that may monitor and write"
    if status is not None:
        return f"answered {status}: {reason}"
    if isinstance(error, elastic_transport.TlsError | opensearchpy.exceptions.SSLError):
        return (
            f"cannot be reached by TLS: {reason}. Name the file of the authority that signed its certificate "
            "(--ca-file, or upstream.ca_file)"
        )
    if isinstance(error, elasticsearch.ConnectionTimeout | opensearchpy.exceptions.ConnectionTimeout):
        return f"did not answer within {ANSWER_LIMIT_S:.0f} s"
    return f"cannot be reached: {reason}. Check that it is up, and its URL"


def _error_of(body: Any) -> Any:
    return body.get("error") if isinstance(body, dict) else body


def _cause(error: Exception) -> str:
    """The message of the lowest library, without the words that the libraries above put around it."""
    below = error.__cause__ or getattr(error, "info", None)
    if isinstance(below, Exception) and len(below.args) > 1 and isinstance(below.args[-1], Exception):
        return str(below.args[-1])
    if isinstance(error, opensearchpy.exceptions.ConnectionError):
        text = str(error.error)
    else:
        text = str(getattr(error, "message", error))
    return CONNECTION_NAME.sub("", text) or type(error).__name__
