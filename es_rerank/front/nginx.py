"""A plan as nginx's configuration, for the inside of `http { }`. Pure. Needs nginx 1.15.3 or newer, no extra module.

A map decides by the raw target, since nginx's locations see a decoded one. The request then goes on in a named
location, which leaves the target as it came.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from es_rerank.errors import SettingsError
from es_rerank.proxy.http.own import UPSTREAM_KIND, error_body
from es_rerank.proxy.search.endpoint import MAX_TARGET_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from es_rerank.front.routes import Address, Plan, Route

BRANCHES = {"proxies": 471, "own": 472, "engine_search": 473, "engine_once": 474}
# How long nginx gives a host nothing after a failure: a little longer than a proxy's first pause (hosts.py).
PAUSE_S = 2
PROXY_CONNECT_S = 1.0
HEAD = """\
# Made by `es-rerank front`: belongs inside nginx's http {{ }}. Make it again when rules or hosts change.

{upstreams}
# The route depends on a plus for our header, the method and the raw target. nginx's own locations see a decoded one.
map $http_es_rerank $es_rerank_asking {{
    default "+";
    "" "";
}}
map "$es_rerank_asking$request_method $request_uri" $es_rerank_route {{
    default engine_once;
    # targets too long for the engines and the proxies to read
    "~^[+]?(?:GET|HEAD|POST) .{{{longest}}}" engine;
{routes}
}}

server {{
    listen {listen} backlog=1024;

    # Headers and bodies pass as they came, as large as the engines accept them.
    underscores_in_headers on;
    ignore_invalid_headers off;
    merge_slashes off;
    gzip off;
    large_client_header_buffers 8 64k;
    client_max_body_size 100m;

    # As the engines do: keep idle connections open, and wait for slow callers.
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_timeout {read_s};
    send_timeout {read_s};

    proxy_http_version 1.1;
    proxy_set_header Host "{engine_host}";
    proxy_set_header Connection "";
    proxy_pass_header Server;
    proxy_pass_header Date;
    proxy_redirect off;
    proxy_buffering off;
    proxy_buffer_size 64k;
    proxy_buffers 4 64k;
    proxy_connect_timeout {connect_s};
    proxy_send_timeout {read_s};
    proxy_read_timeout {read_s};
{trust}
    # Answers of nginx itself, in the engine's form. Answers of the engine or the proxies are never changed.
    recursive_error_pages on;
    error_page 400 494 = /_es_rerank/front/400;
    error_page 413 = /_es_rerank/front/413;
    error_page 414 = /_es_rerank/front/414;
    error_page 502 = /_es_rerank/front/502;
    error_page 504 = /_es_rerank/front/504;

    # Status codes that no server answers: with them, the first location sends a request on to another one.
{branches}

    # Requests that are not searches: straight to the engine, bodies streamed, so that nothing is written to disk.
    # A POST goes to another host only if nothing was sent.
    location / {{
{conditions}
        proxy_request_buffering off;
        proxy_next_upstream error timeout;
        proxy_next_upstream_timeout {next_s};
        proxy_pass {scheme}://es_rerank_engine;
    }}

    # What must not be sent twice: PUT, DELETE, scrolls.
    location @engine_once {{
        proxy_request_buffering off;
        proxy_next_upstream off;
        proxy_pass {scheme}://es_rerank_engine;
    }}

    # Searches that the engine answers alone: those without a rule, and all while no proxy answers. The body is kept, so
    # that it can be sent again. Our header is taken out; what a body asks of us can't be taken out here.
    location @engine_search {{
        client_body_buffer_size 1m;
        proxy_set_header Host "{engine_host}";
        proxy_set_header Connection "";
        proxy_set_header ES-Rerank "";
        proxy_next_upstream error timeout non_idempotent;
        proxy_next_upstream_timeout {next_s};
        proxy_pass {scheme}://es_rerank_engine;
    }}

    # Searches that may be ours: any proxy, then the engine. A silent proxy is given up after {hung_s}: the longest
    # deadline and time for the engine. After that, no time is left to try another proxy.
    location @proxies {{
        client_body_buffer_size 1m;
{to_proxies}
        proxy_send_timeout {hung_s};
        proxy_read_timeout {hung_s};
        proxy_next_upstream error timeout invalid_header non_idempotent;
        proxy_next_upstream_timeout {hung_s};
        error_page 413 = /_es_rerank/front/413;
        error_page 502 504 = @engine_search;
        proxy_pass http://es_rerank_proxies;
    }}

    location @own {{
{to_proxies}
        proxy_read_timeout 10s;
        error_page 502 504 = /_es_rerank/front/503;
        proxy_pass http://es_rerank_proxies;
    }}

{answers}
}}
"""
# Only nginx itself reaches these. A named location does not work here: it needs a target that nginx could read.
ANSWER = """\
    location = /_es_rerank/front/{status} {{
        internal;
        default_type application/json;
        return {status} '{text}';
    }}"""
ANSWERS = (
    (400, "illegal_argument_exception", "nginx does not accept this request or its target"),
    (413, "illegal_argument_exception", "the request is larger than client_max_body_size of the nginx in front"),
    (414, "illegal_argument_exception", "the target is longer than large_client_header_buffers of the nginx in front"),
    (502, UPSTREAM_KIND, "no engine host could be reached"),
    (503, UPSTREAM_KIND, "no proxy answers; searches go to the engine meanwhile"),
    (504, UPSTREAM_KIND, "the engine did not answer in time"),
)
TO_PROXIES = f"""\
        proxy_set_header Host $http_host;
        proxy_set_header Connection "";
        proxy_connect_timeout {PROXY_CONNECT_S:g}s;"""


def render(plan: Plan) -> str:
    """The configuration. Raises SettingsError for a certificate that nginx can't check."""
    return HEAD.format(
        upstreams="\n".join(
            (_upstream("es_rerank_proxies", plan.proxies), _upstream("es_rerank_engine", plan.engines))
        ),
        longest=MAX_TARGET_BYTES + 1,
        routes="\n".join(_entries(plan.routes)),
        listen=plan.listen,
        read_s=_seconds(plan.read_timeout_s),
        engine_host=plan.engine_host,
        connect_s=_seconds(plan.connect_timeout_s),
        trust=_trust(plan),
        branches="\n".join(f"    error_page {code} = @{target};" for target, code in BRANCHES.items()),
        conditions="\n".join(
            f"        if ($es_rerank_route = {target}) {{ return {code}; }}" for target, code in BRANCHES.items()
        ),
        # As long as it takes to find that no host can be reached: what was sent to a host is not repeated after that.
        next_s=_seconds(plan.connect_timeout_s * len(plan.engines)),
        scheme="http" if plan.trust is None else "https",
        hung_s=_seconds(plan.hung_s),
        to_proxies=TO_PROXIES,
        answers="\n".join(
            ANSWER.format(status=status, text=error_body(status, kind, reason).decode())
            for status, kind, reason in ANSWERS
        ),
    )


