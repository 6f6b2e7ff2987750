"""The configuration: what loads, what wins, and that every mistake is named with key, value and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from es_rerank.errors import SettingsError
from es_rerank.scorers.kinds import SCORER_KINDS
from es_rerank.scorers.llm import LlmSettings
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.scorers.transformers import TransformersSettings
from es_rerank.scorers.vllm import VllmSettings
from es_rerank.settings import SECTIONS, Settings, load_settings
from es_rerank.tables import RedisSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NEEDED = """\
[upstream]
urls = ["http://127.0.0.1:9200"]
[redis]
url = "redis://127.0.0.1:6379/0"
"""
RULE = """\
[[rules]]
name = "movies"
indices = ["movies-*"]
fields = ["title", "text"]
"""
WHOLE = """\
[upstream]
urls = ["http://127.0.0.1:9200"]
[redis]
url = "redis://127.0.0.1:6379/0"
[server]
host = "127.0.0.1"
port = 9300
[[rules]]
name = "movies"
indices = ["movies-*"]
fields = ["title", "text"]
deadline_s = 3.0
"""
LLM = 'kind = "{}"\nmodel = "owner/model"\n'
ERANK = NEEDED + "[scorers.erank]\n" + LLM.format("vllm") + "max_think_tokens = 1024\n"
THINKING = ERANK + RULE + 'scorer = "erank"\n'
PASSWORD = "hunter2"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Settings]:
    """Loads settings from the text of a file, and from variables given by name."""

    def load_text(text: str, **environment: str) -> Settings:
        file = tmp_path / "config.toml"
        file.write_text(text, encoding="utf-8")
        return load_settings(file, environment)

    return load_text


@pytest.fixture
def refusal(load: Callable[..., Settings]) -> Callable[..., str]:
    """The error text of a load that must fail."""

    def refuse(text: str, **environment: str) -> str:
        with pytest.raises(SettingsError) as failure:
            load(text, **environment)
        return str(failure.value)

    return refuse


def test_a_whole_file_loads(load: Callable[..., Settings]) -> None:
    """The file that the first page of the manual shows means what it says."""
    settings = load(WHOLE)
    assert settings.upstream.urls == ("http://127.0.0.1:9200",)
    assert settings.redis.url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 9300)
    [rule] = settings.rules
    assert (rule.name, rule.indices, rule.fields, rule.deadline_s) == ("movies", ("movies-*",), ("title", "text"), 3)


def test_upstream_and_redis_are_enough(load: Callable[..., Settings]) -> None:
    """Everything else has a default, and without rules nothing is reranked."""
    settings = load(NEEDED)
    assert settings.rules == ()
    assert settings.used_scorers() == settings.known_scorers() == {"minilm": MinilmSettings()}


def test_settings_never_change(load: Callable[..., Settings]) -> None:
    """Settings are frozen, so no part of the process can see other settings than another part."""
    settings = load(WHOLE)
    with pytest.raises(ValidationError, match="frozen"):
        settings.limits.deadline_s = 1.0  # type: ignore[misc]  # the test is that this is refused
    with pytest.raises(ValidationError, match="frozen"):
        settings.rules[0].alpha = 1.0  # type: ignore[misc]  # see above


# What loads


@pytest.mark.parametrize(
    ("line", "value"),
    [("deadline_s = 3", 3), ("deadline_s = 0.25", 0.25), ("alpha = 0", 0), ("alpha = 1", 1), ("alpha = 0.5", 0.5)],
)
def test_a_whole_number_is_a_number(load: Callable[..., Settings], line: str, value: float) -> None:
    """A number may be written as 3 or as 3.0: TOML sees a difference, people don't."""
    found = getattr(load(NEEDED + RULE + line).rules[0], line.partition(" ")[0])
    assert found == value
    assert isinstance(found, float)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("alpha = true", "rules[0].alpha = true: input should be a valid number"),
        ('alpha = "0.5"', 'rules[0].alpha = "0.5": input should be a valid number'),
        ("deadline_s = false", "rules[0].deadline_s = false: input should be a valid number"),
        ('deadline_s = "3"', 'rules[0].deadline_s = "3": input should be a valid number'),
        ("window = 10.5", "rules[0].window = 10.5: input should be a valid integer"),
        ("window = true", "rules[0].window = true: input should be a valid integer"),
        ('window = "10"', 'rules[0].window = "10": input should be a valid integer'),
        ("instruction = 5", "rules[0].instruction = 5: input should be a valid string"),
        ('scorer = ["minilm"]', 'rules[0].scorer = ["minilm"]: input should be a valid string'),
    ],
)
def test_other_types_are_refused(refusal: Callable[..., str], line: str, shown: str) -> None:
    """Booleans and text are not numbers, fractions are not whole numbers, and only text is text."""
    assert shown in refusal(NEEDED + RULE + line)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://127.0.0.1:9200", "http://127.0.0.1:9200"),
        ("http://es:9200/", "http://es:9200"),
        ("HTTPS://es", "https://es"),
        ("https://[::1]:9200//", "https://[::1]:9200"),
    ],
)
def test_engine_urls_are_kept_as_scheme_host_and_port(load: Callable[..., Settings], url: str, kept: str) -> None:
    """A last slash is dropped from an engine URL, since what follows the port is the caller's path."""
    assert load(NEEDED, ES_RERANK__UPSTREAM__URLS=f'["{url}"]').upstream.urls == (kept,)


