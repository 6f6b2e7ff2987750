"""What a request may ask of es-rerank: taken out without a trace, and refused where it isn't allowed."""

from __future__ import annotations

import dataclasses
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.errors import CallerError
from es_rerank.proxy.search.call import read_call
from es_rerank.proxy.search.control import (
    ALLOWED,
    MAX_QUERY_CHARACTERS,
    ControlLimits,
    Controls,
    check_controls,
    may_ask,
    take_controls,
)
from es_rerank.records import LongBody, Request
from tests.proxy.search.calls import JSON_HEADER, MAX_BYTES, raw_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.rules.rule import Mode

LIMITS = ControlLimits(max_window=200, max_deadline_s=30.0)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["status", "scores", "zscore"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def call_of(body: bytes | None, *headers: tuple[bytes, bytes], target: bytes = b"/notes/_search") -> SearchCall:
    """The call of a request with this body of JSON, and with more headers."""
    return raw_call(body, JSON_HEADER, *headers, target=target)


def test_a_request_that_asks_nothing_is_untouched() -> None:
    """Without a wish the call goes on unchanged."""
    call = call_of(b'{ "query" : { "match_all" : {} }, "ext" : { "ltr" : { "size" : 1.0 } } }')
    assert take_controls(call) == ({}, call)


@pytest.mark.parametrize("ext", [b"null", b"[]", b'"es_rerank"', b"{}", b'{"other":{"es_rerank":{}}}'])
def test_an_ext_without_our_key_is_untouched(ext: bytes) -> None:
    """Everything else in `ext`, malformed or not, is left to the engine."""
    call = call_of(b'{"ext":' + ext + b"}")
    assert take_controls(call) == ({}, call)


def test_our_key_is_taken_and_the_others_stay_in_place() -> None:
    """Other plug-ins' keys, and everything else in the body, keep bytes and order."""
    body = b'{"size":1.0,"ext":{"a":{"n":1E10},"es_rerank":{"alpha":0.5},"b":[ 1 , 2 ]},"query":{"match_all":{}}}'
    asked, call = take_controls(call_of(body))
    assert asked == {"alpha": 0.5}
    assert call.carrier.request.body == body.replace(b'"es_rerank":{"alpha":0.5},', b"")


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b'{"ext":{"es_rerank":{}}}', b"{}"),
        (b'{"size":1,"ext":{"es_rerank":{"rerank":true}}}', b'{"size":1}'),
        (b'{"ext":{"es\\u005frerank":{}},"size":1}', b'{"size":1}'),
    ],
)
def test_an_ext_of_ours_alone_goes_as_a_whole(body: bytes, left: bytes) -> None:
    """If our key was the only one in `ext`, the whole `ext` is taken out."""
    _, call = take_controls(call_of(body))
    assert call.carrier.request.body == left
    assert call.search == json.loads(left)


def test_a_compressed_body_goes_on_plain() -> None:
    """The wish is found in a compressed body, and the body then goes on without its coding."""
    body = gzip.compress(b'{"ext":{"es_rerank":{"window":9}},"size":1}')
    asked, call = take_controls(call_of(body, (b"Content-Encoding", b"gzip")))
    assert asked == {"window": 9}
    assert call.carrier.request.body == b'{"size":1}'
    assert call.carrier.request.headers == (JSON_HEADER,)


def test_a_body_in_the_url_is_cleaned_there() -> None:
    """A wish in the `source` parameter is taken out of it."""
    source = quote('{"size":1,"ext":{"es_rerank":{"rerank":false}}}', safe="").encode()
    asked, call = take_controls(call_of(None, target=b"/_search?source=" + source + b"&pretty"))
    assert asked == {"rerank": False}
    assert call.carrier.request.target == b"/_search?pretty&source=%7B%22size%22%3A1%7D"


@pytest.mark.parametrize(
    ("value", "asked"),
    [(b"off", {"rerank": False}), (b" off ", {"rerank": False}), (b"include=status", {"include": ["status"]})],
)
def test_the_header_asks_without_a_body(value: bytes, asked: dict[str, Any]) -> None:
    """The header is read whatever the case of its name, for both values, and it is not forwarded."""
    found, call = take_controls(call_of(None, (b"ES-Rerank", value), (b"x-opaque-id", b"7")))
    assert found == asked
    assert call.carrier.request.headers == (JSON_HEADER, (b"x-opaque-id", b"7"))


