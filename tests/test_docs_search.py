"""The page about searches names every reason, field and limit that the code has."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from es_rerank.fusion.fuse import Method
from es_rerank.proxy.caller import KEPT_S, KEPT_UNKNOWN_S, MAX_ASKING
from es_rerank.proxy.field_types import MAX_KEPT, TEXT_TYPES
from es_rerank.proxy.search import async_memory
from es_rerank.proxy.search.clauses import (
    BODY_TEXT,
    FIELD_TEXT,
    INNER_QUERY,
    MODEL_TEXT,
    OWN_ORDER,
    SPANS,
    SYNTAX_TEXT,
    WORD_PARTS,
)
from es_rerank.proxy.search.control import ALLOWED, MAX_NAME_CHARACTERS, MAX_QUERY_CHARACTERS, Controls, Include
from es_rerank.proxy.search.decide import RENDERING_SHARE
from es_rerank.proxy.search.question import MAX_WORDS
from es_rerank.proxy.search.retriever import DEFAULT_WINDOW, SCORING
from es_rerank.proxy.search.search_pipeline import FINDING, MAX_PATH_CHARACTERS
from es_rerank.proxy.search.status import SearchStatus
from es_rerank.proxy.search.syntax import MAX_SYNTAX_CHARS
from es_rerank.proxy.search.template import VERBATIM
from es_rerank.proxy.steps import MOST_WAIT_S
from es_rerank.proxy.templates import MAX_RENDERING
from es_rerank.reasons import OUTCOMES, STAGE_KEYS, FirstStage, Outcome
from es_rerank.tables import LimitSettings
from tests.proxy.search.calls import NOT_OURS, find_question
from tests.proxy.search.real_bodies import REAL_BODIES

PAGE = (Path(__file__).parents[1] / "docs" / "search.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"`\"?([a-z_0-9]+)\"?`", PAGE))


def table_under(head: str) -> list[list[str]]:
    """The rows of the table with this head, cell by cell."""
    _, found, rest = PAGE.partition(f"\n{head}\n")
    assert found
    rows = rest.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def words_in(cell: str) -> list[str]:
    """The words that a cell names, without what it says about them in brackets."""
    return re.findall(r"`([a-z_0-9]+)`", re.sub(r"\(.*?\)", "", cell))


def test_every_reason_for_passing_is_explained() -> None:
    """The table of searches names exactly the reasons with which one is skipped before the engine is asked, each once.

    That these are all that deciding gives, and that it gives each, is tested beside `decide`.
    """
    named = [word for row in table_under("| Asked | Reranked | `reason` if not |") for word in words_in(row[2])]
    assert sorted(named) == sorted(NOT_OURS)


def test_every_other_reason_is_explained_with_its_outcomes() -> None:
    """The table of what can become of a search to be reranked has all other reasons, and the outcomes of each."""
    rows = table_under("| `reason` | `status` | Meaning |")
    said = {word: set(words_in(status)) for words, status, _ in rows for word in words_in(words)}
    assert sum(len(words_in(row[0])) for row in rows) == len(said)
    assert said == {word: outcomes for word, outcomes in OUTCOMES.items() if word not in NOT_OURS}


def test_every_field_of_the_status_is_explained() -> None:
    """Each key of the block and each outcome has a line."""
    block = SearchStatus(
        status="partial",
        window=2,
        scored=1,
        missing_text=1,
        missing_fields={"title": 1},
        mode="think",
        first_stage="rrf",
        question="fox",
        cut=1,
        low_mass=1,
        truncated=1,
        query_id="q-1",
    ).block()
    for word in (*block, *get_args(Outcome)):
        assert f"| `{word}` |" in PAGE or f"`{word}`:" in PAGE


def test_every_wish_is_explained_with_its_limits() -> None:
    """Each field of `ext.es_rerank` has a line, with the words and the default limits that hold for it."""
    assert {field.name for field in fields(Controls)} == set(ALLOWED)
    for word in (*ALLOWED, *get_args(Method), *get_args(Include)):
        assert word in WORDS
    assert f"`limits.max_window` ({LimitSettings().max_window})" in PAGE
    assert f"`limits.max_deadline_s` ({LimitSettings().max_deadline_s:g})" in PAGE
    assert f"a text of 1 to {MAX_NAME_CHARACTERS} characters" in PAGE


def test_every_text_query_is_explained() -> None:
    """Every query that gives a text, and every compound query that is followed to find one, is listed."""
    assert {*FIELD_TEXT, *BODY_TEXT, *SYNTAX_TEXT, *SPANS, *WORD_PARTS, *INNER_QUERY} <= WORDS
    assert f"{MAX_SYNTAX_CHARS} characters" in PAGE


def test_every_first_stage_is_explained() -> None:
    """Each word for one has a line; the keys, retrievers and queries that make one, and those that don't, are named."""
    told = {word for row in table_under("| `first_stage` | What ranked the window |") for word in words_in(row[0])}
    assert told == {*get_args(FirstStage)}
    assert {*STAGE_KEYS, *SCORING, *MODEL_TEXT, *OWN_ORDER} <= WORDS
    assert f"`rank_window_size` is {DEFAULT_WINDOW} where none is given" in " ".join(PAGE.split())