@pytest.mark.parametrize(
    "url",
    ["redis://localhost", "redis://:p%40ss@redis:6379/1", "rediss://user:pass@redis.example:6380", "redis://[::1]"],
)
def test_redis_urls(load: Callable[..., Settings], url: str) -> None:
    """A Redis URL may have TLS and a password, or not."""
    assert load(NEEDED, ES_RERANK__REDIS__URL=url).redis.url.get_secret_value() == url


def test_a_certificate_file_must_exist(
    load: Callable[..., Settings], refusal: Callable[..., str], tmp_path: Path
) -> None:
    """A wrong path is found at the start, not by the first search."""
    missing, present = tmp_path / "missing.pem", tmp_path / "ca.pem"
    present.touch()
    assert load(NEEDED, ES_RERANK__UPSTREAM__CA_FILE=str(present)).upstream.ca_file == present
    message = refusal(NEEDED, ES_RERANK__UPSTREAM__CA_FILE=str(missing))
    assert f'upstream.ca_file = "{missing}": no such file' in message
    both = {"ES_RERANK__UPSTREAM__CA_FILE": str(present), "ES_RERANK__UPSTREAM__VERIFY_TLS": "false"}
    assert "upstream: ca_file says whom to trust and verify_tls = false trusts anyone" in refusal(NEEDED, **both)


