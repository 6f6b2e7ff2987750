"""Which HTTP server and client carry a transparent streaming proxy in Python for the least CPU, next to nginx.

Each pair of ASGI server and HTTP client runs the same naive pass-through proxy in one process, bodies streamed both
ways over a shared keep-alive pool. nginx as a proxy (one worker, unbuffered) is the baseline, a second nginx that
serves a 10 KB JSON file is the upstream of all. Before anything is timed, each must relay status and both bodies
unchanged and reuse its upstream connections. The order of candidates rotates from round to round. wrk, upstream and
proxy share the machine, so requests/s alone can hide what a proxy costs (a fast one waits for wrk): CPU seconds of
the proxy per 1000 requests is the figure to choose by. Knows nothing of es-rerank itself.

    pip install aiohttp uvicorn httptools uvloop granian hypercorn httpcore httpx anyio
    python bench/stack.py --rounds 4 --seconds 3 --connections 16

Needs Linux with `nginx` and `wrk` on PATH. Candidates whose packages are missing are left out, and named.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import importlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Headers = list[tuple[bytes, bytes]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Relay = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

BASELINE = "nginx"
CANDIDATES = (
    ("uvicorn", "aiohttp"),
    ("uvicorn-asyncio", "aiohttp"),
    ("granian", "aiohttp"),
    ("hypercorn", "aiohttp"),
    ("uvicorn", "httpcore"),
    ("granian", "httpcore"),
    ("uvicorn", "httpx"),
)
UPSTREAM_VARIABLE = "STACK_UPSTREAM_PORT"
CLIENT_VARIABLE = "STACK_CLIENT"
HOP_HEADERS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"})
POOL_LIMIT = 256
POST_BODY = b'{"query":{"match":{"text":"' + b"x" * 469 + b'"}}}'
START_LIMIT_S = 20.0


# ---- The proxy under test, once for each client ----


def end_to_end(headers: Headers) -> Headers:
    """Headers in order, without those that belong to one connection."""
    return [(name, value) for name, value in headers if name.lower() not in HOP_HEADERS]


def has_body(headers: Headers) -> bool:
    """Whether a request with these headers announces a body."""
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)


def target(scope: dict[str, Any]) -> bytes:
    """Path and query as they came. A server may leave out `raw_path`; the load used here has nothing to escape."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


async def incoming(receive: Receive) -> AsyncIterator[bytes]:
    """Body of the request, chunk by chunk."""
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionResetError("The caller went away in the middle of its request.")
        more = event.get("more_body", False)
        if chunk := event.get("body", b""):
            yield chunk


async def answer(send: Send, status: int, headers: Headers, chunks: AsyncIterator[bytes]) -> None:
    """Relay one reply, each chunk as soon as it comes."""
    await send({"type": "http.response.start", "status": status, "headers": end_to_end(headers)})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextlib.asynccontextmanager
