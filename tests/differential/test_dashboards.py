"""All that a real OpenSearch Dashboards sent, in order, through the proxy and without it, on a real OpenSearch."""

from __future__ import annotations

import gzip
import json
import random
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ENGINES_DIR, ENGINES_REQUIRED, Engine, real_engine_process, send_json
from tests.differential.comparing import answers_in, assert_equal, assert_reranked, hits_of, masked, plain_headers
from tests.differential.gate import Gate
from tests.differential.wire import Answer, Asked, Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import System

pytestmark = pytest.mark.engines

RECORDINGS = ENGINES_DIR.parent / "recordings" / "osd-2.13"
EXCHANGES = 734
WINDOW = 100
RULES = f"""
[limits]
max_deadline_s = 120.0
[[rules]]
name = "movies"
indices = ["movies*"]
fields = ["title", "text"]
window = {WINDOW}
any_language = true
deadline_s = 60.0
"""
WORDS = ("wizard", "school", "space", "war", "love", "robot", "island", "ghost", "ship", "train", "comedy", "the")
GENRES = ("Comedy", "Drama", "Horror", "Western")
# Documents that Dev Tools asks for by their ids.
NAMED = (436270, 671)
MOVIES = {
    "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"},
    "mappings": {
        "properties": {
            "title": {"type": "text"},
            "text": {"type": "text", "analyzer": "english"},
            "genre": {"type": "keyword"},
            "released": {"type": "date"},
        }
    },
}
# Hits of equal scores come in the order of the engine's files, which here follows from the writes alone: a write that
# waits for a refresh has one at once, and nothing is merged.
STEADY = {
    "index.refresh_interval": "-1",
    "index.max_refresh_listeners": 0,
    "index.merge.policy.segments_per_tier": 1000,
    "index.merge.policy.max_merge_at_once": 1000,
}
SECOND_START = "10-extra"
PATTERNS = {"p1": {"title": "movies-1", "timeFieldName": "released"}, "p2": {"title": "movies*"}}
# What an index has on disk depends on when the engine merges, and a table is as wide as its longest value.
ON_DISK = re.compile(rb'"(pri\.store\.size|store\.size|docs\.deleted)" ?: ?"[^"]*"')
ROW = re.compile(rb"^(\S+ \S+ \S+) [\w-]{22} (\d+ \d+ \d+) \d+ \S+ \S+", re.MULTILINE)
BLANKS = re.compile(rb" +")
SCROLL_ID = re.compile(rb'("(?:_?scroll_id)" ?: ?)"([^"]*)"')
OUR_BLOCK = re.compile(rb',\s*"ext":\{"es_rerank":\{[^}]*\}\}')


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One exchange: what was asked, and the status that came."""

    file: str
    asked: Asked
    status: int
    reranked: str | None
    """`page` where a page's search is reranked if the rule says so, `tool` for Dev Tools', which always are."""


def exchanges() -> Iterator[Recorded]:
    """All exchanges in their order."""
    for path in sorted(RECORDINGS.glob("*.jsonl*")):
        lines = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for line in lines.splitlines():
            found = json.loads(line)
            headers = tuple((name, value) for name, value in found["headers"])
            body = None if found["body"] is None else found["body"].encode()
            if body is None and any(name.lower() == "content-length" for name, _ in headers):
                body = b""
            asked = Asked(method=found["method"], target=found["path"], headers=headers, body=body)
            yield Recorded(
                file=path.name.partition(".")[0],
                asked=asked,
                status=found["status"],
                reranked=who_reranks(asked, found.get("es_rerank", {})),
            )


def who_reranks(asked: Asked, told: dict[str, Any]) -> str | None:
    """Which searches are by relevance: those that were reranked, or would have been had their text been read."""
    dev_tools = "pretty=" in asked.target
    if asked.target.startswith("/_msearch"):
        return "tool" if dev_tools else "page"
    # On the day of the recording, a search that hides the text was not reranked, and the engine was away for a while.
    if told.get("status") == "full" or told.get("reason") in ("missing_text", "no_engine"):
        return "tool" if dev_tools else "page"
    return None


class Stage:
    """An engine, a way to it that can be shut, and proxies behind that."""

    def __init__(self, engine: Engine, gate: Gate, systems: dict[str, System]) -> None:
        self.engine = engine
        self.gate = gate
        self.systems = systems
        self._films = b"".join(self._lines())
        send_json(f"{engine.url}/.kibana_1", method="PUT")  # an engine warns of such a name once in its life

    @staticmethod
    def _lines() -> Iterator[bytes]:
        chance = random.Random(13)
        for key in (*NAMED, *range(1, 250)):
            film = {
                "title": f"Film {key} of the {chance.choice(WORDS)}",
                "text": " ".join(chance.choices(WORDS, k=20)),
                "genre": chance.choice(GENRES),
                "released": f"{chance.randint(1980, 2023)}-{chance.randint(1, 12):02}-01",
            }
            yield json.dumps({"index": {"_id": str(key)}}).encode() + b"\n" + json.dumps(film).encode() + b"\n"

    def begin(self) -> None:
        """Nothing but the films is on the engine."""
        send_json(f"{self.engine.url}/_all?expand_wildcards=all", method="DELETE")
        send_json(f"{self.engine.url}/movies-1", MOVIES, method="PUT")
        send_json(f"{self.engine.url}/movies-1/_bulk?refresh=true", self._films, method="POST")
        send_json(f"{self.engine.url}/movies-1/_forcemerge?max_num_segments=1", method="POST")

    def begin_again(self, made: Asked) -> None:
        """As it was before the second start of Dashboards: its index anew, with two patterns made by hand."""
        url = self.engine.url
        send_json(f"{url}/.kibana_1", method="DELETE")
        send_json(f"{url}{made.target}", made.body, method="PUT")
        send_json(f"{url}/_aliases", {"actions": [{"add": {"index": ".kibana_1", "alias": ".kibana"}}]}, method="POST")
        self.steady()
        config = ("config:2.13.0", {"type": "config", "config": {"buildNum": 1, "courier:batchSearches": True}})
        patterns = [
            (f"index-pattern:{name}", {"type": "index-pattern", "index-pattern": pattern})
            for name, pattern in PATTERNS.items()
        ]
        for key, document in (config, *patterns, config):  # the numbers of later writes count these four
            send_json(f"{url}/.kibana_1/_doc/{key}?refresh=true", document, method="PUT")

    def steady(self) -> None:
        """Have Dashboards' index follow its writes."""
        send_json(f"{self.engine.url}/.kibana_1/_settings", STEADY, method="PUT")

    def replay(self, url: str, recorded: list[Recorded], *, directly: bool) -> Iterator[Answer | None]:
        """The answer to each exchange; None where nothing can answer, since the engine is away."""
        self.begin()
        scroll_id = b""
        made = next(one.asked for one in recorded if one.asked.target == "/.kibana_1")
        with Caller(url) as caller:
            for before, one in zip((None, *recorded), recorded, strict=False):
                if one.file == SECOND_START and before is not None and before.file != SECOND_START:
                    self.begin_again(made)
                away = one.status == 502
                if away and directly:
                    yield None
                    continue
                if not directly:
                    self.gate.set(is_open=not away)
                asked = one.asked
                if asked.body is not None:
                    body = SCROLL_ID.sub(rb'\g<1>"%s"' % scroll_id, asked.body)
                    asked = replace(asked, body=OUR_BLOCK.sub(b"", body) if directly else body)
                answer = caller.ask(asked)
                if found := SCROLL_ID.search(answer.body):
                    scroll_id = found[2]
                if asked.target == made.target and asked.method == "PUT":
                    assert answer.status == 200, answer
                    self.steady()
                yield answer

    def pools(self, recorded: list[Recorded]) -> dict[Asked, list[list[dict[str, bytes]]]]:
        """For each relevance search, the hits that its page may have: the window's, one list a search in it."""
        found: dict[Asked, list[list[dict[str, bytes]]]] = {}
        with Caller(self.engine.url) as caller:
            for asked in {one.asked for one in recorded if one.reranked and one.status == 200}:
                body = OUR_BLOCK.sub(b"", asked.body) if asked.body else None
                many = asked.target.startswith("/_msearch")
                wide = replace(asked, body=widened(body) if many and body else body)
                if not many and "size=" not in asked.target:
                    size = json.loads(body or b"{}").get("size", 10)
                    wide = wide.with_parameters(f"size={max(size, WINDOW)}")
                elif not many:
                    wide = replace(wide, target=re.sub("size=[0-9]+", f"size={WINDOW}", wide.target))
                answer = caller.ask(wide)
                answers = answers_in(answer.body) if many else [answer.body]
                found[asked] = [hits_of(one) if b'"hits"' in one else [] for one in answers]
        return found