# What is refused


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (RULE + "alpha = 1.5", "rules[0].alpha = 1.5: input should be less than or equal to 1"),
        (RULE + "alpha = -0.1", "rules[0].alpha = -0.1: input should be greater than or equal to 0"),
        (RULE + "alpha = nan", "rules[0].alpha = NaN: input should be a finite number"),
        (RULE + "deadline_s = 0", "rules[0].deadline_s = 0: input should be greater than 0"),
        (RULE + "deadline_s = inf", "rules[0].deadline_s = Infinity: input should be a finite number"),
        (RULE + "window = 0", "rules[0].window = 0: input should be greater than or equal to 1"),
        (RULE + 'method = "mean"', "rules[0].method = \"mean\": input should be 'zscore', 'minmax' or 'rrf'"),
        (RULE + "window = 201", "rules[0].window = 201: at most limits.max_window = 200"),
        (RULE + "deadline_s = 31", "rules[0].deadline_s = 31.0: at most limits.max_deadline_s = 30.0"),
        (RULE + 'scorer = "llm"', "rules[0].scorer = 'llm': known are minilm"),
        (RULE + 'template = "{title}"', "rules[0]: either fields or template says what text is scored"),
        (RULE.replace("fields", "#"), "rules[0]: either fields or template says what text is scored"),
        (RULE.replace("fields", 'template = "no field"#'), "rules[0]: template = 'no field': name at least one field"),
        (RULE.replace('"movies"', '"my movies"'), 'rules[0].name = "my movies": string should match pattern'),
        (RULE + RULE, "rules[1].name = 'movies': two rules have this name"),
        (RULE.replace('["movies-*"]', "[]"), "rules[0].indices = []: at least one item is needed"),
        (RULE.replace('["movies-*"]', '"movies"'), 'rules[0].indices = "movies": a list is needed'),
        (RULE.replace("movies-*", ""), 'rules[0].indices[0] = "": string should have at least 1 character'),
        ("[limits]\ndeadline_s = 40", "limits.deadline_s = 40.0: at most limits.max_deadline_s = 30.0"),
        (
            "[limits]\nmax_held_bytes = 5000000",
            "limits: max_answer_bytes = 33554432: at most max_held_bytes = 5000000",
        ),
        ("[server]\nmax_connections = 0", "server.max_connections = 0: input should be greater than or equal to 1"),
        ("[server]\nport = 70000", "server.port = 70000: input should be less than or equal to 65535"),
        ('[server]\nport = "80"', 'server.port = "80": input should be a valid integer'),
        ('[log]\nlevel = "INFO"', "log.level = \"INFO\": input should be 'debug', 'info', 'warning' or 'error'"),
        (
            '[scorers.x]\nkind = "llm"',
            "scorers.x.kind = \"llm\": input should be 'minilm', 'vllm' or 'transformers'",
        ),
        ("[scorers.x]\nkind = 5", "scorers.x.kind = 5: input should be 'minilm', "),
        ('[scorers.x]\nkind = ["vllm"]', "scorers.x.kind = [\"vllm\"]: input should be 'minilm', "),
        ('[scorers]\nx = "vllm"', 'scorers.x = "vllm": a table is needed'),
        ('[scorers.x]\nkind = "vllm"', "scorers.x.model: is missing"),
        ('[scorers.x]\nkind = "transformers"', "scorers.x.model: is missing"),
        ("[metrics]\nport = 70000", "metrics.port = 70000: input should be less than or equal to 65535"),
        ("[cache]\nreasoning_ttl_s = 0", "cache.reasoning_ttl_s = 0: input should be greater than or equal to 1"),
        (RULE + 'mode = "fast"', "rules[0].mode = \"fast\": input should be 'think', 'direct' or 'cascade'"),
        (RULE + 'score = "mean"', "rules[0].score = \"mean\": input should be 'paper' or 'expected'"),
        (RULE + "budget_tokens = 0", "rules[0].budget_tokens = 0: input should be greater than or equal to 1"),
        (RULE + "think_top = 0", "rules[0].think_top = 0: input should be greater than or equal to 1"),
        (RULE + "keep_reasoning = 1", "rules[0].keep_reasoning = 1: input should be a valid boolean"),
        (
            RULE + f'instruction = "{"a" * 2001}"',
            f'rules[0].instruction = "{"a" * 199}...: string should have at most 2000 characters',
        ),
        ("[scorers.x]\nconcurrency = 0", "scorers.x.concurrency = 0: input should be greater than or equal to 1"),
        ('[scorers."a b"]', "scorers.a b: string should match pattern"),
        ("[limits.max_window]", "limits.max_window: input should be a valid integer"),
    ],
)
def test_a_mistake_is_named_with_its_value_and_what_is_allowed(
    refusal: Callable[..., str], extra: str, problem: str
) -> None:
    """The error begins with the file, and says what the key's value was and what it may be."""
    message = refusal(NEEDED + extra)
    assert "config.toml: the configuration cannot be used:\n" in message
    assert f"\n  {problem}" in message


@pytest.mark.parametrize("pattern", [".security", "-movies", "_all", "a,b", "log-?", "log-[ab]"])
def test_patterns_that_mean_something_else_are_refused(refusal: Callable[..., str], pattern: str) -> None:
    """Patterns for system indices, exclusions, and wildcards that engines don't have are refused."""
    message = refusal(NEEDED + RULE.replace("movies-*", pattern))
    assert f"{pattern!r}: one index name or pattern each" in message


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:9200", "ftp://es:21", "http://", "http://es:port", "http://es:0", "http://es:99999", "http://[::1"],
)
def test_engine_urls_that_reach_nothing_are_refused(refusal: Callable[..., str], url: str) -> None:
    """Scheme, host and port are checked at the start."""
    message = refusal(NEEDED.replace("http://127.0.0.1:9200", url))
    assert f'upstream.urls[0] = "{url}": an http:// or https:// URL with a host' in message


