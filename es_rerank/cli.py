"""The command `es-rerank`. Reads the environment, prints, and returns an exit code: 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from es_rerank.check import cli as check_config
from es_rerank.dashboards import cli as dashboards
from es_rerank.doubts import doubts_about
from es_rerank.errors import EsRerankError, SettingsError
from es_rerank.front import cli as front
from es_rerank.proxy.replay import cli as replay
from es_rerank.settings import Settings, load_settings
from es_rerank.telemetry import start_logging
from es_rerank.tune import cli as tune
from es_rerank.tune import judgments

if TYPE_CHECKING:
    from types import FrameType

LOG = logging.getLogger(__name__)
DESCRIPTION = """\
A query proxy in front of Elasticsearch or OpenSearch. Everything passes through it
byte for byte, and searches on configured indices come back better ordered.
"""
EPILOG = """\
example, each command in a terminal of its own:
  es-rerank check-config --config es-rerank.toml
  es-rerank worker --config es-rerank.toml
  es-rerank serve --config es-rerank.toml

Without a configuration, `es-rerank demo` shows what it does.
Exit code: 0 done, 1 failed, 2 misused. docs/configuration.md explains the file.
"""
SERVE = """\
Runs the proxy. SIGTERM ends it, once the searches in flight are answered.
Log lines go to standard error.
"""
WORKER = """\
Runs a worker, which scores documents for all proxies on the same Redis. Start as
many as you like, each with the same file as the proxies. SIGTERM ends it, once
its running queries are finished.
"""
FRONT = """\
Prints a configuration of nginx or Envoy that goes before the proxies: it sends them
the searches that they may rerank, and everything else to the engine.
"""
DEMO = """\
Shows real questions answered with and without reranking, then stays up to be asked.
"""
RUNS = """\
Hands what was recorded to other tools.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Errors that the user can correct are printed without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode must not end a command
    parser = _make_parser()
    options = parser.parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
    except EsRerankError as error:
        print(f"es-rerank: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    except BrokenPipeError:  # whoever read the output has enough, as in `| head`; what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="es-rerank",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"es-rerank {version('es-rerank')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = _add_command(commands, "serve", "run the proxy", SERVE, "--config es-rerank.toml")
    _add_config(serve)
    serve.set_defaults(run=_serve)

    worker = _add_command(
        commands, "worker", "run a worker, which scores documents for the proxies", WORKER,
        "--config es-rerank.toml", "--config es-rerank.toml --scorer erank",
    )  # fmt: skip
    _add_config(worker)
    worker.add_argument("--scorer", metavar="NAME", help="which scorer to serve, where the rules use several")
    worker.set_defaults(run=_worker)

    check = _add_command(
        commands, "check-config", "say whether a configuration can be used, and what it means",
        check_config.DESCRIPTION, "--config es-rerank.toml", "--config es-rerank.toml --engine --user ann",
    )  # fmt: skip
    _add_config(check, also_alone=True)
    check_config.add_arguments(check)
    check.set_defaults(run=_check_config)

    before = _add_command(
        commands, "front", "print a configuration of nginx or Envoy that goes before the proxies", FRONT,
        "--config es-rerank.toml > /etc/nginx/nginx.conf",
        "--config es-rerank.toml --for envoy --proxy p1:9300 --proxy p2:9300",
    )  # fmt: skip
    _add_config(before)
    front.add_arguments(before)
    before.set_defaults(run=_front)

    boards = _add_command(
        commands, "dashboards", "install dashboards in Kibana or OpenSearch Dashboards", dashboards.DESCRIPTION,
        "install http://localhost:5601", "export es-rerank.ndjson",
    )  # fmt: skip
    dashboards.add_arguments(boards)
    boards.set_defaults(run=dashboards.run)

    # These commands need more than the base install, and import it only when they run.
    from es_rerank.demo import cli as demo  # noqa: PLC0415
    from ingest import cli as ingest  # noqa: PLC0415

    load = commands.add_parser(
        "ingest",
        help="load a judged collection or JSON lines into the engine",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ingest.add_arguments(load)
    load.set_defaults(run=ingest.run)

    show = _add_command(
        commands, "demo", "see real questions reranked, on embedded parts or an engine of yours", DEMO,
        "--exit", "--engine http://localhost:9200",
    )  # fmt: skip
    demo.add_arguments(show)
    show.set_defaults(run=demo.run)

    record = _add_command(
        commands, "replay", "record the windows of a query set, for sweeps and comparisons", replay.DESCRIPTION,
        "--config es-rerank.toml --index articles --queries queries.jsonl --out run.jsonl",
    )  # fmt: skip
    _add_config(record)
    replay.add_arguments(record)
    record.set_defaults(run=_replay)
    _add_tuning(commands)
    _add_judgments(commands)
    return parser


def _add_tuning(commands: Any) -> None:
    """The commands that learn from recordings."""
    sweep = _add_command(
        commands, "sweep", "try many settings on a recording, and say whether one is better", tune.SWEEP,
        "run.jsonl --judgments qrels.tsv",
        "run.jsonl --judgments qrels.tsv --grid 'alpha=0:1:0.01 window=20,50,100'",
    )  # fmt: skip
    tune.add_sweep_arguments(sweep)
    sweep.set_defaults(run=tune.run_sweep)

    compare = _add_command(
        commands, "compare", "compare two orders of the same queries", tune.COMPARE,
        "run.jsonl --judgments qrels.tsv", "run.jsonl --judgments qrels.tsv --to alpha=0.35",
        "minilm.jsonl erank.jsonl --judgments qrels.tsv",
    )  # fmt: skip
    tune.add_compare_arguments(compare)
    compare.set_defaults(run=tune.run_compare)

    runs = _add_command(
        commands, "runs", "export what was recorded for other tools", RUNS, "export run.jsonl > run.trec"
    )
    of_runs = runs.add_subparsers(title="commands", required=True, metavar="COMMAND")
    export = _add_command(
        of_runs, "export", "print a recording as a TREC run", tune.EXPORT,
        "run.jsonl > run.trec", "run.jsonl --setting engine --tag bm25 > bm25.trec", within="runs",
    )  # fmt: skip
    tune.add_export_arguments(export)
    export.set_defaults(run=tune.run_export)


def _add_judgments(commands: Any) -> None:
    """The commands about judgment lists."""
    lists = _add_command(
        commands, "judgments", "keep lists of what is relevant to what, and compare them", judgments.DESCRIPTION,
        "import qrels.tsv --name mine --url http://127.0.0.1:9300", "agreement qrels.tsv grades.json",
    ).add_subparsers(title="commands", required=True, metavar="COMMAND")  # fmt: skip

    load = _add_command(
        lists, "import", "put a file of judgments into a list", judgments.IMPORT,
        "case.csv --name mine --url http://127.0.0.1:9300", within="judgments",
    )  # fmt: skip
    judgments.add_import_arguments(load)
    load.set_defaults(run=judgments.run_import)

    export = _add_command(
        lists, "export", "print a list", judgments.EXPORT,
        "--name mine --url http://127.0.0.1:9300 --form trec > qrels", within="judgments",
    )  # fmt: skip
    judgments.add_export_arguments(export)
    export.set_defaults(run=judgments.run_export)

    clicks = _add_command(
        lists, "from-clicks", "make judgments from clicks", judgments.FROM_CLICKS,
        "--name mine --url http://127.0.0.1:9300 --since now-30d", within="judgments",
    )  # fmt: skip
    judgments.add_click_arguments(clicks)
    clicks.set_defaults(run=judgments.run_from_clicks)

    model = _add_command(
        lists, "from-model", "print what a recording's model says as judgments", judgments.FROM_MODEL,
        "run.jsonl > grades.json", within="judgments",
    )  # fmt: skip
    judgments.add_model_arguments(model)
    model.set_defaults(run=judgments.run_from_model)

    agreement = _add_command(
        lists, "agreement", "say how far two files of judgments agree", judgments.AGREEMENT,
        "qrels.tsv grades.json", within="judgments",
    )  # fmt: skip
    judgments.add_agreement_arguments(agreement)
    agreement.set_defaults(run=judgments.run_agreement)


def _add_command(
    commands: Any, name: str, help_text: str, description: str, *examples: str, within: str = ""
) -> argparse.ArgumentParser:
    """A command's parser, whose help ends in examples of its options; `within` is the command that it belongs to."""
    command = f"{within} {name}".strip()
    lines = "".join(f"\n  es-rerank {command} {example}" for example in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_text,
        description=description,
        epilog=f"example{'s' if len(examples) > 1 else ''}:{lines}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _add_config(parser: argparse.ArgumentParser, *, also_alone: bool = False) -> None:
    """`--config FILE`; with `also_alone` the file may stand alone too, as check-config once wanted it."""
    where: Any = parser.add_mutually_exclusive_group(required=True) if also_alone else parser
    where.add_argument(
        "--config", type=Path, required=not also_alone, metavar="FILE", help="the TOML file; see docs/configuration.md"
    )
    if also_alone:
        where.add_argument("config_alone", type=Path, nargs="?", metavar="FILE", help=argparse.SUPPRESS)


def _load_for_service(file: Path, *, log_queued: bool = False) -> Settings:
    """The settings, with logging started; doubts about them are logged."""
    settings = load_settings(file, os.environ)
    start_logging(settings.log, queued=log_queued)
    for doubt in doubts_about(settings, os.environ):
        LOG.warning("%s", doubt)
    return settings


def _load_to_print(file: Path) -> Settings:
    """The settings for a command that prints; doubts about them go to standard error."""
    settings = load_settings(file, os.environ)
    for doubt in doubts_about(settings, os.environ):
        print(f"es-rerank: warning: {doubt}", file=sys.stderr)
    return settings


def _serve(options: argparse.Namespace) -> int:
    from es_rerank.proxy.app import App  # noqa: PLC0415  a worker needs no server
    from es_rerank.proxy.http.server import allow_open_files, make_server  # noqa: PLC0415

    settings = _load_for_service(options.config, log_queued=True)
    allow_open_files(settings.server.max_connections + settings.upstream.max_connections)
    # The server stops on these by itself, then raises them again, which would make an orderly stop look like a crash.
    for stopping in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stopping, _already_done)
    try:
        app = App(settings)
        longest_deadline_s = settings.limits.max_deadline_s
        make_server(app, settings.server, product=app.product, longest_deadline_s=longest_deadline_s).run()
    except SystemExit:  # it could not start, and has said why
        return 1
    return 0


def _already_done(_: int, __: FrameType | None) -> None:
    pass


def _worker(options: argparse.Namespace) -> int:
    from workers.app import run_worker  # noqa: PLC0415  a proxy needs no scorer

    return run_worker(_load_for_service(options.config), options.scorer)


def _front(options: argparse.Namespace) -> int:
    return front.run(_load_to_print(options.config), options)


def _replay(options: argparse.Namespace) -> int:
    return replay.run(_load_to_print(options.config), options)


def _check_config(options: argparse.Namespace) -> int:
    file = options.config or options.config_alone
    return check_config.run(_load_to_print(file), file, options)
