"""`check-config --engine` on engines: indices, mappings and texts, and what an engine refuses."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from es_rerank.cli import main
from es_rerank.demo.processes import free_port
from tests.conftest import real_engine_process, send_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Engine

    Output = pytest.CaptureFixture[str]

FILMS: dict[str, dict[str, Any]] = {
    "1": {"title": "A robot in love", "text": "It learns.\nSlowly."},
    "2": {"title": "Robot wars", "year": 1999},
}


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take logins out of the environment in which the tests run."""
    for name in ("ES_RERANK_INGEST_PASSWORD", "ES_RERANK_INGEST_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def check(tmp_path: Path, capsys: Output) -> Callable[..., tuple[int, list[str]]]:
    """Runs the command on rules for an engine: its exit code, and its lines from the engine's on."""

    def run(urls: list[str], rules: dict[str, tuple[list[str], list[str]]], *options: str) -> tuple[int, list[str]]:
        tables = [
            f"[[rules]]\nname = {json.dumps(name)}\nindices = {json.dumps(indices)}\nfields = {json.dumps(fields)}\n"
            for name, (indices, fields) in rules.items()
        ]
        file = tmp_path / "c.toml"
        file.write_text(
            f'[upstream]\nurls = {json.dumps(urls)}\n[redis]\nurl = "redis://h"\n[server]\nport = 0\n' + "".join(tables)
        )
        code = main(["check-config", "--config", str(file), "--engine", *options])
        said = capsys.readouterr()
        lines = said.out.splitlines()
        starts = [place for place, line in enumerate(lines) if line.startswith("engine ")]
        return code, lines[starts[0] :] if starts else said.err.splitlines()

    return run


def load(engine: Engine) -> None:
    """Two documents in `checked-films`, an alias with a capital letter, and an empty index."""
    engine.load("checked-films", FILMS)
    action = {"add": {"index": "checked-films", "alias": "Checked"}}
    send_json(f"{engine.url}/_aliases", {"actions": [action]}, method="POST")
    engine.load("checked-empty", {"1": {}})
    send_json(f"{engine.url}/checked-empty/_doc/1?refresh=true", method="DELETE")


@pytest.mark.engines
def test_what_a_rule_finds_is_shown(any_engine: Engine, check: Callable[..., tuple[int, list[str]]]) -> None:
    """Names, mappings and texts are shown on each engine, and the exit code is 0 where each rule finds text."""
    load(any_engine)
    code, [first, *lines] = check(
        [any_engine.url],
        {
            "films": (["checked-film*", "gone", "far:films"], ["title", "text", "gone"]),
            "alias": (["Check*", "checked-films-*"], ["title"]),
        },
    )
    assert first.startswith(f"engine {any_engine.url}: {'elastic' if 'elastic' in any_engine.name else 'open'}search ")
    assert lines == [
        "  rule films: checked-films",
        "    far:films: not looked up: it is for other clusters, or date math",
        "    field gone: is not in the mapping",
        '    document 1 of checked-films: "A robot in love\\nIt learns.\\nSlowly."; no text in gone',
        '    document 2 of checked-films: "Robot wars"; no text in text, gone',
        "  rule alias: Checked",
        '    document 1 of checked-films: "A robot in love"',
        '    document 2 of checked-films: "Robot wars"',
    ]
    assert code == 0


@pytest.mark.engines
def test_a_rule_that_can_rerank_nothing_is_a_failure(
    any_engine: Engine, check: Callable[..., tuple[int, list[str]]]
) -> None:
    """A rule without an index, without a document or without text is said, and the exit code is 1."""
    load(any_engine)
    code, lines = check(
        [any_engine.url],
        {
            "none": (["nothing-*", "nothing"], ["title"]),
            "empty": (["checked-empty"], ["title"]),
            "textless": (["checked-films"], ["titel", "year"]),
            "late": (["checked-*-x", "checked-film*"], ["title"]),
        },
    )
    assert lines[1:] == [
        "  rule none: nothing was found",
        "    nothing can be reranked: no index, alias or data stream matches it",
        "  rule empty: checked-empty",
        "    nothing can be reranked: a search found no document",
        "  rule textless: checked-films",
        "    field titel: is not in the mapping",
        "    field year: is of type long, which is not text",
        "    document 1 of checked-films: no text in titel, year",
        '    document 2 of checked-films: "1999"; no text in titel',
        "  rule late: nothing was found",
        "    checked-films: matches, but the rule 'textless' before it takes it",
        "    nothing can be reranked: no index falls under it",
    ]
    assert code == 1


def test_the_embedded_engine_can_be_looked_at(osmem_url: str, check: Callable[..., tuple[int, list[str]]]) -> None:
    """A host that is down is passed over for the next one, on the engine that every clone has."""
    send_json(f"{osmem_url}/checked-one/_doc/1?refresh=true", FILMS["1"], method="PUT")
    rules = {"one": (["checked-one"], ["title"])}
    code, lines = check([f"http://127.0.0.1:{free_port()}", osmem_url], rules)
    assert lines[0].startswith(f"engine {osmem_url}: opensearch ")
    assert lines[1:] == ["  rule one: checked-one", '    document 1 of checked-one: "A robot in love"']
    assert code == 0


def test_an_engine_that_is_not_there_is_said(check: Callable[..., tuple[int, list[str]]]) -> None:
    """Where no host answers, each is named with what happened, and the exit code is 1."""
    urls = [f"http://127.0.0.1:{free_port()}", f"http://localhost:{free_port()}"]
    code, [line] = check(urls, {"one": (["one"], ["title"])})
    assert all(f"the engine at {url} cannot be reached" in line for url in urls)
    assert code == 1


def test_a_user_without_a_password_is_misuse(osmem_url: str, check: Callable[..., tuple[int, list[str]]]) -> None:
    """The password of `--user` comes from the environment, and is missing there: exit code 2."""
    code, [line] = check([osmem_url], {"one": (["one"], ["title"])}, "--user", "ann")
    assert line == "es-rerank: --user ann: its password must be in the environment, as ES_RERANK_INGEST_PASSWORD"
    assert code == 2


@pytest.mark.engines
def test_what_a_login_may_not_see_is_said(
    check: Callable[..., tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that may only search is shown texts and told what was refused; one that may nothing is a failure."""
    with real_engine_process("elasticsearch", "--security") as engine:
        ask(f"{engine.url}/films/_doc/1?refresh=true", FILMS["1"])
        for name, index in (("reader", "films"), ("stranger", "others")):
            role = {"cluster": ["monitor"], "indices": [{"names": [index], "privileges": ["read"]}]}
            ask(f"{engine.url}/_security/role/{name}", role)
            ask(f"{engine.url}/_security/user/{name}", {"password": "correct horse", "roles": [name]})
        monkeypatch.setenv("ES_RERANK_INGEST_PASSWORD", "correct horse")
        rules = {"films": (["films*"], ["title"])}
        code, lines = check([engine.url], rules, "--user", "reader")
        assert code == 0
        assert lines[-1] == '    document 1 of films: "A robot in love"'
        assert any("the engine refused the mapping: 403: " in line for line in lines)
        code, lines = check([engine.url], {"films": (["films"], ["title"])}, "--user", "stranger")
        assert code == 1
        assert any("the engine refused the list of indices: 403: " in line for line in lines)
        assert lines[-1] == "    nothing can be reranked: the engine shows no document of it to this login"
        code, [line] = check([engine.url], rules)
        assert code == 1
        assert "asks for another login (401: " in line
        assert "correct horse" not in line


def ask(url: str, body: Any) -> None:
    """One request of the administrator's."""
    login = base64.b64encode(b"elastic:changeme").decode()
    headers = {"content-type": "application/json", "authorization": f"Basic {login}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="PUT")
    with urllib.request.urlopen(request, timeout=120) as reply:
        reply.read()
