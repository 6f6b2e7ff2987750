"""Names of indices as the engines make them: which of them are system indices, and what can reach those. Pure."""

from __future__ import annotations

import re

from es_rerank.rules.patterns import DATE_MATH, without_cluster

MAX_EXPRESSION_CHARACTERS = 1024
"""Nothing is remembered under a longer index expression: clients use far shorter ones, but bodies have room for any."""
OWN_PREFIX = "es-rerank-"
"""Indices with such names are es-rerank's own: they are never reranked, and no event tells of a search for them."""
# What engines put before a name: of data streams and their failure stores, of indices that were reindexed for an
# upgrade, and of those that were mounted from a snapshot.
BACKING = re.compile(r"(?:(?:partial|restored)-(?=\.))?(?:\.(?:ds|fs|migrated-ds|reindexed-v[0-9]+)-)*")


def named_in(expression: str) -> list[str]:
    """The names and patterns in an index expression that are not exclusions; `_all` where there is none."""
    return [name for name in expression.split(",") if name and not name.startswith("-")] or ["_all"]


def is_system(name: str) -> bool:
    """Whether an index is a system index: its name, or that of the data stream that it belongs to, begins with a dot.

    Our own indices are such too. The index may be on a remote cluster, or in date math. `.ds-logs-2026.11.28-000001`
    belongs to the data stream `logs`.
    """
    return BACKING.sub("", _bare(name), count=1).startswith((".", OWN_PREFIX))


def may_reach_system(expression: str) -> bool:
    """Whether an index expression can find system indices although it names none, as `*`, `_all`, '' and `es*` can.

    Any other name means what the caller named: an alias may lead to an index whose name begins with a dot.
    """
    return any(name == "_all" or _may_be_ours(_bare(name)) for name in named_in(expression))


def _may_be_ours(pattern: str) -> bool:
    """Whether a pattern can match the name of a system index, by what stands before its first wildcard."""
    beginning, wildcard, _ = pattern.partition("*")
    return bool(wildcard) and (OWN_PREFIX.startswith(beginning) or beginning.startswith(OWN_PREFIX))


def _bare(name: str) -> str:
    """The name without its cluster and without the sign of date math."""
    return without_cluster(name).removeprefix(DATE_MATH)
