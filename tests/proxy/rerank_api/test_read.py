"""How a body becomes a request: each product's keys, and a clear refusal for everything else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from es_rerank.errors import CallerError
from es_rerank.proxy.rerank_api.read import NOT_DONE, WITHOUT_EFFECT
from es_rerank.proxy.rerank_api.shapes import PATH_SHAPES
from tests.proxy.rerank_api.api import API, read

if TYPE_CHECKING:
    from es_rerank.proxy.rerank_api.request import RerankRequest

PATHS = [path.decode() for path in PATH_SHAPES]
ASKED: dict[str, Any] = {"query": "what", "documents": ["a", "b"]}
TEXTS: dict[str, Any] = {"query": "what", "texts": ["a", "b"]}


@pytest.mark.parametrize("path", PATHS)
def test_the_smallest_request_is_enough(path: str) -> None:
    """Query and documents are all that any path needs; everything else has a default."""
    request = read(path, ASKED)
    assert (request.question, request.texts) == ("what", ("a", "b"))
    assert (request.model, request.top, request.raw_scores, request.may_cut) == (API.default, None, False, True)
    assert request.with_documents == (path == "/rerank")
    assert request.warnings == ()


@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        ("/v2/rerank", {"top_n": 1}, {"top": 1}),
        ("/v2/rerank", {"top_n": 0}, {"top": None}),
        ("/v2/rerank", {"top_n": None, "return_documents": None, "model": None, "rank_fields": None}, {"top": None}),
        ("/v2/rerank", {"top_n": 99, "return_documents": True}, {"top": 99, "with_documents": True}),
        ("/v1/rerank", {"top_k": 1, "truncation": False}, {"top": 1, "may_cut": False}),
        ("/v1/rerank", {"top_k": None, "truncation": True}, {"top": None, "may_cut": True}),
        ("/v1/rerank", {"surprise": {"a": [1]}, "priority": 3, "user": "u"}, {"warnings": ()}),
        ("/rerank", {"use_activation": False}, {"raw_scores": True}),
        ("/rerank", {"activation": False}, {"raw_scores": True}),
        ("/rerank", {"return_documents": False}, {"with_documents": False}),
        ("/rerank", {"truncation_side": "right"}, {"warnings": ()}),
    ],
)
def test_each_key_means_what_its_product_says(path: str, more: dict[str, Any], expected: dict[str, Any]) -> None:
    """How many results, with documents or without, on which scale, cut or not; null is as good as absent."""
    request = read(path, {**ASKED, **more})
    assert {name: getattr(request, name) for name in expected} == expected


def test_the_keys_of_text_embeddings_inference() -> None:
    """`texts`, `raw_scores`, `return_text` and `truncate` are read, and a model is not looked at."""
    more = {"raw_scores": True, "return_text": True, "truncate": False, "truncation_direction": "Right", "model": "x"}
    request = read("/rerank", {**TEXTS, **more})
    assert (request.shape, request.model, request.texts) == ("tei", API.default, ("a", "b"))
    assert (request.raw_scores, request.with_documents, request.may_cut) == (True, True, False)


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_limits_of_tokens_are_taken_and_said_to_have_no_effect(name: str) -> None:
    """A limit of tokens changes nothing, and the answer's warning names it."""
    assert name in read("/v2/rerank", {**ASKED, name: 512}).warnings[0]
    assert read("/v2/rerank", {**ASKED, name: None}).warnings == ()


def test_a_model_is_found_by_its_name() -> None:
    """The name that callers send is that of the configuration, and an unknown one is a 404 that names the known."""
    assert read("/v2/rerank", {**ASKED, "model": "thinker"}).model.scorer_name == "llm"
    with pytest.raises(CallerError, match=r"'other' is not served here; known are rerank-v3\.5, thinker") as raised:
        read("/v2/rerank", {**ASKED, "model": "other"})
    assert raised.value.status == 404


@pytest.mark.parametrize(
    ("documents", "fields", "texts"),
    [
        (["a", {"text": "b"}], None, ("a", "b")),
        ([{"title": "t", "text": "x"}], ["title", "text"], ("t\nx",)),
        ([{"text": "x", "title": "t"}], ["title", "text"], ("t\nx",)),
        ([{"a": {"b": ["x", "y"]}}], ["a.b"], ("x y",)),
        ([{"year": 1999, "text": "x"}], ["year"], ("1999",)),
        ([{"title": "t"}], ["title", "text"], ("t",)),
        (["", " \n", {"text": ""}, {"text": None}], None, (None, None, None, None)),
    ],
)
def test_a_document_is_its_text_or_that_of_its_fields(documents: Any, fields: Any, texts: Any) -> None:
    """`rank_fields` are joined as a rule's fields are, `text` counts without it, and a blank document has no text."""
    assert read("/v1/rerank", {"query": "q", "documents": documents, "rank_fields": fields}).texts == texts


