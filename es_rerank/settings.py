"""Every setting of es-rerank: one TOML file under environment variables, checked once at start.

Precedence: environment over file over default. A variable is named `ES_RERANK__` and the key's path joined by two
underscores (`ES_RERANK__REDIS__URL`, `ES_RERANK__RULES__0__ALPHA`), its value read as TOML, or as text where it is
none. It may change an item of a list, or set a whole list, but add no item. Nothing else reads the environment, and
nothing is read after the start. docs/configuration.md lists every key.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path  # noqa: TC003  pydantic reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from es_rerank.errors import SettingsError
from es_rerank.fusion.fuse import Method  # noqa: TC001  see Path
from es_rerank.judgment import ScoreRule  # noqa: TC001  see Path

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX = "ES_RERANK__"
MINILM_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_MAX_TOKENS = 256
# Of the prompt's text, which lies with the workers: a proxy must name it in fingerprints without having it.
ERANK_PROMPT_SHA256 = "4b83a9a63363df7354690b519b068404c1addd6e56a47505ec422677d30eb8e1"
TEMPLATE_FIELD = re.compile(r"\{([^{}]+)\}")

Seconds = Annotated[StrictFloat, Field(gt=0, le=3600, allow_inf_nan=False)]
Share = Annotated[StrictFloat, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]


class Section(BaseModel):
    """Base of every table: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _not_empty(items: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse an empty list; a minimum length of pydantic's would not count the items that are wrong themselves."""
    if not items:
        raise ValueError("at least one item is needed")
    return items


def _split_url(url: str, *schemes: str) -> SplitResult | None:
    """The URL's parts, or None where scheme, host or port is wrong. What the parser says may hold a password."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if right else None


def _engine_url(url: str) -> str:
    parts = _split_url(url, "http", "https")
    if parts is None:
        raise ValueError("an http:// or https:// URL with a host, and a port from 1 to 65535 if any, is needed")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must carry no user or password: the caller's own credentials are used, and only they")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must end behind host and port: the caller's path is forwarded as it is")
    return f"{parts.scheme}://{parts.netloc}"


class UpstreamSettings(Section):
    """The engine's HTTP hosts."""

    urls: Annotated[tuple[Annotated[StrictStr, AfterValidator(_engine_url)], ...], AfterValidator(_not_empty)]
    ca_file: Path | None = None
    verify_tls: StrictBool = True
    connect_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 300.0
    max_connections: Annotated[StrictInt, Field(ge=1, le=10_000)] = 1000
    forwarded_headers: StrictBool = False

    @field_validator("ca_file")
    @classmethod
    def _is_a_file(cls, ca_file: Path | None) -> Path | None:
        if ca_file is not None and not ca_file.is_file():
            raise ValueError("no such file; a file of PEM certificates is needed")
        return ca_file

    @model_validator(mode="after")
    def _one_kind_of_trust(self) -> Self:
        if self.ca_file is not None and not self.verify_tls:
            raise ValueError("ca_file says whom to trust and verify_tls = false trusts anyone: set one of them")
        return self


class RedisSettings(Section):
    """The Redis that holds the score cache and carries Celery's messages."""

    url: SecretStr
    timeout_s: Seconds = 1.0

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: SecretStr) -> SecretStr:
        if _split_url(url.get_secret_value(), "redis", "rediss") is None:
            raise ValueError(
                "a redis:// or rediss:// URL with a host, and a port from 1 to 65535 if any, is needed; "
                "special characters of a password are written in percent-encoding"
            )
        return url


class ServerSettings(Section):
    """Where the proxy listens."""

    host: StrictStr = "127.0.0.1"
    port: Annotated[StrictInt, Field(ge=0, le=65535)] = 9300


class LimitSettings(Section):
    """What one search may cost, whatever a rule or a request asks."""

    deadline_s: Seconds = 2.0
    max_deadline_s: Seconds = 30.0
    max_window: Annotated[StrictInt, Field(ge=1, le=10_000)] = 200
    max_request_bytes: Annotated[StrictInt, Field(ge=1024)] = 4 * 1024 * 1024
    max_answer_bytes: Annotated[StrictInt, Field(ge=1024)] = 32 * 1024 * 1024
    max_in_flight: Annotated[StrictInt, Field(ge=1)] = 256


class CacheSettings(Section):
    """The score cache in Redis. Reasoning, finished or cut by a deadline, is larger and sooner forgotten."""

    ttl_s: Annotated[StrictInt, Field(ge=1)] = 30 * 24 * 3600
    reasoning_ttl_s: Annotated[StrictInt, Field(ge=1)] = 24 * 3600


