"""The index body: the default one, and a user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest.errors import MappingError
from ingest.mapping import read_mapping, text_mapping

if TYPE_CHECKING:
    from pathlib import Path


def test_the_fields_are_texts_under_the_analyzer() -> None:
    """The named fields and every other text field have the analyzer, in one shard without replicas."""
    body = text_mapping(("name", "text"), analyzer="german")
    assert body["settings"] == {"number_of_shards": 1, "number_of_replicas": 0}
    assert body["mappings"]["properties"] == {
        "name": {"type": "text", "analyzer": "german"},
        "text": {"type": "text", "analyzer": "german"},
    }
    [template] = body["mappings"]["dynamic_templates"]
    assert template["texts"]["mapping"]["analyzer"] == "german"


def test_a_body_of_ones_own_is_read_as_it_is(tmp_path: Path) -> None:
    """A JSON file with an index body is what the index is made with."""
    file = tmp_path / "body.json"
    file.write_text('{"mappings": {"properties": {"n": {"type": "long"}}}, "settings": {}, "aliases": {}}')
    assert read_mapping(file) == {"mappings": {"properties": {"n": {"type": "long"}}}, "settings": {}, "aliases": {}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON: Input data was truncated"),
        ("[]", "must be a JSON object, as `PUT /index` takes it, was list"),
        ('{"mapping": {}}', "unknown key 'mapping'; allowed are settings, mappings, aliases"),
        ('{"properties": {}}', "unknown key 'properties'; .*; a mapping alone belongs under \"mappings\""),
    ],
)
def test_a_wrong_body_is_named(tmp_path: Path, text: str, problem: str) -> None:
    """A file that is not an index body is an error that says what one is."""
    file = tmp_path / "body.json"
    file.write_text(text)
    with pytest.raises(MappingError, match=f"body.json: {problem}"):
        read_mapping(file)


def test_a_missing_body_is_named(tmp_path: Path) -> None:
    """A file that is not there is an error that names it."""
    with pytest.raises(MappingError, match=r"none\.json: cannot be read: No such file"):
        read_mapping(tmp_path / "none.json")
