"""Where requests go: to the proxies if a proxy would rerank or change them, to the engine if they clearly need none."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from es_rerank.errors import SettingsError
from es_rerank.front.routes import (
    Address,
    Target,
    Trust,
    covered_path,
    make_plan,
    make_routes,
    read_address,
)
from es_rerank.proxy.rerank_api.shapes import PATH_SHAPES
from es_rerank.proxy.search.endpoint import MAX_TARGET_BYTES, endpoint_of
from es_rerank.records import Request
from es_rerank.rules.book import make_book
from es_rerank.rules.patterns import covers
from es_rerank.rules.rule import Rule
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.settings import Settings
from es_rerank.tables import LimitSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.front.routes import Route

LETTERS = "ab.-_1Z"
MEMBERS = st.text(LETTERS + "*:<>%+é~ ", min_size=0, max_size=6) | st.sampled_from(["_all", "-ab", ".ab", "far:a"])
EXPRESSIONS = st.lists(MEMBERS, min_size=1, max_size=3).map(",".join)
PATTERNS = st.text(LETTERS + "*", min_size=1, max_size=5).filter(lambda pattern: pattern[0] not in "._-")
# A rule that an earlier one hides is refused.
RULES = (
    st.lists(PATTERNS, min_size=1, max_size=3)
    .filter(lambda patterns: not any(covers(wide, narrow) for wide, narrow in combinations(patterns, 2)))
    .map(
        lambda patterns: [
            Rule(name=f"r{number}", indices=(pattern,), fields=("text",)) for number, pattern in enumerate(patterns)
        ]
    )
)
ENDPOINTS = st.sampled_from(
    ["_search", "_search/", "_search//", "_search/template", "_async_search", "_plugins/_asynchronous_search"]
)


def route_of(routes: Sequence[Route], method: str, path: str, *, asking: bool = False) -> Target:
    """Where a request goes, as both servers decide it."""
    return next(
        route.target
        for route in routes
        if (not route.methods or method in route.methods)
        and (asking or not route.asking)
        and re.fullmatch(route.path, path)
    )


def settings_of(*urls: str, **upstream: object) -> Settings:
    """A configuration for a front before these engines."""
    return Settings.model_validate(
        {"upstream": {"urls": list(urls), **upstream}, "redis": {"url": "redis://127.0.0.1:1/0"}}
    )


@given(rules=RULES, expression=EXPRESSIONS, encoded=st.booleans(), endpoint=ENDPOINTS)
def test_no_search_passes_a_proxy_by(rules: list[Rule], expression: str, endpoint: str, *, encoded: bool) -> None:
    """Every search for which the proxies find one rule or several goes to the proxies."""
    segment = quote(expression, safe="") if encoded else quote(expression, safe="*,:<>+")
    assume(segment)
    request = Request(method="POST", target=f"/{segment}/_search".encode(), headers=())
    found = endpoint_of(request)
    assume(found is not None)
    book = make_book(rules, {"minilm": MinilmSettings()}, LimitSettings())
    if book.find(found.expression if found else "") not in ("no_rule", "system_index"):
        assert route_of(make_routes(rules), "POST", f"/{segment}/{endpoint}") == "proxies"


@given(rules=RULES, expression=EXPRESSIONS, endpoint=ENDPOINTS)
def test_where_endpoints_are_configured_every_search_is_the_proxies(
    rules: list[Rule], expression: str, endpoint: str
) -> None:
    """A `text_similarity_reranker` needs no rule for its index."""
    segment = quote(expression, safe="*,:<>+")
    assume(segment and not segment.startswith("_"))
    assert route_of(make_routes(rules, inference=True), "POST", f"/{segment}/{endpoint}") == "proxies"


@given(
    rules=RULES, names=st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=3), endpoint=ENDPOINTS
)
def test_a_plain_search_of_no_rule_is_the_engines(rules: list[Rule], names: list[str], endpoint: str) -> None:
    """A search on plain names goes straight to the engine exactly if no rule covers any of the names."""
    assume(not any(name.startswith(("-", "_")) for name in names))
    covered = any(rule.matches(name) for rule in rules for name in names if not name.startswith("."))
    routes = make_routes(rules)
    path = f"/{','.join(names)}/{endpoint}"
    assert route_of(routes, "GET", path) == ("proxies" if covered else "engine_search")
    assert route_of(routes, "GET", path, asking=True) == "proxies"


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("films", "films", True),
        ("films", "Films", False),
        ("films", "films2", False),
        ("films*", "films", True),
        ("a.b", "axb", False),
        ("a*b*c", "a1b2c", True),
        ("*", "films", True),
        ("*", ".kibana", False),
        ("*log", "log", True),
        ("**", "x", True),
    ],
)
def test_a_pattern_is_its_rules(pattern: str, name: str, covered: bool) -> None:
    """A route matches names as the proxies do: whole, with case, with `*` as the only wildcard, and no system index."""
    path = covered_path(pattern)
    assert path is not None
    assert (re.fullmatch(path, f"/{name}/_search") is not None) == covered


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/_search", "proxies"),
        ("POST", "//_search", "proxies"),
        ("POST", "//_async_search", "proxies"),
        ("POST", "/films/_search//", "proxies"),
        ("POST", "/_msearch//", "proxies"),
        ("GET", "/_search/template", "proxies"),
        ("POST", "/logs/_msearch/template/", "proxies"),
        ("GET", "/_async_search/FmRldE8", "proxies"),
        ("DELETE", "/_async_search/FmRldE8", "engine_once"),
        ("POST", "/_plugins/_asynchronous_search", "proxies"),
        ("GET", "/_opendistro/_asynchronous_search/FmRldE8", "proxies"),
        ("DELETE", "/_plugins/_asynchronous_search/FmRldE8", "engine_once"),
        ("HEAD", "/films/_search", "engine"),
        ("PUT", "/films/_search", "engine_once"),
        ("POST", "//films/_search", "engine"),
        ("POST", "/films/x/_search", "engine"),
        ("POST", "/films/%5Fsearch", "engine"),
        ("GET", "/_search/scroll/x", "engine_once"),
        ("POST", "/_search/point_in_time", "engine"),
        ("POST", "/films/_search/point_in_time", "proxies"),
        ("POST", "/films/_pit", "proxies"),
        ("DELETE", "/_pit", "engine_once"),
        ("GET", "/_es_rerank/health", "own"),
        ("PUT", "/_es_rerank", "own"),
        ("GET", "/_es_reranked", "engine"),
        ("OPTIONS", "/", "engine_once"),
        ("GET", "", "engine"),
    ],
)
def test_what_a_path_says(method: str, path: str, target: Target) -> None:
    """Every spelling of a search that may need a proxy goes to one, and what only looks like a search does not."""
    rule = Rule(name="films", indices=("films*",), fields=("text",))
    assert route_of(make_routes([rule]), method, path) == target


@pytest.mark.parametrize("path", ["/_nodes", "/_nodes/_all/http", "/_nodes/http,settings/"])
def test_what_is_said_of_nodes_comes_from_the_proxies_where_they_change_it(path: str) -> None:
    """Only GET, and only with `sniffed_address`: else clients ask the engine."""
    routes = make_routes([], sniffed=True)
    assert (route_of(routes, "GET", path), route_of(routes, "POST", path)) == ("proxies", "engine")
    assert route_of(make_routes([]), "GET", path) == "engine"
    needed = settings_of("http://h:1").model_dump(exclude_unset=True)
    settings = Settings.model_validate({**needed, "server": {"sniffed_address": "search.example.org:80"}})
    plan = make_plan(settings, listen=Address(host="", port=80), system_ca_file=None)
    assert route_of(plan.routes, "GET", path) == "proxies"


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_the_rerank_api_is_the_proxies_where_it_is_configured(path: str) -> None:
    """Only POST on its paths, and only with the API: else such a path is the engine's."""
    routes = make_routes([], rerank_api=True)
    assert (route_of(routes, "POST", path), route_of(routes, "GET", path)) == ("own", "engine")
    assert (route_of(routes, "POST", f"{path}/"), route_of(routes, "POST", f"/x{path}")) == ("engine", "engine")
    assert route_of(make_routes([]), "POST", path) == "engine"
    table = {"keys": ["a-key-of-this-test"], "scorers": {"m": "minilm"}}
    settings = Settings.model_validate(
        {**settings_of("http://h:1").model_dump(exclude_unset=True), "rerank_api": table}
    )
    plan = make_plan(settings, listen=Address(host="h", port=9), system_ca_file=None)
    assert [route.path for route in plan.routes] == [route.path for route in routes]
    assert all(route_of(routes, "POST", known.decode()) == "own" for known in PATH_SHAPES)


