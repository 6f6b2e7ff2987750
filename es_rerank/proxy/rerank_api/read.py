"""Reads the body of a rerank request in any of the shapes. Pure.

Keys that are unknown, or null, count as absent, as they do for most of the products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from es_rerank.errors import CallerError
from es_rerank.proxy.rerank_api.request import RerankRequest, first_byte
from es_rerank.rawjson import JSON_BLANKS, RAW_LIST, RAW_OBJECT
from es_rerank.texts import TextSpec, texts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from es_rerank.models import Model, RerankApi
    from es_rerank.proxy.rerank_api.shapes import Shape
    from es_rerank.rawjson import RawObject

Value = TypeVar("Value")
SHOWN_BYTES = 60
DEFAULT_FIELDS = ("text",)
MAX_RANK_FIELDS = 100
# A scorer reads as much as its own settings say; the proxy counts no tokens.
WITHOUT_EFFECT = ("max_tokens_per_doc", "max_chunks_per_doc", "max_tokens_per_query", "truncate_prompt_tokens")
# Who asks for these waits for something that no answer of ours has.
NOT_DONE = ("relevant_spans", "return_embeddings")
SIDES = ("truncation_side", "truncation_direction")


def read_request(shape: Shape, members: RawObject, api: RerankApi) -> RerankRequest:
    """The request with these members. Raises CallerError: 400, 404 for an unknown model, 413 for too many documents."""
    fields = _Fields(members)
    fields.refuse_what_is_not_done()
    tei = shape == "tei"
    documents = fields.documents("texts" if tei else "documents", api.settings.max_documents)
    names = fields.names("rank_fields")
    top = None if tei else fields.count("top_k" if shape == "voyage" else "top_n")
    cutting = {"tei": "truncate", "voyage": "truncation"}.get(shape)
    return RerankRequest(
        shape=shape,
        model=api.default if tei else _model(fields.text("model"), api),
        question=fields.question(),
        documents=documents,
        texts=_texts("texts" if tei else "documents", documents, names, plain=tei),
        top=top or None,  # 0 is all, as for vLLM
        with_documents=fields.flag("return_text" if tei else "return_documents", default=shape == "vllm"),
        raw_scores=fields.flag("raw_scores", default=False) if tei else not fields.activated(),
        may_cut=cutting is None or fields.flag(cutting, default=True),
        warnings=fields.without_effect(),
    )


def open_members(body: bytes) -> RawObject:
    """The members of a body. Raises CallerError for anything but a JSON object."""
    try:
        return RAW_OBJECT.decode(body)
    except (ValueError, RecursionError):
        raise CallerError("the body must be a JSON object") from None


class _Fields:
    """The members of a body, each read as what it has to be. All methods raise CallerError."""

    def __init__(self, members: Mapping[str, msgspec.Raw]) -> None:
        self._members = {name: raw for name, raw in members.items() if not _is_null(raw)}

    def text(self, name: str) -> str | None:
        return self._read(name, str, "text")

    def question(self) -> str:
        found = self.text("query")
        if found is None:
            raise CallerError("query is missing: a text is needed")
        if not found.strip():
            raise CallerError("query must not be empty")
        return found

    def flag(self, name: str, *, default: bool) -> bool:
        found = self._read(name, bool, "true or false")
        return default if found is None else found

    def activated(self) -> bool:
        """Whether scores are wanted as 0 to 1, under the newer or the older of vLLM's names."""
        return self.flag("use_activation", default=True) and self.flag("activation", default=True)

    def count(self, name: str) -> int | None:
        found = self._read(name, int, "a whole number, 0 or more")
        if found is not None and found < 0:
            raise CallerError(f"{name} must be a whole number, 0 or more, was {found}")
        return found

    def names(self, name: str) -> tuple[str, ...]:
        wanted = f"a list of 1 to {MAX_RANK_FIELDS} names"
        found = self._read(name, tuple[str, ...], wanted)
        if found is not None and not 0 < len(found) <= MAX_RANK_FIELDS:
            raise CallerError(f"{name} must be {wanted}, had {len(found)}")
        return found or DEFAULT_FIELDS

    def documents(self, name: str, most: int) -> tuple[msgspec.Raw, ...]:
        raw = self._members.get(name)
        if raw is None:
            raise CallerError(f"{name} is missing: a list of at least one document is needed")
        try:
            found = RAW_LIST.decode(raw)
        except (ValueError, RecursionError):
            raise CallerError(f"{name} must be a list, was {_shown(raw)}") from None
        if not found:
            raise CallerError(f"{name} must not be empty")
        if len(found) > most:
            raise CallerError(f"{name} has {len(found)} documents; at most {most} are allowed", status=413)
        return tuple(found)

    def refuse_what_is_not_done(self) -> None:
        for name in NOT_DONE:
            if self._read(name, Any, "JSON") not in (None, False):
                raise CallerError(f"{name} can't be had here: es-rerank answers scores alone")
        for name in SIDES:
            side = self.text(name)
            if side is not None and side.lower() != "right":
                raise CallerError(f"{name} must be right, was {side[:SHOWN_BYTES]}: a long text is cut at its end")

    def without_effect(self) -> tuple[str, ...]:
        asked = [name for name in WITHOUT_EFFECT if name in self._members]
        return tuple(f"{name} has no effect: the scorer reads as much as its own settings say" for name in asked)

    def _read(self, name: str, kind: type[Value] | Any, wanted: str) -> Value | None:
        """A member as a value of this type; None where it is absent or null."""
        raw = self._members.get(name)
        if raw is None:
            return None
        try:
            found: Value = msgspec.json.decode(raw, type=kind)
        except (ValueError, RecursionError):
            raise CallerError(f"{name} must be {wanted}, was {_shown(raw)}") from None
        return found


