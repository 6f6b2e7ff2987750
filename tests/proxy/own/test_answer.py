"""Answers come in the form that was asked for, and so do errors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.errors import CallerError
from es_rerank.proxy.own.answer import write_answer, write_error
from es_rerank.proxy.own.call import OwnAnswer, Table
from es_rerank.records import Request

TABLE = Table(columns=("name", "hits"), rows=[("no", 3)])
TEXT = b"text/plain; charset=UTF-8"
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # What no client may send inside JSON text: half a surrogate pair.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=8,
)


def asking(accept: bytes = b"") -> Request:
    """A request that accepts this."""
    return Request(method="GET", target=b"/_es_rerank", headers=((b"accept", accept),) if accept else ())


def written(value: Any, accept: bytes = b"", **parameters: str) -> tuple[bytes, bytes]:
    """Media type and body of an answer."""
    reply = write_answer(asking(accept), parameters, OwnAnswer(value=value), None)
    return dict(reply.headers)[b"content-type"], reply.body


@pytest.mark.parametrize(
    ("accept", "parameters", "expected"),
    [
        (b"", {}, (b"application/json", b'{"a":1.0,"b":[]}')),
        (b"*/*", {"human": "", "error_trace": "true"}, (b"application/json", b'{"a":1.0,"b":[]}')),
        (b"", {"pretty": ""}, (b"application/json", b'{\n  "a" : 1.0,\n  "b" : [ ]\n}\n')),
        (b"", {"filter_path": "a"}, (b"application/json", b'{"a":1.0}')),
        (b"", {"format": "yaml"}, (b"application/yaml", b"---\na: 1.0\nb: []\n")),
        (b"application/yaml", {"filter_path": "-b"}, (b"application/yaml", b"---\na: 1.0\n")),
        (b"application/yaml", {"format": "json"}, (b"application/json", b'{"a":1.0,"b":[]}')),
        (
            b"application/vnd.elasticsearch+yaml;compatible-with=8",
            {},
            (b"application/vnd.elasticsearch+yaml;compatible-with=8", b"---\na: 1.0\nb: []\n"),
        ),
        (
            b"application/vnd.elasticsearch+json; compatible-with=9",
            {},
            (b"application/vnd.elasticsearch+json; compatible-with=9", b'{"a":1.0,"b":[]}'),
        ),
    ],
)
def test_a_value_is_json_or_yaml(accept: bytes, parameters: dict[str, str], expected: tuple[bytes, bytes]) -> None:
    """The parameter goes before the header, and a compatible media type comes back as it was asked for."""
    assert written({"a": 1.0, "b": []}, accept, **parameters) == expected


@pytest.mark.parametrize(
    ("accept", "parameters", "expected"),
    [
        (b"", {}, (TEXT, b"no 3\n")),
        (b"", {"v": "", "pretty": "true"}, (TEXT, b"name hits\nno      3\n")),
        (b"*/*", {"v": "false"}, (TEXT, b"no 3\n")),
        (b"text/plain,application/json", {}, (TEXT, b"no 3\n")),
        (b"application/json", {}, (b"application/json", b'[{"name":"no","hits":"3"}]')),
        (b"application/json", {"format": "text"}, (TEXT, b"no 3\n")),
        (b"", {"format": "yaml"}, (b"application/yaml", b"---\n- name: 'no'\n  hits: '3'\n")),
        (b"application/json", {"help": ""}, (TEXT, b"name |  | \nhits |  | \n")),
    ],
)
def test_a_table_is_text_unless_another_form_is_asked_for(
    accept: bytes, parameters: dict[str, str], expected: tuple[bytes, bytes]
) -> None:
    """As in the engines' `_cat`; of several media types the first one counts."""
    assert written(TABLE, accept, **parameters) == expected


@pytest.mark.parametrize(("value", "allowed"), [({}, "json, yaml"), (TABLE, "text, json, yaml")])
def test_another_format_names_those_that_there_are(value: Any, allowed: str) -> None:
    """A form that we can't write is refused."""
    with pytest.raises(CallerError, match=rf"\[format\] must be one of \[{allowed}\], was \[cbor\]"):
        written(value, format="cbor")


@given(ANY_JSON)
def test_yaml_reads_back_as_what_json_says(value: Any) -> None:
    """Words that YAML takes for something else, line ends and any Unicode come back as they were."""
    kind, body = written({"value": value}, format="yaml")
    assert kind == b"application/yaml"
    assert body.startswith(b"---\n")
    assert yaml.safe_load(body) == msgspec.json.decode(msgspec.json.encode({"value": value}))


def test_an_error_has_the_form_of_the_answer() -> None:
    """`pretty` and YAML hold for errors too, a filter does not, and with an unknown format an error is JSON."""
    for parameters, beginning in (
        ({}, b'{"error":{'),
        ({"pretty": "", "filter_path": "status"}, b'{\n  "error" : {\n'),
        ({"format": "yaml"}, b"---\nerror:\n"),
        ({"format": "cbor"}, b'{"error":{'),
    ):
        reply = write_error(asking(), parameters, 400, "illegal_argument_exception", "no", b"Elasticsearch")
        assert (reply.status, reply.body.startswith(beginning)) == (400, True)
        assert (b"x-elastic-product", b"Elasticsearch") in reply.headers


def test_a_warning_stays_one_header() -> None:
    """Quotation marks and line ends of a warning don't end it, and it is ASCII."""
    reply = write_answer(asking(), {}, OwnAnswer(value={}, warnings=('say "é"\r\nx: y',)), None)
    assert (b"warning", b'299 es-rerank "say \\"?\\" x: y"') in reply.headers
