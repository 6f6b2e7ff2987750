"""Where a front server sends a request: decided by method, raw path and one header, first match first. Pure.

A route to the proxies may hold too much, since they pass on what isn't theirs, but never too little: whatever a proxy
would rerank, or change at all, has to come to it. Expressions keep to what Python, PCRE and RE2 read alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from es_rerank.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.rules.rule import Rule
    from es_rerank.settings import Settings
    from es_rerank.tables import UpstreamSettings

Target = Literal["proxies", "own", "engine_search", "engine_once", "engine"]
"""The proxies, or the engine where none answers; the proxies alone; the engine, asked again where an answer breaks off;
the engine, asked once; the engine, asked again only where nothing was sent, or nothing but a GET."""
CONTROL_HEADER = "ES-Rerank"
SEARCH_METHODS = ("GET", "POST")
# What may be sent twice: a POST is held back by nginx itself once something was sent.
REPEATABLE_METHODS = ("GET", "HEAD", "POST")
# What is longer the proxies pass on, and expressions that go back and forth in a list would take long.
MAX_TARGET_BYTES = 4096
DEFAULT_PORTS = {"http": 80, "https": 443}
WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  one listens there, nobody asks there
# How long the engine itself may take before a proxy counts as hung, beside the longest deadline.
ENGINE_MARGIN_S = 30.0
ADDRESS = re.compile(r"(?:(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):)?(?P<port>[0-9]{1,5})")
HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")

# ---- Paths. An index expression is one segment of the raw path, its members parted by commas. ----

PLAIN_LETTERS = "A-Za-z0-9._-"
ANY = "[^/?]*"
MEMBER = "[^,/?]*"
# A system index is never reranked, and the proxies pass its searches on.
MEMBER_NOT_OF_THE_SYSTEM = "[^.,/?][^,/?]*"
BY_INDEX = "(?:_search(?:/template)?|_async_search)/?"
# Of the expression, what a name does not tell: a wildcard, date math, a remote cluster, anything percent-encoded.
UNDECIDED_EXPRESSIONS = (
    ("a wildcard, date math, a remote cluster, percent-encoding", f"{ANY}[^/?,{PLAIN_LETTERS}]{ANY}"),
    ("every index", f"(?:{ANY},)?_all(?:,{ANY})?"),
    ("an exclusion", f"(?:{ANY},)?-{ANY}"),
    ("a member that is empty", f"(?:,{ANY}|{ANY},,{ANY}|{ANY},)"),
)
UNDECIDED_PATHS = (
    ("no index in the path", "/_search(?:/template)?/?"),
    ("async searches", "/_async_search(?:/[^?]*)?"),
    ("indices in the body", f"/(?:{ANY}/)?_msearch(?:/template)?/?"),
)
ANY_SEARCH = f"/(?:{ANY}/)?{BY_INDEX}"
OWN_PATHS = "/_es_rerank(?:/[^?]*)?"
# Each answer of a scroll moves it on: asked twice, a page is lost.
SCROLL = "/_search/scroll(?:/[^?]*)?"
ANY_PATH = "[^?]*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host and a port. An IPv6 address is without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where requests go, and which: with one of these methods (() is any), and a raw path that `path` matches whole.

    With `asking`, only those that have a control header too. `note` says what they are.
    """

    target: Target
    path: str
    methods: tuple[str, ...] = ()
    asking: bool = False
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How the engine's certificate is checked: against a name and a file of authorities, or, without a file, not."""

    name: str
    ca_file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a front's configuration says.

    `engine_host` is the Host that the engine is told. `trust` is None where the engine speaks plain HTTP. A proxy that
    is silent for `hung_s` is given up.
    """

    listen: Address
    proxies: tuple[Address, ...]
    engines: tuple[Address, ...]
    engine_host: str
    trust: Trust | None
    routes: tuple[Route, ...]
    hung_s: float
    connect_timeout_s: float
    read_timeout_s: float


def make_plan(
    settings: Settings, *, listen: Address, proxies: Sequence[Address] = (), system_ca_file: str | None
) -> Plan:
    """The plan for a configuration; without `proxies`, the one that it has listen.

    `system_ca_file` is whom this machine trusts. Raises SettingsError for what no front can do.
    """
    upstream = settings.upstream
    return Plan(
        listen=listen,
        proxies=tuple(proxies) or (_own_proxy(settings),),
        engines=tuple(_engine(url) for url in upstream.urls),
        engine_host=_host_header(upstream.urls[0]),
        trust=_trust(upstream, system_ca_file),
        routes=make_routes(settings.rules),
        hung_s=settings.limits.max_deadline_s + min(ENGINE_MARGIN_S, upstream.read_timeout_s),
        connect_timeout_s=upstream.connect_timeout_s,
        read_timeout_s=upstream.read_timeout_s,
    )


def make_routes(rules: Sequence[Rule]) -> tuple[Route, ...]:
    """All routes in order; the last takes what is left."""
    return (
        Route(target="own", path=OWN_PATHS, note="the proxies' own paths"),
        *(
            Route(target="proxies", methods=SEARCH_METHODS, path=path, note=f"rule {rule.name}: {pattern}")
            for rule in rules
            for pattern in rule.indices
            if (path := covered_path(pattern)) is not None
        ),
        *(
            Route(target="proxies", methods=SEARCH_METHODS, path=f"/{expression}/{BY_INDEX}", note=note)
            for note, expression in UNDECIDED_EXPRESSIONS
        ),
        *(Route(target="proxies", methods=SEARCH_METHODS, path=path, note=note) for note, path in UNDECIDED_PATHS),
        Route(
            target="proxies",
            methods=SEARCH_METHODS,
            path=ANY_SEARCH,
            asking=True,
            note=f"any search with the header {CONTROL_HEADER}",
        ),
        Route(target="engine_search", methods=SEARCH_METHODS, path=ANY_SEARCH, note="all other searches"),
        Route(target="engine_once", path=SCROLL, note="scrolls"),
        Route(target="engine", methods=REPEATABLE_METHODS, path=ANY_PATH, note="what may be asked again"),
        Route(target="engine_once", path=ANY_PATH, note="all else"),
    )


def covered_path(pattern: str) -> str | None:
    """The paths of searches on an index that a rule's pattern matches, alone or in a list.

    None for a pattern with a letter that no plain name has: a search for it is never decided by its name.
    """
    if re.fullmatch(f"[*{PLAIN_LETTERS}]+", pattern) is None:
        return None
    start, *others = [part.replace(".", r"\.") for part in re.split(r"\*+", pattern)]
    name = start + "".join(MEMBER + part for part in others)
    if not start:
        rest = name.removeprefix(MEMBER)
        # What the first wildcard stands for may be nothing, unless the name would begin with the dot behind it.
        needed = not rest or rest.startswith(r"\.")
        name = (MEMBER_NOT_OF_THE_SYSTEM if needed else f"(?:{MEMBER_NOT_OF_THE_SYSTEM})?") + rest
    return f"/(?:{ANY},)?{name}(?:,{ANY})?/{BY_INDEX}"


def read_address(option: str, text: str, *, default_host: str | None = None) -> Address:
    """An option's `HOST:PORT`; the host may be left out where there is a default. Raises SettingsError."""
    found = ADDRESS.fullmatch(text)
    host = found and (found["host"] or default_host)
    if not found or not host or not 1 <= int(found["port"]) <= 65535:
        form = "HOST:PORT" if default_host is None else "[HOST:]PORT"
        raise SettingsError(f"{option} {text}: {form} is needed, with a port from 1 to 65535")
    return Address(host=host.strip("[]"), port=int(found["port"]))