@pytest.mark.parametrize("url", ["http://es:9200/path", "http://es:9200/?a=b", "http://es:9200/#a"])
def test_engine_urls_end_behind_the_port(refusal: Callable[..., str], url: str) -> None:
    """An engine URL ends after the port, since the path of a request is the caller's."""
    assert "must end behind host and port" in refusal(NEEDED.replace("http://127.0.0.1:9200", url))


def test_every_mistake_is_named_at_once(refusal: Callable[..., str]) -> None:
    """One start names every mistake."""
    message = refusal("[redis]\ntimeout_s = 0\n[limits]\nmax_window = 0\n" + RULE + "alpha = 2")
    assert [line.split(":")[0] for line in message.splitlines()[1:]] == [
        "  upstream",
        "  redis.url",
        "  redis.timeout_s = 0",
        "  limits.max_window = 0",
        "  rules[0].alpha = 2",
    ]


def test_what_is_missing_is_named(refusal: Callable[..., str]) -> None:
    """A required table or key that is missing is named."""
    assert refusal("").splitlines()[1:] == ["  upstream: is missing", "  redis: is missing"]
    assert "\n  rules[0].name: is missing" in refusal(NEEDED + RULE.replace("name", "#"))


@pytest.mark.parametrize(
    ("extra", "key", "meant"),
    [
        ("[limit]", "limit", "limits"),
        ("[limits]\nwindow = 5", "limits.window", "max_window"),
        ("[server]\nports = 5", "server.ports", "port"),
        (RULE + "aplha = 0.1", "rules[0].aplha", "alpha"),
        (RULE + "deadline = 1", "rules[0].deadline", "deadline_s"),
        ("[scorers.mine]\nbatchsize = 5", "scorers.mine.batchsize", "batch_size"),
        ("[scorers.redis]\nthread = 5", "scorers.redis.thread", "threads"),
        ('[scorers.x]\nkind = "vllm"\nmodle = "m"', "scorers.x.modle", "model"),
        (
            '[scorers.x]\nkind = "vllm"\ngpu_memory_utilization = 0.5',
            "scorers.x.gpu_memory_utilization",
            "gpu_memory_share",
        ),
        ('[scorers.x]\nkind = "transformers"\ndevise = "cpu"', "scorers.x.devise", "device"),
        (RULE + "budget = 100", "rules[0].budget", "budget_tokens"),
    ],
)
def test_an_unknown_key_is_named_with_its_nearest(
    refusal: Callable[..., str], extra: str, key: str, meant: str
) -> None:
    """A misspelt key is an error, not a default, and the error says what was probably meant."""
    assert f"\n  {key}: unknown key; did you mean {meant!r}? allowed are " in refusal(NEEDED + extra)


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_without_a_neighbour_lists_what_is_allowed(refusal: Callable[..., str], section: str) -> None:
    """If no key is similar, the error lists the keys that the table has."""
    heading, place = ("[[rules]]", "rules[0]") if section == "rules" else (f"[{section}]", section)
    allowed = ", ".join(SECTIONS[section].model_fields)
    assert f"\n  {place}.qqqqqq: unknown key; allowed are {allowed}" in refusal(f"{heading}\nqqqqqq = 1\n")


