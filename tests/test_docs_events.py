"""The page about events says what is written: every field with its type, and requests that can be sent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from es_rerank.proxy.events.buffer import BATCH_DOCUMENTS
from es_rerank.proxy.events.bulk import ANSWER_LIMIT_S
from es_rerank.proxy.events.searched import MAX_QUERY_CHARACTERS
from es_rerank.proxy.events.writer import LONGEST_PAUSE_S, PAUSES_S, STOP_LIMIT_S, TRIES
from es_rerank.proxy.search.call import MAX_OPAQUE_ID_BYTES
from es_rerank.proxy.search.control import ALLOWED
from es_rerank.store.indices import EVENTS, HITS, OwnIndex

PAGE = (Path(__file__).parents[1] / "docs" / "events.md").read_text(encoding="utf-8")
BLOCKS = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)]


def fields_under(heading: str) -> list[tuple[str, str]]:
    """Name and type of each field in the table under a heading."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \| (\w+) \| \S.* \|$", part, re.MULTILINE)


@pytest.mark.parametrize(("heading", "index"), [("The event", EVENTS), ("The rows of hits", HITS)])
def test_every_field_is_explained(heading: str, index: OwnIndex) -> None:
    """The table has exactly the fields of the mapping, in its order and with their types."""
    assert fields_under(heading) == [(name, str(mapping["type"])) for name, mapping in index.fields.items()]


def test_the_examples_are_what_es_rerank_reads_and_writes() -> None:
    """The search asks only what is allowed, the click and the query that joins it name the same document."""
    search, click, joined, _ = BLOCKS
    assert search["ext"]["es_rerank"].keys() <= set(ALLOWED)
    terms = {name: value for one in joined["query"]["bool"]["filter"] for name, value in one["term"].items()}
    assert terms == {"query_id": click["query_id"], "object_id": click["event_attributes"]["object"]["object_id"]}
    assert terms.keys() <= HITS.fields.keys()
    assert search["ext"]["es_rerank"]["query_id"] == click["query_id"]


def test_the_numbers_are_those_of_the_code() -> None:
    """Bounds, pauses and limits that the page names."""
    assert f"first {MAX_QUERY_CHARACTERS:,} characters" in PAGE
    assert f"first {MAX_OPAQUE_ID_BYTES} bytes" in PAGE
    assert f"when {BATCH_DOCUMENTS} documents" in PAGE
    assert f"hangs for {ANSWER_LIMIT_S:g} s" in PAGE
    first, second, third = (f"{pause:g}" for pause in PAUSES_S)
    assert f"sent again three times, after {first}, {second} and {third} seconds" in PAGE
    assert len(PAUSES_S) + 1 == TRIES
    assert f"({LONGEST_PAUSE_S:g} s at most)" in PAGE
    assert f"within {STOP_LIMIT_S:g} seconds" in PAGE
