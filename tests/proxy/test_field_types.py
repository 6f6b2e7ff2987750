"""What the engine is asked about fields, as whom, and for how long its answers are kept."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.errors import UpstreamError
from es_rerank.memory import MemoryBudget
from es_rerank.proxy import field_types
from es_rerank.proxy.caller import ASKED_S, KEPT_S, KEPT_UNKNOWN_S, MAX_ASKING
from es_rerank.proxy.field_types import TEXT_TYPES, FieldTypes, caps_request, read_caps
from es_rerank.proxy.search.endpoint import MAX_TARGET_BYTES
from es_rerank.records import Reply
from es_rerank.rules.indices import MAX_EXPRESSION_CHARACTERS
from tests.proxy.search.calls import call_of
from tests.virtual import VirtualClock, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from es_rerank.records import Request

TYPES = {"text": "text", "category": "keyword", "year": "long"}
FIELDS = ("text", "category", "missing")
KNOWN = {"text": True, "category": False}
ANN = (b"authorization", b"ApiKey ann")
BEN = (b"authorization", b"ApiKey ben")
OFF = (b"ES-Rerank", b"off")


def caps_of(fields: Sequence[str]) -> bytes:
    """The engine's answer about some fields."""
    known = {name: {TYPES[name]: {"type": TYPES[name]}} for name in fields if name in TYPES}
    return json.dumps({"indices": ["notes"], "fields": known}).encode()


class FakeEngine:
    """Answers about fields, as `_field_caps` does; a reply in its place, an error or a wait can be set."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Reply | Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(
        self, request: Request, *, max_bytes: int, hold: Callable[[int], bool], due_s: float | None = None
    ) -> Reply:
        """See `Fetches`."""
        assert max_bytes > 0
        assert due_s is not None
        self.requests.append(request)
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        [named] = parse_qs(request.query_string.decode())["fields"]
        body = caps_of(named.split(","))
        assert hold(len(body))
        return Reply(status=200, headers=(), body=body)


class Asked:
    """Field types before a fake engine, with a clock of the test's own."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.clock = VirtualClock()
        self.memory = MemoryBudget(1_000_000)
        self.types = FieldTypes(self.engine, self.memory, self.clock)

    async def find(
        self,
        *headers: tuple[bytes, bytes],
        fields: Sequence[str] = FIELDS,
        expression: str = "notes",
        wait_s: float = 1.0,
    ) -> Mapping[str, bool]:
        """What a search of these fields comes to know."""
        call = call_of({}, "", *headers, expression=expression)
        return await self.types.find(call, fields, self.clock.now_s + wait_s)


async def test_types_are_asked_for_once_and_kept() -> None:
    """The first search asks, those after it don't, until the answer is too old; what no index has stays unknown."""
    asked = Asked()
    assert await asked.find() == KNOWN
    assert await asked.find() == KNOWN
    assert len(asked.engine.requests) == 1
    await asked.clock.advance(KEPT_UNKNOWN_S)
    assert await asked.find() == KNOWN
    assert b"fields=missing" in asked.engine.requests[1].target
    await asked.clock.advance(KEPT_S)
    assert await asked.find() == KNOWN
    assert len(asked.engine.requests) == 3
    assert asked.memory.held_bytes == 0


async def test_only_what_is_not_known_is_asked() -> None:
    """Another search of the same caller asks about its other fields alone."""
    asked = Asked()
    await asked.find(fields=["text"])
    assert await asked.find(fields=["text", "year"]) == {"text": True, "year": False}
    assert [request.query_string.rpartition(b"=")[2] for request in asked.engine.requests] == [b"text", b"year"]


async def test_the_engine_is_asked_as_the_caller() -> None:
    """The request has the search's own login and marks, and nothing about its body, or for us."""
    call = call_of({"query": {}}, "", ANN, (b"es-security-runas-user", b"x"), (b"accept-encoding", b"br"), OFF)
    request = caps_request(call, FIELDS)
    assert request.method == "GET"
    assert request.body is None
    assert request.target == (
        b"/notes/_field_caps?ignore_unavailable=true&allow_no_indices=true&fields=text,category,missing"
    )
    assert dict(request.headers) == {
        b"authorization": b"ApiKey ann",
        b"es-security-runas-user": b"x",
        b"accept": b"application/json",
    }


@pytest.mark.parametrize(
    ("expression", "path"),
    [
        ("", b"/_field_caps"),
        ("a,b-*", b"/a,b-*/_field_caps"),
        ("<logs-{now/d}>", b"/%3Clogs-%7Bnow%2Fd%7D%3E/_field_caps"),
        ("far:films", b"/far%3Afilms/_field_caps"),
    ],
)
def test_the_same_indices_are_asked_about(expression: str, path: bytes) -> None:
    """An index expression is written so that the engine reads the same one."""
    assert caps_request(call_of({}, expression=expression), FIELDS).path == path


@given(
    st.lists(st.text(min_size=1, max_size=256).filter(lambda name: "," not in name), min_size=1, max_size=32),
    st.text(max_size=99),
)
def test_any_fields_fit_into_a_request(fields: list[str], expression: str) -> None:
    """Names are escaped, and as many are asked about as the engines' longest first line has room for."""
    request = caps_request(call_of({}, expression=expression), fields)
    assert len(request.target) <= MAX_TARGET_BYTES
    named = [unquote(name) for name in request.query_string.decode().rpartition("fields=")[2].split(",")]
    assert named == fields[: len(named)]


