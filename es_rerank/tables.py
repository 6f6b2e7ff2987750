"""The tables of the configuration that say how the process runs, and what every table has in common.

Rules and scorers have tables of their own, in `rules` and `scorers`; `settings` loads them all.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar
from urllib.parse import parse_qsl

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from es_rerank.addresses import host_and_port, listening_host, published_address, read_url

if TYPE_CHECKING:
    from collections.abc import Sized

Items = TypeVar("Items", bound="Sized")
Seconds = Annotated[StrictFloat, Field(gt=0, le=3600, allow_inf_nan=False)]
Share = Annotated[StrictFloat, Field(ge=0, le=1, allow_inf_nan=False)]
ListeningHost = Annotated[StrictStr, AfterValidator(listening_host)]
Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
MAX_INSTRUCTION_CHARACTERS = 2_000
Instruction = Annotated[StrictStr, Field(max_length=MAX_INSTRUCTION_CHARACTERS)]
DEFAULT_INSTRUCTION = "Given a query, retrieval relevant passage."


class Section(BaseModel):
    """Base of every table: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def not_empty(items: Items) -> Items:
    """Refuse an empty list or table. pydantic's own minimum length does not count items that are wrong themselves."""
    if not items:
        raise ValueError("at least one item is needed")
    return items


def _engine_url(url: str) -> str:
    parts = read_url(url, "http", "https")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must carry no user or password: the caller's own credentials are used, and only they")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must end behind host and port: the caller's path is forwarded as it is")
    return f"{parts.scheme}://{parts.netloc}"


def _each_host_once(urls: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a host that is named twice: it would stand in for itself."""
    seen: dict[tuple[str, int], int] = {}
    for position, url in enumerate(urls):
        first = seen.setdefault(host_and_port(read_url(url, "http", "https")), position)
        if first != position:
            raise ValueError(f"[{first}] and [{position}] are the same host and port: name each host once")
    return urls


def readable_certificates(file: Path) -> str:
    """Why no certificate can be read from the file; '' if one can."""
    try:
        with file.open("rb"):
            pass
        ssl.create_default_context(cafile=str(file))
    except ssl.SSLError:
        return "has no certificate in it"
    except FileNotFoundError:
        return "no such file"
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or 'that is no path'}"
    return ""


class UpstreamSettings(Section):
    """The engine's HTTP hosts."""

    urls: Annotated[
        tuple[Annotated[StrictStr, AfterValidator(_engine_url)], ...],
        AfterValidator(not_empty),
        AfterValidator(_each_host_once),
    ]
    ca_file: Path | None = None
    verify_tls: StrictBool = True
    connect_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 300.0
    max_connections: Annotated[StrictInt, Field(ge=1, le=10_000)] = 1000
    forwarded_headers: StrictBool = False
    host_header: Literal["engine", "caller"] = "engine"

    @field_validator("ca_file")
    @classmethod
    def _has_certificates(cls, ca_file: Path | None) -> Path | None:
        if ca_file is not None and (why := readable_certificates(ca_file)):
            raise ValueError(f"{why}; a file of PEM certificates is needed")
        return ca_file

    @model_validator(mode="after")
    def _one_kind_of_trust(self) -> Self:
        if self.ca_file is not None and not self.verify_tls:
            raise ValueError("ca_file says whom to trust and verify_tls = false trusts anyone: set one of them")
        return self


REDIS_DATABASE = re.compile(r"(/[0-9]{0,9})?")
# By name: the values that are allowed; () for a file.
REDIS_TLS_OPTIONS: dict[str, tuple[str, ...]] = {
    "ssl_cert_reqs": ("none", "optional", "required"),
    "ssl_check_hostname": ("true", "false"),
    "ssl_ca_certs": (),
    "ssl_certfile": (),
    "ssl_keyfile": (),
}


class RedisSettings(Section):
    """The Redis that holds the score cache and carries Celery's messages."""

    url: SecretStr
    timeout_s: Seconds = 1.0

    @field_validator("url")
    @classmethod
    def _can_be_used(cls, url: SecretStr) -> SecretStr:
        """Refuse what Redis's client and Celery would read differently, and a password where it would be shown."""
        text = url.get_secret_value()
        try:
            parts = read_url(text, "redis", "rediss")
        except ValueError as error:
            raise ValueError(f"{error}; special characters of a password are written in percent-encoding") from None
        if parts.username and not parts.password:
            raise ValueError(
                "has a user and no password; a password alone is written behind a colon: redis://:PASSWORD@HOST"
            )
        if "#" in text:
            raise ValueError("must have no '#'; in a password it is written as %23")
        if REDIS_DATABASE.fullmatch(parts.path) is None:
            raise ValueError("must end in the number of the database, as in redis://HOST:6379/0, or behind the port")
        if "?" in text:
            _check_tls_options(parts.scheme, parts.query)
        return SecretStr(parts.scheme + text[len(parts.scheme) :])  # in lower case, by which others know TLS


def _check_tls_options(scheme: str, query: str) -> None:
    """Refuse a query of a Redis URL that has anything but the TLS options that Redis's client and Celery both know."""
    options = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in options]
    known = ", ".join(REDIS_TLS_OPTIONS)
    if scheme != "rediss" or not names or len(set(names)) < len(names) or not set(names) <= REDIS_TLS_OPTIONS.keys():
        raise ValueError(f"must have nothing behind '?' but, for rediss:// and each once, {known}")
    for name, value in options:
        words = REDIS_TLS_OPTIONS[name]
        if words and value not in words:
            raise ValueError(f"{name} in it must be {' or '.join(words)}")
        if name == "ssl_ca_certs" and (why := readable_certificates(Path(value))):
            raise ValueError(f"the file that {name} names in it: {why}")


