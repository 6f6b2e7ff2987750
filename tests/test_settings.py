"""The configuration: what loads, what wins, and that every mistake is named with key, value and what is allowed."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from es_rerank.broker import make_celery, make_redis
from es_rerank.doubts import doubts_about
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
OTHER_RULE = RULE.replace('"movies"', '"other"').replace("movies-*", "books")
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


def test_a_certificate_file_has_a_certificate(
    load: Callable[..., Settings], refusal: Callable[..., str], tmp_path: Path
) -> None:
    """A file without a certificate is found at the start, not by the first search."""
    good, key, empty = tmp_path / "ca.pem", tmp_path / "key.pem", tmp_path / "empty.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(good)
    authority.private_key_pem.write_to_path(key)
    empty.touch()
    https = {"ES_RERANK__UPSTREAM__URLS": '["https://es"]'}
    assert load(NEEDED, ES_RERANK__UPSTREAM__CA_FILE=str(good), **https).upstream.ca_file == good
    for file, problem in [
        (tmp_path / "missing.pem", "no such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (empty, "has no certificate in it"),
        (key, "has no certificate in it"),
    ]:
        message = refusal(NEEDED, ES_RERANK__UPSTREAM__CA_FILE=str(file), **https)
        assert "upstream.ca_file = " in message
        assert f": {problem}; a file of PEM certificates is needed" in message
    both = {"ES_RERANK__UPSTREAM__CA_FILE": str(good), "ES_RERANK__UPSTREAM__VERIFY_TLS": "false"}
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
        (
            '[server]\nsniffed_address = "h"',
            'server.sniffed_address = "h": must be HOST:PORT, without a scheme, with',
        ),
        ("[server]\nport = 70000", "server.port = 70000: input should be less than or equal to 65535"),
        (
            '[server]\nhost = "0.0.0.0:80"',
            'server.host = "0.0.0.0:80": a host name or an IP address is needed, without',
        ),
        ('[server]\nhost = "http://h"', "server.host = (hidden): a host name or an IP address is needed, without"),
        ('[server]\nhost = "[::1]"', 'server.host = "[::1]": a host name or an IP address is needed, without'),
        ('[metrics]\nhost = "a b"', 'metrics.host = "a b": a host name or an IP address is needed, without'),
        ('[server]\nport = "80"', 'server.port = "80": input should be a valid integer'),
        ('[log]\nlevel = "INFO"', "log.level = \"INFO\": input should be 'debug', 'info', 'warning' or 'error'"),
        (
            '[scorers.x]\nkind = "llm"',
            "scorers.x.kind = \"llm\": input should be 'minilm', 'e5', 'vllm' or 'transformers'",
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


@pytest.mark.parametrize("pattern", [".security", "-movies", "_all", "+a", "a,b", "log-?", "log-[ab]"])
def test_patterns_that_mean_something_else_are_refused(refusal: Callable[..., str], pattern: str) -> None:
    """Patterns for system indices, exclusions, and wildcards that engines don't have are refused."""
    message = refusal(NEEDED + RULE.replace("movies-*", pattern))
    assert f"{pattern!r}: one index name or pattern each" in message


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("127.0.0.1:9200", "this one begins otherwise"),
        ("ftp://es:21", "this one begins otherwise"),
        ("http:es", "this one begins otherwise"),
        ("http:/es", "this one begins otherwise"),
        ("http://", "this one has no host"),
        ("http://:9200", "this one has no host"),
        ("http://es:port", "the port of this one is none"),
        ("http://es:0", "the port of this one is none"),
        ("http://es:99999", "the port of this one is none"),
        ("http://[::1", "the host of this one can't be read"),
        (" http://es", "this one has a blank or a character that can't be printed"),
        ("http://e s", "this one has a blank or a character that can't be printed"),
    ],
)
def test_engine_urls_that_reach_nothing_are_refused(refusal: Callable[..., str], url: str, found: str) -> None:
    """Scheme, host and port are checked at the start. The error says what is wrong, and repeats nothing of the URL."""
    message = refusal(NEEDED.replace("http://127.0.0.1:9200", url))
    assert "upstream.urls[0] = (hidden): an http:// or https:// URL with a host, and a port from 1 to" in message
    assert message.endswith(f" is needed: {found}")


