"""An engine and the system before it, asked the same requests side by side."""

from __future__ import annotations

import random
import re
import urllib.error
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

from tests.conftest import RULES, send_json
from tests.differential.carriers import CARRIER_RULE
from tests.differential.comparing import readable
from tests.differential.drawing import INDEX, OTHER, PIT, SCRATCH, SCROLL, WORDS, as_json
from tests.differential.wire import Answer, Asked, Caller

if TYPE_CHECKING:
    from tests.conftest import Engine, System

WINDOW = 30
FILMS = 60
DRAWN_RULES = RULES.replace(
    'fields = ["title", "text"]', f'fields = ["title", "text"]\nwindow = {WINDOW}\n{CARRIER_RULE}'
)
SIDES = {"direct": "side-first", "through": "side-other"}
GIVEN = {SCROLL: re.compile(rb'"_scroll_id" ?: ?"([^"]+)"'), PIT: re.compile(rb'"(?:pit_id|id)" ?: ?"([^"]+)"')}
TEXT = {"type": "text", "analyzer": "english"}
MAPPING = {
    # Nothing refreshes by itself: what a search finds depends on the requests alone.
    "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"},
    "mappings": {
        "properties": {"title": TEXT, "text": TEXT, "n": {"type": "long"}, "kind": {"type": "keyword", "store": True}}
    },
}


class Side:
    """One of two ways to an engine, with an index of its own to write to."""

    def __init__(self, name: str, url: str) -> None:
        self.scratch = SIDES[name].encode()
        self.caller = Caller(url)
        self._given: dict[str, bytes] = {}
        self.begin()

    def begin(self) -> None:
        """Forget what was given, and open a new connection for the next request."""
        self.caller.close()
        self._given = {SCROLL: b"no scroll yet", PIT: b"no point yet"}

    def ask(self, asked: Asked) -> Answer:
        """The answer, which calls this side's own index by the common name."""
        target = asked.target.replace(SCRATCH, self.scratch.decode())
        body = asked.body
        for name, value in self._given.items():
            body = body and body.replace(name.encode(), value)
        answer = self.caller.ask(replace(asked, target=target, body=body))
        plain = readable(answer)
        for name, pattern in GIVEN.items():
            if found := pattern.search(plain):
                self._given[name] = found[1]
        # How long a deflated body is depends on the name in it.
        headers = tuple(
            (key, value.replace(self.scratch.decode(), SCRATCH))
            for key, value in answer.headers
            if key != "content-length" or plain == answer.body
        )
        plain = plain.replace(self._given[PIT], PIT.encode())
        return replace(answer, headers=headers, body=plain.replace(self.scratch, SCRATCH.encode()))


def make_anew(engine: Engine, index: str) -> None:
    """An empty index of this name."""
    with suppress(urllib.error.HTTPError):
        send_json(f"{engine.url}/{index}", method="DELETE")
    send_json(f"{engine.url}/{index}", MAPPING, method="PUT")


def load(engine: Engine) -> None:
    """Films in two indices, of which one is under a rule, and an empty index for each side."""
    chance = random.Random(7)
    films = {
        str(number): {
            "title": f"film {number} {chance.choice(WORDS)}",
            "text": " ".join(chance.choices(WORDS, k=chance.randint(5, 14))),
            "n": number,
            "kind": "ab"[number % 2],
        }
        for number in range(FILMS)
    }
    lines = b"".join(as_json({"index": {"_id": key}}) + b"\n" + as_json(film) + b"\n" for key, film in films.items())
    for index in (INDEX, OTHER, *SIDES.values()):
        make_anew(engine, index)
        if index in (INDEX, OTHER):
            send_json(f"{engine.url}/{index}/_bulk?refresh=true", lines, method="POST")


class Pair:
    """An engine, and the system before it."""

    def __init__(self, engine: Engine, system: System) -> None:
        self.engine = engine
        self.system = system
        self.direct = Side("direct", engine.url)
        self.through = Side("through", system.url)
        self._ended = True

    def begin(self) -> None:
        """Begin a series of requests from the same state, whatever broke in the last one."""
        for side in (self.direct, self.through):
            side.begin()
        if not self._ended:
            for index in SIDES.values():
                make_anew(self.engine, index)
        self._ended = False

    def end(self) -> None:
        """A series was answered alike, so both sides' own indices are alike too."""
        self._ended = True

    def close(self) -> None:
        """End both connections, and leave no index behind."""
        for side in (self.direct, self.through):
            side.caller.close()
        for index in (INDEX, OTHER, *SIDES.values()):
            send_json(f"{self.engine.url}/{index}", method="DELETE")


# A failure says how to have it again; the requests are others in each run.
DRAWN = settings(print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