def _own_proxy(settings: Settings) -> Address:
    server = settings.server
    if server.port == 0:
        raise SettingsError("server.port = 0: a proxy on any free port can't be found; say where they are by --proxy")
    return Address(host=_safe_host("server.host", WILDCARD_HOSTS.get(server.host, server.host)), port=server.port)


def _engine(url: str) -> Address:
    parts = urlsplit(url)
    host = _safe_host("upstream.urls", parts.hostname or "")
    return Address(host=host, port=parts.port or DEFAULT_PORTS[parts.scheme])


def _host_header(url: str) -> str:
    """The engine's own name as a client that knows no front says it: with its port where the URL has one."""
    host, port = _engine(url).host, urlsplit(url).port
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _safe_host(key: str, host: str) -> str:
    """The host, which must mean nothing else in a configuration."""
    if HOST.fullmatch(host) is None:
        raise SettingsError(f"{key}: {host!r}: letters, digits, '.', '_' and '-', or an IP address, are needed")
    return host


def _trust(upstream: UpstreamSettings, system_ca_file: str | None) -> Trust | None:
    """How to trust the engine; a front has one answer for all hosts."""
    parts = [urlsplit(url) for url in upstream.urls]
    if len({part.scheme for part in parts}) > 1:
        raise SettingsError("upstream.urls: http:// beside https://: a front speaks one of the two to all hosts")
    if parts[0].scheme == "http":
        return None
    names = list(dict.fromkeys(part.hostname or "" for part in parts))
    if not upstream.verify_tls:
        return Trust(name=names[0], ca_file=None)
    if len(names) > 1:
        raise SettingsError(
            f"upstream.urls: {', '.join(names)}: a front checks all certificates against one name; "
            "name one host, or set upstream.verify_tls = false"
        )
    ca_file = str(upstream.ca_file.absolute()) if upstream.ca_file else system_ca_file
    if ca_file is None:
        raise SettingsError("upstream.ca_file: is missing, and this machine has no file of authorities: name one")
    return Trust(name=names[0], ca_file=ca_file)