@pytest.mark.parametrize(
    "urls",
    [
        ["http://es:9200", "http://es:9200"],
        ["http://es", "http://ES:80/"],
        ["https://es:9200", "http://es.:9200"],
        ["http://[::1]:9200", "http://[0:0:0:0:0:0:0:1]:9200"],
    ],
)
def test_a_host_is_named_once(refusal: Callable[..., str], load: Callable[..., Settings], urls: list[str]) -> None:
    """Two URLs of the same host and port are refused, however they are written: a host can't stand in for itself."""
    message = refusal(NEEDED, ES_RERANK__UPSTREAM__URLS=json.dumps(["http://other", *urls]))
    assert "upstream.urls = (hidden): [1] and [2] are the same host and port: name each host once" in message
    assert load(NEEDED, ES_RERANK__UPSTREAM__URLS='["http://es:1", "http://es:2", "http://fs:1"]').upstream.urls


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9300"),
        ("127.0.0.1", "http://localhost:9300"),
        ("127.0.0.1", "http://0.0.0.0:9300"),
        ("localhost", "http://[::1]:9300"),
        ("0.0.0.0", "http://127.0.0.1:9300"),
        ("0.0.0.0", "http://LOCALHOST:9300"),
        ("::", "http://127.0.0.1:9300"),
        ("::1", "https://[::1]:9300"),
        ("proxy.example", "http://Proxy.example.:9300"),
        ("10.0.0.1", "http://10.0.0.1:9300"),
    ],
)
def test_the_proxy_is_not_its_own_engine(refusal: Callable[..., str], server: str, url: str) -> None:
    """A URL that leads back to the proxy is refused; without the check every search would call the next one."""
    message = refusal(
        NEEDED, ES_RERANK__SERVER__HOST=f'"{server}"', ES_RERANK__UPSTREAM__URLS=f'["http://es", "{url}"]'
    )
    assert f'upstream.urls[1]: is the proxy itself, which listens on server.host = "{server}", ' in message


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9200"),
        ("127.0.0.1", "http://127.0.0.2:9300"),
        ("127.0.0.1", "http://[::1]:9300"),
        ("0.0.0.0", "http://[::1]:9300"),
        ("0.0.0.0", "http://es:9300"),
        ("10.0.0.1", "http://10.0.0.2:9300"),
        ("10.0.0.1", "http://127.0.0.1:9300"),
    ],
)
def test_another_host_or_port_is_not_the_proxy(load: Callable[..., Settings], server: str, url: str) -> None:
    """Only what leads to the proxy for certain is refused: an engine may listen on the same port of another address."""
    assert load(NEEDED, ES_RERANK__SERVER__HOST=f'"{server}"', ES_RERANK__UPSTREAM__URLS=f'["{url}"]')


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://h/abc", "must end in the number of the database"),
        ("redis://h/0/", "must end in the number of the database"),
        ("redis://h//0", "must end in the number of the database"),
        ("redis://h/-1", "must end in the number of the database"),
        ("redis://h/0?db=x", "must have nothing behind '?' but, for rediss:// and each once, ssl_cert_reqs, "),
        ("redis://h?db=3", "must have nothing behind '?' but"),
        ("redis://h/0?", "must have nothing behind '?' but"),
        ("redis://h/0?ssl_cert_reqs=none", "must have nothing behind '?' but, for rediss://"),
        ("rediss://h/0?protocol=3", "must have nothing behind '?' but"),
        ("rediss://h/0?ssl_cert_reqs=none&ssl_cert_reqs=none", "must have nothing behind '?' but"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "ssl_cert_reqs in it must be none or optional or required"),
        ("rediss://h/0?ssl_check_hostname=no", "ssl_check_hostname in it must be true or false"),
        ("rediss://h/0?ssl_ca_certs=/none.pem", "the file that ssl_ca_certs names in it: no such file"),
        ("redis://h/0#1", "must have no '#'; in a password it is written as %23"),
        ("redis://name@h/0", "has a user and no password; a password alone is written behind a colon"),
        ("redis://name:@h/0", "has a user and no password"),
        ("redis:h", "a redis:// or rediss:// URL with a host, and a port from 1 to 65535 if any, is needed"),
        ("redis://h:0", "the port of this one is none; special characters of a password are written in percent-enc"),
    ],
)
def test_redis_urls_that_would_be_read_in_two_ways_are_refused(
    refusal: Callable[..., str], url: str, problem: str
) -> None:
    """Redis's client and Celery read odd URLs differently, and late: what only one of them takes is refused here."""
    [_, line] = refusal(NEEDED, ES_RERANK__REDIS__URL=url).splitlines()
    assert line.startswith(f"  redis.url = (hidden): {problem}") or problem in line


