"""The Compose system and its images, as far as files can tell: no container engine is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from redis import Redis

from es_rerank import wire
from es_rerank.cli import main
from es_rerank.scorers.vllm import VllmSettings
from es_rerank.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "deploy" / "es-rerank.toml"
GPU_CONFIG = ROOT / "deploy" / "es-rerank-gpu.toml"
CONFIGS = {"worker": CONFIG, "worker-gpu": GPU_CONFIG}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BUILT = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILES = [ROOT / service["build"]["context"] / service["build"]["dockerfile"] for service in BUILT.values()]
EXACT_IMAGE = re.compile(r"[a-z][a-z0-9/._-]*:\d+\.\d+\.\d+(-[a-z0-9.]+)*(@sha256:[0-9a-f]{64})?")
DOORS = {"dashboards": ("OPENSEARCH_HOSTS", "opensearch"), "kibana": ("ELASTICSEARCH_HOSTS", "elasticsearch")}


def instructions(dockerfile: Path, name: str) -> list[str]:
    """The arguments of each instruction of that name."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    return re.findall(rf"^{name} (.+)$", text, flags=re.MULTILINE)


def chosen(text: str, **environment: str) -> str:
    """A value of the Compose file with its variables filled in, as Compose fills them in."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: environment.get(found[1]) or found[2], text)


def copied(dockerfile: Path) -> Iterator[str]:
    """What is copied from the build context."""
    for arguments in instructions(dockerfile, "COPY"):
        if not arguments.startswith("--from="):
            yield from arguments.split()[:-1]


def test_the_compose_file_is_one() -> None:
    """docker-compose.yml keeps to the published schema of Compose files, which takes no unknown key."""
    schema = json.loads((ROOT / "tests" / "data" / "compose-spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(COMPOSE)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate({"services": {"proxy": {"imagine": "redis:7.2.11"}}})


def test_the_system_is_whole() -> None:
    """Both engines, both dashboards, Redis, the proxy and a worker are there; optional services are in a profile."""
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    other = {"elasticsearch": ["elasticsearch"], "kibana": ["elasticsearch"], "worker-gpu": ["gpu"]}
    assert profiles == dict.fromkeys(("redis", "proxy", "worker", "opensearch", "dashboards")) | other


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_checked_limited_and_comes_back(name: str) -> None:
    """A service has an exact image, a health check, a memory limit, a restart policy."""
    service = SERVICES[name]
    assert EXACT_IMAGE.fullmatch(service["image"])
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["healthcheck"].keys() >= {"interval", "timeout", "retries"}
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_published_on_this_machine_only(name: str) -> None:
    """A port is published on 127.0.0.1, and Redis, which has no password, has none; no two share a port."""
    ports = SERVICES[name].get("ports", [])
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert bool(ports) == (name not in ("redis", "worker", "worker-gpu"))
    published = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) == len(set(published))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_holds_no_secret(name: str) -> None:
    """No password, key or token stands in the environment of a service."""
    environment = SERVICES[name].get("environment", {})
    values = environment if isinstance(environment, dict) else dict.fromkeys(environment)
    assert not [key for key in values if re.search(r"PASSW|SECRET|TOKEN|KEY", key.upper())]
    assert not re.search(r"//[^/\s]*:[^/\s]*@", json.dumps(SERVICES[name]))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_healthy_ones_that_exist(name: str) -> None:
    """A dependency is waited for until it is healthy, and is in every profile of the one that waits."""
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert set(SERVICES[other].get("profiles", [])) <= set(SERVICES[name].get("profiles", []))


def test_data_lies_in_named_volumes() -> None:
    """Each store keeps its data in a volume of its own, and every volume is used."""
    used = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    stores = ["elasticsearch-data", "opensearch-data", "redis-data"]
    assert sorted(used) == sorted(COMPOSE["volumes"]) == sorted([*stores, "models", "gpu-cache"])


@pytest.mark.parametrize("name", ["redis", *BUILT])
def test_our_services_can_change_nothing(name: str) -> None:
    """Redis, proxy and workers have a read-only file system and no capabilities."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", DOORS)