@pytest.mark.parametrize("kind", SCORER_KINDS)
def test_an_unknown_key_of_a_scorer_lists_those_of_its_kind(refusal: Callable[..., str], kind: str) -> None:
    """For an unknown key of a scorer, the error lists only the keys of its own kind."""
    message = refusal(NEEDED + f'[scorers.x]\nkind = "{kind}"\nqqqqqq = 1\n')
    allowed = ", ".join(SCORER_KINDS[kind].model_fields)
    assert f"\n  scorers.x.qqqqqq: unknown key; allowed are {allowed}" in message


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('model = "m"', "model: unknown key; kind 'minilm' has none, kind 'vllm' or 'transformers' would"),
        (LLM.format("vllm") + 'device = "cpu"', "device: unknown key; kind 'vllm' has none, kind 'transformers' would"),
        (
            LLM.format("transformers") + "tensor_parallel_size = 2",
            "tensor_parallel_size: unknown key; kind 'transformers' has none, kind 'vllm' would",
        ),
        (LLM.format("vllm") + "threads = 4", "threads: unknown key; kind 'vllm' has none, kind 'minilm' would"),
    ],
)
def test_a_key_of_another_kind_is_named_with_that_kind(refusal: Callable[..., str], lines: str, problem: str) -> None:
    """A missing `kind` means MiniLM, so the error for a key of another kind names both kinds."""
    assert f"\n  scorers.x.{problem}" in refusal(NEEDED + "[scorers.x]\n" + lines)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('dtype = "fp4"', "dtype = \"fp4\": input should be 'auto', 'bfloat16', 'float16' or 'float32'"),
        ("revision = 12", "revision = 12: input should be a valid string"),
        ("max_think_tokens = 0", "max_think_tokens = 0: input should be greater than or equal to 1"),
        ('long_documents = "chunk"', "long_documents = \"chunk\": input should be 'cut' or 'best_chunk'"),
        ("max_chunks = 1", "max_chunks = 1: input should be greater than or equal to 2"),
        ("start_timeout_s = 3601", "start_timeout_s = 3601: input should be less than or equal to 3600"),
        ("gpu_memory_share = 1.5", "gpu_memory_share = 1.5: input should be less than or equal to 1"),
        ("gpu_memory_share = 0", "gpu_memory_share = 0: input should be greater than 0"),
        ("tensor_parallel_size = 0", "tensor_parallel_size = 0: input should be greater than or equal to 1"),
        (
            'quantization = "fp8"',
            "quantization = \"fp8\": input should be 'none', 'fp8_per_tensor', 'fp8_per_channel' or ",
        ),
        ('kv_cache_dtype = "int8"', "kv_cache_dtype = \"int8\": input should be 'auto' or 'fp8'"),
        ("compile = 1", "compile = 1: input should be a valid boolean"),
    ],
)
def test_a_mistake_in_a_scorer_is_named_by_its_key(refusal: Callable[..., str], lines: str, problem: str) -> None:
    """A mistake in a scorer is named by its key as the file writes it, without the kind."""
    message = refusal(NEEDED + "[scorers.erank]\n" + LLM.format("vllm") + lines)
    assert f"\n  scorers.erank.{problem}" in message
    assert len(message.splitlines()) == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, refusal: Callable[..., str]) -> None:
    """No such file, a folder, bytes that aren't text, and text that isn't TOML each say so."""
    with pytest.raises(SettingsError, match=r"missing\.toml: cannot be read: No such file"):
        load_settings(tmp_path / "missing.toml", {})
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load_settings(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(SettingsError, match=r"latin\.toml: is not TOML"):
        load_settings(tmp_path / "latin.toml", {})
    assert "config.toml: is not TOML: " in refusal("[upstream")


# Secrets


@pytest.mark.parametrize(
    "file",
    [
        NEEDED.replace("redis://", f"radis://:{PASSWORD}@"),
        NEEDED.replace("redis://", f"redis://:a/{PASSWORD}@"),
        NEEDED.replace("redis://", f"redis://:{PASSWORD}℀@"),
        NEEDED.replace('"redis://127.0.0.1:6379/0"', f'["redis://:{PASSWORD}@127.0.0.1"]'),
        f'redis = "redis://:{PASSWORD}@127.0.0.1:6379/0"\n' + NEEDED.partition("[redis]")[0],
        NEEDED.replace("url =", "uri =").replace("redis://", f"redis://:{PASSWORD}@"),
        NEEDED.replace("http://", f"http://user:{PASSWORD}@"),
        NEEDED.replace("http://", f"http://{PASSWORD}℀@"),
        NEEDED.replace('["http://127.0.0.1:9200"]', f'"http://user:{PASSWORD}@127.0.0.1:9200"'),
        f'upstream = "http://user:{PASSWORD}@127.0.0.1:9200"\n' + NEEDED[NEEDED.index("[redis]") :],
    ],
    ids=[
        "scheme", "slash", "strange", "list", "no-table", "key", "engine", "engine-strange", "engine-list",
        "engine-no-table",
    ],
)  # fmt: skip
def test_no_message_has_a_password(refusal: Callable[..., str], file: str) -> None:
    """However wrong the line with the password is, the error doesn't repeat it."""
    assert PASSWORD not in refusal(file)


def test_no_message_about_a_variable_has_its_value(refusal: Callable[..., str]) -> None:
    """An error about a variable with a wrong name or form doesn't show its value, which may be a password."""
    for name in ("REDIS__URL", "REDIS", "REDIS__URL__X", "RULES__0__URL"):
        variable = f"ES_RERANK__{name}"
        message = refusal(NEEDED, **{variable: f"radis://:{PASSWORD}@host"})
        assert variable in message
        assert PASSWORD not in message


def test_no_repr_has_a_password(load: Callable[..., Settings]) -> None:
    """Settings that are printed or logged show no password."""
    settings = load(NEEDED.replace("redis://", f"redis://:{PASSWORD}@"))
    shown = f"{settings!r} {settings} {settings.redis!r} {settings.redis.url} {settings.model_dump_json()}"
    assert PASSWORD not in shown
    with pytest.raises(ValidationError) as failure:
        RedisSettings.model_validate({"url": f"radis://:{PASSWORD}@host"})
    assert PASSWORD not in str(failure.value)


def test_engine_urls_carry_no_password(refusal: Callable[..., str]) -> None:
    """An engine URL with a password is refused: the proxy has no credentials of its own."""
    problem = refusal(NEEDED.replace("http://", "http://user@")).splitlines()[1:]
    assert len(problem) == 1
    assert problem[0].startswith("  upstream.urls[0] = (hidden): must carry no user or password: ")


# The environment


def test_a_variable_wins_over_the_file(load: Callable[..., Settings]) -> None:
    """For each key by itself, the environment wins over the file, and the file over the default."""
    settings = load(
        WHOLE,
        ES_RERANK__SERVER__PORT="9400",
        ES_RERANK__RULES__0__ALPHA="0.7",
        ES_RERANK__LIMITS__DEADLINE_S="5",
        ES_RERANK__UPSTREAM__URLS='["http://a:1", "http://b:2"]',
        ES_RERANK__SCORERS__MINE__BATCH_SIZE="4",
    )
    assert (settings.server.port, settings.server.host) == (9400, "127.0.0.1")
    assert (settings.rules[0].alpha, settings.rules[0].deadline_s) == (0.7, 3)
    assert (settings.limits.deadline_s, settings.limits.max_deadline_s) == (5, 30)
    assert settings.upstream.urls == ("http://a:1", "http://b:2")
    assert settings.scorers == {"mine": MinilmSettings(batch_size=4)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain words", "plain words"),
        ('"quoted"', "quoted"),
        ("'2024'", "2024"),
        ("", ""),
        ("a = b", "a = b"),
        ("5\nalpha = 1", "5\nalpha = 1"),
        ("[unclosed", "[unclosed"),
    ],
)
def test_a_value_that_is_no_toml_is_text(load: Callable[..., Settings], text: str, value: str) -> None:
    """Words need no quotation marks, and a second line is text too, not another key."""
    assert load(WHOLE, ES_RERANK__RULES__0__INSTRUCTION=text).rules[0].instruction == value


