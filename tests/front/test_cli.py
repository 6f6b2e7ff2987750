"""The command `es-rerank front`: what it prints, and what it says where it can't."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from es_rerank.cli import main
from es_rerank.errors import SettingsError
from es_rerank.front import envoy
from es_rerank.front import nginx as nginx_front
from es_rerank.front.routes import Address, make_plan
from es_rerank.settings import load_settings
from tests.front.conftest import MAIN, run_front

if TYPE_CHECKING:
    from es_rerank.front.routes import Plan

GOLDEN = Path(__file__).parents[1] / "golden" / "front"
CONFIG = GOLDEN / "es-rerank.toml"
PROXIES = ("--proxy", "proxy-1:9300", "--proxy", "[::1]:9301")


def plan_of(config: Path, **upstream: object) -> Plan:
    """The plan for a configuration, with some settings of its engine changed."""
    settings = load_settings(config, {})
    changed = settings.model_copy(update={"upstream": settings.upstream.model_copy(update=upstream)})
    return make_plan(changed, listen=Address(host="127.0.0.1", port=9200), system_ca_file='/a b/"ca".pem')


@pytest.mark.parametrize(("server", "file"), [("nginx", "nginx.conf"), ("envoy", "envoy.json")])
def test_the_configuration_is_as_it_was(server: str, file: str) -> None:
    """The command prints each server's golden file word for word; after a change, the command makes that file again."""
    said = run_front(CONFIG, "--for", server, "--listen", "0.0.0.0:9200", *PROXIES)
    assert said == (GOLDEN / file).read_text()


def test_nginx_is_the_default() -> None:
    """Without options the front is an nginx on 127.0.0.1:9200 before the proxy that the file describes."""
    said = run_front(CONFIG)
    assert "listen 127.0.0.1:9200 " in said
    assert "server 127.0.0.1:9300 " in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--proxy", "p1"], "--proxy p1: HOST:PORT is needed, with a port from 1 to 65535"),
        (["--listen", "0"], "--listen 0: [HOST:]PORT is needed, with a port from 1 to 65535"),
    ],
)
def test_a_wrong_option_is_said(options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error names the option, what it was and what is allowed; nothing is printed that could be taken for a file."""
    assert main(["front", "--config", str(CONFIG), *options]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.strip()) == ("", f"es-rerank: {says}")


def test_a_proxy_on_any_port_has_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A proxy that takes any free port can't be found by its configuration."""
    file = tmp_path / "c.toml"
    file.write_text(CONFIG.read_text() + "[server]\nport = 0\n")
    assert main(["front", "--config", str(file)]) == 2
    assert "say where they are by --proxy" in capsys.readouterr().err


def test_nginx_finds_nothing_wrong(nginx: str, tmp_path: Path) -> None:
    """The golden file is one that nginx itself accepts."""
    text = (GOLDEN / "nginx.conf").read_text()
    text = re.sub(r"(es|proxy-)(\d)(?=:\d+ fail)", r"127.0.0.\2", text)  # host names that are not known on this machine
    (tmp_path / "front.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(MAIN.format(folder=tmp_path))
    tested = subprocess.run(
        [nginx, "-t", "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stderr


def test_a_certificate_of_an_address_is_not_nginxs_to_check() -> None:
    """An https:// IP address is refused unless anyone is trusted: nginx checks certificates against names only."""
    with pytest.raises(SettingsError, match=r"10\.0\.0\.1: nginx checks certificates against names only"):
        nginx_front.render(plan_of(CONFIG, urls=("https://10.0.0.1",)))
    assert "proxy_ssl_verify " not in nginx_front.render(plan_of(CONFIG, urls=("https://10.0.0.1",), verify_tls=False))
    assert 'trusted_certificate "/a b/\\"ca\\".pem";' in nginx_front.render(plan_of(CONFIG, urls=("https://es1",)))


def test_envoys_routes_are_the_plans() -> None:
    """Envoy's file is YAML as well as JSON, and has the plan's routes in order, each with its cluster and retries."""
    plan = plan_of(CONFIG)
    text = envoy.render(plan)
    config = yaml.safe_load(text)
    assert config == json.loads(text)
    [listener] = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert (manager["normalize_path"], manager["merge_slashes"]) == (False, False)
    [host] = manager["route_config"]["virtual_hosts"]
    seen = []
    for route in host["routes"]:
        headers = {header["name"]: header for header in route["match"].get("headers", ())}
        methods = headers[":method"]["string_match"]["safe_regex"]["regex"].split("|") if ":method" in headers else ()
        retries = route["route"].get("retry_policy", {}).get("retry_on", "")
        seen.append(
            (
                route["match"].get("safe_regex", {"regex": "[^?]*"})["regex"],
                tuple(methods),
                "es-rerank" in headers,
                route["route"]["cluster"],
                retries,
            )
        )
    again, unsent = "connect-failure,refused-stream,reset", "connect-failure"
    ways = {
        "proxies": ("es_rerank", again),
        "own": ("es_rerank_proxies", ""),
        "engine_search": ("es_rerank_engine", again),
        "engine_once": ("es_rerank_engine", unsent),
        "engine": ("es_rerank_engine", unsent),
    }
    assert seen == [(route.path, route.methods, route.asking, *ways[route.target]) for route in plan.routes]


def test_envoys_clusters_are_the_plans() -> None:
    """The aggregate cluster has the proxies, then the engine, whose certificate is checked if it speaks TLS."""
    clusters = {
        cluster["name"]: cluster
        for cluster in json.loads(envoy.render(plan_of(CONFIG, urls=("https://es1",))))["static_resources"]["clusters"]
    }
    assert clusters["es_rerank"]["cluster_type"]["typed_config"]["clusters"] == [
        "es_rerank_proxies",
        "es_rerank_engine",
    ]
    tls = clusters["es_rerank_engine"]["transport_socket"]["typed_config"]
    trusted = tls["common_tls_context"]["validation_context"]
    assert (tls["sni"], trusted["trusted_ca"]["filename"]) == ("es1", '/a b/"ca".pem')
    assert {name["matcher"]["exact"] for name in trusted["match_typed_subject_alt_names"]} == {"es1"}
    untrusting = json.loads(envoy.render(plan_of(CONFIG, urls=("https://es1",), verify_tls=False)))
    assert "validation_context" not in json.dumps(untrusting)
