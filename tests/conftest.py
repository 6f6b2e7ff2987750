"""Real parts for tests: Redis, the embedded engine, the real engines, and the system built from them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from es_rerank.demo.embedded import start_engine, start_redis
from es_rerank.demo.processes import Supervisor, free_port, is_listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from es_rerank.demo.processes import Child
    from es_rerank.store.indices import OwnIndex

# No test times anything: how long an example takes says more of the machine than of the code.
settings.register_profile("es-rerank", deadline=None)
settings.load_profile("es-rerank")

# A shell that starts tests in the background (`make test &`, nohup) has them ignore Ctrl-C, and so would each process
# that a test starts. A handler is not inherited: those processes hear Ctrl-C, as they do in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)

ENGINE_NAMES = ("opensearch", "elasticsearch", "elasticsearch9")
ENGINES_DIR = Path(__file__).parents[2] / "shared" / "engines"
COMMAND = (sys.executable, "-m", "es_rerank")
START_LIMIT_S = 60.0
# The deadline is ten times what the slowest machine needs: what a test waits for is never the deadline by chance.
# Films are made of words by chance, which is no English prose; what is in `prose` is looked at for its language.
RULES = """
[limits]
max_deadline_s = 120.0
[[rules]]
name = "films"
indices = ["films*"]
fields = ["title", "text"]
any_language = true
deadline_s = 60.0
[[rules]]
name = "prose"
indices = ["prose*"]
fields = ["text"]
deadline_s = 60.0
"""
ENGINES_REQUIRED = os.environ.get("ES_RERANK_REQUIRE_ENGINES") == "1"


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine: its name (one of ENGINE_NAMES, or `osmem`) and URL."""

    name: str
    url: str

    def load(self, index: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace an index, one shard of English text, by these documents."""
        with contextlib.suppress(urllib.error.HTTPError):
            send_json(f"{self.url}/{index}", method="DELETE")
        text = {"type": "text", "analyzer": "english"}
        settings = {"number_of_shards": 1, "number_of_replicas": 0}
        mappings = {"properties": {"title": text, "text": text}}
        send_json(f"{self.url}/{index}", {"settings": settings, "mappings": mappings}, method="PUT")
        lines = [json.dumps(line) for key, source in documents.items() for line in ({"index": {"_id": key}}, source)]
        bulk = ("\n".join(lines) + "\n").encode()
        answer = send_json(f"{self.url}/{index}/_bulk?refresh=true", bulk, method="POST")
        assert not answer["errors"]

    def make_anew(self, index: OwnIndex) -> None:
        """Empty one of es-rerank's own indices: proxies on this engine go on with it."""
        with contextlib.suppress(urllib.error.HTTPError):
            send_json(f"{self.url}/{index.name}", method="DELETE")
        send_json(f"{self.url}/{index.name}", index.body(), method="PUT")


def send_json(url: str, body: Any = None, *, method: str = "GET") -> Any:
    """One request with a JSON body (bytes go as they are) and its JSON answer. Raises urllib's errors."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


@pytest.fixture(scope="session")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """Ends whatever the tests started."""
    with Supervisor(tmp_path_factory.mktemp("logs")) as supervisor:
        yield supervisor


@pytest.fixture(scope="session")
def redis_url(supervisor: Supervisor, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real Redis that all tests share; those that stop Redis start one of their own."""
    port = free_port()
    start_redis(supervisor, port, tmp_path_factory.mktemp("redis"))
    return f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def osmem_url(supervisor: Supervisor) -> str:
    """The embedded engine."""
    port = free_port()
    start_engine(supervisor, port)
    return f"http://127.0.0.1:{port}"


@contextmanager
def real_engine_process(name: str, *options: str) -> Iterator[Engine]:
    """A real engine; skips the test where the engines are missing, unless they are required."""
    script = ENGINES_DIR / "start"
    if not script.is_file():
        if ENGINES_REQUIRED:
            pytest.fail(f"{script} is missing, and ES_RERANK_REQUIRE_ENGINES=1")
        pytest.skip(f"no real engines beside this checkout ({script})")
    port = free_port()
    # This interpreter, since it has the Java that Elasticsearch 9 needs.
    command = [sys.executable, str(script), name, "--port", str(port), "--heap", "512m", *options]
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "--", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            if not said.startswith("ready"):
                pytest.fail(f"{name} did not start: {said!r}")
            yield Engine(name, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def opensearch() -> Iterator[Engine]:
    """A real OpenSearch."""
    with real_engine_process("opensearch") as engine:
        yield engine


@pytest.fixture(scope="session")
def elasticsearch() -> Iterator[Engine]:
    """A real Elasticsearch 8."""
    with real_engine_process("elasticsearch") as engine:
        yield engine


@pytest.fixture(scope="session")
def elasticsearch9() -> Iterator[Engine]:
    """A real Elasticsearch 9."""
    with real_engine_process("elasticsearch9") as engine:
        yield engine


@pytest.fixture(scope="session", params=ENGINE_NAMES)
def real_engine(request: pytest.FixtureRequest) -> Engine:
    """Each of the real engines in turn."""
    engine: Engine = request.getfixturevalue(request.param)
    return engine


@pytest.fixture(scope="session", params=("osmem", *ENGINE_NAMES))
def any_engine(request: pytest.FixtureRequest) -> Engine:
    """The embedded engine and each of the real ones in turn."""
    if request.param == "osmem":
        return Engine("osmem", request.getfixturevalue("osmem_url"))
    engine: Engine = request.getfixturevalue(request.param)
    return engine


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A running proxy and, once started, its worker: the ordinary commands, in processes of their own."""

    url: str
    config: Path
    supervisor: Supervisor
    proxy: Child

    def start_worker(self, *, limit_s: float = START_LIMIT_S) -> Child:
        """One more worker, serving when this returns."""
        before = self.workers()
        worker = self.supervisor.start(f"worker-{free_port()}", [*COMMAND, "worker", "--config", str(self.config)])
        self.supervisor.await_ready(worker, lambda: self.workers() > before, limit_s=limit_s)
        return worker

    def search(self, index: str, body: Mapping[str, Any], **controls: Any) -> Any:
        """A search's answer; `controls` go into `ext.es_rerank`, where the status is asked for too."""
        ext = {"es_rerank": {"include": ["status"], **controls}}
        return send_json(f"{self.url}/{index}/_search", {**body, "ext": ext}, method="POST")

    def log_lines(self) -> list[dict[str, Any]]:
        """What the proxy has logged, without a last line that is not whole yet."""
        whole, _, _ = self.proxy.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def await_log(self, words: str, count: int = 1, *, limit_s: float = START_LIMIT_S) -> str:
        """The proxy's log, once it has these words so often: a thread writes it."""
        give_up_s = time.monotonic() + limit_s
        while (log := self.proxy.log.read_text()).count(words) < count:
            assert time.monotonic() < give_up_s, self.proxy.tail()
            time.sleep(0.05)
        return log

    def workers(self) -> int:
        """How many workers the proxy knows of."""
        return sum(scorer["workers"] for scorer in self.health()["parts"]["scorers"].values())

    def health(self) -> dict[str, Any]:
        """What the proxy says of itself, ready or not."""
        try:
            with urllib.request.urlopen(f"{self.url}/_es_rerank/health", timeout=30) as reply:
                return dict(json.load(reply))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))