def _seconds(seconds: float) -> str:
    """A time, in the whole milliseconds that nginx counts in."""
    milliseconds = max(1, round(seconds * 1000))
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _upstream(name: str, addresses: Iterable[Address]) -> str:
    servers = "".join(f"    server {address} fail_timeout={PAUSE_S}s;\n" for address in addresses)
    return f"upstream {name} {{\n{servers}    keepalive 256;\n    keepalive_requests 1000000000;\n}}\n"


def _entries(routes: Iterable[Route]) -> Iterable[str]:
    """The map's entries: nginx takes the first one that matches, as the plan requires."""
    note = ""
    for route in routes:
        if route.note != note:
            note = route.note
            yield f"    # {note}"
        asking = "[+]" if route.asking else "[+]?"
        methods = f"(?:{'|'.join(route.methods)})" if route.methods else "[^ ]+"
        yield f'    "~^{asking}{methods} {route.path}(?:[?]|$)" {route.target};'


def _trust(plan: Plan) -> str:
    """How nginx checks the engine's certificate; nothing for plain HTTP."""
    if plan.trust is None:
        return ""
    lines = ["proxy_ssl_server_name on;", f"proxy_ssl_name {plan.trust.name};", "proxy_ssl_protocols TLSv1.2 TLSv1.3;"]
    if plan.trust.ca_file is not None:
        if _is_ip_address(plan.trust.name):
            raise SettingsError(
                f"upstream.urls: {plan.trust.name}: nginx checks certificates against names only; "
                "name the host, or set upstream.verify_tls = false"
            )
        ca_file = plan.trust.ca_file.replace("\\", "\\\\").replace('"', '\\"')
        lines += [
            "proxy_ssl_verify on;",
            "proxy_ssl_verify_depth 8;",
            f'proxy_ssl_trusted_certificate "{ca_file}";',
        ]
    return "".join(f"    {line}\n" for line in lines)


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