def test_header_and_body_add_up_and_the_body_wins() -> None:
    """Header and body may both ask; for the same field, the body's value counts."""
    body = b'{"ext":{"es_rerank":{"rerank":true,"alpha":1}}}'
    assert take_controls(call_of(body, (b"es-rerank", b"off")))[0] == {"rerank": True, "alpha": 1}
    assert take_controls(call_of(body, (b"es-rerank", b"include=status")))[0] == {
        "include": ["status"],
        "rerank": True,
        "alpha": 1,
    }


@pytest.mark.parametrize("value", [b"", b"on", b"OFF", b"include=scores", b"include=status,scores", b"\xff"])
def test_any_other_header_is_refused(value: bytes) -> None:
    """An unknown value of the header is an error that names what is allowed; it is not ignored."""
    with pytest.raises(CallerError, match=r"header \[ES-Rerank\] must be \[off\] or \[include=status\], was "):
        take_controls(call_of(None, (b"es-rerank", value)))


@pytest.mark.parametrize("value", ["null", "true", "[]", '"off"', "1"])
def test_our_key_must_be_an_object(value: str) -> None:
    """Anything but an object under our key is refused, and the error shows what it was."""
    with pytest.raises(CallerError, match=r"\[ext.es_rerank\] must be an object, was ") as refusal:
        take_controls(call_of(b'{"ext":{"es_rerank":' + value.encode() + b"}}"))
    assert str(refusal.value).endswith(f"was [{value}]")


@pytest.mark.parametrize(
    "body",
    [
        b'{"ext":{"es_rerank":{},"es_rerank":{"alpha":1}}}',
        b'{"ext":{"es_rerank":{}},"query":{"match":{"a":"\\ud800"}}}',
        b'{"ext":{"es_rerank":{}} /* why */}',
        b'// why\n{"ext":{"es_r\\u0065rank":{}}}',
    ],
)
def test_our_key_in_a_body_that_we_cannot_read_is_refused(body: bytes) -> None:
    """If our key can't be taken out of a body, the engine would not know it, so we refuse it and say what is wrong."""
    with pytest.raises(CallerError, match="strict JSON"):
        take_controls(call_of(body))


