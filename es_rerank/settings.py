"""Every setting of es-rerank: one TOML file, overridden by environment variables, checked once at the start.

This module loads the settings and explains mistakes; the tables themselves are in `tables`, `scorers` and `rules`.

Precedence: environment over file over default. A variable's name is `ES_RERANK__` and the parts of the key's path,
joined by two underscores (`ES_RERANK__REDIS__URL`, `ES_RERANK__RULES__0__ALPHA`). Its value is read as TOML, or as text
if it is not TOML. A variable may change an item of a list, or set a whole list, but it can't add an item. Nothing else
reads the environment, and nothing is read after the start. docs/configuration.md lists every key.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ValidationError, model_validator

from es_rerank.addresses import host_and_port, reaches, read_url
from es_rerank.errors import SettingsError
from es_rerank.models import RerankApi, make_rerank_api
from es_rerank.rules.book import RuleBook, make_book
from es_rerank.rules.endpoints import make_endpoints
from es_rerank.rules.rule import Rule
from es_rerank.scorers.kinds import SCORER_KINDS, ScorerSettings, kind_of
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.tables import (
    CacheSettings,
    EventSettings,
    InferenceSettings,
    LimitSettings,
    LogSettings,
    MetricsSettings,
    Name,
    RedisSettings,
    RerankApiSettings,
    Section,
    ServerSettings,
    StoreSettings,
    UpstreamSettings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from es_rerank.rules.book import BoundRule

ENVIRONMENT_PREFIX = "ES_RERANK__"
ALMOST_PREFIX = re.compile(r"es_rerank_+", re.IGNORECASE)


class Settings(Section):
    """The whole configuration."""

    upstream: UpstreamSettings
    redis: RedisSettings
    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    store: StoreSettings | None = None
    events: EventSettings = EventSettings()
    rerank_api: RerankApiSettings | None = None
    inference: InferenceSettings | None = None
    scorers: dict[Name, ScorerSettings] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        most = self.limits.max_deadline_s
        if self.limits.deadline_s > most:
            raise ValueError(f"limits.deadline_s = {self.limits.deadline_s}: at most limits.max_deadline_s = {most}")
        for position, url in enumerate(self.upstream.urls):
            host, port = host_and_port(read_url(url, "http", "https"))
            if port == self.server.port and reaches(self.server.host, host):
                raise ValueError(
                    f"upstream.urls[{position}]: is the proxy itself, which listens on "
                    f"server.host = {json.dumps(self.server.host)}, server.port = {port}; name the engine's own"
                )
        self.book()
        self.bound_rerank_api()
        return self

    def book(self) -> RuleBook:
        """The book of the file's rules and endpoints."""
        return make_book(self.rules, self.known_scorers(), self.limits, self.endpoints())

    def endpoints(self) -> dict[str, BoundRule]:
        """By `inference_id`, how a `text_similarity_reranker` is answered that names it."""
        return {} if self.inference is None else make_endpoints(self.inference, self.known_scorers(), self.limits)

    def known_scorers(self) -> dict[str, ScorerSettings]:
        """The scorers by name: the configured ones, and MiniLM where none is called `minilm`."""
        return {"minilm": MinilmSettings(), **self.scorers}

    def bound_rerank_api(self) -> RerankApi | None:
        """The rerank API with the scorers that its models name; None where it is not configured."""
        if self.rerank_api is None:
            return None
        return make_rerank_api(self.rerank_api, self.known_scorers(), self.limits)

    def used_scorers(self) -> dict[str, ScorerSettings]:
        """The scorers that some rule, a model of the rerank API or an endpoint names; MiniLM where there is none."""
        served = [name for table in (self.rerank_api, self.inference) if table for name in table.scorers.values()]
        used = {*(rule.scorer for rule in self.rules), *served} or {"minilm"}
        return {name: scorer for name, scorer in self.known_scorers().items() if name in used}


