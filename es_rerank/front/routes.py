"""Where a front server sends a request: the first route that matches its method, raw path and one header. Pure.

A route to the proxies may match too much, since they pass on what isn't theirs, but never too little: every request
that a proxy would rerank, or change at all, has to reach it. Expressions use only what Python, PCRE and RE2 read alike.
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
"""`proxies`: the proxies, or the engine if none answers. `own`: the proxies alone. `engine_search`: the engine, asked
again if the connection breaks before an answer. `engine_once`: the engine, asked once. `engine`: the engine, asked
again only if nothing was sent, or the request was a GET."""
CONTROL_HEADER = "ES-Rerank"
SEARCH_METHODS = ("GET", "POST")
# What may be sent twice: nginx itself does not repeat a POST once something was sent.
REPEATABLE_METHODS = ("GET", "HEAD", "POST")
# The proxies pass longer targets on, and expressions that backtrack in a list would take long.
DEFAULT_PORTS = {"http": 80, "https": 443}
WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  for listening only, never to connect to
# How long the engine itself may take, on top of the longest deadline, before a silent proxy counts as hung.
ENGINE_MARGIN_S = 30.0
ADDRESS = re.compile(r"(?:(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):)?(?P<port>[0-9]{1,5})")
HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")

# ---- Paths. An index expression is one segment of the raw path, its members separated by commas. ----

PLAIN_LETTERS = "A-Za-z0-9._-"
ANY = "[^/?]*"
MEMBER = "[^,/?]*"
# A system index is never reranked, and the proxies pass its searches on.
MEMBER_NOT_OF_THE_SYSTEM = "[^.,/?][^,/?]*"
OPENSEARCH_ASYNC = "_(?:plugins|opendistro)/_asynchronous_search"
BY_INDEX = f"(?:_search(?:/template)?|_async_search|{OPENSEARCH_ASYNC})/*"
# Expressions whose names don't tell which rule covers them: a wildcard, date math, a remote cluster, percent-encoding.
UNDECIDED_EXPRESSIONS = (
    ("a wildcard, date math, a remote cluster, percent-encoding", f"{ANY}[^/?,{PLAIN_LETTERS}]{ANY}"),
    ("every index", f"(?:{ANY},)?_all(?:,{ANY})?"),
    ("an exclusion", f"(?:{ANY},)?-{ANY}"),
    ("an empty member", f"(?:,{ANY}|{ANY},,{ANY}|{ANY},)"),
)
UNDECIDED_PATHS = (
    ("no index in the path", "//?_search(?:/template)?/*"),
    ("async searches", f"//?(?:_async_search|{OPENSEARCH_ASYNC})(?:/[^?]*)?"),
    ("indices in the body", f"/(?:{ANY}/)?_msearch(?:/template)?/*"),
)
ANY_SEARCH = f"/(?:{ANY}/)?{BY_INDEX}"
OWN_PATHS = "/_es_rerank(?:/[^?]*)?"
RERANK_API_PATHS = "/(?:v[12]/)?rerank"
# What a point in time is opened for says which rule holds for its searches.
POINT_OPENINGS = f"/(?:(?:{ANY}/)?_pit|{ANY}/_search/point_in_time)/*"
NODES_PATHS = "/_nodes(?:/[^?]*)?"
# Each answer of a scroll moves it on: if it is asked for twice, a page is lost.
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
    """Where some requests go: those with one of `methods` (() is any) and a raw path that `path` matches as a whole.

    With `asking`, only those that also have the control header. `note` says what requests they are.
    """

    target: Target
    path: str
    methods: tuple[str, ...] = ()
    asking: bool = False
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How the engine's certificate is checked: against a name and a file of authorities; without a file, it is not."""

    name: str
    ca_file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a front's configuration says.

    `engine_host` is the Host header that the engine gets. `trust` is None if the engine speaks plain HTTP. A proxy that
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
    """The plan for a configuration; without `proxies`, with the one proxy that the configuration describes.

    `system_ca_file` has the authorities that this machine trusts. Raises SettingsError for what no front can do.
    """
    upstream = settings.upstream
    return Plan(
        listen=listen,
        proxies=tuple(proxies) or (_own_proxy(settings),),
        engines=tuple(_engine(url) for url in upstream.urls),
        engine_host=_host_header(upstream.urls[0]),
        trust=_trust(upstream, system_ca_file),
        routes=make_routes(
            settings.rules,
            rerank_api=settings.rerank_api is not None,
            sniffed=settings.server.sniffed_address is not None,
            inference=settings.inference is not None,
        ),
        hung_s=settings.limits.max_deadline_s + min(ENGINE_MARGIN_S, upstream.read_timeout_s),
        connect_timeout_s=upstream.connect_timeout_s,
        read_timeout_s=upstream.read_timeout_s,
    )


def make_routes(
    rules: Sequence[Rule], *, rerank_api: bool = False, sniffed: bool = False, inference: bool = False
) -> tuple[Route, ...]:
    """All routes in order; the last takes what is left.

    `rerank_api` says whether the proxies answer that API, `sniffed` whether they put their address into what the engine
    says of its nodes. With `inference`, a search on any index may ask an endpoint of the proxies.
    """
    nodes = Route(target="proxies", methods=("GET",), path=NODES_PATHS, note="where the nodes are")
    api = Route(target="own", methods=("POST",), path=RERANK_API_PATHS, note="the rerank API")
    why = "any search, which may ask an endpoint" if inference else f"any search with the header {CONTROL_HEADER}"
    return (
        Route(target="own", path=OWN_PATHS, note="the proxies' own paths"),
        *((api,) if rerank_api else ()),
        *((nodes,) if sniffed else ()),
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
        Route(target="proxies", methods=("POST",), path=POINT_OPENINGS, note="openings of points in time"),
        Route(target="proxies", methods=SEARCH_METHODS, path=ANY_SEARCH, asking=not inference, note=why),
        Route(target="engine_search", methods=SEARCH_METHODS, path=ANY_SEARCH, note="all other searches"),
        Route(target="engine_once", path=SCROLL, note="scrolls"),
        Route(target="engine", methods=REPEATABLE_METHODS, path=ANY_PATH, note="requests that may be sent again"),
        Route(target="engine_once", path=ANY_PATH, note="all other requests"),
    )


def covered_path(pattern: str) -> str | None:
    """The paths of searches on an index that a rule's pattern matches, alone or in a list.

    None for a pattern with a character that no plain name has: a name with such a character goes to the proxies anyway.
    """
    if re.fullmatch(f"[*{PLAIN_LETTERS}]+", pattern) is None:
        return None
    start, *others = [part.replace(".", r"\.") for part in re.split(r"\*+", pattern)]
    name = start + "".join(MEMBER + part for part in others)
    if not start:
        rest = name.removeprefix(MEMBER)
        # The first wildcard may stand for nothing, unless the name would then be empty or begin with a dot.
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
    """The engine's own name, as a client without a front sends it: with its port if the URL has one."""
    host, port = _engine(url).host, urlsplit(url).port
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _safe_host(key: str, host: str) -> str:
    """The host. Raises SettingsError for characters that mean something else in a front's configuration."""
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
