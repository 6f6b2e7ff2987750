"""The guard for scorers that read one language: which windows it holds back, and which it lets through."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.language import CHARACTERS, ENGLISH, HITS, LEAST_WORDS, may_be_in

WINDOWS = json.loads((Path(__file__).parent / "data" / "windows.json").read_text(encoding="utf-8"))
COLLECTIONS = Path(__file__).parents[2] / "shared" / "data"
PRODUCTS = (
    "Wireless mouse, 2.4 GHz, black", "Mechanical keyboard 87 keys RGB backlit", "USB C hub 7 ports aluminium",
    "Laptop stand foldable silver", "Webcam 1080p autofocus microphone", "Monitor arm double desk mount 27 inch",
)  # fmt: skip


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: str(window["name"]))
def test_windows_of_prose_are_told_apart(window: dict[str, Any]) -> None:
    """English windows are let through; those of other languages, some of which share short words with it, are not."""
    assert may_be_in("en", window["query"], window["texts"]) is window["english"]


@pytest.mark.parametrize(
    ("name", "english", "least"),
    [("adi", True, 1.0), ("cranfield", True, 1.0), ("movies-msrd", True, 0.97), ("nfcorpus", True, 1.0),
     ("xquad-de", False, 0.99)],
)  # fmt: skip
def test_judged_collections_are_told_apart(name: str, english: bool, least: float) -> None:
    """Of a judged collection's queries, each with relevant documents as its window, nearly all are judged rightly."""
    folder = COLLECTIONS / name
    if not folder.is_dir():
        pytest.skip(f"no collections beside this checkout ({folder})")
    packed = folder / "corpus.jsonl.gz"
    with gzip.open(packed, "rt") if packed.exists() else (folder / "corpus.jsonl").open() as lines:
        documents = {one["_id"]: f"{one['title']}\n{one['text']}" for one in map(json.loads, lines)}
    with (folder / "qrels.tsv").open(encoding="utf-8", newline="") as file:
        relevant: dict[str, list[str]] = {}
        for row in csv.DictReader(file, delimiter="\t"):
            if int(row["score"]) > 0:
                relevant.setdefault(row["query-id"], []).append(documents.get(row["corpus-id"], ""))
    queries = map(json.loads, (folder / "queries.jsonl").read_text().splitlines())
    seen = [may_be_in("en", one["text"], relevant[one["_id"]]) for one in queries if one["_id"] in relevant]
    assert seen.count(english) >= least * len(seen)


def test_a_list_of_products_keeps_its_order() -> None:
    """English without function words can't be told from another language: it loses the gain, and never its order."""
    assert not may_be_in("en", "usb keyboard", PRODUCTS)
    assert may_be_in("en", "which of these is the keyboard that I can use with a laptop", PRODUCTS)


@pytest.mark.parametrize("texts", [[], [None], [""], ["  "], ["Berlin"], ["Robots", None, "Der Hund"], ["1984", "7/8"]])
def test_too_few_words_tell_nothing(texts: list[str | None]) -> None:
    """A window of a few words, or of no text, in Latin script is let through, whatever language it is in."""
    assert may_be_in("en", "Hund", texts)
    assert may_be_in("en", "", texts)


def test_the_count_of_words_that_tell_is_exact() -> None:
    """One word fewer than are needed is let through; with the word it is not; and one stop word in twenty is enough."""
    foreign = ["wort"] * (LEAST_WORDS - 1)
    assert may_be_in("en", "", [" ".join(foreign)])
    assert not may_be_in("en", "wort", [" ".join(foreign)])
    assert may_be_in("en", "the", [" ".join(foreign)])


def test_another_script_needs_no_count() -> None:
    """One word of another script tells, unless as many letters are of Latin script."""
    assert not may_be_in("en", "", ["мост"])
    assert may_be_in("en", "", ["мост bridge"])
    assert may_be_in("en", "", ["Łódź, Århus, Đà Nẵng, São Paulo"])


@given(st.text(), st.lists(st.one_of(st.none(), st.text()), max_size=12), st.lists(st.text(), max_size=3))
def test_only_the_beginning_of_the_first_hits_counts(query: str, texts: list[str | None], more: list[str]) -> None:
    """What follows the tenth hit, or the 500th character, changes nothing: every page of a search decides alike."""
    window = [*texts, *[None] * (HITS - len(texts))]
    decided = may_be_in("en", query, window)
    assert may_be_in("en", query, [*window, *more]) is decided
    cut = [text and text[:CHARACTERS] for text in window]
    assert may_be_in("en", query, [text and text.ljust(CHARACTERS) + " the" * 99 for text in cut]) is decided


@given(st.lists(st.sampled_from([*sorted(ENGLISH), "wort", "мост"]), max_size=60), st.data())
def test_more_english_never_holds_a_window_back(words: list[str], data: st.DataObject) -> None:
    """A window that is let through is still let through with one more English function word in it."""
    if may_be_in("en", "", [" ".join(words)[:CHARACTERS]]):
        stop_word = data.draw(st.sampled_from(sorted(ENGLISH)))
        assert may_be_in("en", stop_word, [" ".join(words)[:CHARACTERS]])
