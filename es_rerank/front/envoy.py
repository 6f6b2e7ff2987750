"""A plan as Envoy's bootstrap configuration, in JSON. Pure. Names and meaning of the fields are those of its v3 API.

An aggregate cluster holds the proxies first and then the engine: a retry goes to the engine once it has tried all
proxies.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from es_rerank.front.routes import ANY_PATH, CONTROL_HEADER
from es_rerank.proxy.http.own import UPSTREAM_KIND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.front.routes import Address, Plan, Route, Trust

BOTH, PROXIES, ENGINE = "es_rerank", "es_rerank_proxies", "es_rerank_engine"
# A request that may be retried is buffered, up to this size; by default, the proxies don't read longer searches either.
BUFFER_BYTES = 4 * 1024 * 1024
NOTHING_SENT = "connect-failure"
NOTHING_ANSWERED = "connect-failure,refused-stream,reset"
UNLIMITED = 1_000_000
# Envoy refuses expressions of more than 100 instructions unless told otherwise, and "not a slash" alone is a dozen.
RE2_SIZE, RE2_INSTRUCTIONS = "re2.max_program_size.error_level", 100_000
TYPES = "type.googleapis.com/envoy.extensions"
PRESERVE_CASE = {
    "stateful_formatter": {
        "name": "preserve_case",
        "typed_config": {
            "@type": f"{TYPES}.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
        },
    }
}
PROXY_CONNECT_S = 1.0
IDLE_CALLER_S = 3600.0


def render(plan: Plan) -> str:
    """The configuration."""
    config = {
        "static_resources": {"listeners": [_listener(plan)], "clusters": _clusters(plan)},
        "layered_runtime": {"layers": [{"name": "es_rerank", "static_layer": {RE2_SIZE: RE2_INSTRUCTIONS}}]},
    }
    return json.dumps(config, indent=1) + "\n"


def _seconds(seconds: float) -> str:
    """A duration as protobuf's JSON has it."""
    return f"{seconds:.3f}s"


def _listener(plan: Plan) -> dict[str, Any]:
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "es_rerank",
        "codec_type": "HTTP1",
        # The target stays as it came: it is the engine that reads encoded slashes, double slashes and dots.
        "normalize_path": False,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "http_protocol_options": {"header_key_format": PRESERVE_CASE, "accept_http_10": True},
        "common_http_protocol_options": {
            "headers_with_underscores_action": "ALLOW",
            "idle_timeout": _seconds(IDLE_CALLER_S),
        },
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": False,
        "skip_xff_append": True,
        "stream_idle_timeout": _seconds(0),
        "max_request_headers_kb": 64,
        "local_reply_config": {
            "body_format": {
                "json_format": {
                    "error": {"type": UPSTREAM_KIND, "reason": "%LOCAL_REPLY_BODY%"},
                    "status": "%RESPONSE_CODE%",
                }
            }
        },
        "route_config": {
            "name": "es_rerank",
            "virtual_hosts": [
                {"name": "es_rerank", "domains": ["*"], "routes": [_route(route, plan) for route in plan.routes]}
            ],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router", "suppress_envoy_headers": True},
            }
        ],
    }
    return {
        "name": "es_rerank",
        "address": _socket(plan.listen),
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _route(route: Route, plan: Plan) -> dict[str, Any]:
    """One route. Envoy compares an expression with the whole path, without the query."""
    headers: list[dict[str, Any]] = []
    if route.methods:
        headers.append({"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(route.methods)}}})
    if route.asking:
        headers.append({"name": CONTROL_HEADER.lower(), "present_match": True})
    # An expression matches only a path that is valid UTF-8, which a path need not be.
    match: dict[str, Any] = {"prefix": "/"} if route.path == ANY_PATH else {"safe_regex": {"regex": route.path}}
    if headers:
        match["headers"] = headers
    return {"name": route.note, "match": match, "route": _action(route, plan)}


def _action(route: Route, plan: Plan) -> dict[str, Any]:
    """What becomes of a route's requests. Envoy knows if nothing was sent, so even a write may go to the next host."""
    if route.target == "own":
        return {"cluster": PROXIES, "timeout": _seconds(10)}
    engine = {"timeout": _seconds(0), "host_rewrite_literal": plan.engine_host}
    hosts = len(plan.engines)
    if route.target == "proxies":
        return {
            **engine,
            "cluster": BOTH,
            "retry_policy": {
                "retry_on": NOTHING_ANSWERED,
                "num_retries": len(plan.proxies) + hosts - 1,
                "per_try_idle_timeout": _seconds(plan.hung_s),
                "retry_priority": {
                    "name": "envoy.retry_priorities.previous_priorities",
                    "typed_config": {
                        "@type": f"{TYPES}.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                        "update_frequency": len(plan.proxies),
                    },
                },
                **_other_host(plan.proxies),
            },
        }
    return {
        **engine,
        "cluster": ENGINE,
        "idle_timeout": _seconds(plan.read_timeout_s),
        "retry_policy": {
            "retry_on": NOTHING_ANSWERED if route.target == "engine_search" else NOTHING_SENT,
            "num_retries": hosts,
            **_other_host(plan.engines),
        },
    }


def _other_host(hosts: Sequence[Address]) -> dict[str, Any]:
    """The settings that send a retry to a host that was not asked yet, if there is one."""
    return {
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{TYPES}.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
        "host_selection_retry_max_attempts": len(hosts),
    }


def _clusters(plan: Plan) -> list[dict[str, Any]]:
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), UNLIMITED)
    every = {"circuit_breakers": {"thresholds": [limits]}}
    both = {
        **every,
        "name": BOTH,
        "connect_timeout": _seconds(PROXY_CONNECT_S),
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {"@type": f"{TYPES}.clusters.aggregate.v3.ClusterConfig", "clusters": [PROXIES, ENGINE]},
        },
    }
    proxies = {
        **every,
        **_hosts(PROXIES, plan.proxies),
        "connect_timeout": _seconds(PROXY_CONNECT_S),
        # A proxy that answers its health check is alive, whatever it answers; if none is alive, the engine is next.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [
            {
                "timeout": _seconds(5),
                "interval": _seconds(5),
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "http_health_check": {
                    "path": "/_es_rerank/health",
                    "expected_statuses": [{"start": 200, "end": 600}],
                },
            }
        ],
    }
    engine = {**every, **_hosts(ENGINE, plan.engines), "connect_timeout": _seconds(plan.connect_timeout_s)}
    if plan.trust is not None:
        engine["transport_socket"] = _tls(plan.trust)
    return [both, proxies, engine]


def _hosts(name: str, addresses: Sequence[Address]) -> dict[str, Any]:
    """A cluster of hosts, used in rotation over HTTP/1.1; Envoy looks up their names again and again."""
    return {
        "name": name,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(address)}} for address in addresses]}],
            # One host that is up takes the load of all: by default Envoy would give part of it to the next cluster.
            "policy": {"overprovisioning_factor": 100 * max(2, len(addresses))},
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {"header_key_format": PRESERVE_CASE}},
                "common_http_protocol_options": {"idle_timeout": _seconds(60)},
            }
        },
    }


def _tls(trust: Trust) -> dict[str, Any]:
    common: dict[str, Any] = {}
    if trust.ca_file is not None:
        common["validation_context"] = {
            "trusted_ca": {"filename": trust.ca_file},
            "match_typed_subject_alt_names": [
                {"san_type": san_type, "matcher": {"exact": trust.name}} for san_type in ("DNS", "IP_ADDRESS")
            ],
        }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": trust.name,
            "common_tls_context": common,
        },
    }


def _socket(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}