class MetricsSettings(Section):
    """Where a worker serves its Prometheus metrics. Without a port it does not."""

    host: StrictStr = "127.0.0.1"
    port: Annotated[StrictInt, Field(ge=0, le=65535)] | None = None


class LogSettings(Section):
    """What is written to standard error, one JSON object a line."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class MinilmSettings(Section):
    """The CPU default: all-MiniLM-L6-v2, a bi-encoder for English. Ignores the instruction."""

    kind: Literal["minilm"] = "minilm"
    compute_type: Literal["float32", "int8"] = "float32"
    threads: Annotated[StrictInt, Field(ge=1, le=256)] = 2
    batch_size: Annotated[StrictInt, Field(ge=1, le=1024)] = 16
    vector_cache_bytes: Annotated[StrictInt, Field(ge=0)] = 64 * 1024 * 1024
    concurrency: Annotated[StrictInt, Field(ge=1, le=256)] = 8
    start_timeout_s: Seconds = 120.0

    def fingerprint(self) -> str:
        """Names everything that changes a score, so the proxy can make keys before any worker has spoken."""
        return _fingerprint(
            self.kind,
            weights=MINILM_WEIGHTS_SHA256,
            compute_type=self.compute_type,
            max_tokens=MINILM_MAX_TOKENS,
            scale="10*max(0,cosine)",
        )


class LlmSettings(Section):
    """An LLM that thinks about each document and answers with an integer from 0 to 10: ERank or one like it.

    `model` is a name on the model hub or a local folder. `max_think_tokens` is the longest reasoning that any search
    may ask for; ERank was trained on none above 2,048. `concurrency` is how many queries are served at once.
    """

    model: Annotated[StrictStr, Field(min_length=1)]
    revision: StrictStr = ""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_query_tokens: Annotated[StrictInt, Field(ge=16, le=32_768)] = 2048
    max_document_tokens: Annotated[StrictInt, Field(ge=16, le=32_768)] = 2048
    max_think_tokens: Annotated[StrictInt, Field(ge=1, le=32_768)] = 2048
    long_documents: Literal["cut", "best_chunk"] = "cut"
    max_chunks: Annotated[StrictInt, Field(ge=2, le=64)] = 4
    concurrency: Annotated[StrictInt, Field(ge=1, le=256)] = 16
    start_timeout_s: Seconds = 1800.0

    def _parts(self) -> dict[str, str | float]:
        """What changes a score under any kind of engine."""
        return {
            "model": self.model,
            "revision": self.revision,
            "dtype": self.dtype,
            "prompt": ERANK_PROMPT_SHA256,
            "max_query_tokens": self.max_query_tokens,
            "max_document_tokens": self.max_document_tokens,
            "chunks": self.max_chunks if self.long_documents == "best_chunk" else 1,
        }


class VllmSettings(LlmSettings):
    """The LLM on vLLM, on one GPU or several, or on a CPU where vLLM was built for it."""

    kind: Literal["vllm"]
    tensor_parallel_size: Annotated[StrictInt, Field(ge=1, le=64)] = 1
    quantization: Literal["none", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block"] = "none"
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    gpu_memory_share: Annotated[StrictFloat, Field(gt=0, le=1, allow_inf_nan=False)] = 0.9
    max_num_seqs: Annotated[StrictInt, Field(ge=1, le=8192)] = 512
    max_batched_tokens: Annotated[StrictInt, Field(ge=64, le=1_048_576)] = 16_384
    compile: StrictBool = True
    cpu_kv_cache_gib: Annotated[StrictInt, Field(ge=1, le=4096)] = 4

    def fingerprint(self) -> str:
        """See `MinilmSettings.fingerprint`."""
        return _fingerprint(
            self.kind, **self._parts(), quantization=self.quantization, kv_cache_dtype=self.kv_cache_dtype
        )


class TransformersSettings(LlmSettings):
    """The LLM on Hugging Face transformers with its continuous batching: slower than vLLM, and runs anywhere."""

    kind: Literal["transformers"]
    device: Literal["auto", "cuda", "cpu"] = "auto"
    max_num_seqs: Annotated[StrictInt, Field(ge=1, le=8192)] = 64

    def fingerprint(self) -> str:
        """See `MinilmSettings.fingerprint`."""
        return _fingerprint(self.kind, **self._parts())


def _kind_of(scorer: Any) -> Any:
    return scorer.get("kind", "minilm") if isinstance(scorer, dict) else getattr(scorer, "kind", None)


ScorerSettings = Annotated[
    Annotated[MinilmSettings, Tag("minilm")]
    | Annotated[VllmSettings, Tag("vllm")]
    | Annotated[TransformersSettings, Tag("transformers")],
    Discriminator(_kind_of),
]
SCORER_KINDS: dict[str, type[Section]] = {
    "minilm": MinilmSettings,
    "vllm": VllmSettings,
    "transformers": TransformersSettings,
}
Mode = Literal["think", "direct", "cascade"]
MAX_INSTRUCTION_CHARACTERS = 2_000


class RuleSettings(Section):
    """Which indices are reranked, on what text, and how."""

    name: Name
    indices: Annotated[tuple[Annotated[StrictStr, Field(min_length=1)], ...], AfterValidator(_not_empty)]
    fields: tuple[Annotated[StrictStr, Field(min_length=1)], ...] = ()
    template: StrictStr = ""
    window: Annotated[StrictInt, Field(ge=1)] = 100
    alpha: Share = 0.2
    method: Method = "zscore"
    instruction: Annotated[StrictStr, Field(max_length=MAX_INSTRUCTION_CHARACTERS)] = (
        "Given a query, retrieval relevant passage."
    )
    scorer: Name = "minilm"
    deadline_s: Seconds | None = None
    mode: Mode = "think"
    budget_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    think_top: Annotated[StrictInt, Field(ge=1)] = 20
    score: ScoreRule = "paper"
    keep_reasoning: StrictBool = False

    @field_validator("indices")
    @classmethod
    def _no_system_index(cls, indices: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in indices:
            if pattern.startswith((".", "-", "_")) or set(pattern) & set(",?["):
                raise ValueError(
                    f"{pattern!r}: one index name or pattern each, not beginning with '.', '-' or '_'; "
                    "the wildcard is '*'"
                )
        return indices

    @model_validator(mode="after")
    def _one_source_of_text(self) -> Self:
        if bool(self.fields) == bool(self.template):
            raise ValueError("either fields or template says what text is scored: set exactly one of them")
        if self.template and not TEMPLATE_FIELD.search(self.template):
            raise ValueError(f"template = {self.template!r}: name at least one field, as in '{{title}}. {{text}}'")
        return self

    def text_fields(self) -> tuple[str, ...]:
        """The fields that the text is made of, each once, in order of use."""
        return tuple(dict.fromkeys(self.fields or TEMPLATE_FIELD.findall(self.template)))

    def matches(self, index: str) -> bool:
        """Whether one index expression falls under this rule."""
        return any(fnmatchcase(index, pattern) for pattern in self.indices)


class Settings(Section):
    """The whole configuration."""

    upstream: UpstreamSettings
    redis: RedisSettings
    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    scorers: dict[Name, ScorerSettings] = Field(default_factory=dict)
    rules: tuple[RuleSettings, ...] = ()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.limits.deadline_s > self.limits.max_deadline_s:
            raise ValueError(f"limits.deadline_s = {self.limits.deadline_s}: at most {self._most_deadline}")
        names = [rule.name for rule in self.rules]
        for position, rule in enumerate(self.rules):
            where = f"rules[{position}]"
            if rule.name in names[:position]:
                raise ValueError(f"{where}.name = {rule.name!r}: two rules have this name")
            if rule.scorer not in self.known_scorers():
                raise ValueError(f"{where}.scorer = {rule.scorer!r}: known are {', '.join(self.known_scorers())}")
            if rule.window > self.limits.max_window:
                raise ValueError(
                    f"{where}.window = {rule.window}: at most limits.max_window = {self.limits.max_window}"
                )
            if (rule.deadline_s or 0) > self.limits.max_deadline_s:
                raise ValueError(f"{where}.deadline_s = {rule.deadline_s}: at most {self._most_deadline}")
            problem = thinking_problem(rule, self.known_scorers()[rule.scorer])
            if problem:
                raise ValueError(f"{where}.{problem}")
        return self

    @property
    def _most_deadline(self) -> str:
        return f"limits.max_deadline_s = {self.limits.max_deadline_s}"

    def known_scorers(self) -> dict[str, ScorerSettings]:
        """The scorers by name: the configured ones, and MiniLM where none is called `minilm`."""
        return {"minilm": MinilmSettings(), **self.scorers}

    def used_scorers(self) -> dict[str, ScorerSettings]:
        """The scorers that some rule names; MiniLM where there is no rule."""
        used = {rule.scorer for rule in self.rules} or {"minilm"}
        return {name: scorer for name, scorer in self.known_scorers().items() if name in used}

    def deadline_of(self, rule: RuleSettings) -> float:
        """A rule's deadline in seconds."""
        return self.limits.deadline_s if rule.deadline_s is None else rule.deadline_s


