"""Patterns of index names: which can match nothing, and which lie wholly under another one. Pure."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

# What Elasticsearch and OpenSearch refuse in the name of an index or alias. A rule refuses `,`, `?` and `[` before.
NEVER_IN_NAMES = ' "#/<>\\|'
MAX_NAME_BYTES = 255
REMOTE_CLUSTER = re.compile(r"^[^:<]*:(?!:)")
# Which part of a data stream is meant, as in `logs::failures`.
SELECTOR = re.compile(r"::[a-z*]+$")
DATE_MATH = "<"


def without_cluster(name: str) -> str:
    """A name or pattern without the remote cluster before it. A `::` is something else: a selector behind a name."""
    return REMOTE_CLUSTER.sub("", name, count=1)


def covers(wide: str, narrow: str) -> bool:
    """Whether `wide` matches every name that `narrow` matches; both are names or patterns with `*`.

    No name has an asterisk, so only a `*` of `wide` can match the `*` of `narrow`, and that one matches anything.
    """
    return fnmatchcase(narrow, wide)


def why_never(pattern: str) -> str:
    """Why no index, alias or data stream can have a name under this pattern; '' if one can.

    A pattern for date math (`<logs-*`) is not looked at: its characters mean something else.
    """
    name = SELECTOR.sub("", without_cluster(pattern))
    if name.startswith(DATE_MATH):
        return ""
    if not name or pattern.startswith(":"):
        return "a cluster or an index has no name"
    if name != pattern and name.startswith((".", "-", "_", "+")):
        return f"after the cluster no name begins with {name[0]!r}, but for system indices"
    found = next((letter for letter in name if letter in NEVER_IN_NAMES + ":"), None)
    if found is not None:
        return "no name has a blank" if found == " " else f"no name has a {found!r}"
    if len(name.replace("*", "").encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        return f"no name is longer than {MAX_NAME_BYTES} bytes"
    return ""


def has_capitals(pattern: str) -> bool:
    """Whether the pattern can only match an alias: the names of indices and data streams are in lower case."""
    name = without_cluster(pattern)
    return not name.startswith(DATE_MATH) and name != name.lower()