def test_what_is_asked_about_pipelines_is_explained() -> None:
    """The processors of a first stage are listed, and the numbers are those of the code."""
    text = " ".join(PAGE.split())
    assert {*FINDING} <= WORDS
    assert f"a path of at most {MAX_PATH_CHARACTERS:,} characters" in text
    assert (KEPT_S, KEPT_UNKNOWN_S, MOST_WAIT_S) == (5 * 60, 30, 0.5)
    assert "A search waits half a second at most; answers are kept for five minutes by caller" in text


def test_what_is_known_of_fields_is_explained() -> None:
    """The types of texts are listed, and the numbers that bound what is asked and kept are those of the code."""
    types = ", ".join(f"`{name}`" for name in sorted(TEXT_TYPES)[:-1]) + " and `text`"
    text = " ".join(PAGE.split())
    assert f"Texts are fields of the types {types}." in text
    assert (KEPT_S, KEPT_UNKNOWN_S, MOST_WAIT_S) == (5 * 60, 30, 0.5)
    assert "Kept for five minutes" in text
    assert f"At most {MAX_KEPT:,} fields are kept, and {MAX_ASKING} requests run at a time" in text
    assert f"at most {MAX_WORDS} count" in text
    assert f"a text of at most {MAX_QUERY_CHARACTERS:,} characters" in text


def test_what_is_remembered_of_async_searches_is_explained() -> None:
    """The numbers that bound it are those of the code."""
    text = " ".join(PAGE.split())
    assert (async_memory.KEPT_S, async_memory.MAX_KEPT_BYTES, async_memory.MAX_SEARCH_BYTES) == (
        3600,
        16 << 20,
        256 << 10,
    )
    assert (
        f"for an hour after it was last asked for, at most {async_memory.MAX_KEPT:,} searches and 16 MiB, none" in text
    )
    assert "none longer than 256 KiB" in text


def test_the_limits_of_templates_are_explained() -> None:
    """How many are made at a time, in what share of the deadline, and how a window is asked for."""
    text = " ".join(PAGE.split())
    assert f"Of an `_msearch/template`, {MAX_RENDERING} are asked for at a time" in text
    assert RENDERING_SHARE == 0.5
    assert "Making the search may take half of it" in text
    assert f"`{VERBATIM}`" in text


def test_the_queries_of_front_ends_are_counted() -> None:
    """The page says how many there are, and of how many the question is right before any type is known."""
    right = sum(find_question(body.query).text == body.words for body in REAL_BODIES)
    text = " ".join(PAGE.split())
    assert f"A test has {len(REAL_BODIES)} queries in the shapes that front ends send" in text
    assert f"If nothing is known of the fields, it is so for {right}." in text


def test_the_warnings_are_quoted() -> None:
    """The page's Warning headers are what is sent."""
    for status in (
        SearchStatus(status="failed", reason="no_worker", window=100),
        SearchStatus(status="partial", reason="deadline", window=100, scored=40),
        SearchStatus(status="partial", reason="deadline", window=100, scored=100, cut=60),
    ):
        assert f"\nWarning: {(status.warning() or b'').decode()}\n" in PAGE


def test_the_example_is_json() -> None:
    """The example body can be sent as it is, and asks only what is allowed."""
    example = re.search(r"```json\n(\{\n.*?)```", PAGE, re.DOTALL)
    assert example is not None
    assert json.loads(example[1])["ext"]["es_rerank"].keys() <= set(ALLOWED)