THINKING_KEYS = ("mode", "budget_tokens", "think_top", "score", "keep_reasoning")


def thinking_problem(rule: RuleSettings, scorer: ScorerSettings) -> str:
    """What of a rule's thinking does not fit its scorer, as `key = value: why`; '' where all fits."""
    asked = [key for key in THINKING_KEYS if key in rule.model_fields_set]
    if not isinstance(scorer, LlmSettings):
        if not asked:
            return ""
        value = json.dumps(getattr(rule, asked[0]))
        return f"{asked[0]} = {value}: the scorer {rule.scorer!r} is of kind {scorer.kind!r}, which does not think"
    if rule.budget_tokens is None:
        return ""
    if rule.mode == "direct":
        return f"budget_tokens = {rule.budget_tokens}: mode 'direct' answers without thinking; allowed with the others"
    if rule.budget_tokens > scorer.max_think_tokens:
        most = f"scorers.{rule.scorer}.max_think_tokens = {scorer.max_think_tokens}"
        return f"budget_tokens = {rule.budget_tokens}: at most {most}"
    return ""


SECTIONS: dict[str, type[Section]] = {
    "upstream": UpstreamSettings,
    "redis": RedisSettings,
    "server": ServerSettings,
    "limits": LimitSettings,
    "cache": CacheSettings,
    "log": LogSettings,
    "metrics": MetricsSettings,
    "rules": RuleSettings,
}
TOML_WORDS = {
    "tuple_type": "a list is needed",
    "union_tag_not_found": "a table is needed",
    "model_type": "a table is needed",
    "dict_type": "a table is needed",
}
"""What pydantic says in words of Python, by its type of problem."""
LONGEST_SHOWN = 200


