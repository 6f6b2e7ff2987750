"""The command `es-rerank front`."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from es_rerank.front import envoy, nginx
from es_rerank.front.routes import make_plan, read_address

if TYPE_CHECKING:
    import argparse

    from es_rerank.settings import Settings

RENDERERS = {"nginx": nginx.render, "envoy": envoy.render}
DEFAULT_LISTEN = "9200"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "--for", dest="server", choices=tuple(RENDERERS), default="nginx", help="the front server (default: nginx)"
    )
    parser.add_argument(
        "--proxy",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="a proxy; repeat the option for each one (default: the file's server.host and server.port)",
    )
    parser.add_argument(
        "--listen",
        default=DEFAULT_LISTEN,
        metavar="[HOST:]PORT",
        help=f"where the front listens (default: {DEFAULT_LISTEN}); without a host, on 127.0.0.1",
    )


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Print the configuration, and return 0. Raises EsRerankError with what is wrong."""
    plan = make_plan(
        settings,
        listen=read_address("--listen", options.listen, default_host="127.0.0.1"),
        proxies=[read_address("--proxy", proxy) for proxy in options.proxy],
        system_ca_file=ssl.get_default_verify_paths().cafile,
    )
    print(RENDERERS[options.server](plan), end="")
    return 0