def start_system(
    supervisor: Supervisor,
    folder: Path,
    *,
    engine_url: str,
    redis_url: str,
    extra: str = "",
    upstream: str = "",
    server: str = "",
) -> System:
    """A proxy on these parts, without a worker yet.

    `upstream` and `server` are more TOML for these tables (`{port}` is the proxy's own), `extra` takes the place of
    the rules.
    """
    port = free_port()
    config = folder / f"es-rerank-{port}.toml"
    config.write_text(
        f'[upstream]\nurls = ["{engine_url}"]\n{upstream}\n[redis]\nurl = "{redis_url}"\n'
        f"[server]\nport = {port}\n{server.replace('{port}', str(port))}\n" + (extra or RULES)
    )
    proxy = supervisor.start(f"proxy-{port}", [*COMMAND, "serve", "--config", str(config)])
    supervisor.await_ready(proxy, lambda: is_listening(port), limit_s=START_LIMIT_S)
    return System(url=f"http://127.0.0.1:{port}", config=config, supervisor=supervisor, proxy=proxy)


@pytest.fixture(scope="session")
def system_on(
    supervisor: Supervisor, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Engine], System]:
    """The whole system, with one worker, before an engine: started once for each engine that is asked for."""
    started: dict[str, System] = {}

    def start(engine: Engine) -> System:
        if engine.url not in started:
            folder = tmp_path_factory.mktemp("system")
            system = start_system(supervisor, folder, engine_url=engine.url, redis_url=redis_url)
            if not system.workers():
                system.start_worker()
            started[engine.url] = system
        return started[engine.url]

    return start


@pytest.fixture(scope="module")
def run_system(
    supervisor: Supervisor, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., System]]:
    """Starts a proxy of its own, without a worker, before the hosts with these URLs, and ends it with the module.

    Workers that are started for it stay: they serve every proxy on their Redis.
    """
    started: list[System] = []

    def start(*urls: str, redis: str = redis_url, extra: str = "", upstream: str = "", server: str = "") -> System:
        system = start_system(
            supervisor,
            tmp_path_factory.mktemp("proxy"),
            engine_url='", "'.join(urls),
            redis_url=redis,
            extra=extra,
            upstream=upstream,
            server=server,
        )
        started.append(system)
        return system

    yield start
    for system in started:
        system.proxy.process.kill()  # at SIGTERM it would wait for searches that a test left behind
        supervisor.end(system.proxy)


@pytest.fixture(scope="module")
def start_proxy(run_system: Callable[..., System]) -> Callable[..., int]:
    """Starts a proxy before the hosts with these URLs, and gives its port."""
    return lambda *urls: int(run_system(*urls).url.rpartition(":")[2])


@pytest.fixture(scope="session")
def load_films() -> Callable[[str, Mapping[str, Mapping[str, Any]]], None]:
    """Loads documents into the index `films` of the engine with this URL."""
    return lambda url, documents: Engine("osmem", url).load("films", documents)


@pytest.fixture
def own_redis_url(supervisor: Supervisor, tmp_path: Path) -> Iterator[str]:
    """A Redis of the test's own, for one that must know every worker on it."""
    port = free_port()
    redis = start_redis(supervisor, port, tmp_path / "own-redis")
    yield f"redis://127.0.0.1:{port}/0"
    supervisor.end(redis)
