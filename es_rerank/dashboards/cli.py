"""The command `es-rerank dashboards`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from es_rerank.dashboards.shipped import shipped
from es_rerank.errors import SettingsError
from es_rerank.official.login import read_login

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Dashboards for Kibana 8 and 9 and OpenSearch Dashboards 2 and 3: Service, Relevance,
Movement and Clicks. `install` gives them to a running server, in the place of what an
earlier install left there; `export` writes the file that its page "Saved objects"
imports. The password of --user comes from the variable ES_RERANK_INGEST_PASSWORD, or
an API key from ES_RERANK_INGEST_API_KEY.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    export = actions.add_parser("export", help="write the dashboards into a file")
    export.add_argument("file", type=Path, metavar="FILE", help="a name that ends in .ndjson")
    export.set_defaults(act=_export)

    install = actions.add_parser("install", help="give the dashboards to a Kibana or an OpenSearch Dashboards")
    install.add_argument("url", metavar="URL", help="the server, with its base path, as in http://localhost:5601")
    install.add_argument("--user", metavar="NAME", help="log in as NAME")
    where = install.add_mutually_exclusive_group()
    where.add_argument("--space", metavar="ID", help="the id of a space of Kibana (default: the default space)")
    where.add_argument("--tenant", metavar="NAME", help="a tenant of OpenSearch Dashboards; `global` or `private` too")
    install.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="the authority that signed the server's certificate"
    )
    install.set_defaults(act=_install)


def run(options: argparse.Namespace) -> int:
    """Do what is asked, say what was done, and return 0. Raises EsRerankError."""
    print(options.act(options))
    return 0


def _export(options: argparse.Namespace) -> str:
    file: Path = options.file
    if file.suffix != ".ndjson":
        raise SettingsError(f"FILE {str(file)!r}: its name must end in .ndjson, or no server imports it")
    try:
        file.write_bytes(shipped())
    except OSError as error:
        raise SettingsError(f"FILE {str(file)!r} can't be written: {error.strerror}") from error
    return f"{file}: import it under Stack Management (or Dashboards Management) > Saved objects"


def _install(options: argparse.Namespace) -> str:
    # Its client takes a moment to import.
    from es_rerank.dashboards.install import Target, install  # noqa: PLC0415

    target = Target(
        url=options.url,
        space=options.space,
        tenant=options.tenant,
        login=read_login(options.user, os.environ),
        ca_file=options.ca_file,
    )
    taken = install(target, shipped())
    return f"{options.url}: {taken} objects installed. Open Dashboards and look for es-rerank"
