"""Who sends a request, as its headers say it: for the record alone, since only the engine checks logins. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_rerank.records import Request

UNKNOWN = "unknown"
MAX_CHARACTERS = 256


def who_asks(request: Request) -> str:
    """The user of Basic auth, or the id of an API key; never a secret. `unknown` where no header says it.

    A user that acts as another one (`es-security-runas-user`) is named too: an engine without security does not check
    that header.
    """
    login = _login(request.header(b"authorization"))
    other = _shown(request.header(b"es-security-runas-user") or b"")
    return login if other == UNKNOWN else f"{other} (run as by {login})"


def _login(authorization: bytes | None) -> str:
    scheme, _, coded = (authorization or b"").strip().partition(b" ")
    if scheme.lower() not in (b"basic", b"apikey"):
        return UNKNOWN
    try:
        name, colon, _ = base64.b64decode(coded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return UNKNOWN
    return _shown(name) if colon else UNKNOWN  # without a colon, it may be a secret alone


def _shown(name: bytes) -> str:
    text = name.decode("utf-8", "replace").strip()[:MAX_CHARACTERS]
    return text if text and text.isprintable() else UNKNOWN
