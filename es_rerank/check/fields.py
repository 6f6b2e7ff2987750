"""What an index's mapping says of a rule's field: whether its text is in `_source`, from where it is read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Fields = Mapping[str, Any]

TEXT_TYPES = frozenset(
    {
        "annotated_text", "completion", "flat_object", "flattened", "icu_collation_keyword", "keyword",
        "match_only_text", "nested", "object", "search_as_you_type", "semantic_text", "text", "wildcard",
    }
)  # fmt: skip
OPEN_TYPES = ("flat_object", "flattened", "object")
"""Types whose members the mapping need not list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A field in a mapping, and the field whose multi-field it is, if it is one."""

    entry: Fields
    multi_field_of: str = ""


def doubt_about_field(mapping: Fields, name: str) -> str:
    """Why a field's text is not read as its name promises; '' where the mapping gives no reason.

    `mapping` is an index's `mappings`. A field that the mapping doesn't know can still be in documents.
    """
    return next(_doubts(mapping, name), "")


def _doubts(mapping: Fields, name: str) -> Iterator[str]:
    """Every doubt, the first one first."""
    fields, source = mapping.get("properties") or {}, mapping.get("_source") or {}
    if source.get("enabled") is False:
        yield "the index keeps no `_source`, from which text is read"
    found = _find(fields, name)
    if found is None:
        runtime = name in (mapping.get("runtime") or {})
        yield "is a runtime field, which `_source` does not have" if runtime else "is not in the mapping"
        return
    if found.multi_field_of:
        yield f"is a multi-field, and `_source` has only the field itself: name {found.multi_field_of!r} instead"
    kind = found.entry.get("type", "object")
    if kind == "alias":
        yield f"is an alias, and `_source` has only the field itself: name {found.entry.get('path')!r} instead"
    copied = [field for field, entry in _all(fields) if name in _listed(entry.get("copy_to"))]
    if copied:
        yield f"is filled by copy_to, and `_source` has only what is copied: name {', '.join(map(repr, copied))} too"
    if _left_out(source, name):
        yield "is left out of `_source` by the mapping"
    if kind not in TEXT_TYPES:
        yield f"is of type {kind}, which is not text"


def _find(fields: Fields, name: str) -> _Found | None:
    """The field, by its whole name or along its dots."""
    if name in fields:
        return _Found(entry=fields[name])
    parts = name.split(".")
    for end in range(1, len(parts)):
        head, rest = ".".join(parts[:end]), ".".join(parts[end:])
        entry = fields.get(head)
        if entry is None:
            continue
        if rest in (entry.get("fields") or {}):
            return _Found(entry=entry["fields"][rest], multi_field_of=head)
        inner = _find(entry.get("properties") or {}, rest)
        if inner is not None:
            multi_field_of = f"{head}.{inner.multi_field_of}" if inner.multi_field_of else ""
            return _Found(entry=inner.entry, multi_field_of=multi_field_of)
        if entry.get("type", "object") in OPEN_TYPES and not entry.get("properties"):
            return _Found(entry=entry)
    return None


def _all(fields: Fields, prefix: str = "") -> Iterator[tuple[str, Fields]]:
    """Every field with its whole name."""
    for name, entry in fields.items():
        yield f"{prefix}{name}", entry
        yield from _all(entry.get("properties") or {}, f"{prefix}{name}.")


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _left_out(source: Fields, name: str) -> bool:
    """Whether the mapping's `_source` has includes without the field, or excludes with it."""
    includes, excludes = source.get("includes") or [], source.get("excludes") or []
    return _is_under(name, excludes) or (bool(includes) and not _is_under(name, includes))


def _is_under(name: str, patterns: list[str]) -> bool:
    """Whether a pattern matches the field or an object that it is in."""
    parts = name.split(".")
    names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return any(fnmatchcase(one, pattern) for one in names for pattern in patterns)
