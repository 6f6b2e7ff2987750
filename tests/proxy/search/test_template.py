"""Search templates: what is sent to have one rendered, what is read of it, and what is sent for its search."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.proxy.search.call import read_call
from es_rerank.proxy.search.control import take_controls
from es_rerank.proxy.search.many import read_many
from es_rerank.proxy.search.query_string import parse_query
from es_rerank.proxy.search.template import VERBATIM, read_rendered, rendered_call, rendering_of
from es_rerank.records import Request
from tests.proxy.search.calls import FOX, JSON_HEADER, template_call

if TYPE_CHECKING:
    from es_rerank.proxy.search.call import SearchCall

TEMPLATE = {"source": {"query": {"match": {"text": "{{words}}"}}}, "params": {"words": "fox"}, "explain": True}
SEARCH = b'{ "query": {"match": {"text": "quick fox"}}, "size" : 1.0e1, "boost":1.50}'
RENDERED = b'{"template_output":%b}'


def made(template: Any = None, search: bytes = SEARCH, **named: Any) -> SearchCall:
    """The call of the search that is made of a template."""
    return rendered_call(template_call(TEMPLATE if template is None else template, **named), {}, search)


def said(request: Request) -> dict[str, Any]:
    """The body of a request."""
    assert isinstance(request.body, bytes)
    body: dict[str, Any] = json.loads(request.body)
    return body


def test_a_template_is_rendered_as_the_caller_wrote_it() -> None:
    """Its body goes as it is, with the caller's own headers, and JSON comes back without a coding."""
    headers = (
        JSON_HEADER, (b"Authorization", b"x"), (b"Accept-Encoding", b"br"), (b"Accept", b"application/yaml"),
        (b"Content-Length", b"9"), (b"X-Opaque-Id", b"7"),
    )  # fmt: skip
    body = b'{"id": "films" , "params":{"n":1.0}}'
    request = Request(method="GET", target=b"/notes/_search/template?pretty", headers=headers, body=body)
    asked = rendering_of(read_call(request, "notes", max_bytes=1_000, template=True))
    assert (asked.method, asked.target, asked.body) == ("POST", b"/_render/template", body)
    kept = ((b"Authorization", b"x"), (b"X-Opaque-Id", b"7"))
    assert asked.headers == (*kept, (b"accept", b"application/json"), JSON_HEADER)


@given(st.binary(max_size=40) | st.sampled_from([b"{}", b'{"a":1},"b":{}', b'{"a":1},"template_output":{}', b"}"]))
def test_whatever_is_rendered_is_read_whole(output: bytes) -> None:
    """Text that would end the engine's answer early is not taken for something else."""
    assert read_rendered(RENDERED % output) == output
    assert read_rendered(b' {\n "template_output" : ' + output + b"}\n") == b" " + output


@pytest.mark.parametrize("body", [b"", b"{}", b'{"error":{}}', b'{"template_output":1', b'[{"template_output":1}]'])
def test_another_answer_has_nothing_rendered(body: bytes) -> None:
    """One that does not begin and end as the engines' answers do."""
    assert read_rendered(body) is None


@pytest.mark.parametrize("search", [b"[]", b'{"a":1},"b":{}', b"", b'{"a":1,"a":2}', b"\xff", b"{} more"])
def test_what_is_no_search_can_not_be_read(search: bytes) -> None:
    """The engine judges it."""
    assert made(search=search).search is None


def test_the_clients_own_request_goes_through_as_it_came() -> None:
    """Also where its answer is to be read."""
    call = template_call(TEMPLATE)
    assert made().carrier.request == call.carrier.request
    assert made().carrier.asking(first=None, filtered=True) == call.carrier.asking(first=None, filtered=True)