async def test_nobody_learns_what_another_one_was_told() -> None:
    """Each login asks by itself, and each index expression; what does not tell who asks makes no difference."""
    asked = Asked()
    await asked.find(ANN)
    asked.engine.answer = Reply(status=403, headers=(), body=b"{}")
    assert await asked.find(BEN) == {}
    assert await asked.find() == {}
    assert await asked.find(ANN, expression="logs") == {}
    assert await asked.find(ANN, (b"x-proxy-user", b"carl")) == {}
    asked_before = len(asked.engine.requests)
    marks = ((b"x-opaque-id", b"7"), (b"traceparent", b"00-1-2-00"), (b"user-agent", b"x"), OFF)
    assert await asked.find(ANN, *marks) == KNOWN
    assert len(asked.engine.requests) == asked_before


@pytest.mark.parametrize(
    "answer",
    [
        Reply(status=403, headers=(), body=b'{"error":{}}'),
        Reply(status=404, headers=(), body=b""),
        Reply(status=200, headers=(), body=b"[]"),
        Reply(status=200, headers=(), body=b'{"fields":{"text":[]}}'),
        Reply(status=200, headers=(), body=b'{"fields":7}'),
        Reply(status=200, headers=((b"content-encoding", b"br"),), body=b"{}"),
        UpstreamError("no answer"),
        RuntimeError("a bug"),
    ],
)
async def test_whatever_goes_wrong_nothing_is_known(answer: Reply | Exception) -> None:
    """A refusal, nonsense or no answer costs no search anything, and the engine is left alone for a while."""
    asked = Asked()
    asked.engine.answer = answer
    assert await asked.find() == {}
    asked.engine.answer = None
    assert await asked.find() == {}
    assert len(asked.engine.requests) == 1
    await asked.clock.advance(KEPT_UNKNOWN_S)
    assert await asked.find() == KNOWN
    assert asked.memory.held_bytes == 0


async def test_searches_at_the_same_time_ask_once() -> None:
    """Many searches that want to know the same share one request; one that leaves takes nothing from the others."""
    asked = Asked()
    asked.engine.gate.clear()
    searches = [asyncio.create_task(asked.find()) for _ in range(20)]
    await settle()
    searches[0].cancel()
    await settle()
    asked.engine.gate.set()
    assert await asyncio.gather(*searches[1:]) == [KNOWN] * 19
    assert len(asked.engine.requests) == 1


async def test_no_search_waits_longer_than_it_wants_to() -> None:
    """At its instant a search goes on with what is known; the answer is kept when it comes."""
    asked = Asked()
    asked.engine.gate.clear()
    search = asyncio.create_task(asked.find(wait_s=0.5))
    await asked.clock.advance(0.5)
    assert await search == {}
    asked.engine.gate.set()
    await settle()
    assert await asked.find(wait_s=0.0) == KNOWN
    assert len(asked.engine.requests) == 1


async def test_an_engine_that_never_answers_is_given_up() -> None:
    """A request ends after a while, and is not repeated at once."""
    asked = Asked()
    asked.engine.gate.clear()
    search = asyncio.create_task(asked.find(wait_s=ASKED_S * 9))
    await asked.clock.advance(ASKED_S)
    assert await search == {}
    assert await asked.find() == {}
    assert len(asked.engine.requests) == 1


async def test_no_more_than_so_many_requests_run() -> None:
    """Where many callers ask at the same time, those beyond the limit know nothing yet, and wait for nobody."""
    asked = Asked()
    asked.engine.gate.clear()
    waiting = [asyncio.create_task(asked.find((b"authorization", b"%d" % number))) for number in range(MAX_ASKING)]
    await settle()
    assert await asked.find(ANN) == {}
    asked.engine.gate.set()
    assert await asyncio.gather(*waiting) == [KNOWN] * MAX_ASKING
    assert await asked.find(ANN) == KNOWN


async def test_nobody_is_asked_with_a_long_index_expression() -> None:
    """An expression comes from a body of megabytes too, and each that is kept would take as much memory."""
    asked = Asked()
    assert await asked.find(expression="n" * (MAX_EXPRESSION_CHARACTERS + 1)) == {}
    assert asked.engine.requests == []
    assert await asked.find(expression="n" * MAX_EXPRESSION_CHARACTERS) == KNOWN


async def test_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The field that was met first makes room for a new one."""
    monkeypatch.setattr(field_types, "MAX_KEPT", 4)
    asked = Asked()
    for name in ("a", "b", "c", "text", "year"):
        await asked.find(fields=[name])
    await asked.find(fields=["text", "year", "b"])
    assert len(asked.engine.requests) == 5
    await asked.find(fields=["a"])
    assert len(asked.engine.requests) == 6


@pytest.mark.parametrize(
    ("types", "is_text"),
    [
        *(((name,), True) for name in sorted(TEXT_TYPES)),
        *(((name,), False) for name in ("keyword", "long", "boolean", "date", "ip", "flattened", "version", "_id")),
        (("keyword", "text"), True),
        (("object",), None),
        (("nested",), None),
        (("unmapped",), None),
        (("unmapped", "keyword"), False),
    ],
)
def test_what_the_engine_says_of_a_field(types: tuple[str, ...], is_text: bool | None) -> None:
    """One text among the indices makes a field a text; an object says nothing of a clause that names it."""
    body = json.dumps({"fields": {"f": {name: {"type": name} for name in types}}}).encode()
    assert read_caps(body).get("f") is is_text