def test_text_that_looks_like_a_number_needs_its_quotation_marks(refusal: Callable[..., str]) -> None:
    """A variable's value is read as TOML, and an error names the variable."""
    message = refusal(WHOLE, ES_RERANK__RULES__0__INSTRUCTION="2024")
    assert "config.toml under ES_RERANK__RULES__0__INSTRUCTION: the configuration cannot be used" in message
    assert "rules[0].instruction = 2024: input should be a valid string" in message


def test_a_list_can_be_set_whole_and_then_changed(load: Callable[..., Settings]) -> None:
    """Rules may come from the environment alone; a variable with a longer path changes what a shorter one set."""
    rules = '[{name = "all", indices = ["*"], fields = ["text"], alpha = 0.1}]'
    settings = load(NEEDED, ES_RERANK__RULES__0__ALPHA="0.9", ES_RERANK__RULES=rules)
    assert [(rule.name, rule.alpha) for rule in settings.rules] == [("all", 0.9)]


def test_a_variable_finds_a_name_in_capitals(load: Callable[..., Settings]) -> None:
    """A variable in capitals finds a name in the file in any case, and changes it instead of adding one."""
    settings = load(NEEDED + "[scorers.My-Model]\nthreads = 4\n", **{"ES_RERANK__SCORERS__MY-MODEL__THREADS": "8"})
    assert settings.scorers == {"My-Model": MinilmSettings(threads=8)}