def test_the_window_is_asked_for_by_the_same_endpoint() -> None:
    """The search with its own page is a parameter, to the letter; all else that the request says stays."""
    asked = made(target=b"/notes/_search/template?routing=x").carrier.asking(first=100, filtered=False)
    assert (asked.method, asked.target) == ("POST", b"/notes/_search/template?routing=x")
    body = said(asked)
    search = body.pop("params")["search"]
    assert body == {"source": VERBATIM, "explain": True}
    assert search == '{"query":{"match": {"text": "quick fox"}},"size":100,"boost":1.50,"from":0}'


@pytest.mark.parametrize("maker", ["id", "source", "inline", "template"])
def test_the_template_itself_is_not_asked_for_again(maker: str) -> None:
    """Under all names that it has."""
    body = said(made({maker: "x", "profile": False}).carrier.asking(first=3, filtered=False))
    assert body.keys() == {"source", "params", "profile"}


def test_a_wider_source_is_asked_for_in_the_search() -> None:
    """The URL of a template says nothing of `_source`."""
    asked = made().carrier.asking(first=3, filtered=False, source={"_source_includes": "a,b"})
    assert json.loads(said(asked)["params"]["search"])["_source"] == {"includes": ["a", "b"]}
    assert asked.target == b"/notes/_search/template"


def test_a_search_of_a_template_in_the_url_has_a_body() -> None:
    """A URL has no room for the search; what passes keeps its form."""
    target = b"/notes/_search/template?source=%7B%22id%22%3A%22x%22%7D&source_content_type=application/json&routing=x"
    request = Request(method="GET", target=target, headers=((b"x-opaque-id", b"7"),))
    call = rendered_call(read_call(request, "notes", max_bytes=1_000, template=True), {}, SEARCH)
    assert call.carrier.request == request
    asked = call.carrier.asking(first=3, filtered=False)
    assert asked.target == b"/notes/_search/template?routing=x"
    assert asked.headers == ((b"x-opaque-id", b"7"), JSON_HEADER)
    assert said(asked)["source"] == VERBATIM


def test_a_wish_in_the_search_is_not_sent_at_all() -> None:
    """The template would make it again, so that is not sent any more; the request's own wishes win."""
    search = json.dumps({"query": FOX, "ext": {"es_rerank": {"alpha": 0.1, "window": 7}}}).encode()
    call = rendered_call(template_call(TEMPLATE), {"alpha": 0.9}, search)
    asked, left = take_controls(call)
    assert asked == {"alpha": 0.9, "window": 7}
    body = said(left.carrier.request)
    assert body == {
        "source": VERBATIM,
        "params": {"search": f'{{"query":{json.dumps(FOX)}}}'},
        "explain": True,
    }


def test_a_template_among_many_keeps_its_line() -> None:
    """The window takes the place of its own line, which stays one line; the header line and the target stay."""
    lines = b'{"index":"notes"}\n%b\n' % json.dumps(TEMPLATE).encode()
    request = Request(method="POST", target=b"/_msearch/template?typed_keys", headers=(JSON_HEADER,), body=lines)
    read = read_many(request, "", max_bytes=1_000, template=True)
    assert isinstance(read, tuple)
    call = rendered_call(read[1][0], {}, b'{\n"query": {}\n}')
    assert call.carrier.request.body == lines
    asked = call.carrier.asking(first=3, filtered=False)
    assert isinstance(asked.body, bytes)
    header, line, rest = asked.body.split(b"\n")
    assert (asked.target, header, rest) == (request.target, b'{"index":"notes"}', b"")
    assert json.loads(json.loads(line)["params"]["search"]) == {"query": {}, "from": 0, "size": 3}


def test_what_the_url_says_of_a_search_is_void() -> None:
    """As the engines have it: the search that is made takes the place of that; how the answer is written holds."""
    target = b"/notes/_search/template?q=x&size=3&_source=a&sort=b&explain=true&filter_path=a&pretty&scroll=1m"
    assert parse_query(target).keys() != made(target=target).parameters.keys()
    assert made(target=target).parameters == {"filter_path": "a", "pretty": "", "scroll": "1m"}