class ServerSettings(Section):
    """Where the proxy listens, and how long and how often a caller may keep it waiting."""

    host: ListeningHost = "127.0.0.1"
    port: Annotated[StrictInt, Field(ge=0, le=65535)] = 9300
    max_connections: Annotated[StrictInt, Field(ge=1, le=100_000)] = 4096
    client_timeout_s: Seconds = 60.0
    sniffed_address: Annotated[StrictStr, AfterValidator(published_address)] | None = None


class LimitSettings(Section):
    """What one search may cost, whatever a rule or a request asks, and what all requests may hold together."""

    deadline_s: Seconds = 2.0
    max_deadline_s: Seconds = 30.0
    max_window: Annotated[StrictInt, Field(ge=1, le=10_000)] = 200
    max_request_bytes: Annotated[StrictInt, Field(ge=1024)] = 4 * 1024 * 1024
    max_answer_bytes: Annotated[StrictInt, Field(ge=1024)] = 32 * 1024 * 1024
    max_held_bytes: Annotated[StrictInt, Field(ge=1024)] = 256 * 1024 * 1024
    max_in_flight: Annotated[StrictInt, Field(ge=1)] = 256

    @model_validator(mode="after")
    def _one_body_has_room(self) -> Self:
        for key in ("max_request_bytes", "max_answer_bytes"):
            if getattr(self, key) > self.max_held_bytes:
                raise ValueError(f"{key} = {getattr(self, key)}: at most max_held_bytes = {self.max_held_bytes}")
        return self


class CacheSettings(Section):
    """The score cache in Redis. Reasoning, complete or cut by a deadline, is larger, so it expires sooner."""

    ttl_s: Annotated[StrictInt, Field(ge=1)] = 30 * 24 * 3600
    reasoning_ttl_s: Annotated[StrictInt, Field(ge=1)] = 24 * 3600
    vector_bytes: Annotated[StrictInt, Field(ge=0)] = 128 * 1024 * 1024
    vector_ttl_s: Annotated[StrictInt, Field(ge=1)] = 7 * 24 * 3600


class MetricsSettings(Section):
    """Where a worker serves its Prometheus metrics. Without a port it serves none."""

    host: ListeningHost = "127.0.0.1"
    port: Annotated[StrictInt, Field(ge=0, le=65535)] | None = None


class LogSettings(Section):
    """What is written to standard error, one JSON object a line."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class StoreSettings(Section):
    """With this table, es-rerank keeps indices of its own on the engine, and logs in there as a user of its own.

    It writes events and reads rules with this login. What a caller asks for is done with the caller's own.
    """

    user: StrictStr | None = None
    password: SecretStr | None = None
    api_key: SecretStr | None = None
    poll_s: Annotated[StrictFloat, Field(gt=0, le=60, allow_inf_nan=False)] = 2.0

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.api_key is not None and (self.user is not None or self.password is not None):
            raise ValueError("api_key and user are two logins: set one of them")
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together: set both, or api_key, or neither")
        return self


class EventSettings(Section):
    """What is told of each reranked search in `es-rerank-events-*` and `es-rerank-hits-*`. Needs [store]."""

    sample_rate: Share = 1.0
    hits_sample_rate: Share = 0.1
    query_text: Literal["off", "hashed", "plain"] = "off"
    hash_key: Annotated[SecretStr, Field(min_length=16)] | None = None
    max_waiting: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 20_000
    flush_s: Annotated[StrictFloat, Field(gt=0, le=60, allow_inf_nan=False)] = 2.0

    @model_validator(mode="after")
    def _hash_has_a_key(self) -> Self:
        if (self.query_text == "hashed") != (self.hash_key is not None):
            raise ValueError(
                "hash_key: needed with query_text = 'hashed', and only with it: a hash without a key can be guessed"
            )
        return self


def _sent_as_it_is(key: SecretStr) -> SecretStr:
    """Refuse a key that no header can carry unchanged."""
    if re.fullmatch(r"[!-~]{16,}", key.get_secret_value()) is None:
        raise ValueError("16 characters or more are needed, each a letter, digit or sign of ASCII, and no blank")
    return key


ApiKey = Annotated[SecretStr, AfterValidator(_sent_as_it_is)]
ModelName = Annotated[StrictStr, Field(min_length=1, max_length=200)]


class InferenceSettings(Section):
    """With this table, a `text_similarity_reranker` that names one of these endpoints is answered by a scorer.

    `scorers` says by `inference_id` which one. `mode` and `budget_tokens` are for the scorers that think; the others
    have no use for them.
    """

    scorers: Annotated[dict[ModelName, Name], AfterValidator(not_empty)]
    instruction: Instruction = DEFAULT_INSTRUCTION
    mode: Literal["think", "direct"] = "think"
    budget_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    any_language: StrictBool = False
    deadline_s: Seconds | None = None


class RerankApiSettings(Section):
    """With this table, the proxy answers `/v1/rerank` and its kin, to callers who have one of the `keys`.

    `scorers` says by model name, as callers send it, which scorer is meant. `mode` and `budget_tokens` are for the
    scorers that think; the others have no use for them.
    """

    keys: Annotated[tuple[ApiKey, ...], AfterValidator(not_empty)]
    scorers: Annotated[dict[ModelName, Name], AfterValidator(not_empty)]
    default_model: ModelName | None = None
    instruction: Instruction = DEFAULT_INSTRUCTION
    mode: Literal["think", "direct"] = "think"
    budget_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    max_documents: Annotated[StrictInt, Field(ge=1, le=10_000)] = 1000
    deadline_s: Seconds = 10.0