SECTIONS: dict[str, type[Section]] = {
    "upstream": UpstreamSettings,
    "redis": RedisSettings,
    "server": ServerSettings,
    "limits": LimitSettings,
    "cache": CacheSettings,
    "log": LogSettings,
    "metrics": MetricsSettings,
    "store": StoreSettings,
    "events": EventSettings,
    "rerank_api": RerankApiSettings,
    "inference": InferenceSettings,
    "rules": Rule,
}
TOML_WORDS = {
    "tuple_type": "a list is needed",
    "union_tag_not_found": "a table is needed",
    "model_type": "a table is needed",
    "dict_type": "a table is needed",
    "path_type": "text is needed, the path of a file",
}
"""By pydantic's type of problem: our words where pydantic's own text speaks of Python types."""
LONGEST_SHOWN = 200
HIDDEN = "(hidden)"
SECRET_TABLES = ("redis", "upstream", "store", "events", "rerank_api")
"""Tables that have URLs or secrets, and so whatever somebody took for the place of a password."""
# What an error may repeat of the names of scorers and variables, and of keys: no URL and no good password looks so.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,63}")
PLAIN_KEY = re.compile(r"[A-Za-z_]{1,40}")
# What tomllib's messages quote of TOML itself: one letter, perhaps escaped, or brackets and the like.
TOML_QUOTES = re.compile(r"""(['"])(\\?.|\\x..|\\u....|\\U........|[^\w'"]{2,3})\1""")
TOML_PLACE = re.compile(r" \(at ([^()]*)\)$")


def load_settings(file: Path, environment: Mapping[str, str]) -> Settings:
    """The settings of `file` under `environment`. Raises SettingsError with a line for each thing that is wrong.

    The error's text repeats no text of [redis] and no URL of [upstream], and nothing that looks like a URL elsewhere.
    """
    values = _read_file(file)
    empty = not values
    variables = sorted(name for name in environment if name.startswith(ENVIRONMENT_PREFIX))
    for name in variables:
        _overlay(values, name, environment[name])
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        source = f"{file} under {', '.join(map(_shown_variable, variables))}" if variables else str(file)
        problems = [_explain(problem, values) for problem in error.errors()]
        problems += [
            f"{_shown_variable(name)}: did you mean {meant}?" for name in variables if (meant := meant_variable(name))
        ]
        what = "the file is empty, so the configuration" if empty else "the configuration"
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise SettingsError(f"{source}: {what} cannot be used:\n{lines}") from None


def read_rule(values: Mapping[str, Any]) -> Rule:
    """The rule with these keys, checked by itself as one of the file is. Raises ValueError in the file's words."""
    try:
        return Rule.model_validate(values)
    except ValidationError as error:
        file = {"rules": [values]}
        problems = [_explain({**problem, "loc": ("rules", 0, *problem["loc"])}, file) for problem in error.errors()]
        raise ValueError("; ".join(problem.removeprefix("rules[0]").lstrip(".: ") for problem in problems)) from None


def meant_variable(name: str) -> str:
    """The variable that was probably meant by one that names no key for want of an underscore, or of capitals; or ''.

    Only the names of keys are compared: other programs may have variables of their own with such a beginning.
    """
    begun = ALMOST_PREFIX.match(name)
    if begun is None:
        return ""
    words = name[begun.end() :].lower()
    flat = re.sub("_+", "_", words).strip("_")
    for section, model in SECTIONS.items():
        place = "rules_([0-9]+)" if section == "rules" else section
        found = re.fullmatch(f"{place}_({'|'.join(model.model_fields)})", flat)
        if found:
            proper = ENVIRONMENT_PREFIX + "__".join([section, *found.groups()]).upper()
            return "" if name.startswith(ENVIRONMENT_PREFIX) and name.upper() == proper else proper
    return ""


def _read_file(file: Path) -> dict[str, Any]:
    """The file's TOML. Raises SettingsError, which quotes nothing of the file: any of it may be a secret."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{file}: is not TOML: it is not UTF-8 text, from byte {error.start} on; save it in UTF-8"
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: is not TOML: {_toml_problem(str(error))}") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"{file}: is not TOML: it has a number that is too long, or is nested too deep") from None


def _toml_problem(message: str) -> str:
    """A message of tomllib with its line first, and without the names of keys that some of them quote."""
    place = TOML_PLACE.search(message)
    what = message[: place.start()] if place else message
    unquoted = TOML_QUOTES.sub("", what)
    if "'" in unquoted or '"' in unquoted:
        what = "A key or a table is there twice"
    return f"{place[1]}: {what[:1].lower()}{what[1:]}" if place else what


def _shown_variable(name: str) -> str:
    return name if PLAIN_NAME.fullmatch(name) else ENVIRONMENT_PREFIX + HIDDEN


def _overlay(values: dict[str, Any], name: str, text: str) -> None:
    """Put the variable's value at the path that its name spells."""
    *path, last = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    place: Any = values
    try:
        for part in path:
            key = _key_in(place, part)
            place = place[key] if isinstance(place, list) else place.setdefault(key, {})
        place[_key_in(place, last)] = _read_value(text)
    except (LookupError, ValueError, TypeError, AttributeError):
        raise SettingsError(f"{_shown_variable(name)}: the configuration has no such place for it to change") from None


