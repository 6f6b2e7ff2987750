"""URLs and network addresses as the configuration writes them. Pure; asks no name service."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}
LOCALHOST = ("127.0.0.1", "::1")
# Where a server on a wildcard address can be reached on its own machine; `::` takes IPv4 too.
WILDCARDS = {"": (4, 6), "0.0.0.0": (4,), "::": (4, 6)}  # noqa: S104  compared, never listened on


def read_url(url: str, *schemes: str) -> SplitResult:
    """The parts of a URL with one of the schemes and a host; its port, where it has one, is from 1 to 65535.

    Raises ValueError with what is wrong and what is allowed. The text repeats nothing of the URL, because a password
    may stand in any place of a misspelt one.
    """
    *others, last = (f"{scheme}://" for scheme in schemes)
    needed = f"{' or '.join((*others, last))} URL with a host, and a port from 1 to 65535 if any, is needed"
    needed = f"{'an' if needed.startswith('http') else 'a'} {needed}"
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        raise ValueError(f"{needed}: this one has a blank or a character that can't be printed")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"{needed}: the host of this one can't be read") from None
    if parts.scheme not in schemes or not url[len(parts.scheme) :].startswith("://"):
        raise ValueError(f"{needed}: this one begins otherwise")
    if not parts.hostname:
        raise ValueError(f"{needed}: this one has no host")
    try:
        right = parts.port != 0
    except ValueError:
        right = False
    if not right:
        raise ValueError(f"{needed}: the port of this one is none")
    return parts


def listening_host(host: str) -> str:
    """The host, if a server may listen on it: a name, an address, or '' for every address. Raises ValueError."""
    odd = any(letter.isspace() or letter in "/[]@?#" for letter in host)
    if odd or (":" in host and _address(host) is None):
        raise ValueError("a host name or an IP address is needed, without scheme, port or brackets")
    return host


def published_address(text: str) -> str:
    """The text, if it is `HOST:PORT` as engines publish their addresses: IPv6 in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    odd = not re.fullmatch(r"[A-Za-z0-9._-]+", bare) if bare == host else ":" not in bare or _address(bare) is None
    if not colon or odd or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("must be HOST:PORT, without a scheme, with a port from 1 to 65535 and IPv6 in brackets")
    return text


def host_and_port(parts: SplitResult) -> tuple[str, int]:
    """Host and port of a URL that `read_url` took, in one spelling: two URLs of one server have equal ones.

    Names are compared as they are written, in any case; nobody is asked what address a name has.
    """
    return _one_spelling(parts.hostname or ""), parts.port or DEFAULT_PORTS[parts.scheme]


def reaches(listening_host: str, host: str) -> bool:
    """Whether a connection to `host`, made on the same machine, reaches a server that listens on `listening_host`.

    True only where it is certain from the text: the same name or address, or an address of the machine itself.
    """
    families = WILDCARDS.get(listening_host)
    targets = _own_addresses(host)
    if families is None:
        return bool({_one_spelling(listening_host), *_own_addresses(listening_host)} & {_one_spelling(host), *targets})
    return any(ipaddress.ip_address(target).version in families for target in targets)


def _own_addresses(host: str) -> tuple[str, ...]:
    """The addresses of the machine itself that a connection to `host` goes to; none for any other host."""
    host = _one_spelling(host)
    if host == "localhost":
        return LOCALHOST
    address = _address(host)
    if address is None:
        return ()
    if address.is_unspecified:  # as a target, these mean the machine itself
        return (LOCALHOST[address.version == 6],)
    return (host,) if address.is_loopback else ()


def _one_spelling(host: str) -> str:
    host = host.lower().rstrip(".")
    address = _address(host)
    return host if address is None else address.compressed


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
