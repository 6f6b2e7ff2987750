"""Gives the dashboards to a Kibana or an OpenSearch Dashboards, by its own import of saved objects."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import aiohttp

from es_rerank.dashboards.shipped import FILE_NAME
from es_rerank.errors import EsRerankError, SettingsError
from es_rerank.official.login import API_KEY_VARIABLE, PASSWORD_VARIABLE, ApiKey, Password, authorization

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATH = "/api/saved_objects/_import"
ANSWER_LIMIT_S = 60.0
# The names by which OpenSearch Dashboards' security plug-in knows the two tenants that all users have.
TENANTS = {"global": "", "private": "__user__"}
MAX_WORDS = 500
REDIRECTS = frozenset({301, 302, 303, 307, 308})
NOT_READY = frozenset({502, 503, 504})


class DashboardsError(EsRerankError):
    """The dashboards could not be installed, or not all of them; the text says what to check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the dashboards go: the server's URL with its base path, and a space of Kibana or a tenant of OpenSearch.

    `tenant` is as the user calls it, `global` and `private` included. Without either, the server's default is used.
    """

    url: str
    space: str | None = None
    tenant: str | None = None
    login: Password | ApiKey | None = None
    ca_file: Path | None = None

    def address(self) -> str:
        """The URL of the import. Raises SettingsError for a URL that can't be one."""
        parts = urlsplit(self.url)
        if parts.username or parts.password:
            raise SettingsError(
                "the URL must carry no user or password, since others can read a command line: "
                f"give --user NAME and the password in {PASSWORD_VARIABLE}"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise SettingsError(f"the URL {self.url!r}: an http:// or https:// URL with a host is needed")
        space = f"/s/{quote(self.space, safe='')}" if self.space else ""
        return f"{self.url.rstrip('/')}{space}{PATH}?overwrite=true"

    def headers(self) -> dict[str, str]:
        """What each server demands of a request that changes something, the tenant, and the login."""
        headers = {"osd-xsrf": "true", "kbn-xsrf": "true"}
        if self.tenant is not None:
            headers["securitytenant"] = TENANTS.get(self.tenant, self.tenant)
        if self.login is not None:
            headers["authorization"] = authorization(self.login)
        return headers


def install(target: Target, bundle: bytes) -> int:
    """Import the bundle in the place of what an earlier import left; returns how many objects the server took.

    Raises DashboardsError, and SettingsError for a target that can't be used.
    """
    return asyncio.run(_install(target, bundle))


async def _install(target: Target, bundle: bytes) -> int:
    form = aiohttp.FormData()
    form.add_field("file", bundle, filename=FILE_NAME, content_type="application/ndjson")
    limit = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S)
    address, trust = target.address(), _trust(target.ca_file)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            # A redirect is not followed: it would take the login to another address.
            session.post(address, data=form, headers=target.headers(), ssl=trust, allow_redirects=False) as answer,
        ):
            return taken(answer.status, answer.headers, await answer.read(), url=target.url)
    except aiohttp.ClientSSLError as error:
        raise DashboardsError(
            f"{target.url} cannot be reached by TLS: {error}. Name the file of the authority that signed its "
            "certificate with --ca-file"
        ) from error
    except TimeoutError as error:
        raise DashboardsError(f"{target.url} did not answer within {ANSWER_LIMIT_S:.0f} s") from error
    except aiohttp.ClientError as error:
        raise DashboardsError(f"{target.url} cannot be reached: {error}. Check that it is up, and its URL") from error


def taken(status: int, headers: Mapping[str, str], body: bytes, *, url: str) -> int:
    """How many objects were taken, by the server's answer. Raises DashboardsError for an answer that is none."""
    answer = _json(body)
    if status == 200 and "successCount" in answer:
        if not answer.get("success"):
            raise DashboardsError(f"{url} did not take all of the dashboards:{_refused(answer)}")
        return int(answer["successCount"])
    raise DashboardsError(f"{url} {_what_happened(status, headers.get('location', ''), answer)}")


def _what_happened(status: int, location: str, answer: Mapping[str, Any]) -> str:
    """What an answer means that took nothing, and what to do about it."""
    words = str(answer.get("message") or "it gives no reason")[:MAX_WORDS]
    if status in REDIRECTS:
        return (
            f"sends this to {location!r}. If that is a login, give --user NAME and the password in "
            f"{PASSWORD_VARIABLE}; else give that URL, with its base path"
        )
    if status == 401:
        return (
            f"asks for another login (401: {words}). Give --user NAME and the password in {PASSWORD_VARIABLE}, or an "
            f"API key in {API_KEY_VARIABLE}"
        )
    if status == 403:
        return (
            f"does not allow this to the login in use (403: {words}). It needs the right to write saved objects in "
            "this space or tenant"
        )
    if status in NOT_READY:
        return f"is not ready, or what it needs is not ({status}). Try again in a minute"
    # Both servers repeat the status in the body of each error; an engine or a web server does not.
    if "statusCode" not in answer or status == 404:
        return (
            f"is no Kibana and no OpenSearch Dashboards: it answers {status} to their import. Give their URL, with "
            "their base path and often with port 5601, not the engine's"
        )
    return f"refuses the dashboards ({status}): {words}"


def _trust(ca_file: Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"the CA file {str(ca_file)!r} can't be used: {error.strerror or error}") from error


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _refused(answer: Mapping[str, Any]) -> str:
    """A line for each object that was not taken, with the server's reason."""
    lines = []
    for one in answer.get("errors") or ():
        error = one.get("error") or {}
        reason = error.get("message") or error.get("type") or "no reason"
        missing = ", ".join(f"{there.get('type')} {there.get('id')}" for there in error.get("references") or ())
        lines.append(f"\n  {one.get('type')} {one.get('id')}: {reason}{f' ({missing})' if missing else ''}")
    return "".join(lines) or " it does not say which"