def _key_in(place: Any, part: str) -> Any:
    """The key or index that a part of a variable's name stands for; keys are compared without case."""
    if isinstance(place, list):
        if not part.isdecimal():  # a number below 0 would count from the end
            raise KeyError(part)
        return int(part)
    key = next((key for key in place if key.lower() == part), part)
    if key not in place and not part.isidentifier():  # an index without its list, or no name at all
        raise KeyError(part)
    return key


def _read_value(text: str) -> Any:
    try:
        read = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, a number that is too long, or nested too deep
        return text
    return read["value"] if len(read) == 1 else text  # a second line may hold a key of its own


def _explain(problem: Any, values: dict[str, Any]) -> str:
    """One problem as: key, value, what is allowed."""
    location = [part for part in problem["loc"] if part != "[key]"]
    if location[:1] == ["scorers"] and len(location) > 2:
        del location[2]  # the kind, by which pydantic chose the table
    key = _shown_key(location)
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_allowed_keys(location, values)}"
    if problem["type"] == "missing":
        return f"{key}: is missing"
    if problem["type"] == "union_tag_invalid":
        *kinds, last = (repr(kind) for kind in SCORER_KINDS)
        kind = values["scorers"][location[1]]["kind"]
        return f"{key}.kind = {_show(location, kind)}: input should be {', '.join(kinds)} or {last}"
    message = TOML_WORDS.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    message = message[:1].lower() + message[1:]
    value: Any = values
    for part in location:
        if isinstance(value, dict) and part not in value:
            return f"{key}: {message}"
        value = value[part]
    if isinstance(value, dict):
        return f"{key}: {message}" if key else message
    return f"{key} = {_show(location, value)}: {message}"


def _shown_key(location: list[Any]) -> str:
    """A key's path as text, without a name that may be a secret."""
    text = ""
    for depth, part in enumerate(location):
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = PLAIN_NAME if depth == 1 and location[0] == "scorers" else PLAIN_KEY
            text += f".{part}" if plain.fullmatch(part) else f".{HIDDEN}"
    return text.lstrip(".")


def _show(location: list[Any], value: Any) -> str:
    """A value as text, without what may be a password."""
    shown = json.dumps(value, default=str, ensure_ascii=False)
    if "@" in shown or ":/" in shown:  # a URL, also in a place where none belongs
        return HIDDEN
    if location[0] in SECRET_TABLES and not _is_harmless(location[1:], value):
        return HIDDEN
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."


def _is_harmless(keys: list[Any], value: Any) -> bool:
    """Whether a value of a table with URLs can't be a secret: a number that belongs to no URL, or a file's path."""
    if isinstance(value, str):
        return keys == ["ca_file"] and ("/" in value or "." in value) and ":" not in value
    return isinstance(value, bool | int | float) and keys[:1] not in ([], ["url"], ["urls"])


def _allowed_keys(location: list[Any], values: dict[str, Any]) -> str:
    """The keys that the table of an unknown key has, and the one that was probably meant."""
    if location[0] == "scorers":
        kind = kind_of(values["scorers"][location[1]])
        section = SCORER_KINDS[kind]
        owners = [repr(name) for name, owner in SCORER_KINDS.items() if location[-1] in owner.model_fields]
        if owners:
            return f"kind {kind!r} has none, kind {' or '.join(owners)} would"
    else:
        section = Settings if len(location) == 1 else SECTIONS[location[0]]
    known = list(section.model_fields)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed are {', '.join(known)}"