@pytest.mark.parametrize(
    "name", ["RULES__1__ALPHA", "RULES__FIRST__ALPHA", "SERVER__PORT__X", "RULES__0__ALPHA__X", "SERVER____PORT", ""]
)
def test_a_variable_without_a_place_is_an_error(refusal: Callable[..., str], name: str) -> None:
    """A variable that points to no place in the configuration stops the start, and the error names it."""
    message = refusal(WHOLE + "alpha = 0.5", **{f"ES_RERANK__{name}": "1"})
    assert message == f"ES_RERANK__{name}: the configuration has no such place for it to change"


def test_a_variable_for_an_item_of_no_list_is_an_error(refusal: Callable[..., str]) -> None:
    """Without rules in the file there is no first rule to change."""
    assert refusal(NEEDED, ES_RERANK__RULES__0__ALPHA="1").startswith("ES_RERANK__RULES__0__ALPHA: ")


def test_other_variables_are_not_read(load: Callable[..., Settings]) -> None:
    """Only variables with the prefix are read, and only from the environment that is passed in."""
    others = {"ES_RERANK_SERVER__PORT": "1", "SERVER__PORT": "2", "es_rerank__server__port": "3", "PATH": "["}
    assert load(WHOLE, **others) == load(WHOLE)


def test_an_unknown_variable_is_an_unknown_key(refusal: Callable[..., str]) -> None:
    """A misspelt variable is an error too, and the error names the variable."""
    message = refusal(WHOLE, ES_RERANK__REDIS_URL="redis://other")
    assert message.splitlines()[0].endswith("under ES_RERANK__REDIS_URL: the configuration cannot be used:")
    assert "\n  redis_url: unknown key; did you mean 'redis'?" in message


# Rules and scorers


def test_a_rules_deadline_wins_over_the_limits(load: Callable[..., Settings]) -> None:
    """A rule's deadline wins; a rule without one has that of `limits`."""
    settings = load(WHOLE + RULE.replace('"movies"', '"other"') + "[limits]\ndeadline_s = 1.5")
    assert [bound.deadline_s for bound in settings.book().rules] == [3.0, 1.5]


def test_only_the_scorers_that_rules_name_are_used(load: Callable[..., Settings]) -> None:
    """A configured scorer may replace the built-in one by its name; an unused one is known and not used."""
    scorers = "[scorers.minilm]\nthreads = 3\n[scorers.fast]\ncompute_type = 'int8'\n[scorers.idle]\n"
    settings = load(NEEDED + scorers + RULE + 'scorer = "fast"')
    assert list(settings.known_scorers()) == ["minilm", "fast", "idle"]
    assert settings.known_scorers()["minilm"] == MinilmSettings(threads=3)
    assert list(settings.used_scorers()) == ["fast"]


def test_a_scorer_is_of_the_kind_that_it_names(load: Callable[..., Settings]) -> None:
    """A scorer's kind decides its keys and defaults; without a kind it is MiniLM."""
    tables = f"[scorers.v]\n{LLM.format('vllm')}[scorers.t]\n{LLM.format('transformers')}[scorers.m]\n"
    assert load(NEEDED + tables).scorers == {
        "v": VllmSettings(kind="vllm", model="owner/model"),
        "t": TransformersSettings(kind="transformers", model="owner/model"),
        "m": MinilmSettings(),
    }
    found = load(NEEDED + tables).scorers
    assert all(isinstance(scorer, LlmSettings) == (name != "m") for name, scorer in found.items())