def load_settings(file: Path, environment: Mapping[str, str]) -> Settings:
    """The settings of `file` under `environment`. Raises SettingsError with a line for each thing that is wrong."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: is not TOML: {error}") from error
    variables = sorted(name for name in environment if name.startswith(ENVIRONMENT_PREFIX))
    for name in variables:
        _overlay(values, name, environment[name])
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        source = f"{file} under {', '.join(variables)}" if variables else str(file)
        problems = "\n".join(f"  {_explain(problem, values)}" for problem in error.errors())
        raise SettingsError(f"{source}: the configuration cannot be used:\n{problems}") from None


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
        raise SettingsError(f"{name}: the configuration has no such place for it to change") from None


def _key_in(place: Any, part: str) -> Any:
    """The key or index that a part of a variable's name spells: names are in capitals, keys as they are written."""
    if isinstance(place, list):
        return int(part)
    key = next((key for key in place if key.lower() == part), part)
    if key not in place and not part.isidentifier():  # an index without its list, or no name at all
        raise KeyError(part)
    return key


def _read_value(text: str) -> Any:
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return read["value"] if len(read) == 1 else text  # a second line may hold a key of its own


def _explain(problem: Any, values: dict[str, Any]) -> str:
    """One problem as: key, value, what is allowed."""
    location = [part for part in problem["loc"] if part != "[key]"]
    if location[:1] == ["scorers"] and len(location) > 2:
        del location[2]  # the kind, by which pydantic chose the table
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
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


def _show(location: list[Any], value: Any) -> str:
    """A value as text, without what may be a password."""
    shown = json.dumps(value, default=str, ensure_ascii=False)
    if location[0] == "redis" and location != ["redis", "timeout_s"]:
        return "(hidden)"
    if location[0] == "upstream" and "@" in shown:
        return "(hidden)"
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."


def _allowed_keys(location: list[Any], values: dict[str, Any]) -> str:
    """What the table of an unknown key knows, and what was probably meant."""
    if location[0] == "scorers":
        kind = _kind_of(values["scorers"][location[1]])
        section = SCORER_KINDS[kind]
        owners = [repr(name) for name, owner in SCORER_KINDS.items() if location[-1] in owner.model_fields]
        if owners:
            return f"kind {kind!r} has none, kind {' or '.join(owners)} would"
    else:
        section = Settings if len(location) == 1 else SECTIONS[location[0]]
    known = list(section.model_fields)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed are {', '.join(known)}"


def _fingerprint(kind: str, **parts: str | float) -> str:
    """A short readable name for a set of parts: the kind and 16 hex digits of their hash."""
    text = json.dumps({"kind": kind, **parts}, sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
