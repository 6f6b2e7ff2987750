"""The tables of the configuration that say how the process runs, and what every table has in common.

Rules and scorers have tables of their own, in `rules` and `scorers`; `settings` loads them all.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  pydantic reads annotations at run time
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

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

Seconds = Annotated[StrictFloat, Field(gt=0, le=3600, allow_inf_nan=False)]
Share = Annotated[StrictFloat, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]


class Section(BaseModel):
    """Base of every table: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def not_empty(items: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse an empty list. pydantic's own minimum length does not count items that are wrong themselves."""
    if not items:
        raise ValueError("at least one item is needed")
    return items


def _split_url(url: str, *schemes: str) -> SplitResult | None:
    """The URL's parts, or None if scheme, host or port is wrong. The parser's own text may hold a password."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if right else None


def _engine_url(url: str) -> str:
    parts = _split_url(url, "http", "https")
    if parts is None:
        raise ValueError("an http:// or https:// URL with a host, and a port from 1 to 65535 if any, is needed")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must carry no user or password: the caller's own credentials are used, and only they")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must end behind host and port: the caller's path is forwarded as it is")
    return f"{parts.scheme}://{parts.netloc}"


class UpstreamSettings(Section):
    """The engine's HTTP hosts."""

    urls: Annotated[tuple[Annotated[StrictStr, AfterValidator(_engine_url)], ...], AfterValidator(not_empty)]
    ca_file: Path | None = None
    verify_tls: StrictBool = True
    connect_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 300.0
    max_connections: Annotated[StrictInt, Field(ge=1, le=10_000)] = 1000
    forwarded_headers: StrictBool = False

    @field_validator("ca_file")
    @classmethod
    def _is_a_file(cls, ca_file: Path | None) -> Path | None:
        if ca_file is not None and not ca_file.is_file():
            raise ValueError("no such file; a file of PEM certificates is needed")
        return ca_file

    @model_validator(mode="after")
    def _one_kind_of_trust(self) -> Self:
        if self.ca_file is not None and not self.verify_tls:
            raise ValueError("ca_file says whom to trust and verify_tls = false trusts anyone: set one of them")
        return self


class RedisSettings(Section):
    """The Redis that holds the score cache and carries Celery's messages."""

    url: SecretStr
    timeout_s: Seconds = 1.0

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: SecretStr) -> SecretStr:
        if _split_url(url.get_secret_value(), "redis", "rediss") is None:
            raise ValueError(
                "a redis:// or rediss:// URL with a host, and a port from 1 to 65535 if any, is needed; "
                "special characters of a password are written in percent-encoding"
            )
        return url


class ServerSettings(Section):
    """Where the proxy listens."""

    host: StrictStr = "127.0.0.1"
    port: Annotated[StrictInt, Field(ge=0, le=65535)] = 9300


class LimitSettings(Section):
    """What one search may cost, whatever a rule or a request asks."""

    deadline_s: Seconds = 2.0
    max_deadline_s: Seconds = 30.0
    max_window: Annotated[StrictInt, Field(ge=1, le=10_000)] = 200
    max_request_bytes: Annotated[StrictInt, Field(ge=1024)] = 4 * 1024 * 1024
    max_answer_bytes: Annotated[StrictInt, Field(ge=1024)] = 32 * 1024 * 1024
    max_in_flight: Annotated[StrictInt, Field(ge=1)] = 256


class CacheSettings(Section):
    """The score cache in Redis. Reasoning, complete or cut by a deadline, is larger, so it expires sooner."""

    ttl_s: Annotated[StrictInt, Field(ge=1)] = 30 * 24 * 3600
    reasoning_ttl_s: Annotated[StrictInt, Field(ge=1)] = 24 * 3600
    vector_bytes: Annotated[StrictInt, Field(ge=0)] = 128 * 1024 * 1024
    vector_ttl_s: Annotated[StrictInt, Field(ge=1)] = 7 * 24 * 3600


class MetricsSettings(Section):
    """Where a worker serves its Prometheus metrics. Without a port it serves none."""

    host: StrictStr = "127.0.0.1"
    port: Annotated[StrictInt, Field(ge=0, le=65535)] | None = None


class LogSettings(Section):
    """What is written to standard error, one JSON object a line."""

    level: Literal["debug", "info", "warning", "error"] = "info"
