"""A real nginx with the configuration that the command prints, before upstreams of the test's own."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from es_rerank.cli import main
from es_rerank.demo.processes import free_port, is_listening
from tests.conftest import ENGINES_REQUIRED, START_LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from es_rerank.demo.processes import Supervisor

# Debian's lies where not every user looks.
PROGRAM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"))
# Started by root, nginx gives its workers to a user who can't enter a test's folder; one process alone has no workers.
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


@pytest.fixture(scope="session")
def nginx() -> str:
    """The program nginx; skips the test where there is none, unless everything is required."""
    found = shutil.which("nginx", path=PROGRAM_PATH)
    if found is None:
        if ENGINES_REQUIRED:
            pytest.fail("nginx is missing, and ES_RERANK_REQUIRE_ENGINES=1")
        pytest.skip("no nginx on this machine (Debian: apt-get install nginx-light)")
    return found


@pytest.fixture(scope="session")
def start_front(nginx: str, supervisor: Supervisor, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., int]:
    """Starts nginx before these engines (URLs) and proxies (`HOST:PORT`), and gives its port."""

    def start(*urls: str, proxies: Sequence[str], upstream: str = "", max_deadline_s: float = 30.0) -> int:
        folder = tmp_path_factory.mktemp("front")
        port = free_port()
        file = folder / "es-rerank.toml"
        quoted = ", ".join(f'"{url}"' for url in urls)
        file.write_text(CONFIG.format(urls=quoted, upstream=upstream, max_deadline_s=max_deadline_s))
        options = [option for proxy in proxies for option in ("--proxy", proxy)]
        (folder / "front.conf").write_text(run_front(file, "--listen", str(port), *options))
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        child = supervisor.start(f"nginx-{port}", [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)])
        supervisor.await_ready(child, lambda: is_listening(port), limit_s=START_LIMIT_S)
        return port

    return start