async def relay_by_aiohttp(port: int) -> AsyncIterator[Relay]:
    """Relay by aiohttp, with everything off that it would add or change by itself."""
    aiohttp = importlib.import_module("aiohttp")
    url_type = importlib.import_module("yarl").URL
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=POOL_LIMIT),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:

        async def relay(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            headers = end_to_end(scope["headers"])
            url = url_type.build(scheme="http", host="127.0.0.1", port=port, path=target(scope).decode(), encoded=True)
            async with session.request(
                scope["method"],
                url,
                headers=[(name.decode(), value.decode()) for name, value in headers],
                data=incoming(receive) if has_body(scope["headers"]) else None,
                allow_redirects=False,
            ) as reply:
                await answer(send, reply.status, list(reply.raw_headers), reply.content.iter_any())

        yield relay


@contextlib.asynccontextmanager
async def relay_by_httpcore(port: int) -> AsyncIterator[Relay]:
    """Relay by httpcore's pool, with no client on top."""
    httpcore = importlib.import_module("httpcore")
    async with httpcore.AsyncConnectionPool(max_connections=POOL_LIMIT, max_keepalive_connections=POOL_LIMIT) as pool:

        async def relay(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            request = httpcore.Request(
                scope["method"],
                httpcore.URL(scheme=b"http", host=b"127.0.0.1", port=port, target=target(scope)),
                headers=end_to_end(scope["headers"]),
                content=incoming(receive) if has_body(scope["headers"]) else None,
            )
            reply = await pool.handle_async_request(request)
            try:
                await answer(send, reply.status, reply.headers, reply.aiter_stream())
            finally:
                await reply.aclose()

        yield relay


@contextlib.asynccontextmanager
async def relay_by_httpx(port: int) -> AsyncIterator[Relay]:
    """Relay by httpx, bodies left encoded as they came."""
    httpx = importlib.import_module("httpx")
    limits = httpx.Limits(max_connections=POOL_LIMIT, max_keepalive_connections=POOL_LIMIT)
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:

        async def relay(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            request = httpx.Request(
                scope["method"],
                httpx.URL(scheme="http", host="127.0.0.1", port=port, raw_path=target(scope)),
                headers=end_to_end(scope["headers"]),
                content=incoming(receive) if has_body(scope["headers"]) else None,
            )
            reply = await client.send(request, stream=True)
            try:
                await answer(send, reply.status_code, reply.headers.raw, reply.aiter_raw())
            finally:
                await reply.aclose()

        yield relay


RELAYS = {"aiohttp": relay_by_aiohttp, "httpcore": relay_by_httpcore, "httpx": relay_by_httpx}


class Proxy:
    """The ASGI application; its client lives from `lifespan.startup` to `lifespan.shutdown`."""

    def __init__(self) -> None:
        self._relay: Relay | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: `http` or `lifespan`."""
        if scope["type"] == "http":
            if self._relay is None:
                raise RuntimeError("The server sent a request before lifespan.startup; turn its lifespan on.")
            await self._relay(scope, receive, send)
            return
        await receive()
        async with RELAYS[os.environ[CLIENT_VARIABLE]](int(os.environ[UPSTREAM_VARIABLE])) as self._relay:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


app = Proxy()


def serve(server: str, port: int) -> None:
    """Serve `app` on 127.0.0.1:`port` in this process by the named server, until it is told to stop."""
    if server.startswith("uvicorn"):
        importlib.import_module("uvicorn").run(
            app,
            host="127.0.0.1",
            port=port,
            http="httptools",
            loop="asyncio" if server == "uvicorn-asyncio" else "uvloop",
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="critical",
            server_header=False,
            date_header=False,
            timeout_keep_alive=600,
        )
    elif server == "granian":
        constants = importlib.import_module("granian.constants")
        importlib.import_module("granian").Granian(
            "stack:app",
            address="127.0.0.1",
            port=port,
            interface=constants.Interfaces.ASGI,
            loop=constants.Loops.uvloop,
            http=constants.HTTPModes.http1,
            websockets=False,
            log_enabled=False,
        ).serve()
    elif server == "hypercorn":
        config = importlib.import_module("hypercorn.config").Config()
        config.bind = [f"127.0.0.1:{port}"]
        config.errorlog = None
        config.include_date_header = config.include_server_header = False
        config.keep_alive_max_requests = 10**9
        config.keep_alive_timeout = 600
        run = importlib.import_module("hypercorn.asyncio").serve
        with asyncio.Runner(loop_factory=importlib.import_module("uvloop").new_event_loop) as runner:
            runner.run(run(app, config))
    else:
        raise ValueError(f"Server is {server!r}; allowed are {sorted({name for name, _ in CANDIDATES})}.")


# ---- Processes ----

NGINX_COMMON = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {servers}
}}
"""
# The static module refuses POST, so 405 is mapped back to the file; a mirror that goes nowhere makes nginx read the
# body before it answers, as an engine does. /echo shows what reached the upstream: the
# request body, and how many requests its connection has carried.
NGINX_UPSTREAM = """
  server {{ listen 127.0.0.1:{port} backlog=1024; root {folder};
    location = /ten.json {{ error_page 405 =200 /ten.json; }}
    location = /post {{ mirror /nowhere; alias {folder}/ten.json; error_page 405 =200 /ten.json; }}
    location = /nowhere {{ internal; return 204; }}
    location = /echo {{
      proxy_pass http://127.0.0.1:{port}/ten.json;
      add_header X-Body $request_body always; add_header X-Carried $connection_requests always;
    }}
  }}
"""
NGINX_PROXY = """
  upstream engine {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_buffering off; proxy_request_buffering off;
    }}
  }}
"""


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(name: str, command: list[str], port: int, environment: dict[str, str]) -> Iterator[int]:
    """Run `command` in a session of its own until the block ends; yields its session id once `port` accepts."""
    process = subprocess.Popen(command, start_new_session=True, env=os.environ | environment, cwd=Path(__file__).parent)
    try:
        give_up_s = time.monotonic() + START_LIMIT_S
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode} before it listened on port {port}.")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > give_up_s:
                raise RuntimeError(f"{name} did not listen on port {port} within {START_LIMIT_S:.0f} s.")
            time.sleep(0.05)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        # Workers that outlive their parent are still in its session and group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cpu_s(session: int) -> float:
    """User and system CPU seconds used so far by all live processes of a session, threads included."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# ---- Measurement ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What wrk sends. `script` is wrk's Lua, empty for plain GET."""

    name: str
    path: str
    script: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of wrk against one candidate."""

    requests_per_s: float
    cpu_s_per_1000: float
    cores: float


LOADS = (
    Load(name="GET, 10 KB reply", path="/ten.json", script=""),
    Load(
        name="POST 500 B, 10 KB reply",
        path="/post",
        script=f"""wrk.method="POST"; wrk.headers["Content-Type"]="application/json"; wrk.body={
            json.dumps(POST_BODY.decode())
        }""",
    ),
)
# Two numbers that wrk's own report rounds, and the count of everything that was not a good reply.
REPORT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def check(port: int, expected: bytes) -> None:
    """Raise RuntimeError unless the proxy on `port` relays status and both bodies, and reuses its connections."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    carried = 0
    for method, path, body in (
        ("GET", "/ten.json", None),
        ("POST", "/post", POST_BODY),
        ("POST", "/echo", POST_BODY),
        ("POST", "/echo", POST_BODY),
    ):
        connection.request(method, path, body)
        reply = connection.getresponse()
        received = reply.read()
        if reply.status != 200 or received != expected:
            raise RuntimeError(f"{method} {path} answered {reply.status} with {len(received)} bytes, not the file.")
        if path == "/echo":
            if reply.headers["X-Body"] != POST_BODY.decode():
                raise RuntimeError(f"The upstream received the body {reply.headers['X-Body']!r}.")
            carried = int(reply.headers["X-Carried"])
    connection.close()
    if carried < 2:
        raise RuntimeError("The upstream connection is not kept alive.")


def measure(url: str, session: int, script: Path, connections: int, seconds: float) -> Sample:
    """Load one candidate for `seconds`. Raises RuntimeError if a single request failed."""
    before_s = cpu_s(session)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script)]
    output = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    used_s = cpu_s(session) - before_s
    requests, duration_us, failures = map(int, output.partition("RESULT ")[2].split()[:3])
    if failures:
        raise RuntimeError(f"{failures} of {requests} requests failed:\n{output}")
    return Sample(
        requests_per_s=requests / duration_us * 1e6,
        cpu_s_per_1000=used_s / requests * 1000,
        cores=used_s / duration_us * 1e6,
    )