def test_a_pattern_with_odd_letters_needs_no_route() -> None:
    """A pattern with odd letters has no route: it matches only odd names, and those all go to the proxies."""
    rule = Rule(name="films", indices=("filmé+*",), fields=("text",))
    assert covered_path("filmé+*") is None
    assert route_of(make_routes([rule]), "GET", "/filmé+1/_search") == "proxies"


def test_targets_are_as_long_as_the_proxies_read() -> None:
    """A target is too long here exactly if it is too long for the proxies to read."""
    golden = Path(__file__).parents[1] / "golden" / "front" / "nginx.conf"
    printed = golden.read_text(encoding="utf-8")
    assert f' .{{{MAX_TARGET_BYTES + 1}}}" engine;' in printed


def test_expressions_keep_to_what_all_engines_read() -> None:
    """Expressions have no look-around, back-reference, lazy or possessive repetition: RE2 lacks them or differs."""
    for route in make_routes([Rule(name="a", indices=("a.b*", "*"), fields=("text",))]):
        assert not re.search(r"\(\?[^:]|\\[^.]|[*+?}][?+]", route.path)


def test_a_plan_without_options_is_the_configurations() -> None:
    """The proxy is where the file lets it listen, on an address that can be connected to; default ports are named."""
    settings = settings_of("http://es1", "http://[::1]:9201").model_copy(
        update={"server": settings_of("http://x").server.model_copy(update={"host": "0.0.0.0", "port": 9301})}
    )
    plan = make_plan(settings, listen=Address(host="127.0.0.1", port=9200), system_ca_file=None)
    assert [str(proxy) for proxy in plan.proxies] == ["127.0.0.1:9301"]
    assert [str(engine) for engine in plan.engines] == ["es1:80", "[::1]:9201"]
    assert (plan.engine_host, plan.trust, plan.hung_s) == ("es1", None, 60.0)


