"""What a request may ask of es-rerank, and nothing else: `ext.es_rerank` in the body, the `ES-Rerank` header.

Pure. What is found is taken out of the request before the engine sees it; what isn't allowed is a CallerError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from es_rerank.errors import CallerError
from es_rerank.fusion.fuse import Method
from es_rerank.judgment import ScoreRule
from es_rerank.rawjson import has_member
from es_rerank.rules.rule import Mode
from es_rerank.tables import MAX_INSTRUCTION_CHARACTERS

if TYPE_CHECKING:
    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.records import Request

HEADER = b"es-rerank"
KEY = "es_rerank"
MAX_NAME_CHARACTERS = 256
Include = Literal["status", "scores", "reasoning", "question"]
# As many as of a query string are read.
MAX_QUERY_CHARACTERS = 4096
# A body in the URL, or a parameter whose name has to be decoded before anyone knows it.
SOURCE_PARAMETER = re.compile(rb"[?&;](?:source=|[^=&;]*[%+])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """One request's wishes; None means the rule's own setting."""

    rerank: bool = True
    rule: str | None = None
    query: str | None = None
    alpha: float | None = None
    method: Method | None = None
    window: int | None = None
    deadline_s: float | None = None
    instruction: str | None = None
    mode: Mode | None = None
    budget_tokens: int | None = None
    think_top: int | None = None
    score: ScoreRule | None = None
    include: frozenset[Include] = frozenset()
    query_id: str | None = None
    client_id: str | None = None
    application: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlLimits:
    """How far a request may go under the rule that applies.

    `scorer` is the name and kind of the rule's scorer if it does not think, and '' if it thinks or no rule applies.
    `max_think_tokens` is None if no rule applies, and `mode` is the rule's own.
    """

    max_window: int
    max_deadline_s: float
    scorer: str = ""
    max_think_tokens: int | None = None
    mode: Mode = "think"


def may_ask(request: Request) -> bool:
    """Whether a request may ask something of es-rerank, as far as its bytes tell without parsing.

    False only if the bytes rule it out: a body that is compressed, holds a Unicode escape, or is a stream gives True.
    """
    if request.header(HEADER) is not None or SOURCE_PARAMETER.search(request.target):
        return True
    body = request.body
    if body is None:
        return False
    if not isinstance(body, bytes):
        return True
    return b"es_rerank" in body or b"\\u" in body or request.header(b"content-encoding") is not None


def take_controls(call: SearchCall) -> tuple[dict[str, Any], SearchCall]:
    """What the request asks, unchecked, and the call without a trace of it. The call's `wishes` win over its body.

    Raises CallerError for an unknown value of the header, for an `ext.es_rerank` that is not an object, and for one in
    a body that we can't read, or in the beginning of one that is too long, since we can't take it out and the engine
    does not know it.
    """
    asked: dict[str, Any] = {}
    header = call.header(HEADER)
    if header is not None:
        asked = _read_header(header)
        call = call.without_header(HEADER)
    if call.no_room and _has_wishes(call.head):
        raise CallerError(f"[ext.{KEY}] can't be read now, since limits.max_held_bytes are held: try again", status=503)
    if call.search is None and _has_wishes(call.head):
        raise CallerError(f"[ext.{KEY}] needs a shorter body: this one is longer than limits.max_request_bytes")
    if call.search is None and _has_wishes(call.body):
        raise CallerError(f"[ext.{KEY}] needs a body of strict JSON: no comments, no key twice, no half surrogate pair")
    search = call.search or {}
    ext = search.get("ext")
    if not isinstance(ext, dict) or KEY not in ext:
        return {**asked, **call.wishes}, call
    if not isinstance(ext[KEY], dict):
        raise CallerError(f"[ext.{KEY}] must be an object, was {_shown(ext[KEY])}")
    return {**asked, **ext[KEY], **call.wishes}, call.without_ext(KEY)


def _has_wishes(body: bytes) -> bool:
    """Whether a body that is not strict JSON, or the beginning of one, really has `ext.es_rerank`."""
    return (KEY.encode() in body or b"\\u" in body) and has_member(body, "ext", KEY)


def check_controls(asked: dict[str, Any], limits: ControlLimits) -> Controls:
    """The wishes as values. Raises CallerError that names the field, what it was and what is allowed."""
    for name, value in asked.items():
        if name not in ALLOWED:
            raise CallerError(f"[ext.{KEY}] unknown field [{name}]; allowed are [{', '.join(ALLOWED)}]")
        problem = _problem(name, value, limits) or _thinking_problem(name, value, asked, limits)
        if problem:
            raise refused(name, value, problem)
    include = frozenset[Include](asked.get("include", ()))
    # The question is told in the status.
    return Controls(**{**asked, "include": include | {"status"} if "question" in include else include})


def refused(name: str, value: Any, problem: str) -> CallerError:
    """The refusal of a wish, which says what is wrong with its value."""
    return CallerError(f"[ext.{KEY}.{name}] {problem}, was {_shown(value)}")


def _problem(name: str, value: Any, limits: ControlLimits) -> str:
    """What is wrong with one wish, or ''."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = number and isinstance(value, int)
    allowed = {
        "rerank": (isinstance(value, bool), "must be true or false"),
        "query": (
            isinstance(value, str) and len(value.strip()) > 0 and len(value) <= MAX_QUERY_CHARACTERS,
            f"must be a text of 1 to {MAX_QUERY_CHARACTERS} characters",
        ),
        "alpha": (number and 0 <= value <= 1, "must be a number from 0 to 1"),
        "method": (value in get_args(Method), f"must be one of [{', '.join(get_args(Method))}]"),
        "window": (
            whole and 1 <= value <= limits.max_window,
            f"must be a whole number from 1 to {limits.max_window}",
        ),
        "deadline_s": (
            number and 0 < value <= limits.max_deadline_s,
            f"must be a number of seconds above 0 and at most {limits.max_deadline_s:g}",
        ),
        "instruction": (
            isinstance(value, str) and len(value.strip()) > 0 and len(value) <= MAX_INSTRUCTION_CHARACTERS,
            f"must be a text of 1 to {MAX_INSTRUCTION_CHARACTERS} characters",
        ),
        "mode": (isinstance(value, str) and value in get_args(Mode), f"must be one of [{', '.join(get_args(Mode))}]"),
        "budget_tokens": (
            whole and 1 <= value <= (limits.max_think_tokens or value),
            f"must be a whole number from 1 to {limits.max_think_tokens}"
            if limits.max_think_tokens
            else "must be a whole number from 1 up",
        ),
        "think_top": (
            whole and 1 <= value <= limits.max_window,
            f"must be a whole number from 1 to {limits.max_window}",
        ),
        "score": (
            isinstance(value, str) and value in get_args(ScoreRule),
            f"must be one of [{', '.join(get_args(ScoreRule))}]",
        ),
        "include": (
            isinstance(value, list) and all(item in get_args(Include) for item in value),
            f"must be a list of [{', '.join(get_args(Include))}]",
        ),
        **dict.fromkeys(
            ("rule", *NAMES),
            (
                isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS,
                f"must be a text of 1 to {MAX_NAME_CHARACTERS} characters",
            ),
        ),
    }
    right, problem = allowed[name]
    return "" if right else problem


def _thinking_problem(name: str, value: Any, asked: dict[str, Any], limits: ControlLimits) -> str:
    """Why a wish that is right in itself does not go with the rule's scorer or mode, or ''."""
    thinks = name in THINKING or (name == "include" and "reasoning" in value)
    if thinks and limits.scorer:
        return f"needs a scorer that thinks, which [{limits.scorer}] does not"
    if name == "budget_tokens" and asked.get("mode", limits.mode) == "direct":
        return "goes with the modes [think, cascade], not with [direct]"
    return ""


THINKING = ("mode", "budget_tokens", "think_top", "score")
NAMES = ("query_id", "client_id", "application")
ALLOWED = (
    "rerank", "rule", "query", "alpha", "method", "window", "deadline_s", "instruction", *THINKING, "include", *NAMES,
)  # fmt: skip


def _read_header(value: bytes) -> dict[str, Any]:
    wish = value.decode("latin-1").strip()
    if wish == "off":
        return {"rerank": False}
    if wish == "include=status":
        return {"include": ["status"]}
    raise CallerError(f"header [ES-Rerank] must be [off] or [include=status], was {_shown(wish)}")


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return f"[{text if len(text) <= 80 else text[:77] + '...'}]"