@pytest.mark.parametrize(
    ("asked", "controls"),
    [
        ({}, Controls()),
        ({"rerank": False}, Controls(rerank=False)),
        ({"rerank": True}, Controls()),
        ({"alpha": 0}, Controls(alpha=0)),
        ({"alpha": 1}, Controls(alpha=1)),
        ({"alpha": 0.25}, Controls(alpha=0.25)),
        ({"method": "zscore"}, Controls(method="zscore")),
        ({"method": "minmax"}, Controls(method="minmax")),
        ({"method": "rrf"}, Controls(method="rrf")),
        ({"window": 1}, Controls(window=1)),
        ({"window": 200}, Controls(window=200)),
        ({"deadline_s": 30}, Controls(deadline_s=30)),
        ({"deadline_s": 0.001}, Controls(deadline_s=0.001)),
        ({"include": []}, Controls()),
        ({"query_id": "q", "client_id": "c" * 256}, Controls(query_id="q", client_id="c" * 256)),
        ({"application": "shop"}, Controls(application="shop")),
        ({"include": ["scores", "status", "status"]}, Controls(include=frozenset({"scores", "status"}))),
        ({"include": ["question"]}, Controls(include=frozenset({"question", "status"}))),
        ({"query": "a"}, Controls(query="a")),
        ({"query": "a" * MAX_QUERY_CHARACTERS}, Controls(query="a" * MAX_QUERY_CHARACTERS)),
    ],
)
def test_what_is_allowed(asked: dict[str, Any], controls: Controls) -> None:
    """Every field is allowed up to its limits, the limits included, and a repeated item counts once."""
    assert check_controls(asked, LIMITS) == controls


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rerank": "false"}, '[ext.es_rerank.rerank] must be true or false, was ["false"]'),
        ({"rerank": 0}, "[ext.es_rerank.rerank] must be true or false, was [0]"),
        ({"alpha": -0.1}, "[ext.es_rerank.alpha] must be a number from 0 to 1, was [-0.1]"),
        ({"alpha": 1.1}, "[ext.es_rerank.alpha] must be a number from 0 to 1, was [1.1]"),
        ({"alpha": True}, "[ext.es_rerank.alpha] must be a number from 0 to 1, was [true]"),
        ({"alpha": None}, "[ext.es_rerank.alpha] must be a number from 0 to 1, was [null]"),
        ({"method": "borda"}, '[ext.es_rerank.method] must be one of [zscore, minmax, rrf], was ["borda"]'),
        ({"method": []}, "[ext.es_rerank.method] must be one of [zscore, minmax, rrf], was [[]]"),
        ({"window": 0}, "[ext.es_rerank.window] must be a whole number from 1 to 200, was [0]"),
        ({"window": 201}, "[ext.es_rerank.window] must be a whole number from 1 to 200, was [201]"),
        ({"window": 10.0}, "[ext.es_rerank.window] must be a whole number from 1 to 200, was [10.0]"),
        (
            {"deadline_s": 0},
            "[ext.es_rerank.deadline_s] must be a number of seconds above 0 and at most 30, was [0]",
        ),
        (
            {"deadline_s": 30.1},
            "[ext.es_rerank.deadline_s] must be a number of seconds above 0 and at most 30, was [30.1]",
        ),
        (
            {"include": "status"},
            '[ext.es_rerank.include] must be a list of [status, scores, reasoning, question], was ["status"]',
        ),
        (
            {"include": ["all"]},
            '[ext.es_rerank.include] must be a list of [status, scores, reasoning, question], was [["all"]]',
        ),
        (
            {"include": [[]]},
            "[ext.es_rerank.include] must be a list of [status, scores, reasoning, question], was [[[]]]",
        ),
        (
            {"Alpha": 1},
            (
                "[ext.es_rerank] unknown field [Alpha]; allowed are [rerank, rule, query, alpha, method, window, "
                "deadline_s, instruction, mode, budget_tokens, think_top, score, include, query_id, client_id, "
                "application]"
            ),
        ),
        ({"mode": "deep"}, '[ext.es_rerank.mode] must be one of [think, direct, cascade], was ["deep"]'),
        ({"mode": {}}, "[ext.es_rerank.mode] must be one of [think, direct, cascade], was [{}]"),
        ({"score": 1}, "[ext.es_rerank.score] must be one of [paper, expected], was [1]"),
        ({"budget_tokens": 0}, "[ext.es_rerank.budget_tokens] must be a whole number from 1 up, was [0]"),
        ({"think_top": 201}, "[ext.es_rerank.think_top] must be a whole number from 1 to 200, was [201]"),
        ({"query_id": ""}, '[ext.es_rerank.query_id] must be a text of 1 to 256 characters, was [""]'),
        ({"client_id": 7}, "[ext.es_rerank.client_id] must be a text of 1 to 256 characters, was [7]"),
        ({"application": None}, "[ext.es_rerank.application] must be a text of 1 to 256 characters, was [null]"),
        ({"query": 7}, "[ext.es_rerank.query] must be a text of 1 to 4096 characters, was [7]"),
        ({"query": " \n"}, '[ext.es_rerank.query] must be a text of 1 to 4096 characters, was [" \\n"]'),
        (
            {"query": "a" * (MAX_QUERY_CHARACTERS + 1)},
            f'[ext.es_rerank.query] must be a text of 1 to 4096 characters, was ["{"a" * 76}...]',
        ),
        ({"instruction": " "}, '[ext.es_rerank.instruction] must be a text of 1 to 2000 characters, was [" "]'),
    ],
)
def test_what_is_refused(asked: dict[str, Any], message: str) -> None:
    """A refusal names the field, what is allowed and what it was."""
    with pytest.raises(CallerError) as refusal:
        check_controls(asked, LIMITS)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "asked",
    [
        {"mode": "think"},
        {"budget_tokens": 5},
        {"think_top": 5},
        {"score": "paper"},
        {"include": ["status", "reasoning"]},
    ],
)
def test_thinking_is_refused_where_the_scorer_does_not_think(asked: dict[str, Any]) -> None:
    """A wish about thinking, under a rule whose scorer doesn't think, is an error that names the scorer."""
    limits = ControlLimits(max_window=200, max_deadline_s=30.0, scorer="minilm, of kind minilm")
    with pytest.raises(CallerError, match=r"needs a scorer that thinks, which \[minilm, of kind minilm\] does not"):
        check_controls(asked, limits)
    assert check_controls({"instruction": "Find it."}, limits).instruction == "Find it."


