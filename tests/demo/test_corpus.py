"""The standard library's documentation as documents: which, under which names, and read without a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from es_rerank.demo import corpus
from es_rerank.demo.corpus import Document, read_documents, split_name

READ_AND_PRINT_DIGEST = """
import hashlib, json, sys
from es_rerank.demo.corpus import read_documents
documents = read_documents()
sys.stdout.write(json.dumps([len(documents), hashlib.sha256(repr(documents).encode()).hexdigest()]))
"""


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    """The corpus by name."""
    return {document.name: document for document in read_documents()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("subprocess.run", "subprocess run"),
        ("csv.DictReader", "csv dict reader"),
        ("http.client.HTTPSConnection", "http client https connection"),
        ("os.path.getmtime", "os path getmtime"),
        ("pathlib.Path.read_text", "pathlib path read text"),
        ("ipaddress.IPv4Address", "ipaddress ipv4 address"),
        ("base64.b64encode", "base64 b64encode"),
        ("IsADirectoryError", "is a directory error"),
        ("open", "open"),
    ],
)
def test_names_are_split_to_words(name: str, words: str) -> None:
    """Dots, underscores and capitals part words; numbers stay with theirs."""
    assert split_name(name) == words


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("zipfile", "module"),
        ("os.path", "module"),
        ("collections.Counter", "class"),
        ("concurrent.futures.ThreadPoolExecutor", "class"),
        ("subprocess.run", "function"),
        ("os.path.getmtime", "function"),
        ("open", "function"),
        ("sqlite3.connect", "function"),
        ("random.choice", "function"),
        ("datetime.datetime.strptime", "method"),
        ("str.split", "method"),
    ],
)
def test_what_programmers_look_for_is_there(documents: dict[str, Document], name: str, kind: str) -> None:
    """Each kind of document is there under the name that code uses: lazy, built-in and aliased ones too."""
    document = documents[name]
    assert (document.id, document.kind, document.words) == (name, kind, split_name(name))
    assert document.text == document.text.strip() != ""


def test_the_corpus_has_a_useful_size(documents: dict[str, Document]) -> None:
    """Thousands of documents of all four kinds, so that a search has something to choose from."""
    assert len(documents) > 4_000
    assert min(Counter(document.kind for document in documents.values()).values()) > 200


def test_ids_and_texts_are_unique_and_sorted() -> None:
    """No two documents share an id or a text, and the order is that of the names."""
    documents = read_documents()
    assert len({document.text for document in documents}) == len(documents)
    names = [document.id for document in documents]
    assert names == sorted(set(names))


@pytest.mark.parametrize(
    ("kept", "dropped"),
    [
        ("asyncio.run", "asyncio.runners.run"),
        ("random.choice", "random.Random.choice"),
        ("open", "io.open"),
        ("json.JSONDecoder", "json.decoder.JSONDecoder"),
    ],
)
def test_of_one_text_the_name_of_fewest_parts_stays(documents: dict[str, Document], kept: str, dropped: str) -> None:
    """A text that is found under several names is one document, under the public and shortest one."""
    assert kept in documents
    assert dropped not in documents


def test_nothing_private_skipped_or_merely_imported_is_read(documents: dict[str, Document]) -> None:
    """No name with a private or skipped part, and nothing under a module that only imported it."""
    parts = [(part, document.kind) for name, document in documents.items() for part in name.split(".")]
    assert not [part for part, _ in parts if part.startswith("_")]
    modules = {part for part, kind in parts if kind == "module"}
    assert modules.isdisjoint({"antigravity", "this", "idlelib", "tkinter", "test", "posixpath"})
    assert "re" in documents
    assert "re.enum" not in documents
    assert "calendar.datetime" not in documents


@pytest.mark.parametrize("seed", ["1", "2"])
def test_reading_is_silent_and_repeatable(seed: str) -> None:
    """A fresh process with warnings as errors and no screen prints nothing and reads the very same documents."""
    fresh = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ_AND_PRINT_DIGEST],
        env={name: value for name, value in os.environ.items() if name != "DISPLAY"} | {"PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert fresh.stderr == b""
    here = subprocess.run(
        [sys.executable, "-c", READ_AND_PRINT_DIGEST], env=os.environ, capture_output=True, check=True, timeout=60
    )
    assert json.loads(fresh.stdout) == json.loads(here.stdout)


def test_every_question_has_an_answer_in_the_corpus(documents: dict[str, Document]) -> None:
    """Fifty questions, graded 0 to 2, each have a document that answers; Python 3.11 has all that was judged."""
    judged = json.loads(Path(corpus.__file__).with_name("questions.json").read_text())
    questions = judged["questions"]
    assert [question["id"] for question in questions] == [f"q{number:02}" for number in range(1, 51)]
    for question in questions:
        assert set(question["grades"].values()) <= {0, 1, 2}
        answers = {name for name, grade in question["grades"].items() if grade == 2}
        assert answers & set(documents), question["text"]
        if sys.version_info[:2] == (3, 11):
            assert set(question["grades"]) <= set(documents)
