"""The page about tuning says what the code does: its commands can be typed, and its numbers are those of the code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from es_rerank.cli import _make_parser
from es_rerank.tuning.grid import MAX_SETTINGS, grid_from, parse_grid
from es_rerank.tuning.measures import MAX_GAIN, NAMES
from es_rerank.tuning.metrics import FOLDS
from es_rerank.tuning.recording import RecordedQuery, RecordingHead
from es_rerank.tuning.significance import EXACT_DIFFERENCES, FLIPS
from es_rerank.tuning.verdict import LEAST_QUERIES, SIGNIFICANT

PAGE = (Path(__file__).parents[1] / "docs" / "tuning.md").read_text(encoding="utf-8")
SWEEPS = PAGE[PAGE.index("## Recordings, sweeps and comparisons") :]


def test_each_command_can_be_typed() -> None:
    """Every command of the chapter is one that the parser takes."""
    commands = re.findall(r"^es-rerank ((?:sweep|compare|runs) .+)$", PAGE, flags=re.MULTILINE)
    assert len(commands) >= 7
    for command in commands:
        _make_parser().parse_args(shlex.split(command.partition(" > ")[0]))


def test_a_grid_is_the_same_in_both_forms() -> None:
    """The grid in JSON is the one of the command above it."""
    [text] = re.findall(r"--grid '(.+)'", SWEEPS)
    [body] = re.findall(r"```json\n(\{\"alpha.+\})\n```", SWEEPS)
    assert grid_from(json.loads(body)) == parse_grid(text)


def test_names_and_numbers_are_those_of_the_code() -> None:
    """Each measure and field of a recording is there, and each bound."""
    table = SWEEPS[SWEEPS.index("| measure |") : SWEEPS.index("**Fractional grades.**")]
    assert {name.partition("@")[0] for name in re.findall(r"`([A-Za-z]+(?:@k)?)`", table)} == {*NAMES, "rel"}
    for field in (*RecordingHead.__struct_fields__, *RecordedQuery.__struct_fields__):
        assert f"`{field}`" in SWEEPS, field
    for said in (
        f"at most {MAX_SETTINGS:,}",
        f"{MAX_GAIN:,} levels",
        f"into {FOLDS} folds",
        f"Up to {EXACT_DIFFERENCES} queries",
        f"{FLIPS:,} times",
        f"p is below {SIGNIFICANT}",
        f"fewer than {LEAST_QUERIES}",
    ):
        assert said in SWEEPS, said