def test_a_budget_fits_scorer_and_mode() -> None:
    """More than the scorer may think, or any budget for an answer without thinking, is an error."""
    limits = ControlLimits(max_window=200, max_deadline_s=30.0, max_think_tokens=64)
    assert check_controls({"budget_tokens": 64}, limits).budget_tokens == 64
    with pytest.raises(CallerError, match="must be a whole number from 1 to 64"):
        check_controls({"budget_tokens": 65}, limits)
    cases: list[tuple[dict[str, Any], Mode]] = [
        ({"budget_tokens": 5, "mode": "direct"}, "think"),
        ({"budget_tokens": 5}, "direct"),
    ]
    for asked, mode in cases:
        with pytest.raises(CallerError, match=r"goes with the modes \[think, cascade\]"):
            check_controls(asked, dataclasses.replace(limits, mode=mode))
    check_controls({"budget_tokens": 5, "mode": "cascade"}, dataclasses.replace(limits, mode="direct"))


def test_a_long_value_is_shown_short() -> None:
    """A refusal quotes at most 80 characters of what it refuses."""
    with pytest.raises(CallerError) as refusal:
        check_controls({"method": "x" * 1000}, LIMITS)
    assert str(refusal.value).endswith("was [" + '"' + "x" * 76 + "...]")


@given(st.dictionaries(st.sampled_from(ALLOWED) | st.text(), JSON_VALUES, max_size=3))
def test_any_wish_is_taken_or_refused(asked: dict[str, Any]) -> None:
    """Whatever JSON is asked, there are controls within the limits or a CallerError."""
    body = json.dumps({"ext": {"es_rerank": asked}}).encode()
    found, call = take_controls(call_of(body))
    assert found == asked
    assert call.carrier.request.body == b"{}"
    try:
        controls = check_controls(found, LIMITS)
    except CallerError:
        return
    assert controls.window is None or 1 <= controls.window <= LIMITS.max_window
    assert controls.alpha is None or 0 <= controls.alpha <= 1
    assert controls.deadline_s is None or 0 < controls.deadline_s <= LIMITS.max_deadline_s


# Which requests may ask something of es-rerank


def spelled(text: str, escapes: list[int]) -> bytes:
    """A JSON string with some characters as escapes, in lower-case or upper-case hex digits."""
    forms = ("{}", "\\u{:04x}", "\\u{:04X}")
    pieces = [forms[form].format(ord(letter) if form else letter) for letter, form in zip(text, escapes, strict=False)]
    return ('"' + "".join(pieces) + '"').encode()


def percent_encoded(text: str, escapes: list[int]) -> bytes:
    """A name in a URL, some of its characters percent-encoded."""
    forms = ("{}", "%{:02x}", "%{:02X}")
    return "".join(
        forms[form].format(ord(letter) if form else letter) for letter, form in zip(text, escapes, strict=False)
    ).encode()


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """Mostly the usual value, sometimes one of the others: most requests must ask something, or nothing is compared."""
    return st.sampled_from([usual] * (4 * len(others)) + list(others))


