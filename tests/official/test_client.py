"""The right client for an engine, logins, and what errors say."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch

from es_rerank.demo.processes import free_port
from es_rerank.errors import EngineError, SettingsError
from es_rerank.official.client import connect
from es_rerank.official.login import ApiKey, Password

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Engine
    from tests.ingest.conftest import FakeEngine

CLIENTS = {"opensearch": OpenSearch, "elasticsearch": Elasticsearch}


def test_the_client_is_told_by_the_version(fake_engine: FakeEngine) -> None:
    """The client is of the engine's own project, by `version`, though both send Elasticsearch's product header."""
    assert isinstance(connect(fake_engine.url), CLIENTS[fake_engine.product])


def test_the_embedded_engine_gets_its_own_client(osmem_url: str) -> None:
    """The embedded engine, which sends Elasticsearch's product header, is OpenSearch."""
    assert isinstance(connect(osmem_url), OpenSearch)


@pytest.mark.engines
def test_real_engines_get_their_own_clients(real_engine: Engine) -> None:
    """Each real engine gets its project's client, whose requests it takes, Elasticsearch 8 from a client of 9 too."""
    client = connect(real_engine.url)
    assert isinstance(client, CLIENTS[real_engine.name.rstrip("9")])
    assert not client.indices.exists(index="there-is-none")
    assert client.search(index="_all", body={"size": 0, "query": {"match_all": {}}})["timed_out"] is False


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ({"number": "7.17.29", "build_flavor": "default"}, "is Elasticsearch 7.17.29: 8 or later is needed"),
        ({"number": "1.0"}, "neither Elasticsearch nor OpenSearch"),
        ({"build_flavor": "default"}, "neither Elasticsearch nor OpenSearch"),
        ({"number": "x", "build_flavor": "default"}, "is Elasticsearch x: 8 or later"),
    ],
)
def test_an_unknown_engine_is_an_error(fake_engine: FakeEngine, version: dict[str, Any], problem: str) -> None:
    """A server that is not a known engine is an error that says what was found."""
    fake_engine.version = version
    with pytest.raises(EngineError, match=problem):
        connect(fake_engine.url)


@pytest.mark.parametrize(
    ("login", "header"),
    [
        (Password(user="ann", password="s3cret:ü"), "Basic " + base64.b64encode("ann:s3cret:ü".encode()).decode()),
        (ApiKey(key="c2VjcmV0"), "ApiKey c2VjcmV0"),
    ],
)
def test_logins_reach_the_engine_and_nothing_else(fake_engine: FakeEngine, login: Any, header: str) -> None:
    """A login is in the requests of either client, and not in any repr or error."""
    fake_engine.login = header
    client = connect(fake_engine.url, login=login)
    assert not client.indices.exists(index="none")
    shown = f"{login!r} {client!r} {client.transport!r}"
    fake_engine.login = "another"
    with pytest.raises(EngineError) as error:
        connect(fake_engine.url, login=login)
    assert "asks for another login (401: who?)" in str(error.value)
    for secret in ("s3cret", "c2VjcmV0", header.split()[1]):
        assert secret not in f"{shown} {error.value}"


def test_an_engine_that_is_not_there_is_an_error() -> None:
    """An error for an engine that can't be reached has its URL and what to check."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(EngineError, match=rf"{url} cannot be reached: .*Connection refused.*Check that it is up"):
        connect(url)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:9200",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://host/?a=b",
        "",
        "http://[",
    ],
)
def test_a_wrong_url_is_an_error(url: str) -> None:
    """A text that is not the URL of an engine is an error that shows it."""
    with pytest.raises(SettingsError, match="an http:// or https:// URL with a host is needed"):
        connect(url)


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    """A URL with a password is an error that doesn't repeat it."""
    with pytest.raises(SettingsError, match="must carry no user or password") as error:
        connect("http://ann:s3cret@127.0.0.1:9200")
    assert "s3cret" not in str(error.value)


def test_a_ca_file_must_be_there_and_of_use(tmp_path: Path, fake_engine: FakeEngine) -> None:
    """A CA file that is missing, or that an http:// URL makes useless, is an error that names it."""
    file = tmp_path / "ca.pem"
    with pytest.raises(SettingsError, match=r"ca\.pem': no such file"):
        connect("https://127.0.0.1:9200", ca_file=file)
    file.touch()
    with pytest.raises(SettingsError, match=r"ca\.pem' is of no use: the URL does not begin with https://"):
        connect(fake_engine.url, ca_file=file)


def test_a_certificate_is_trusted_by_its_authority(fake_tls_engine: FakeEngine, certificate_file: Path) -> None:
    """Behind TLS an engine is reached with the authority of its certificate, and not without."""
    client = connect(fake_tls_engine.url, ca_file=certificate_file)
    assert isinstance(client, CLIENTS[fake_tls_engine.product])
    assert not client.indices.exists(index="none")
    with pytest.raises(EngineError, match=r"cannot be reached by TLS: .*certificate verify failed.*--ca-file"):
        connect(fake_tls_engine.url)


def test_any_certificate_is_trusted_where_tls_is_not_verified(fake_tls_engine: FakeEngine) -> None:
    """Without `verify_tls` a certificate of nobody's is enough, for either client, and no warning is given."""
    client = connect(fake_tls_engine.url, verify_tls=False)
    assert isinstance(client, CLIENTS[fake_tls_engine.product])
    assert not client.indices.exists(index="none")
