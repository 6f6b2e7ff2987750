"""Names of indices as the engines make them: which of them are system indices, and what can reach those. Pure."""

from __future__ import annotations

import re

# A cluster's name before an index (`::` is something else: a selector behind one), and the sign of date math.
BEFORE_NAME = re.compile(r"(?:[^:<]*:(?!:))?<?")
# What engines put before a name of ours: of data streams and their failure stores, of indices that were reindexed for
# an upgrade, and of those that were mounted from a snapshot.
BACKING = re.compile(r"(?:(?:partial|restored)-(?=\.))?(?:\.(?:ds|fs|migrated-ds|reindexed-v[0-9]+)-)*")


def is_system(name: str) -> bool:
    """Whether an index is a system index: its name, or that of the data stream that it belongs to, begins with a dot.

    It may be on a remote cluster, or in date math. `.ds-logs-2026.11.28-000001` belongs to the data stream `logs`.
    """
    name = BEFORE_NAME.sub("", name, count=1)
    return BACKING.sub("", name, count=1).startswith(".")


def may_reach_system(expression: str) -> bool:
    """Whether an index expression can find system indices although it names none, as `*`, `_all` and '' can.

    Any other name means what the caller named: an alias may lead to an index whose name begins with a dot.
    """
    names = [name for name in expression.split(",") if name and not name.startswith("-")] or ["_all"]
    return any(name == "_all" or BEFORE_NAME.sub("", name, count=1).startswith("*") for name in names)
