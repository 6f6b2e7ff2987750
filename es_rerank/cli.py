"""The command `es-rerank`. Reads the environment, prints, and returns an exit code: 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from es_rerank.errors import EsRerankError, SettingsError
from es_rerank.front import cli as front
from es_rerank.language import LANGUAGE_NAMES
from es_rerank.settings import Settings, load_settings
from es_rerank.telemetry import start_logging

if TYPE_CHECKING:
    from types import FrameType

    from es_rerank.rules.book import BoundRule


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Errors that the user can correct are printed without a traceback."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except EsRerankError as error:
        print(f"es-rerank: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        return 130


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="es-rerank", description="A query proxy that reranks Elasticsearch and OpenSearch searches."
    )
    parser.add_argument("--version", action="version", version=f"es-rerank {version('es-rerank')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the proxy")
    _add_config(serve)
    serve.set_defaults(run=_serve)

    worker = commands.add_parser("worker", help="run a worker, which scores documents for the proxies")
    _add_config(worker)
    worker.add_argument("--scorer", metavar="NAME", help="which scorer to serve, where the rules use several")
    worker.set_defaults(run=_worker)

    check = commands.add_parser("check-config", help="say whether a configuration can be used, and what it means")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_check_config)

    before = commands.add_parser("front", help="print a configuration of nginx or Envoy that goes before the proxies")
    front.add_arguments(before)
    before.set_defaults(run=front.run)

    # These commands need more than the base install, and import it only when they run.
    from es_rerank.demo import cli as demo  # noqa: PLC0415
    from ingest import cli as ingest  # noqa: PLC0415

    load = commands.add_parser("ingest", help="load a judged collection or JSON lines into the engine")
    ingest.add_arguments(load)
    load.set_defaults(run=ingest.run)

    show = commands.add_parser("demo", help="see real questions reranked, on embedded parts or an engine of yours")
    demo.add_arguments(show)
    show.set_defaults(run=demo.run)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the TOML file; see the manual")


def _load(file: Path, *, log_queued: bool = False) -> Settings:
    settings = load_settings(file, os.environ)
    start_logging(settings.log, queued=log_queued)
    return settings


def _serve(options: argparse.Namespace) -> int:
    from es_rerank.proxy.app import App  # noqa: PLC0415  a worker needs no server
    from es_rerank.proxy.http.server import make_server  # noqa: PLC0415

    settings = _load(options.config, log_queued=True)
    # The server stops on these by itself, then raises them again, which would make an orderly stop look like a crash.
    for stopping in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stopping, _already_done)
    try:
        make_server(App(settings), settings.server, longest_deadline_s=settings.limits.max_deadline_s).run()
    except SystemExit:  # it could not start, and has said why
        return 1
    return 0


def _already_done(_: int, __: FrameType | None) -> None:
    pass


def _worker(options: argparse.Namespace) -> int:
    from workers.app import run_worker  # noqa: PLC0415  a proxy needs no scorer

    return run_worker(_load(options.config), options.scorer)


def _language_of(bound: BoundRule) -> str:
    """In which language alone windows are scored, as text; empty for any."""
    return "" if bound.language is None else f" (only windows in {LANGUAGE_NAMES[bound.language]})"


def _thinking_of(bound: BoundRule) -> str:
    """How the scorer thinks about a rule's documents, as text; empty for a scorer that does not think."""
    rule, abilities = bound.rule, bound.scorer.abilities
    if not abilities.thinks:
        return ""
    top = f" about the best {rule.think_top}" if rule.mode == "cascade" else ""
    most = rule.budget_tokens or abilities.max_think_tokens
    budget = "" if rule.mode == "direct" else f", at most {most} tokens{top}"
    return f", mode {rule.mode}{budget}, score {rule.score}"


def _check_config(options: argparse.Namespace) -> int:
    settings = load_settings(options.file, os.environ)
    book = settings.book()
    print(f"{options.file}: can be used")
    for bound in book.rules:
        rule = bound.rule
        print(
            f"  rule {rule.name}: {', '.join(rule.indices)}; window {rule.window}, {rule.method}, "
            f"alpha {bound.alpha:g}, scorer {rule.scorer}{_language_of(bound)}, "
            f"deadline {bound.deadline_s:g} s{_thinking_of(bound)}"
        )
    for name, scorer in settings.used_scorers().items():
        print(f"  scorer {name}: {scorer.fingerprint()}")
    if not book.rules:
        print("  no rules: every search passes through as it is")
    return 0