def widened(lines: bytes) -> bytes:
    """The searches of an `_msearch` for the whole window; those without hits stay."""
    found = [json.loads(line) for line in lines.splitlines()]
    for search in found[1::2]:
        if search.get("size") != 0:
            search["size"] = max(search.get("size", 10), WINDOW)
    return b"".join(json.dumps(line).encode() + b"\n" for line in found)


@pytest.fixture(scope="module")
def recorded() -> list[Recorded]:
    """All exchanges."""
    if not RECORDINGS.is_dir():
        if ENGINES_REQUIRED:
            pytest.fail(f"{RECORDINGS} is missing, and ES_RERANK_REQUIRE_ENGINES=1")
        pytest.skip(f"no recordings beside this checkout ({RECORDINGS})")
    return list(exchanges())


@pytest.fixture(scope="module")
def stage(run_system: Callable[..., System]) -> Iterator[Stage]:
    """An OpenSearch of our own, since Dashboards makes and finds indices of all names."""
    with real_engine_process("opensearch") as engine:
        gate = Gate(int(engine.url.rpartition(":")[2]))
        url = f"http://127.0.0.1:{gate.port}"
        systems = {
            dashboards: run_system(url, extra=f'{RULES}dashboards = "{dashboards}"\n')
            for dashboards in ("leave", "rerank")
        }
        if not systems["leave"].workers():
            systems["leave"].start_worker()
        yield Stage(engine, gate, systems)
        gate.set(is_open=False)


