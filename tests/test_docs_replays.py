"""The page about replays says what the code does: its fields, requests, command and numbers are those of the code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from es_rerank.cli import _make_parser
from es_rerank.proxy.own import comparisons, replays, sweeps
from es_rerank.proxy.own.computing import MAX_WAITING
from es_rerank.proxy.own.jobs import STALE_S
from es_rerank.proxy.replay.queries import MAX_QUERIES
from es_rerank.proxy.replay.record import ATTEMPTS
from es_rerank.proxy.replay.run import DEFAULT_CONCURRENCY, MAX_CONCURRENCY, PAUSES_S
from es_rerank.tuning.metrics import FOLDS

PAGE = (Path(__file__).parents[1] / "docs" / "replays.md").read_text(encoding="utf-8")
CHAPTERS = {chapter.partition("\n")[0]: chapter for chapter in PAGE.split("\n## ")}


def fields_in(chapter: str) -> set[str]:
    """The fields that the table of a chapter has."""
    rows = re.findall(r"^\| (`.+?) \|", CHAPTERS[chapter].partition("\n### ")[0], flags=re.MULTILINE)
    return {field for row in rows for field in re.findall(r"`(\w+)`", row)}


def test_each_field_of_a_request_is_there() -> None:
    """Replays and sweeps have a table, comparisons a sentence."""
    assert fields_in("A replay") == set(replays.ASKED)
    assert fields_in("A sweep") == set(sweeps.ASKED)
    assert {"a", "b"} <= set(comparisons.ASKED)


def test_each_request_is_one_that_can_be_sent() -> None:
    """Its body is JSON with fields that are known."""
    asked = {"replays": replays.ASKED, "sweeps": sweeps.ASKED, "comparisons": comparisons.ASKED}
    bodies = re.findall(r"^POST /_es_rerank/(\w+)\n(\{.*?^\})", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in bodies] == ["replays", "sweeps", "comparisons"]
    for kind, body in bodies:
        assert json.loads(body).keys() <= set(asked[kind])


def test_the_command_can_be_typed() -> None:
    """The parser takes it, and its default is that of a replay from Dev Tools."""
    [command] = re.findall(r"^es-rerank (replay .+)$", PAGE, flags=re.MULTILINE)
    options = _make_parser().parse_args(shlex.split(command))
    assert options.concurrency == DEFAULT_CONCURRENCY


def test_numbers_are_those_of_the_code() -> None:
    """Bounds, attempts and waits."""
    assert f"1 to {MAX_CONCURRENCY} | {DEFAULT_CONCURRENCY} |" in PAGE
    assert f"at most {MAX_QUERIES:,}" in PAGE
    assert f"nothing for {STALE_S:g} seconds" in PAGE
    assert (ATTEMPTS, "up to three\n  times" in PAGE) == (3, True)
    assert (round(sum(PAUSES_S) / 60), "the queries wait about a minute" in PAGE) == (1, True)
    assert (MAX_WAITING, "Eight may wait" in PAGE, FOLDS) == (8, True, 5)
    assert (replays.MAX_RUNNING, "two replays at most" in PAGE) == (2, True)
