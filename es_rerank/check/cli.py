"""The command `es-rerank check-config`: says what a configuration means, and looks at its engine where it is asked to.

What can't be used at all is found where the settings are loaded, before this runs.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from typing import TYPE_CHECKING

from es_rerank.doubts import unused_scorers
from es_rerank.errors import SettingsError
from es_rerank.language import LANGUAGE_NAMES
from es_rerank.official.login import read_login

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from es_rerank.rules.book import BoundRule
    from es_rerank.settings import Settings

DESCRIPTION = """\
Says what is wrong with a configuration, in the words that would stop the proxy and
the worker, or what it means. What may be meant, but probably is not, is a warning.

With --engine it also looks at the engine: which indices fall under each rule, what
their mappings say of the rule's fields, and the text that a model would read of
three documents. It only reads. The password of --user comes from the variable
ES_RERANK_INGEST_PASSWORD, or an API key from ES_RERANK_INGEST_API_KEY.

Exit code: 0 it can be used, 1 the engine can't be asked, or a rule finds no index
or no text there, 2 it can't be used.
"""
PORT_ERRORS = {
    errno.EADDRINUSE: "is taken on this machine: by another program, or by an es-rerank that runs already",
    errno.EADDRNOTAVAIL: "can't be listened on: this machine has no such address",
    errno.EACCES: "can't be listened on by this user: ports below 1024 need rights",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--engine", action="store_true", help="also look at the engine that the configuration names")
    parser.add_argument("--user", metavar="NAME", help="log in to the engine as NAME")


def run(settings: Settings, file: Path, options: argparse.Namespace) -> int:
    """Print what the settings of the file mean, and return the exit code. Raises EsRerankError."""
    if options.user and not options.engine:
        raise SettingsError("--user: is for --engine, without which nobody is asked")
    for warning in port_warnings(settings):
        print(f"es-rerank: warning: {warning}", file=sys.stderr)
    book = settings.book()
    print(f"{file}: can be used")
    for bound in book.rules:
        rule = bound.rule
        print(
            f"  rule {rule.name}: {', '.join(rule.indices)}; window {rule.window}, {rule.method}, "
            f"alpha {bound.alpha:g}, scorer {rule.scorer}{_language_of(bound)}, "
            f"deadline {bound.deadline_s:g} s{_thinking_of(bound)}"
        )
    api = settings.bound_rerank_api()
    if api is not None:
        for model in api.models.values():
            default = ", the default" if model is api.default else ""
            print(f"  model {model.name} of the rerank API: scorer {model.scorer_name}{default}")
    for inference_id, bound in book.endpoints.items():
        print(
            f"  endpoint {inference_id}: scorer {bound.rule.scorer}{_language_of(bound)}, "
            f"deadline {bound.deadline_s:g} s{_thinking_of(bound)}"
        )
    for name, scorer in settings.used_scorers().items():
        print(f"  scorer {name}: {scorer.fingerprint()}")
    for name in unused_scorers(settings):
        print(f"  scorer {name}: no rule uses it")
    if not (book.rules or book.endpoints):
        print("  no rules: every search passes through as it is")
    return _show_engine(settings, options.user) if options.engine else 0


def port_warnings(settings: Settings) -> list[str]:
    """A sentence for each port of the configuration that can't be listened on at the moment."""
    ports = [("server", settings.server.host, settings.server.port)]
    if settings.metrics.port is not None:
        ports.append(("metrics", settings.metrics.host, settings.metrics.port))
    problems = [(f"{table}.port = {port} on {host}", _port_problem(host, port)) for table, host, port in ports]
    return [f"{place}: {problem}" for place, problem in problems if problem]


def _port_problem(host: str, port: int) -> str:
    """Why nothing can listen there now; '' where something can, or where only a name service could tell."""
    try:
        address = ipaddress.ip_address({"localhost": "127.0.0.1"}.get(host, host))
    except ValueError:
        return ""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((str(address), port))
    except OSError as error:
        return PORT_ERRORS.get(error.errno or 0, f"can't be listened on: {error.strerror}")
    return ""


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


def _show_engine(settings: Settings, user: str | None) -> int:
    # The clients take half a second to import.
    from es_rerank.check.engine import look_at_engine  # noqa: PLC0415
    from es_rerank.check.report import lines_of  # noqa: PLC0415

    findings = look_at_engine(settings, read_login(user, os.environ))
    for line in lines_of(findings):
        print(line)
    return 0 if findings.usable else 1