FORMS = st.lists(st.integers(0, 2), min_size=9, max_size=9) | st.just([0] * 9)
VALUES = st.sampled_from([b"{}", b'{"alpha":1}']) | JSON_VALUES.map(lambda value: json.dumps(value).encode())
EXTS = st.builds(
    lambda name, value, rest: b"{" + name + b":" + value + rest + b"}",
    FORMS.map(lambda forms: spelled("es_rerank", forms)),
    VALUES,
    mostly(b"", b',"x":1', b',"x":1,"x":2', b"/**/"),
)
BODIES = st.builds(
    lambda name, ext, rest: b"{" + name + b":" + ext + rest + b"}",
    FORMS.map(lambda forms: spelled("ext", forms)),
    mostly(EXTS, VALUES).flatmap(lambda kind: kind),
    mostly(b"", b',"size":1', b',"a":"\\ud800"'),
)
CODINGS = mostly(b"", b"gzip", b"deflate", b"identity", b"br")
HEADERS = st.sampled_from([b"es-rerank", b"ES-Rerank", b"Es-rerank", b"x-es-rerank"])


def asks(request: Request) -> bool:
    """Whether a request, when it is read, really asks something of es-rerank, allowed or not."""
    call = read_call(request, "notes", max_bytes=10_000)
    try:
        asked, left = take_controls(call)
    except CallerError:
        return True
    return bool(asked) or left != call


def in_coding(body: bytes, coding: bytes) -> bytes:
    """A body in its content coding; in an unknown coding it stays as it is."""
    if coding == b"gzip":
        return gzip.compress(body)
    return zlib.compress(body) if coding == b"deflate" else body


@given(BODIES, CODINGS, mostly(True, False))
def test_a_body_that_asks_is_always_read(body: bytes, coding: bytes, typed: bool) -> None:
    """However a wish is spelt or compressed in a body, the bytes alone never rule it out."""
    headers = ((b"content-encoding", coding),) if coding else ()
    headers = (JSON_HEADER, *headers) if typed else headers
    request = Request(method="POST", target=b"/_search", headers=headers, body=in_coding(body, coding))
    assert may_ask(request) or not asks(request)


@given(
    BODIES,
    mostly("source", "Source", "pretty"),
    FORMS,
    st.sampled_from([b"?", b"?pretty&", b"?a=b;", b"?;", b"?q=a?b&", b"?x=1&y=%20&"]),
    mostly(b"", b"&source=%7B%7D", b";pretty", b"&source_content_type=application/json"),
)
def test_a_url_that_asks_is_always_read(body: bytes, name: str, forms: list[int], before: bytes, behind: bytes) -> None:
    """However the parameter with a body is spelt, and wherever it stands, the URL alone never rules a wish out."""
    target = b"/notes/_search" + before + percent_encoded(name, forms) + b"=" + quote(body, safe="").encode() + behind
    request = Request(method="GET", target=target, headers=())
    assert may_ask(request) or not asks(request)


@given(HEADERS, st.sampled_from([b"off", b"include=status", b"on", b""]), st.sampled_from([None, b"", b"{}"]))
def test_a_header_that_asks_is_always_read(name: bytes, value: bytes, body: bytes | None) -> None:
    """The header counts in any case of its name, and with any value, since a wrong one has to be refused."""
    request = Request(method="POST", target=b"/_search", headers=(JSON_HEADER, (name, value)), body=body)
    assert may_ask(request) == asks(request)


@pytest.mark.parametrize(
    ("body", "target"),
    [
        (b'{"ext":{"es_rerank":{}}}', b"/_search"),
        (b'{"ext":{"es\\u005Frerank":{}}}', b"/_search"),
        (b'{"ext":{"es_rerank":null}}', b"/_search"),
        (b'{"ext":{"es_rerank":{}},"a":1,"a":2}', b"/_search"),
        (None, b"/_search?source=%7B%22ext%22%3A%7B%22es_rerank%22%3A%7B%7D%7D%7D"),
        (None, b"/_search?a=b;s%6Furce=%7B%22ext%22%3A%7B%22es_rerank%22%3A%7B%7D%7D%7D"),
    ],
)
def test_the_searches_that_ask_do_ask(body: bytes | None, target: bytes) -> None:
    """`asks`, with which the tests above compare, is true for searches that do ask."""
    request = Request(method="POST", target=target, headers=(JSON_HEADER,), body=body)
    assert asks(request)
    assert may_ask(request)


