"""The page on loading says what the code does."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from es_rerank import trec
from ingest import cli

PAGE = (Path(__file__).parents[2] / "docs" / "ingest.md").read_text(encoding="utf-8")


def test_every_option_on_the_page_exists() -> None:
    """The page names no option that the command does not have."""
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE))
    assert named <= {option for action in parser._actions for option in action.option_strings}
    assert {"--recreate", "--resume", "--max-wait"} <= named


def test_the_words_of_a_header_are_those_that_are_known() -> None:
    """The words by which a header is known stand on the page as the code has them, and are read."""
    [listed] = re.findall(r"for the query (.*?); for the\s+document (.*?); for the grade (.*?)\. ", PAGE, re.DOTALL)
    for text, words in zip(listed, (trec.QUERY_WORDS, trec.DOCUMENT_WORDS, trec.GRADE_WORDS), strict=True):
        named = {re.sub(r"[^a-z]", "", word) for word in re.findall(r"`(.*?)`", text)}
        assert named == set(words)


def test_the_exit_codes_are_said_everywhere() -> None:
    """The page, the help and the module say the same exit codes."""
    for code in ("0", "1", "2", "130"):
        assert re.search(rf"\b{code}\b", PAGE[PAGE.index("Exit code") :])
        assert re.search(rf"\b{code}\b", cli.EPILOG[cli.EPILOG.index("exit code") :])
        assert re.search(rf"\b{code}:", cli.__doc__ or "")