def _is_null(raw: msgspec.Raw) -> bool:
    return len(memoryview(raw)) == len(b"null") and bytes(raw) == b"null"


def _model(name: str | None, api: RerankApi) -> Model:
    if name is None:
        return api.default
    if name not in api.models:
        known = ", ".join(api.models)
        raise CallerError(f"model {name[:SHOWN_BYTES]!r} is not served here; known are {known}", status=404)
    return api.models[name]


def _texts(
    place: str, documents: Sequence[msgspec.Raw], fields: tuple[str, ...], *, plain: bool
) -> tuple[str | None, ...]:
    """The text of each document: itself, or that of its fields, joined as the fields of a rule are."""
    spec = TextSpec(fields=fields)
    return tuple(_text(f"{place}[{number}]", raw, spec, plain=plain) for number, raw in enumerate(documents))


def _text(place: str, raw: msgspec.Raw, spec: TextSpec, *, plain: bool) -> str | None:
    """A document's text, None where it is blank. Raises CallerError for a document that can't have any."""
    first = first_byte(raw)
    try:
        if first == b'"':
            text = msgspec.json.decode(raw, type=str)
            return text if text.strip() else None
        if first == b"{" and not plain:
            found = texts_of([raw], spec).texts[0]
            if found is None and not _has_any(RAW_OBJECT.decode(raw), spec.names):
                raise CallerError(f"{place} has no text: it needs one of the fields {', '.join(spec.names)}")
            return found
    except (ValueError, RecursionError):
        raise CallerError(f"{place} is no JSON that can be read, or no Unicode text") from None
    raise CallerError(f"{place} must be text{'' if plain else ' or an object'}, was {_shown(raw)}")


def _has_any(members: RawObject, names: Sequence[str]) -> bool:
    return any(name in members or name.partition(".")[0] in members for name in names)


def _shown(raw: msgspec.Raw) -> str:
    """The beginning of a value, for an error."""
    text = bytes(raw).strip(JSON_BLANKS)
    shown = text[:SHOWN_BYTES].decode("utf-8", "replace")
    return shown if len(text) <= SHOWN_BYTES else f"{shown}..."
