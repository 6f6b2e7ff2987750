"""The text of a document: which of its fields are read, and how they become one text. Pure.

Used wherever a document is scored, so that the same document is the same text and finds the same score in the cache.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from es_rerank.rawjson import RAW_OBJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from es_rerank.rawjson import RawObject

    FieldDecoder = msgspec.json.Decoder[msgspec.Struct]

# Field names that `msgspec` accepts for the members of a struct.
PLAIN_NAME = re.compile(r"[^\"\\\x00-\x1f]*")
TEMPLATE_FIELD = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class TextSpec:
    """What text is scored: `fields` joined by line ends, or a `template` with fields in braces. Only one is set."""

    fields: tuple[str, ...] = ()
    template: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that the text is made of, each once, in order of use."""
        return tuple(dict.fromkeys(self.fields or TEMPLATE_FIELD.findall(self.template)))


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of some documents, in their order, None for one without; and which fields are missing how often.

    `missing_fields` has, by name, in how many documents a field has no value that can be read, where that is not 0.
    """

    texts: tuple[str | None, ...]
    missing_fields: dict[str, int]


def texts_of(documents: Iterable[msgspec.Raw | None], spec: TextSpec) -> Texts:
    """The text of each document (a JSON object), None for one that is missing, unreadable or without text.

    Values of a list are joined by a blank, objects give their values in the order of their names (engines change the
    order in a document), null and missing are equal. What can't be read spoils only a text that it is part of.
    """
    names = spec.names
    decoder = _decoder(names)
    texts: list[str | None] = []
    missing = dict.fromkeys(names, 0)
    for document in documents:
        values = [""] * len(names)
        if document is not None:
            with suppress(ValueError, RecursionError):  # not Unicode, or nested too deep: only this one has no text
                values = _values(document, names, decoder)
        texts.append(_compose(values, names, spec))
        for name, value in zip(names, values, strict=True):
            if not value or value.isspace():
                missing[name] += 1
    return Texts(texts=tuple(texts), missing_fields={name: count for name, count in missing.items() if count})


def _values(document: msgspec.Raw, names: tuple[str, ...], decoder: FieldDecoder | None) -> list[str]:
    """Each named field's value as text, parallel to the names."""
    found: Sequence[Any] | None = None
    if decoder is not None:
        try:
            found = msgspec.structs.astuple(decoder.decode(document))
        except (ValueError, RecursionError):
            found = None  # something is wrong with some field, perhaps with none of these
    if found is None:
        members = RAW_OBJECT.decode(document)
        found = [_find(members, name) for name in names]
    return [value if isinstance(value, str) else " ".join(_leaves(value)) for value in found]


def _compose(values: list[str], names: tuple[str, ...], spec: TextSpec) -> str | None:
    """One text from the fields' values, which are parallel to their names; None if all of them are blank."""
    said = [value for value in values if value and not value.isspace()]
    if not said:
        return None
    if names == spec.fields:
        return "\n".join(said)
    value_of = dict(zip(names, values, strict=True))
    if spec.fields:  # some field is named twice, to weigh more
        return "\n".join([value_of[name] for name in spec.fields if value_of[name] in said])
    return TEMPLATE_FIELD.sub(lambda field: value_of[field[1]], spec.template)


@lru_cache(maxsize=256)
def _decoder(names: tuple[str, ...]) -> FieldDecoder | None:
    """The decoder that reads only these fields; None if a name may lead into an object, or msgspec can't take it."""
    if any("." in name or not PLAIN_NAME.fullmatch(name) for name in names):
        return None
    members = [(f"field_{place}", Any, None) for place in range(len(names))]
    rename = {f"field_{place}": name for place, name in enumerate(names)}
    return msgspec.json.Decoder(msgspec.defstruct("Fields", members, rename=rename))


def _find(members: RawObject, name: str) -> Any:
    """A field's value, by its whole name or along its dots, through lists of objects too; None if it is missing."""
    if name in members:
        return msgspec.json.decode(members[name])
    for head, rest in _splits(name):
        if head in members:
            return _descend(msgspec.json.decode(members[head]), rest)
    return None


def _descend(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_descend(item, name) for item in value]
    if not isinstance(value, dict):
        return None
    if name in value:
        return value[name]
    return next((_descend(value[head], rest) for head, rest in _splits(name) if head in value), None)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """A dotted name split in two, once at each of its dots."""
    parts = name.split(".")
    return ((".".join(parts[:end]), ".".join(parts[end:])) for end in range(1, len(parts)))


def _leaves(value: Any) -> list[str]:
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    if isinstance(value, dict):
        return [leaf for _, item in sorted(value.items()) for leaf in _leaves(item)]
    if value is None or value == "":
        return []
    return [value if isinstance(value, str) else msgspec.json.encode(value).decode()]