@pytest.mark.parametrize(
    "url",
    [
        "redis://h", "redis://h/", "redis://h:1/15", "redis://u:p@h", "redis://:p%40%2F%23@[::1]:6379/2", "REDIS://h/3",
        "Rediss://h",
        "rediss://h", "rediss://h/1?ssl_cert_reqs=none", "rediss://h?ssl_cert_reqs=required&ssl_check_hostname=false",
    ],
)  # fmt: skip
def test_redis_urls_mean_the_same_to_both_clients(load: Callable[..., Settings], url: str) -> None:
    """What is taken is one server, database and login for Redis's own client and for Celery."""
    settings = load(NEEDED, ES_RERANK__REDIS__URL=url).redis
    kept = make_redis(settings).connection_pool.connection_kwargs
    with make_celery(settings).connection() as celery:
        assert (kept["host"], kept.get("port", 6379)) == (celery.hostname, celery.port or 6379)
        assert (kept.get("username"), kept.get("password")) == (celery.userid, celery.password)
        assert kept.get("db", 0) == int(celery.virtual_host.strip("/") or 0)
        assert settings.url.get_secret_value().startswith(("rediss://", "redis://"))


@pytest.mark.parametrize("url", ["http://es:9200/path", "http://es:9200/?a=b", "http://es:9200/#a"])
def test_engine_urls_end_behind_the_port(refusal: Callable[..., str], url: str) -> None:
    """An engine URL ends after the port, since the path of a request is the caller's."""
    assert "must end behind host and port" in refusal(NEEDED.replace("http://127.0.0.1:9200", url))


def test_a_pattern_that_can_match_nothing_is_refused(refusal: Callable[..., str]) -> None:
    """A pattern that no index can have a name for is an error that says why."""
    message = refusal(NEEDED + RULE.replace("movies-*", "my movies"))
    assert "rules[0].indices = [\"my movies\"]: 'my movies': can match no index: no name has a blank" in message