def test_trust_is_the_configurations_or_the_machines() -> None:
    """TLS needs a file of authorities (the machine's if the configuration names none), unless anyone is trusted."""
    listen = Address(host="127.0.0.1", port=9200)

    def trust(*, system: str | None, **upstream: object) -> Trust | None:
        return make_plan(settings_of("https://es1", **upstream), listen=listen, system_ca_file=system).trust

    assert trust(system="/ca") == Trust(name="es1", ca_file="/ca")
    assert trust(system="/ca", verify_tls=False) == Trust(name="es1", ca_file=None)
    with pytest.raises(SettingsError, match="ca_file"):
        trust(system=None)


@pytest.mark.parametrize(
    ("urls", "says"),
    [
        (["http://a", "https://a"], "http:// beside https://"),
        (["https://a", "https://b"], "one name"),
        (["http://a;b"], "'a;b'"),
    ],
)
def test_what_no_front_can_do_is_said(urls: list[str], says: str) -> None:
    """Hosts that a front can't treat alike, or whose names mean something else in its file, are named in an error."""
    with pytest.raises(SettingsError, match=re.escape(says)):
        make_plan(settings_of(*urls), listen=Address(host="127.0.0.1", port=1), system_ca_file="/ca")


@pytest.mark.parametrize(
    "text", ["", "x", "h:", ":1", "h:0", "h:65536", "h:1;", "h:1 ", "::1:9", "a b:1", "http://h:1"]
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    """An address that is not a host and a port, or is not safe in a configuration, is named with its option."""
    with pytest.raises(SettingsError, match="--proxy"):
        read_address("--proxy", text)


def test_an_address_is_read() -> None:
    """An address may be a name, IPv4, or IPv6 in brackets, with a port, or a port alone if there is a default host."""
    assert str(read_address("--proxy", "h-1.x:80")) == "h-1.x:80"
    assert read_address("--proxy", "[::1]:80") == Address(host="::1", port=80)
    assert str(read_address("--listen", "80", default_host="127.0.0.1")) == "127.0.0.1:80"
