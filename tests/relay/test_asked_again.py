"""What is asked of another host when one fails: what only reads, once more; a write and what is too much, never."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.records import Request
from es_rerank.tables import UpstreamSettings
from es_rerank.upstream import Upstream
from tests.conftest import RULES as REAL_RULES
from tests.conftest import send_json
from tests.relay.test_hosts import LIMIT_S, NO_ANSWERS, RULES, SEARCH, answer_of, give, host_that, post, stuck
from tests.virtual import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Engine, System
    from tests.relay.test_hosts import Host

__all__ = ["host_that"]  # the fixture
INDEX = "films-again"
RED = "red-again"
QUERY = {"query": {"match": {"text": "robot"}}}
LINES = "".join(f"{json.dumps(line)}\n" for line in ({"index": INDEX}, QUERY, {}, QUERY)).encode()
# Everything that only reads, with a body and without: for an index of a rule, and for another one.
READS: dict[str, tuple[str, bytes | None]] = {
    "a window": (f"/{INDEX}/_search", json.dumps(QUERY).encode()),
    "a search": ("/docs-again/_search", json.dumps(QUERY).encode()),
    "many": (f"/{INDEX}/_msearch", LINES),
    "many of others": ("/docs-again/_msearch", LINES.replace(INDEX.encode(), b"docs-again")),
    "a count": ("/docs-again/_count", json.dumps(QUERY).encode()),
    "a document": ("/docs-again/_doc/1", None),
    "documents": ("/docs-again/_mget", b'{"ids":["1"]}'),
    "an explanation": ("/docs-again/_explain/1", json.dumps(QUERY).encode()),
}
WRITES = ("/films/_doc", "/films/_doc/_search", "/_bulk", "/films/_update_by_query")
FAULTS = {name: NO_ANSWERS[name] for name in ("closes", "says 502", "says 503")} | {"stuck": stuck}
SLOWLY = "read_timeout_s = 1.0"
HASTY = '[limits]\ndeadline_s = 0.5\n[[rules]]\nname = "films"\nindices = ["films*"]\nfields = ["text"]\n'


@pytest.fixture(scope="module")
def engine(opensearch: Engine) -> Iterator[Engine]:
    """A real engine with some documents, and an index none of whose shards finds a place."""
    for index in (INDEX, "docs-again"):
        opensearch.load(index, {str(number): {"text": f"robot {'love ' * number}"} for number in range(5)})
    lost = {"number_of_replicas": 0, "routing.allocation.require.place": "none"}
    send_json(f"{opensearch.url}/{RED}?wait_for_active_shards=0", {"settings": lost}, method="PUT")
    yield opensearch
    for index in (INDEX, "docs-again", RED):
        send_json(f"{opensearch.url}/{index}", method="DELETE")


def answer_to(url: str, path: str, body: bytes | None) -> tuple[int, Any]:
    """Status and answer, without how long it took."""
    request = urllib.request.Request(f"{url}{path}", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as reply:
            status, text = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return status, re.sub(rb'"took":\d+', b'"took":0', text)


@pytest.mark.engines
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_only_reads_is_answered_by_a_host_that_is_well(
    engine: Engine, host_that: Callable[..., Host], run_system: Callable[..., System], own_redis_url: str, fault: str
) -> None:
    """Beside a real engine, a host that closes, hangs, or can't serve costs no reading request a thing."""
    bad = host_that(FAULTS[fault])
    # The real engine has to answer within this time, too.
    upstream = "read_timeout_s = 5.0"
    rules = REAL_RULES.replace("deadline_s = 60.0", "")
    system = run_system(engine.url, bad.url, redis=own_redis_url, extra=rules, upstream=upstream)  # without a worker
    reads = [READS[name] for name in (("a search", "a document") if fault == "stuck" else READS)]
    for path, body in reads * 2:
        answer = answer_to(engine.url, path, body)  # asked first, so that it has this path's code at hand
        assert answer_to(system.url, path, body) == answer
    assert bad.requests


@pytest.mark.engines
def test_what_no_host_can_serve_is_the_engines_own_503(
    engine: Engine, run_system: Callable[..., System], own_redis_url: str
) -> None:
    """Where the index is lost, and not the host, the caller gets the engine's words, and other indices are served."""
    other = engine.url.replace("127.0.0.1", "localhost")
    system = run_system(engine.url, other, redis=own_redis_url, extra=REAL_RULES)  # without a worker
    search = json.dumps(QUERY).encode()
    status, said = answer_to(engine.url, f"/{RED}/_search", search)
    assert status == 503
    for path in (f"/{RED}/_search", f"/{INDEX},{RED}/_search", f"/{INDEX}/_search", f"/{RED}/_search"):
        assert answer_to(system.url, path, search) == answer_to(engine.url, path, search)
    assert answer_to(system.url, f"/{RED}/_search", search) == (status, said)
    assert "passed over" not in system.proxy.log.read_text()