def test_a_rule_that_earlier_rules_hide_is_refused(refusal: Callable[..., str]) -> None:
    """A rule of which no index is left for it is an error that names the rules that come before it."""
    other = '[[rules]]\nname = "{}"\nindices = {}\nfields = ["text"]\n'
    rules = other.format("all", '["movies*"]') + other.format("new", '["movies-2*", "movies-new"]')
    message = refusal(NEEDED + rules)
    assert '\n  rules[1].indices = ["movies-2*", "movies-new"]: this rule is never used, ' in message
    assert "before it 'all' takes all of these" in message


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
        (LLM.format("vllm") + "threads = 4", "threads: unknown key; kind 'vllm' has none, kind 'minilm' or 'e5' would"),
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


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a = '\xff'", "is not TOML: it is not UTF-8 text, from byte 5 on; save it in UTF-8"),
        ("[upstream]".encode("utf-16"), "is not TOML: it is not UTF-8 text, from byte 0 on; save it in UTF-8"),
        (b"[upstream", "is not TOML: end of document: expected ']' at the end of a table declaration"),
        (b"\n\nurl", "is not TOML: end of document: expected '=' after a key in a key/value pair"),
        (b"\nurl = redis://h", "is not TOML: line 2, column 7: invalid value"),
        (b"a = 1\na = 2", "is not TOML: end of document: cannot overwrite a value"),
        (b"[secret]\n[secret]", "is not TOML: line 2, column 8: a key or a table is there twice"),
        (b"a = {secret = 1, secret = 2}", "is not TOML: line 1, column 28: a key or a table is there twice"),
        (b"a = " + b"[" * 5000, "is not TOML: it has a number that is too long, or is nested too deep"),
        (b"a = " + b"9" * 5000, "is not TOML: it has a number that is too long, or is nested too deep"),
        (b"", "the file is empty, so the configuration cannot be used:\n  upstream: is missing\n  redis: is missing"),
        (b"# nothing\n", "the file is empty, so the configuration cannot be used:\n  upstream: is missing"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    """Bytes that aren't text, text that isn't TOML, and a file of nothing each say so, and where; none is quoted."""
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as failure:
        load_settings(file, {})
    assert str(failure.value).startswith(f"{file}: {problem}")
    assert "secret" not in str(failure.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """No such file, and a folder, each say so."""
    with pytest.raises(SettingsError, match=r"missing\.toml: cannot be read: No such file"):
        load_settings(tmp_path / "missing.toml", {})
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load_settings(tmp_path, {})


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    """A file may begin with the mark that some editors write."""
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf" + WHOLE.encode())
    assert load_settings(file, {}).rules


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
        NEEDED + f'[scorers."redis://:{PASSWORD}@h"]\nkind = 1',
        NEEDED + f'[log]\nlevel = "redis://:{PASSWORD}@h"',
        NEEDED.replace("http://", f"http://user:{PASSWORD}@"),
        NEEDED.replace("http://", f"http://{PASSWORD}℀@"),
        NEEDED.replace('["http://127.0.0.1:9200"]', f'"http://user:{PASSWORD}@127.0.0.1:9200"'),
        f'upstream = "http://user:{PASSWORD}@127.0.0.1:9200"\n' + NEEDED[NEEDED.index("[redis]") :],
    ],
    ids=[
        "scheme", "slash", "strange", "list", "no-table", "key", "scorer", "log", "engine", "engine-strange",
        "engine-list", "engine-no-table",
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


MARK = "zQ7"
# Every part between two characters that mean something in a URL or in TOML has the mark: no part may be shown.
SECRETS = st.lists(st.sampled_from([*"@:/?#%&=[]{}'\"\\ .,-_+é0"]), max_size=4).map(
    lambda parts: MARK + MARK.join(parts) + MARK
)
SECRET_URLS = st.sampled_from(
    [
        "{}", "{}@h", ":{}@h:6379", "redis://:{}@h:6379/0", "redis://{}@h/0", "redis://u:{}@", "redis://h:{}/0",
        "redis://[{}]/0", "redis://h/{}", "redis://h/0?password={}", "rediss://h/0?ssl_ca_certs={}", "redis://h/0?{}",
        "rediss://h/0?ssl_cert_reqs={}", "redis://h/0#{}", "redis//:{}@h", "redis:/:{}@h", "redis:{}@h", " redis://{}@h",
        "radis://:{}@h", "redis://:{}@h:port/0", "redis://:12/{}@h:6379", "http://u:{}@h:9200", "https://u:{}@h",
        "https//u:{}@h", "https:/u:{}@h", "http://{}:9200/", "http://h/{}", "http://h:9200?{}", "ftp://u:{}@h",
        "http://u:{}", "http://h:9200#{}", "http://[{}",
    ]
)  # fmt: skip
# Each a whole file, with TOML text where {} is.
SECRET_PLACES = st.sampled_from(
    """\
redis.url = {}; upstream.urls = ["http://h"]
redis.url = [{}]; upstream.urls = ["http://h"]
redis = {}; upstream.urls = ["http://h"]
redis = [{}]; upstream.urls = ["http://h"]
redis.url.url = {}; upstream.urls = ["http://h"]
redis = {{url = "redis://h", timeout_s = {}}}
redis = {{uri = {}}}
redis = {{password = {}}}
redis = {{{} = 1}}
redis.{} = 1; upstream.urls = [1]
upstream.urls = [{}]; redis.url = "redis://h"
upstream.urls = {}; redis.url = "redis://h"
upstream.urls = ["http://h", {}]
upstream = {{urls = {{url = {}}}}}
upstream = {}
upstream = [{}]
upstream = {{url = {}}}
upstream = {{verify_tls = {}, read_timeout_s = {}, max_connections = [{}]}}
upstream = {{ca_file = [{}]}}
upstream = {{{} = 1}}
{} = 1
[redis]; {}
[redis]; url = 1; {} = 1; {} = 1
[{}]; [{}]
a = {{{} = 1, {} = 2}}
cache.url = {}
rerank_api = {}
rerank_api.keys = {}
rerank_api = {{keys = [{}], scorers = {{m = {}}}, default_model = {}}}
rerank_api = {{keys = {{a = {}}}, mode = {}, deadline_s = {}}}
""".replace("; ", "\n").splitlines()
)


@given(secret=SECRETS, url=SECRET_URLS, place=SECRET_PLACES, bare=st.booleans(), by_variable=st.booleans())
def test_no_message_has_any_part_of_a_secret(
    tmp_path_factory: pytest.TempPathFactory, secret: str, url: str, place: str, *, bare: bool, by_variable: bool
) -> None:
    """No part of a secret is repeated, wherever it stands in the values or keys of [redis] and [upstream]."""
    file = tmp_path_factory.mktemp("secret") / "config.toml"
    text = url.format(secret)
    written = text if bare else json.dumps(text, ensure_ascii=False)
    environment = {}
    if by_variable:
        environment = {"ES_RERANK__REDIS__URL": written, "ES_RERANK__UPSTREAM__URLS": f"[{written}]"}
        written = json.dumps("redis://h")
    file.write_text(place.format(*[written] * 3), encoding="utf-8")
    try:
        settings = load_settings(file, environment)
        said = f"{settings.redis!r} {settings.redis} {settings.redis.model_dump_json()}"
        said += "".join(doubts_about(settings, environment))
    except SettingsError as error:
        said = "".join(traceback.format_exception(error))
    assert MARK not in said


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
    "name",
    [
        "RULES__1__ALPHA",
        "RULES__-1__ALPHA",
        "RULES__FIRST__ALPHA",
        "SERVER__PORT__X",
        "RULES__0__ALPHA__X",
        "SERVER____PORT",
        "",
    ],
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
    assert message.endswith("\n  ES_RERANK__REDIS_URL: did you mean ES_RERANK__REDIS__URL?")


# Rules and scorers


def test_a_rules_deadline_wins_over_the_limits(load: Callable[..., Settings]) -> None:
    """A rule's deadline wins; a rule without one has that of `limits`."""
    settings = load(WHOLE + OTHER_RULE + "[limits]\ndeadline_s = 1.5")
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
    settings = load(ERANK + RULE + 'scorer = "erank"\n' + OTHER_RULE + "[limits]\nmax_window = 150")
    book = settings.book()
    assert [bound.rule for bound in book.rules] == list(settings.rules)
    assert [bound.scorer for bound in book.rules] == [settings.scorers["erank"], MinilmSettings()]
    assert book.limits == settings.limits
    assert book.version == settings.book().version
