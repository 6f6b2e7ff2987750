"""Whether a caller has one of the keys."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

SCHEME = b"bearer "


def holds_key(authorization: bytes | None, keys: Sequence[SecretStr]) -> bool:
    """Whether an `Authorization` is `Bearer` and one of the keys.

    Every key is compared, in a time that does not depend on how much of it fits.
    """
    if authorization is None or not authorization.lower().startswith(SCHEME):
        return False
    given = _digest(authorization[len(SCHEME) :].strip())
    fits = [hmac.compare_digest(given, _digest(key.get_secret_value().encode())) for key in keys]
    return any(fits)


def _digest(key: bytes) -> bytes:
    """Equal lengths for all keys, so that the length shows nothing either."""
    return hashlib.sha256(key).digest()