def test_what_a_new_section_says_by_itself(load: Callable[..., Settings]) -> None:
    """By default no metrics are served, thinking is on, and reasoning is not kept."""
    settings = load(THINKING)
    assert (settings.metrics.host, settings.metrics.port) == ("127.0.0.1", None)
    assert settings.cache.reasoning_ttl_s == 86_400
    [rule] = settings.rules
    assert (rule.mode, rule.budget_tokens, rule.think_top) == ("think", None, 20)
    assert (rule.score, rule.keep_reasoning) == ("paper", False)


def test_a_variable_reaches_a_scorer_of_any_kind(load: Callable[..., Settings]) -> None:
    """A variable may name a scorer's model, or set a whole scorer with its kind."""
    settings = load(
        ERANK,
        ES_RERANK__SCORERS__ERANK__MODEL="/models/erank-4b",
        ES_RERANK__SCORERS__ERANK__GPU_MEMORY_SHARE="0.5",
        ES_RERANK__SCORERS__OTHER__KIND="transformers",
        ES_RERANK__SCORERS__OTHER__MODEL="owner/other",
        ES_RERANK__METRICS__PORT="9400",
    )
    assert settings.scorers == {
        "erank": VllmSettings(kind="vllm", model="/models/erank-4b", max_think_tokens=1024, gpu_memory_share=0.5),
        "other": TransformersSettings(kind="transformers", model="owner/other"),
    }
    assert settings.metrics.port == 9400


# Thinking


@pytest.mark.parametrize(
    "lines",
    [
        'mode = "direct"',
        'mode = "cascade"\nthink_top = 5\nbudget_tokens = 64',
        "budget_tokens = 1024",
        'score = "expected"\nkeep_reasoning = true',
    ],
)
def test_a_rule_says_how_its_scorer_thinks(load: Callable[..., Settings], lines: str) -> None:
    """A rule may set every key about thinking if its scorer thinks."""
    [rule] = load(THINKING + lines).rules
    assert rule.model_fields_set > {line.split()[0] for line in lines.splitlines()}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('mode = "direct"', 'mode = "direct"'),
        ('mode = "think"', 'mode = "think"'),
        ("budget_tokens = 64", "budget_tokens = 64"),
        ("think_top = 5", "think_top = 5"),
        ('score = "expected"', 'score = "expected"'),
        ("keep_reasoning = true", "keep_reasoning = true"),
    ],
)
def test_a_scorer_that_does_not_think_is_told_nothing_about_it(
    refusal: Callable[..., str], line: str, shown: str
) -> None:
    """A key about thinking is an error if the scorer does not think: the scorer's name is probably wrong."""
    problem = f"rules[0].{shown}: the scorer 'minilm' is of kind 'minilm', which does not think"
    assert f"\n  {problem}" in refusal(NEEDED + RULE + line)


def test_a_budget_fits_mode_and_scorer(refusal: Callable[..., str]) -> None:
    """A budget is refused with mode `direct`, and above the scorer's `max_think_tokens`."""
    direct = refusal(THINKING + 'mode = "direct"\nbudget_tokens = 64')
    assert "\n  rules[0].budget_tokens = 64: mode 'direct' answers without thinking" in direct
    above = refusal(THINKING + "budget_tokens = 1025")
    assert "\n  rules[0].budget_tokens = 1025: at most scorers.erank.max_think_tokens = 1024" in above


# The book


def test_the_book_is_that_of_the_file(load: Callable[..., Settings]) -> None:
    """The rules come in their order, each with its scorer, under the file's limits."""
    settings = load(
        ERANK + RULE + 'scorer = "erank"\n' + RULE.replace('"movies"', '"other"') + "[limits]\nmax_window = 150"
    )
    book = settings.book()
    assert [bound.rule for bound in book.rules] == list(settings.rules)
    assert [bound.scorer for bound in book.rules] == [settings.scorers["erank"], MinilmSettings()]
    assert book.limits == settings.limits
    assert book.version == settings.book().version
