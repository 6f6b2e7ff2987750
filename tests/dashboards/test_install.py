"""An install puts every object into a Kibana or an OpenSearch Dashboards, or says why not in words that help."""

from __future__ import annotations

import base64
import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from es_rerank.dashboards.install import DashboardsError, Target, install, taken
from es_rerank.dashboards.shipped import shipped
from es_rerank.demo.processes import free_port
from es_rerank.errors import SettingsError
from es_rerank.official.login import ApiKey, Password
from tests.dashboards.fake_server import FakeServer, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Engine

ANN = Password(user="ann", password="pa:ss")
BASIC = f"Basic {base64.b64encode(b'ann:pa:ss').decode()}"
COUNT = len(shipped().splitlines())


def changed(**keys: Any) -> bytes:
    """The bundle, whose last object has other keys."""
    *rest, last = shipped().splitlines()
    return b"\n".join([*rest, json.dumps({**json.loads(last), **keys}).encode()])


@pytest.mark.parametrize("product", ["kibana", "opensearch"])
def test_a_second_install_changes_nothing(product: Any) -> None:
    """Both servers take all objects, and take them again."""
    with serving(FakeServer(product=product)) as server:
        assert install(Target(url=server.url), shipped()) == COUNT
        before = dict(server.has["default"])
        assert install(Target(url=f"{server.url}/"), shipped()) == COUNT
        assert server.has == {"default": before}
        assert len(before) == COUNT


def test_a_space_and_a_tenant_are_where_the_objects_go() -> None:
    """A space is in Kibana's path, a tenant in a header; `global` and `private` are tenants by other names."""
    with serving(FakeServer(product="kibana")) as kibana:
        install(Target(url=kibana.url, space="search team"), shipped())
        assert set(kibana.has) == {"search%20team"}
    with serving(FakeServer(product="opensearch")) as opensearch:
        for tenant in ("team", "private", "global"):
            install(Target(url=opensearch.url, tenant=tenant), shipped())
        assert set(opensearch.has) == {"team", "__user__", ""}


@pytest.mark.parametrize(
    ("login", "authorization"), [(ANN, BASIC), (ApiKey(key="a2V5"), "ApiKey a2V5")], ids=["password", "key"]
)
def test_a_login_lets_in(login: Any, authorization: str) -> None:
    """A user with a password or an API key is let in; nobody without; and no error shows the secret."""
    with serving(FakeServer(product="kibana", authorization=authorization)) as server:
        assert install(Target(url=server.url, login=login), shipped()) == COUNT
        with pytest.raises(DashboardsError, match=r"another login \(401: Authentication required\).*--user NAME"):
            install(Target(url=server.url), shipped())
        assert "pa:ss" not in repr(Target(url=server.url, login=login))
        assert "a2V5" not in repr(Target(url=server.url, login=login))


def test_a_login_without_rights_is_told_which_it_needs() -> None:
    """A 403 has the server's words and the right that is missing."""
    with (
        serving(FakeServer(product="opensearch", forbids=True)) as server,
        pytest.raises(DashboardsError, match=r"403: Unable to bulk_create dashboard.*right to write saved objects"),
    ):
        install(Target(url=server.url), shipped())


def test_a_newer_form_is_refused_in_the_servers_words() -> None:
    """A 422 is passed on as it was said."""
    with (
        serving(FakeServer(product="opensearch")) as server,
        pytest.raises(DashboardsError, match=r"\(422\).*\[7.17.0\]. The last known version is \[7.9.3\]"),
    ):
        install(Target(url=server.url), changed(migrationVersion={"dashboard": "7.17.0"}))


def test_objects_that_are_not_taken_are_listed() -> None:
    """A strange key and a missing reference are each named with their object."""
    strange = json.loads(shipped().splitlines()[-1])["attributes"] | {"controlGroupInput": {}}
    gone = [{"name": "panel_0", "type": "visualization", "id": "es-rerank-gone"}]
    with serving(FakeServer(product="opensearch")) as server:
        with pytest.raises(DashboardsError, match=r"dashboard es-rerank-clicks: mapping set to strict.*controlGroup"):
            install(Target(url=server.url), changed(attributes=strange))
        with pytest.raises(DashboardsError, match=r"missing_references \(visualization es-rerank-gone\)"):
            install(Target(url=server.url), changed(references=gone))
        assert not server.has["default"]


def test_an_engine_is_not_taken_for_a_server_of_dashboards(any_engine: Engine) -> None:
    """The URL of the engine itself is the likeliest mistake: the error says so."""
    with pytest.raises(DashboardsError, match=r"no Kibana and no OpenSearch Dashboards.*not the engine's"):
        install(Target(url=any_engine.url), shipped())


def test_another_base_path_is_not_found() -> None:
    """A server's 404 says to look at the path."""
    with (
        serving(FakeServer(product="kibana")) as server,
        pytest.raises(DashboardsError, match="with their base path"),
    ):
        install(Target(url=server.url.removesuffix("/base")), shipped())


def test_nobody_there_is_said() -> None:
    """A closed port is an error with the URL."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(DashboardsError, match=f"{url} cannot be reached.*Check that it is up"):
        install(Target(url=url), shipped())


def test_a_certificate_is_checked(tmp_path: Path) -> None:
    """Without the authority's file the server isn't trusted, with it it is."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with serving(FakeServer(product="kibana"), tls=tls) as server:
        with pytest.raises(DashboardsError, match=r"by TLS.*--ca-file"):
            install(Target(url=server.url), shipped())
        assert install(Target(url=server.url, ca_file=ca_file), shipped()) == COUNT
    with pytest.raises(SettingsError, match="can't be used: No such file"):
        install(Target(url="https://127.0.0.1", ca_file=tmp_path / "none"), shipped())


@pytest.mark.parametrize(
    ("status", "headers", "body", "says"),
    [
        (302, {"location": "/login"}, b"", "sends this to '/login'. If that is a login, give --user"),
        (503, {}, b"Kibana server is not ready yet", "is not ready.*Try again"),
        (502, {}, b"<html>", "is not ready"),
        (200, {}, b"<html>", "is no Kibana"),
        (200, {}, b"[]", "is no Kibana"),
        (413, {}, b'{"statusCode":413,"message":"Payload content length greater"}', r"\(413\): Payload content length"),
        (200, {}, b'{"success":false,"successCount":0}', "it does not say which"),
    ],
)
def test_other_answers_are_explained(status: int, headers: dict[str, str], body: bytes, says: str) -> None:
    """A redirect, a server that starts, a page of something else: each says what to do."""
    with pytest.raises(DashboardsError, match=says):
        taken(status, headers, body, url="http://there")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:5601", "an http:// or https:// URL"),
        ("http://", "with a host"),
        ("http://h/app?x=1", "is needed"),
        ("http://ann:secret@h", "no user or password"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, says: str) -> None:
    """Nothing is sent, and a password in the URL is not repeated."""
    with pytest.raises(SettingsError, match=says) as raised:
        install(Target(url=url), shipped())
    assert "secret" not in str(raised.value)
