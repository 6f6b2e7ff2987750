"""Who logs in to the engine. Secrets come from the environment, since others can read a command line."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from es_rerank.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSWORD_VARIABLE = "ES_RERANK_INGEST_PASSWORD"  # noqa: S105  the name, not the password
API_KEY_VARIABLE = "ES_RERANK_INGEST_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """A login by user and password. Its repr hides the password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A login by an API key, in the encoded form in which engines give it out. Its repr hides it."""

    key: str = field(repr=False)


def authorization(login: Password | ApiKey) -> str:
    """The value of the header `Authorization` for a login. User and password are encoded as UTF-8 (RFC 7617)."""
    if isinstance(login, Password):
        return f"Basic {base64.b64encode(f'{login.user}:{login.password}'.encode()).decode()}"
    return f"ApiKey {login.key}"


def read_login(user: str | None, environment: Mapping[str, str]) -> Password | ApiKey | None:
    """The login of `--user` with its password, or of an API key; None for neither. Raises SettingsError."""
    password = environment.get(PASSWORD_VARIABLE, "")
    api_key = environment.get(API_KEY_VARIABLE, "")
    if user and api_key:
        raise SettingsError(f"--user and {API_KEY_VARIABLE} are two logins: take away one of them")
    if user and not password:
        raise SettingsError(f"--user {user}: its password must be in the environment, as {PASSWORD_VARIABLE}")
    if user:
        return Password(user=user, password=password)
    return ApiKey(key=api_key) if api_key else None