REFUSED: list[tuple[Any, str]] = [
    ({}, "documents is missing: a list of at least one document is needed"),
    ({"query": "q"}, "documents is missing: a list of at least one document is needed"),
    ({"documents": ["a"]}, "query is missing: a text is needed"),
    ({**ASKED, "query": " "}, "query must not be empty"),
    ({**ASKED, "query": ["q"]}, 'query must be text, was ["q"]'),
    ({**ASKED, "documents": []}, "documents must not be empty"),
    ({**ASKED, "documents": "a"}, 'documents must be a list, was "a"'),
    ({**ASKED, "documents": ["a", 7]}, "documents[1] must be text or an object, was 7"),
    ({**ASKED, "documents": ["a", None]}, "documents[1] must be text or an object, was null"),
    ({**ASKED, "documents": [{"image": "u"}]}, "documents[0] has no text: it needs one of the fields text"),
    (
        {**ASKED, "rank_fields": ["t", "u"], "documents": [{"text": "x"}]},
        "documents[0] has no text: it needs one of the fields t, u",
    ),
    ({**ASKED, "rank_fields": []}, "rank_fields must be a list of 1 to 100 names, had 0"),
    ({**ASKED, "rank_fields": [1]}, "rank_fields must be a list of 1 to 100 names, was [1]"),
    ({**ASKED, "top_n": -1}, "top_n must be a whole number, 0 or more, was -1"),
    ({**ASKED, "top_n": "2"}, 'top_n must be a whole number, 0 or more, was "2"'),
    ({**ASKED, "top_n": True}, "top_n must be a whole number, 0 or more, was true"),
    ({**ASKED, "return_documents": 1}, "return_documents must be true or false, was 1"),
    ({**ASKED, "model": 1}, "model must be text, was 1"),
    ({**ASKED, "truncation_side": "left"}, "truncation_side must be right, was left: a long text is cut at its end"),
    (b'{"query": "\\ud800", "documents": ["a"]}', 'query must be text, was "\\ud800"'),
    (b'{"query": "q", "documents": ["\\ud800"]}', "documents[0] is no JSON that can be read, or no Unicode text"),
    (b"[]", "the body must be a JSON object"),
    (b"", "the body must be a JSON object"),
    (b"{", "the body must be a JSON object"),
    (b"\xff", "the body must be a JSON object"),
    (b"[" * 5000, "the body must be a JSON object"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), REFUSED)
def test_what_is_wrong_is_refused_with_its_place(body: Any, text: str) -> None:
    """The text names the key, what is allowed, and what it was."""
    with pytest.raises(CallerError) as raised:
        read("/v2/rerank", body)
    assert (raised.value.status, str(raised.value)) == (400, text)


@pytest.mark.parametrize("name", NOT_DONE)
def test_what_no_answer_of_ours_has_is_refused(name: str) -> None:
    """Who asks for more than scores learns at once that it does not come."""
    with pytest.raises(CallerError, match=f"{name} can't be had here"):
        read("/v2/rerank", {**ASKED, name: {"a": 1}})
    assert read("/v2/rerank", {**ASKED, name: False}).warnings == ()


def test_too_many_documents_are_refused() -> None:
    """More than `max_documents` are a 413 that says how many are allowed."""
    with pytest.raises(CallerError, match="documents has 6 documents; at most 5 are allowed") as raised:
        read("/v2/rerank", {**ASKED, "documents": ["a"] * 6})
    assert raised.value.status == 413


def test_texts_are_texts_alone() -> None:
    """text-embeddings-inference knows no objects, and says where one is."""
    with pytest.raises(CallerError, match=r"texts\[1\] must be text, was \{"):
        read("/rerank", {**TEXTS, "texts": ["a", {"text": "b"}]})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "a", "a.b", ""]), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        "query", "documents", "texts", "model", "top_n", "top_k", "rank_fields", "return_documents", "return_text",
        "raw_scores", "truncate", "truncation", "truncation_side", "use_activation", "max_tokens_per_doc", "x",
        "relevant_spans",
    ]
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=40),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(KEYS, VALUES).map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda more, documents, name: json.dumps({**more, "query": "q", name: documents}).encode(),
        st.dictionaries(KEYS, VALUES),
        st.lists(VALUES, min_size=1, max_size=3),
        st.sampled_from(["documents", "texts"]),
    ),
)  # fmt: skip


@given(path=st.sampled_from(PATHS), body=BODIES, cut=st.integers(0, 200))
@example(path="/v1/rerank", body=b'{"documents":["a"],"query":"q","rank_fields":[""]}', cut=200)
@example(
    path="/v1/rerank", body=b'{"documents":[{"a":{"b":1}}],"query":"q","rank_fields":["a.b.c","a..b","\\""]}', cut=200
)
def test_every_body_is_a_request_or_a_clear_refusal(path: str, body: bytes, cut: int) -> None:
    """Whatever is sent, whole or broken off: a request with a text or None for each document, or a 4xx with a text."""
    found: RerankRequest | CallerError
    try:
        found = read(path, body[:cut])
    except CallerError as error:
        found = error
    if isinstance(found, CallerError):
        assert (found.status in (400, 404, 413), bool(str(found))) == (True, True)
        return
    assert len(found.texts) == len(found.documents) > 0
    assert all(text is None or text.strip() for text in found.texts)
