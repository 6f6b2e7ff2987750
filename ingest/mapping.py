"""The body of an index: settings and mapping. Pure, except that it reads a user's file. Knows no engine."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

import msgspec

from ingest.errors import MappingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BEIR_FIELDS = ("title", "text")
DEFAULT_ANALYZER = "english"
BODY_KEYS = ("settings", "mappings", "aliases")
# A text up to this length is also kept whole, to filter and sort by. Engines use 256 too, without a mapping.
KEYWORD_CHARACTERS = 256


def text_mapping(fields: Sequence[str] = BEIR_FIELDS, *, analyzer: str = DEFAULT_ANALYZER) -> dict[str, Any]:
    """An index body of one shard without replicas, whose `fields` are texts under the analyzer.

    Every other text field of a document gets the same analyzer, and a `.keyword` beside it. No text is taken for a
    date: where the field's next text is not a date, its document would be refused.
    """
    text = {"type": "text", "analyzer": analyzer}
    keyword = {"type": "keyword", "ignore_above": KEYWORD_CHARACTERS}
    other_texts = {"match_mapping_type": "string", "mapping": {**text, "fields": {"keyword": keyword}}}
    return {
        "settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {
            "date_detection": False,
            "dynamic_templates": [{"texts": other_texts}],
            "properties": {field: dict(text) for field in fields},
        },
    }


def read_mapping(file: Path) -> dict[str, Any]:
    """An index body from a JSON file, as `PUT /index` takes it. Raises MappingError."""
    try:
        body = msgspec.json.decode(file.read_bytes().removeprefix(codecs.BOM_UTF8))
    except OSError as error:
        raise MappingError(f"{file}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MappingError(f"{file}: is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise MappingError(f"{file}: must be a JSON object, as `PUT /index` takes it, was {type(body).__name__}")
    unknown = [key for key in body if key not in BODY_KEYS]
    if unknown:
        hint = '; a mapping alone belongs under "mappings"' if "properties" in unknown else ""
        raise MappingError(f"{file}: unknown key {unknown[0]!r}; allowed are {', '.join(BODY_KEYS)}{hint}")
    return body
