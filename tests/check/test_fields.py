"""What mappings say of a rule's fields, and that real documents agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from es_rerank.check.fields import doubt_about_field
from es_rerank.texts import TextSpec, texts_of
from tests.conftest import send_json

if TYPE_CHECKING:
    from tests.conftest import Engine

TEXT = {"type": "text"}
NAME = {"type": "text", "copy_to": "all", "fields": {"raw": {"type": "keyword"}}}
PROPERTIES: dict[str, Any] = {
    "title": {"type": "text", "copy_to": ["all"], "fields": {"raw": {"type": "keyword"}}},
    "all": TEXT,
    "year": {"type": "integer"},
    "alias": {"type": "alias", "path": "author.name"},
    "author": {"properties": {"name": NAME, "born": {"type": "date"}}},
    "parts": {"type": "nested", "properties": {"text": TEXT}},
    "anything": {"type": "object", "enabled": False},
    "secret": TEXT,
    "tag": {"type": "keyword", "ignore_above": 2},
}  # fmt: skip
MAPPING: dict[str, Any] = {"properties": PROPERTIES, "_source": {"excludes": ["secret", "au*.born"]}}
DOCUMENT = {
    "title": "A robot in love",
    "year": 2001,
    "author": {"name": "Ann", "born": "1970-01-01"},
    "parts": [{"text": "one"}, {"text": "two"}],
    "anything": {"at": {"all": "deep"}},
    "secret": "kept elsewhere",
    "tag": "long word",
}
IN_SOURCE = ("title", "author", "author.name", "parts", "parts.text", "anything", "anything.at.all", "tag")
NOT_IN_SOURCE = {
    "title.raw": "is a multi-field, and `_source` has only the field itself: name 'title' instead",
    "author.name.raw": "is a multi-field, and `_source` has only the field itself: name 'author.name' instead",
    "alias": "is an alias, and `_source` has only the field itself: name 'author.name' instead",
    "all": "is filled by copy_to, and `_source` has only what is copied: name 'title', 'author.name' too",
    "secret": "is left out of `_source` by the mapping",
    "author.born": "is left out of `_source` by the mapping",
    "gone": "is not in the mapping",
    "author.gone": "is not in the mapping",
    "title.gone": "is not in the mapping",
}


@pytest.mark.parametrize("name", IN_SOURCE)
def test_a_field_with_text_raises_no_doubt(name: str) -> None:
    """Text, objects and keywords are read as the rule names them, however deep."""
    assert doubt_about_field(MAPPING, name) == ""


@pytest.mark.parametrize(("name", "doubt"), NOT_IN_SOURCE.items())
def test_a_field_that_source_does_not_have_is_told(name: str, doubt: str) -> None:
    """A name that a search may use, but that `_source` does not have, is told with the one to use."""
    assert doubt_about_field(MAPPING, name) == doubt


@pytest.mark.parametrize(
    ("mapping", "name", "doubt"),
    [
        (MAPPING, "year", "is of type integer, which is not text"),
        ({"properties": {"v": {"type": "dense_vector"}}}, "v", "is of type dense_vector, which is not text"),
        ({"properties": {"t": TEXT}, "_source": {"enabled": False}}, "t", "the index keeps no `_source`, from which"),
        ({"properties": {"t": TEXT}, "_source": {"includes": ["u.*"]}}, "t", "is left out of `_source` by the mapping"),
        ({"properties": {"t": TEXT}, "_source": {"includes": ["t"]}}, "t", ""),
        ({"properties": {"a.b": TEXT}}, "a.b", ""),
        ({"runtime": {"r": {"type": "keyword"}}}, "r", "is a runtime field, which `_source` does not have"),
        ({}, "t", "is not in the mapping"),
        ({"properties": {"f": {"type": "flattened"}}}, "f.a.b", ""),
    ],
)
def test_other_doubts(mapping: dict[str, Any], name: str, doubt: str) -> None:
    """Types that are not text, an index without `_source`, runtime fields and empty mappings are told."""
    said = doubt_about_field(mapping, name)
    assert said.startswith(doubt) if doubt else said == ""


@pytest.mark.engines
def test_real_documents_agree(real_engine: Engine) -> None:
    """On real engines a document has text exactly in the fields of which nothing is said."""
    url = f"{real_engine.url}/check-fields"
    settings = {"number_of_shards": 1, "number_of_replicas": 0}
    send_json(url, {"settings": settings, "mappings": MAPPING}, method="PUT")
    send_json(f"{url}/_doc/1?refresh=true", DOCUMENT, method="PUT")
    mapping = send_json(f"{url}/_mapping")["check-fields"]["mappings"]
    [hit] = send_json(f"{url}/_search", {"query": {"match_all": {}}}, method="POST")["hits"]["hits"]
    source = msgspec.Raw(msgspec.json.encode(hit["_source"]))
    for name in (*IN_SOURCE, *NOT_IN_SOURCE):
        [text] = texts_of([source], TextSpec(fields=(name,))).texts
        assert (text is not None) == (doubt_about_field(mapping, name) == ""), name
