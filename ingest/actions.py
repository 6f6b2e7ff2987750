"""The action lines of a bulk body: which line is one, and whether its document can be loaded. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LOADING = ("index", "create")
OPERATIONS = (*LOADING, "update", "delete")
# What an action may carry and a load does not need: one index takes all documents, and only the last of an id stays.
NOT_FOLLOWED = (
    "_index", "_type", "version", "version_type", "if_seq_no", "if_primary_term", "retry_on_conflict", "require_alias",
    "require_data_stream", "list_executed_pipelines", "_source",
)  # fmt: skip
# What changes where a document lies or what is in it: to leave it out would load something else.
NEEDED = ("routing", "parent", "pipeline", "dynamic_templates")
KNOWN = frozenset(("_id", *NOT_FOLLOWED, *NEEDED, *(f"_{name}" for name in (*NOT_FOLLOWED, *NEEDED))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action: the `_id` that it has, None without one, and the `refusal` where its document can't be loaded.

    Every action but a `delete` has a line of its own behind it, its document (`has_document`).
    """

    id: Any = None
    refusal: str | None = None
    has_document: bool = True


def read_action(value: Any) -> Action | None:
    """The action that a line of JSON is, None where it is another object, as documents are.

    An action has one key, an operation, and in it only what the bulk API knows.
    """
    if not isinstance(value, dict) or len(value) != 1:
        return None
    [(operation, details)] = value.items()
    if operation not in OPERATIONS or not isinstance(details, dict) or not KNOWN.issuperset(details):
        return None
    if operation not in LOADING:
        refusal = f"is the action {operation!r}; only {' and '.join(LOADING)} can be loaded"
        return Action(refusal=refusal, has_document=operation != "delete")
    needed = next((name for name in details if name.removeprefix("_") in NEEDED), None)
    if needed is not None:
        return Action(refusal=f"its action has {needed!r}, which is not followed: take it out, or load another way")
    return Action(id=details.get("_id"))