@pytest.fixture(scope="module")
def directly(stage: Stage, recorded: list[Recorded]) -> list[Answer | None]:
    """What the engine answers by itself."""
    return list(stage.replay(stage.engine.url, recorded, directly=True))


def without_files(asked: Asked, answer: Answer) -> Answer:
    """An answer without what the engine says of its files."""
    if not asked.target.startswith("/_cat/indices"):
        return answer
    body = ROW.sub(rb"\1 (id) \2 (files)", BLANKS.sub(b" ", ON_DISK.sub(rb'"\1":""', answer.body)))
    return replace(answer, body=body, headers=tuple(pair for pair in answer.headers if pair[0] != "content-length"))


def test_the_engine_answers_as_on_the_day_of_the_recording(
    recorded: list[Recorded], directly: list[Answer | None]
) -> None:
    """The replay leads the engine the same way: every status is the one that Dashboards got."""
    assert len(recorded) == EXCHANGES
    other = [
        (one.asked.target, one.status, answer.status)
        for one, answer in zip(recorded, directly, strict=True)
        if answer is not None and answer.status != one.status
    ]
    assert other == []


@pytest.mark.parametrize("dashboards", ["leave", "rerank"])
def test_all_that_dashboards_asks_is_answered_as_by_the_engine(
    dashboards: str, stage: Stage, recorded: list[Recorded], directly: list[Answer | None]
) -> None:
    """Status, headers and body are the engine's; relevance searches have its hits in an order of their own."""
    system = stage.systems[dashboards]
    answers = list(stage.replay(system.url, recorded, directly=False))
    pools = stage.pools(recorded)
    moved = {"page": 0, "tool": 0}
    for one, direct, through in zip(recorded, directly, answers, strict=True):
        assert through is not None
        if direct is None:
            assert through.status == 502
            assert json.loads(through.body)["status"] == 502
            continue
        if one.reranked is None or (one.reranked == "page" and dashboards == "leave"):
            assert_equal(one.asked, without_files(one.asked, direct), without_files(one.asked, through))
            continue
        assert through.status == direct.status
        assert plain_headers(through, with_length=False) == plain_headers(direct, with_length=False)
        many = one.asked.target.startswith("/_msearch")
        before, after = ((answers_in(body) if many else [body]) for body in (direct.body, through.body))
        for own, ours, pool in zip(before, after, pools[one.asked], strict=True):
            if masked(own) != masked(ours):
                assert_reranked(one.asked, own, ours, pool)
                moved[one.reranked] += 1
    assert moved["tool"] >= 5
    assert (moved["page"] >= 8) == (dashboards == "rerank")