@pytest.mark.parametrize(
    "body", [None, b"", b"{}", b'{"query":{"match":{"text":"quick \\"fox\\" \xc3\xa9"}},"ext":{}}']
)
@pytest.mark.parametrize(
    "query",
    [b"", b"?pretty", b"?q=title:quick%20fox&size=3", b"?sort=a%2Cb;from=1", b"?resource=1&source_content_type=x"],
)
def test_a_plain_search_is_known_at_a_look(body: bytes | None, query: bytes) -> None:
    """A search without our word, without an escape and without a body in its URL need not be parsed."""
    headers = (JSON_HEADER, (b"accept", b"*/*"), (b"x-opaque-id", b"7"))
    assert not may_ask(Request(method="POST", target=b"/logs-%2A/_search" + query, headers=headers, body=body))


@given(st.dictionaries(st.text("abé \n", max_size=4), st.text("aé 1:{}_es", max_size=6) | st.integers(), max_size=4))
def test_a_plain_body_is_known_at_a_look(search: dict[str, Any]) -> None:
    """Whatever JSON it is, a body without our word and without an escape need not be parsed."""
    request = Request(
        method="POST",
        target=b"/_search?q=a",
        headers=(JSON_HEADER,),
        body=json.dumps(search, ensure_ascii=False).encode(),
    )
    assert not may_ask(request)


@pytest.mark.parametrize(
    "body",
    [
        b'{"query":{"match":{"text":"es_rerank"}} /* why */}',
        b'{"query":{"match":{"text":"es_rerank \\ud800"}}}',
        b'/* "ext":{"es_rerank":{}} */{"query":{"match":{"text":"\\"es_rerank\\""}}}',
        b'{"query":{"match":{"es_rerank":"\\ud800"}}}',
        b'{"a":1,"a":{"ext":{"es_rerank":{}}}}',
    ],
)
def test_a_text_that_has_our_name_in_it_is_no_wish(body: bytes) -> None:
    """A body that we can't read goes on to the engine where our name is something else in it."""
    call = call_of(body)
    assert call.search is None
    assert take_controls(call) == ({}, call)


def _nothing() -> None:
    pass


def test_our_key_in_a_body_without_room_is_not_called_too_long() -> None:
    """Where memory is full, a search that asks something of us is told so with 503: it may come again."""
    body = b'{"ext":{"es_rerank":{}}'
    with pytest.raises(CallerError, match="max_held_bytes") as refused:
        take_controls(raw_call(LongBody(body, _parts(b"}"), on_head_sent=_nothing, no_room=True), JSON_HEADER))
    assert refused.value.status == 503


@pytest.mark.parametrize("coding", [None, b"gzip"])
def test_our_key_in_a_body_that_is_too_long_is_refused(coding: bytes | None) -> None:
    """Where the beginning that was read has our key, the error says that the body is too long; else it goes on."""
    rest = b',"query":{"match":{"text":"' + b"es_rerank " * MAX_BYTES + b'"}}}'
    for ours, body in ((True, b'{"ext":{"es_rerank":{}}' + rest), (False, b'{"ext":{"other":{}}' + rest)):
        sent: Any = (
            LongBody(body[:200], _parts(body[200:]), on_head_sent=_nothing) if coding is None else gzip.compress(body)
        )
        headers = (JSON_HEADER,) if coding is None else (JSON_HEADER, (b"content-encoding", coding))
        call = raw_call(sent, *headers)
        assert call.search is None
        if ours:
            with pytest.raises(CallerError, match=r"longer than limits\.max_request_bytes"):
                take_controls(call)
        else:
            assert take_controls(call) == ({}, call)


async def _parts(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_a_body_that_is_a_stream_has_to_be_asked_about() -> None:
    """The bytes of a body that is too large to hold can't be searched, so a wish in it is not ruled out."""

    async def stream() -> AsyncIterator[bytes]:
        yield b"{}"

    assert may_ask(Request(method="POST", target=b"/_search", headers=(), body=stream()))
