"""Makes the index that a load needs. An index that is there is deleted only once the engine has taken its successor.

Knows no documents.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from es_rerank.errors import EngineError
from es_rerank.official.client import CLIENT_ERRORS, ask, engine_errors, status_and_reason
from ingest.errors import MappingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.official.client import Client
    from es_rerank.official.patience import Patience

# Names of engines end at 255 bytes; this leaves room for what a trial adds.
MAX_NAME_BYTES_OF_TRIAL = 220


def prepare_index(
    client: Client, index: str, mapping: Mapping[str, Any], *, recreate: bool, patience: Patience
) -> bool:
    """Make `index` with the body `mapping` where it is missing, or where `recreate` asks for a new one.

    Returns whether it was made. Engines can't make an index beside one of the same name. So to recreate it, its body is
    tried on an empty, hidden index, `NAME-trial-` with some digits, which is deleted at once. Only then the old index
    is deleted and the new one made. Whatever the engine refuses before that leaves the old one with its documents.

    Raises MappingError where the engine refuses `mapping`, EngineError for any other refusal, also where `index` is an
    alias or a data stream and `recreate` is asked for.
    """
    body = dict(mapping)
    with engine_errors("the engine"):
        there = ask(lambda: bool(client.indices.exists(index=index)), patience)
        if there and not recreate:
            return False
        if there:
            _check_successor(client, index, body, patience)
            ask(lambda: client.indices.delete(index=index, ignore_unavailable=True), patience)
    lost = f". {index} was deleted for it, with its documents" if there else ""
    _create(client, index, index, body, patience, end=lost)
    return True


def _check_successor(client: Client, index: str, body: dict[str, Any], patience: Patience) -> None:
    """Raise what the engine has against a new `index` with this body, while the old one is there."""
    intact = f". {index} is as it was"
    behind = list(ask(lambda: client.indices.get(index=index), patience))
    if behind != [index]:
        raise EngineError(
            f"{index} is not an index but another name of {', '.join(behind)}, which can't be recreated: give the name "
            "of an index, or load without --recreate"
        )
    trial = f"{index[:MAX_NAME_BYTES_OF_TRIAL]}-trial-{secrets.token_hex(4)}"
    _create(client, trial, index, _trial_body(body, trial), patience, end=intact)
    with engine_errors(f"{trial} was made to try out the settings and has to be deleted, but the engine"):
        ask(lambda: client.indices.delete(index=trial, ignore_unavailable=True), patience)
    for alias, options in (body.get("aliases") or {}).items():
        problem = _conflict(client, index, alias, options or {}, patience)
        if problem:
            raise MappingError(f"the alias {alias!r} of {index} can't be made: {problem}{intact}")


def _create(client: Client, name: str, index: str, body: dict[str, Any], patience: Patience, *, end: str) -> None:
    """Make the index `name`, for the sake of `index`. The text of every error ends with `end`."""
    tries = 0

    def create() -> None:
        nonlocal tries
        tries += 1
        if tries == 1 or not client.indices.exists(index=name):  # an answer that was lost may have been a success
            client.indices.create(index=name, body=body)

    try:
        with engine_errors("the engine"):
            ask(create, patience)
    except EngineError as error:
        cause = error.__cause__
        status, reason = status_and_reason(cause) if isinstance(cause, CLIENT_ERRORS) else (None, "")
        if status == 400:
            refusal = f"the engine refuses the settings or the mapping of {index}: {reason}{end}"
            raise MappingError(refusal) from error
        trial = f". Recreating needs the right to make and delete {index}-trial-*" if name != index else ""
        raise EngineError(f"{error}{trial if status == 403 else ''}{end}") from error


def _trial_body(body: Mapping[str, Any], trial: str) -> dict[str, Any]:
    """The body of the trial: no search by pattern or alias may find it, and it needs no room in the cluster."""
    settings = dict(body.get("settings") or {})
    if "hidden" not in json.dumps(settings):
        settings["index.hidden"] = True
    aliases = {f"{alias}-{trial}": options for alias, options in (body.get("aliases") or {}).items()}
    return {**body, "settings": settings, "aliases": aliases}


def _conflict(client: Client, index: str, alias: str, options: Mapping[str, Any], patience: Patience) -> str:
    """What stands against an alias beside its name and its filter; '' if nothing does."""
    if alias == index:
        return "the index has that name"
    if not ask(lambda: bool(client.indices.exists(index=alias)), patience):
        return ""
    holders = ask(lambda: client.indices.get(index=alias), patience)
    if alias in holders:
        return "an index has that name"
    writers = [name for name in holders if name != index and holders[name]["aliases"][alias].get("is_write_index")]
    return f"writes to it go to {writers[0]}" if writers and options.get("is_write_index") else ""