def table(samples: dict[str, list[Sample]]) -> str:
    """Markdown of one load: rates are medians of rounds, ratios medians of same-round ratios, CPU the least."""
    lines = [
        "| proxy | requests/s | to nginx (least to most) | CPU s/1000 requests | to nginx | cores busy |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    base = samples[BASELINE]
    base_cpu_s = min(sample.cpu_s_per_1000 for sample in base)
    for name, rounds in samples.items():
        rates = [sample.requests_per_s / other.requests_per_s for sample, other in zip(rounds, base, strict=True)]
        least_cpu_s = min(sample.cpu_s_per_1000 for sample in rounds)
        lines.append(
            f"| {name} | {statistics.median(sample.requests_per_s for sample in rounds):,.0f}"
            f" | {statistics.median(rates):.3f} ({min(rates):.3f} to {max(rates):.3f})"
            f" | {least_cpu_s:.3f} | {least_cpu_s / base_cpu_s:.1f}"
            f" | {statistics.median(sample.cores for sample in rounds):.2f} |"
        )
    return "\n".join(lines)


@contextlib.contextmanager
def candidates(folder: Path, body: bytes) -> Iterator[dict[str, tuple[int, int]]]:
    """Start the upstream and all proxies; yields name -> (port, session id); `(no proxy)` is the upstream."""
    with contextlib.ExitStack() as stack:
        upstream_port = free_port()

        def nginx(name: str, servers: str, port: int) -> int:
            config = folder / name / "nginx.conf"
            config.parent.mkdir()
            (config.parent / "ten.json").write_bytes(body)
            settings = {"folder": config.parent, "port": port, "upstream": f"127.0.0.1:{upstream_port}"}
            config.write_text(NGINX_COMMON.format(servers=servers.format(**settings), **settings))
            command = ["nginx", "-p", str(config.parent), "-e", "stderr", "-c", str(config)]
            return stack.enter_context(running(f"nginx ({name})", command, port, {}))

        started = {"(no proxy)": (upstream_port, nginx("upstream", NGINX_UPSTREAM, upstream_port))}
        port = free_port()
        started[BASELINE] = (port, nginx("proxy", NGINX_PROXY, port))
        for server, client in CANDIDATES:
            name = f"{server} + {client}"
            missing = [
                package for package in (server.partition("-")[0], client) if not importlib.util.find_spec(package)
            ]
            if missing:
                sys.stderr.write(f"{name} is left out: {', '.join(missing)} is not installed.\n")
                continue
            port = free_port()
            command = [sys.executable, str(Path(__file__).resolve()), "--serve", server, "--port", str(port)]
            environment = {CLIENT_VARIABLE: client, UPSTREAM_VARIABLE: str(upstream_port)}
            started[name] = (port, stack.enter_context(running(name, command, port, environment)))
        yield started


def compare(rounds: int, seconds: float, connections: int) -> None:
    """Measure all candidates and print one Markdown table for each load."""
    for tool in ("nginx", "wrk"):
        if shutil.which(tool) is None:
            raise SystemExit(f"`{tool}` is not on PATH; install it (Debian: apt install {tool}).")
    body = json.dumps({"hits": [{"_id": str(number), "text": "word " * 16} for number in range(94)]}).encode()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        # nginx started by root runs as another user, who must be able to read the file.
        folder.chmod(0o755)
        started = stack.enter_context(candidates(folder, body))
        for candidate, (port, _) in list(started.items()):
            try:
                check(port, body)
            except (OSError, RuntimeError) as error:
                sys.stderr.write(f"{candidate} is left out, because it does not relay faithfully: {error}\n")
                del started[candidate]
        if BASELINE not in started:
            raise SystemExit("Without the baseline there is nothing to compare.")
        packages = ("aiohttp", "granian", "httpcore", "httptools", "httpx", "hypercorn", "uvicorn", "uvloop")
        versions = ", ".join(
            f"{package} {version(package)}" for package in packages if importlib.util.find_spec(package)
        )
        print(
            f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores, {connections} connections, "
            f"{rounds} rounds of {seconds:g} s, file of {len(body)} bytes.\n"
        )
        for load in LOADS:
            script = folder / "load.lua"
            script.write_text(load.script + REPORT)
            samples: dict[str, list[Sample]] = {candidate: [] for candidate in started}
            for port, session in started.values():
                measure(f"http://127.0.0.1:{port}{load.path}", session, script, connections, 1)
            for turn in range(rounds):
                order = list(started)
                shift = turn * len(order) // rounds
                for candidate in order[shift:] + order[:shift]:
                    port, session = started[candidate]
                    url = f"http://127.0.0.1:{port}{load.path}"
                    samples[candidate].append(measure(url, session, script, connections, seconds))
            print(f"**{load.name}**\n\n{table(samples)}\n", flush=True)


def main() -> None:
    """Compare, or with `--serve` be one of the candidates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port)
    else:
        compare(options.rounds, options.seconds, options.connections)


if __name__ == "__main__":
    main()