def test_a_sick_engine_is_not_asked_twice_for_ever(
    host_that: Callable[..., Host], run_system: Callable[..., System]
) -> None:
    """If two hosts can't serve a path, the next searches on it cost one request each, for a moment."""
    hosts = [host_that(NO_ANSWERS["says 503"]) for _ in range(2)]
    system = run_system(*(host.url for host in hosts), extra=RULES)
    assert {post(f"{system.url}/others/_search", SEARCH)[0] for _ in range(40)} == {503}
    assert 41 <= sum(len(host.requests) for host in hosts) < 80


def test_no_search_waits_for_a_connection_that_its_own_answer_holds(
    host_that: Callable[..., Host], run_system: Callable[..., System]
) -> None:
    """In a pool of one, a 503 gives its connection back before another host is asked, or is passed on if it is long."""
    for said, asked in ((b"{}", 2), (b"x" * 200_000, 1)):
        hosts = [host_that(give(answer_of(503, said))) for _ in range(2)]
        system = run_system(*(host.url for host in hosts), extra=RULES, upstream="max_connections = 1")
        assert post(f"{system.url}/others/_search", SEARCH)[:2] == (503, said)
        assert sum(len(host.requests) for host in hosts) == asked


async def test_a_503_does_not_wait_for_a_host_that_pauses(host_that: Callable[..., Host]) -> None:
    """A host that failed is not asked for what another one can't serve, until its pause is over."""
    sick, gone = host_that(NO_ANSWERS["says 503"]), host_that(NO_ANSWERS["closes"])
    async with Upstream(UpstreamSettings(urls=(sick.url, gone.url)), VirtualClock()) as upstream:
        for path in (b"/a", b"/b", b"/c"):
            assert await status_of(upstream, path) == 503
            assert len(gone.requests) == 1


async def test_a_503_waits_once_for_a_silent_host(host_that: Callable[..., Host]) -> None:
    """If the second host is silent on what the first can't serve, the next such search does not wait for it."""
    sick, silent = host_that(NO_ANSWERS["says 503"]), host_that(stuck)
    settings = UpstreamSettings(urls=(sick.url, silent.url), read_timeout_s=0.5)
    async with Upstream(settings, VirtualClock()) as upstream:
        for asked in (1, 2, 2):  # the second search begins with the silent host, since it is that host's turn
            assert await status_of(upstream, b"/a") == 503
            assert len(silent.requests) == asked


async def status_of(upstream: Upstream, path: bytes) -> int:
    """The status of the answer to a GET."""
    async with upstream.send(Request(method="GET", target=path, headers=())) as reply:
        return reply.status


def test_too_many_requests_is_an_answer(host_that: Callable[..., Host], run_system: Callable[..., System]) -> None:
    """A host that says 429 wants fewer requests, so no other host is asked, and the caller is told."""
    busy = give(answer_of(429, b'{"error":"busy"}'))
    hosts = [host_that(busy) for _ in range(2)]
    system = run_system(*(host.url for host in hosts), extra=RULES)
    for number, path in enumerate(("/others/_search", "/others/_msearch", "/others/_count"), start=1):
        assert post(f"{system.url}{path}", SEARCH)[:2] == (429, b'{"error":"busy"}')
        assert sum(len(host.requests) for host in hosts) == number


@pytest.mark.parametrize("fault", FAULTS)
def test_a_write_goes_to_one_host(
    host_that: Callable[..., Host], run_system: Callable[..., System], fault: str
) -> None:
    """Whatever may change something is sent once, whatever its host does, even if its path ends like a search's."""
    hosts = [host_that(FAULTS[fault]) for _ in range(2)]
    system = run_system(*(host.url for host in hosts), extra=RULES, upstream=SLOWLY)
    for number, path in enumerate(WRITES, start=1):
        status, _, _ = post(f"{system.url}{path}", {"text": "x"})
        assert status in (502, 503, 504)
        assert sum(len(host.requests) for host in hosts) == number


def test_a_host_that_hangs_costs_few_searches_their_deadline(
    host_that: Callable[..., Host], run_system: Callable[..., System]
) -> None:
    """A host that lets deadlines pass is passed over soon; until then each search is answered by the other host."""
    good, bad = host_that(), host_that(stuck)
    system = run_system(good.url, bad.url, extra=HASTY)
    for _ in range(16):
        status, body, _ = post(f"{system.url}/films/_search", SEARCH)
        assert status == 200
        assert len(json.loads(body)["hits"]["hits"]) == 3
    system.await_log("it lets time run out without a word")
    assert 3 <= len(bad.requests) < 10


def test_a_silent_host_is_asked_beside_one_other_at_most(
    host_that: Callable[..., Host], run_system: Callable[..., System]
) -> None:
    """A search on which two hosts say nothing may be too heavy for any: it is not tried on a third one."""
    hosts = [host_that(stuck) for _ in range(4)]
    system = run_system(*(host.url for host in hosts), extra=RULES, upstream=SLOWLY)
    assert post(f"{system.url}/others/_search", SEARCH)[0] == 504
    assert sum(len(host.requests) for host in hosts) == 2