def test_dashboards_search_through_the_proxy(name: str) -> None:
    """Dashboards know the proxy's address alone, so that their searches are reranked, and wait for their engine."""
    variable, engine = DOORS[name]
    assert json.loads(SERVICES[name]["environment"][variable]) == ["http://proxy:9300"]
    assert set(SERVICES[name]["depends_on"]) == {engine, "proxy"}
    assert "opensearch" not in json.dumps(SERVICES["kibana"])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_configuration_fits_the_services(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration can be used; its hosts are services, and its port is the one that is published and checked."""
    assert main(["check-config", str(config)]) == 0
    settings = load_settings(config, {})
    [engine] = settings.upstream.urls
    assert urlsplit(engine).hostname == "opensearch"
    assert urlsplit(settings.redis.url.get_secret_value()).hostname == "redis"
    assert settings.server.host == "0.0.0.0"
    assert SERVICES["proxy"]["ports"] == [f"127.0.0.1:{settings.server.port}:{settings.server.port}"]
    assert f":{settings.server.port}/_es_rerank/health" in SERVICES["proxy"]["healthcheck"]["test"][-1]


def test_the_example_of_the_other_engine_works() -> None:
    """The variable that the Compose file says to export makes Elasticsearch the engine, and reaches the proxy."""
    text = (ROOT / "docker-compose.yml").read_text()
    [example] = set(re.findall(r"(ES_RERANK__UPSTREAM__URLS)='([^']+)'", text))
    for config in CONFIGS.values():
        assert load_settings(config, dict([example])).upstream.urls == ("http://elasticsearch:9200",)
    assert example[0] in SERVICES["proxy"]["environment"]


def test_the_configuration_is_where_the_commands_look() -> None:
    """Proxy and workers start with the file that Compose mounts, which one variable chooses for all of them."""
    for (name, service), dockerfile in zip(BUILT.items(), DOCKERFILES, strict=True):
        [mounted] = service["configs"]
        file = COMPOSE["configs"][mounted["source"]]["file"]
        assert ROOT / chosen(file) == CONFIGS.get(name, CONFIG)
        assert chosen(file, ES_RERANK_CONFIG="./mine.toml") == "./mine.toml"
        [command] = instructions(dockerfile, "CMD")
        assert json.loads(command) == ["serve" if name == "proxy" else "worker", "--config", mounted["target"]]
        assert instructions(dockerfile, "ENTRYPOINT") == ['["es-rerank"]']


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=list(BUILT))
def test_an_image_is_pinned_and_not_root(dockerfile: Path) -> None:
    """An image is built from an exact base, and runs as a user who is not root."""
    base, *more = instructions(dockerfile, "ARG")
    assert EXACT_IMAGE.fullmatch(base.removeprefix("PYTHON="))
    assert more in ([], ["KIND=minilm"])
    assert instructions(dockerfile, "FROM") == ["${PYTHON} AS build", "${PYTHON}"]
    [user] = instructions(dockerfile, "USER")
    assert int(user.split(":")[0]) >= 1000


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=list(BUILT))
def test_what_an_image_copies_is_there(dockerfile: Path) -> None:
    """Every file that is copied exists and is not kept from the build by .dockerignore."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    sent = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    sources = list(copied(dockerfile))
    assert {"pyproject.toml", "README.md", "es_rerank", "ingest", "workers"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch(source.split("/")[0], pattern) for pattern in sent)


def test_the_gpus_are_reserved_and_the_scorer_fits_them() -> None:
    """The GPU worker has as many GPUs as its scorer wants, and its scorer is the one that the rules name."""
    [device] = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    settings = load_settings(GPU_CONFIG, {})
    [scorer] = settings.used_scorers().values()
    assert isinstance(scorer, VllmSettings)
    assert device == {"driver": "nvidia", "count": scorer.tensor_parallel_size, "capabilities": ["gpu"]}
    assert settings.metrics.host == "0.0.0.0"
    assert settings.metrics.port == 9400


def test_the_gpu_worker_can_compile_and_keeps_what_it_makes() -> None:
    """Its caches are volumes that belong to its user, its /tmp may run compiled code, and it has a compiler."""
    service, dockerfile = SERVICES["worker-gpu"], ROOT / "workers" / "gpu.Dockerfile"
    assert service["tmpfs"] == ["/tmp:exec"]
    variables = dict(pair.split("=", 1) for line in instructions(dockerfile, "ENV") for pair in line.split())
    mounted = [volume.split(":")[1] for volume in service["volumes"]]
    assert sorted(mounted) == sorted([variables["HF_HOME"], variables["HOME"]])
    assert Path(variables["VLLM_CACHE_ROOT"]).is_relative_to(variables["HOME"])
    [user] = instructions(dockerfile, "USER")
    runs = instructions(dockerfile, "RUN")
    [owns] = re.findall(rf"chown -R {user} (.+)", "\n".join(runs))
    assert owns.split() == mounted
    assert any("install" in run and {"gcc", "libc6-dev"} <= set(run.split()) for run in runs)


def test_a_stop_of_the_gpu_worker_leaves_time_and_nothing_behind() -> None:
    """An init process reaps children, searches in flight may end, and a slow first start is not called unhealthy."""
    service = SERVICES["worker-gpu"]
    settings = load_settings(GPU_CONFIG, {})
    [scorer] = settings.used_scorers().values()
    assert service["init"] is True
    assert int(service["stop_grace_period"].removesuffix("s")) >= settings.limits.max_deadline_s + 15
    assert 60 * int(service["healthcheck"]["start_period"].removesuffix("m")) >= scorer.start_timeout_s


def test_the_gpu_example_starts_what_it_says() -> None:
    """The commands in the Compose file's head choose an existing file, and start the GPU's worker without the CPU's."""
    text = (ROOT / "docker-compose.yml").read_text()
    [file] = re.findall(r"export ES_RERANK_CONFIG=(\S+)", text)
    assert ROOT / file == GPU_CONFIG
    [names] = re.findall(r"--profile gpu up --build --wait (.+)", text)
    started, open_names = set[str](), names.split()
    while open_names:
        name = open_names.pop()
        started.add(name)
        open_names += SERVICES[name].get("depends_on", {})
    assert started == {"dashboards", "opensearch", "proxy", "redis", "worker-gpu"}


def test_the_gpu_image_fetches_vllm_once() -> None:
    """Gigabytes of dependencies are installed before our source is copied, and the source is installed without them."""
    text = (ROOT / "workers" / "gpu.Dockerfile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [extra] = re.findall(r"pip install '\.\[(\w+)\]'", text)
    assert extra in extras
    places = [
        text.index(part) for part in ("'.[vllm]'", "COPY es_rerank", "COPY workers", "--no-deps --force-reinstall .")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_worker_is_healthy_while_one_serves(name: str, own_redis_url: str) -> None:
    """The worker's health check, as Compose runs it, passes while a worker is subscribed and fails before and after."""
    [command, *arguments] = SERVICES[name]["healthcheck"]["test"][1:]
    assert (command, arguments[-1]) == ("python", SERVICES[name]["configs"][0]["target"])
    dockerfile = ROOT / SERVICES[name]["build"]["dockerfile"]
    [script] = [source for source in copied(dockerfile) if source.endswith(".py")]
    assert Path(arguments[0]).name == Path(script).name
    environment = {**os.environ, "ES_RERANK__REDIS__URL": own_redis_url}

    def check() -> int:
        check = [sys.executable, str(ROOT / script), str(CONFIGS[name])]
        return subprocess.run(check, env=environment, timeout=60, check=False).returncode

    [scorer] = load_settings(CONFIGS[name], {}).used_scorers().values()
    assert check() == 1
    with Redis.from_url(own_redis_url) as redis, redis.pubsub() as worker:
        worker.subscribe(wire.presence_channel(scorer.fingerprint()))
        worker.get_message(timeout=5)
        assert check() == 0
    assert check() == 1
