"""The prompt as a template: which texts are one, what is said of those that are not, and what is read of a file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.errors import SettingsError
from es_rerank.scorers.llm import LlmSettings
from es_rerank.scorers.template import DEFAULT_TEMPLATE, PromptTemplate, find_seam
from es_rerank.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD = "Goal: {instruction}\nQuery: {query}\nDocument: {document}\nAnswer:"
PLAIN = st.text(st.characters(exclude_characters="{}\r", exclude_categories=["Cs"]), max_size=20)
CONFIG = """
[upstream]
urls = ["http://127.0.0.1:9200"]
[redis]
url = "redis://127.0.0.1:6379/0"
[scorers.s]
kind = "vllm"
model = "owner/model"
prompt_file = "{file}"
"""


@pytest.fixture
def load_prompt(tmp_path: Path) -> Callable[[bytes], PromptTemplate]:
    """Load a configuration whose scorer has a file with these bytes as its prompt."""

    def load(data: bytes) -> PromptTemplate:
        file = tmp_path / "prompt.txt"
        file.write_bytes(data)
        config = tmp_path / "c.toml"
        config.write_text(CONFIG.format(file=file), encoding="utf-8")
        scorer = load_settings(config, {}).scorers["s"]
        assert isinstance(scorer, LlmSettings)
        return scorer.template

    return load


@given(PLAIN, PLAIN, PLAIN, PLAIN, st.booleans())
def test_a_template_is_its_pieces(top: str, middle: str, joint: str, bottom: str, query_first: bool) -> None:
    """Whatever text is around the places, the pieces are that text and the names of the places, in order."""
    names = ("query", "instruction") if query_first else ("instruction", "query")
    text = f"{top}{{{names[0]}}}{middle}{{{names[1]}}}{joint}\n:{{document}}{bottom}"
    pieces = PromptTemplate(text).pieces
    assert pieces == (top, names[0], middle, names[1], f"{joint}\n:", "document", bottom)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "{instruction} and {query} and {document} missing"),
        (GOOD.replace("{query}", "query"), "{query} missing"),
        (GOOD + "\n{query}", "line 5: {query} stands in line 2 already"),
        (GOOD.replace("{query}", "{question}"), "line 2: '{question}' is not a place"),
        (GOOD + "\n{", "line 5: '{' is not a place"),
        (GOOD + "\n}", "line 5: '}' is not a place"),
        (GOOD.replace("{query}", "{{query}}"), "line 2: '{' is not a place"),
        (GOOD.replace("{query}", "{query:>3}"), "line 2: '{query:>3}' is not a place"),
        ("{document}\n{instruction}\n{query}", "line 1: {document} has to stand behind"),
        ("{instruction}\n{document}\n{query}", "line 2: {document} has to stand behind"),
        ("{instruction}\n{query} {document}", "line 2: a line end, and no blank behind it"),
        ("{instruction}\n{query}\n {document}", "line 3: a line end, and no blank behind it"),
        (GOOD.replace("\n", "\r\n"), "line 1: has a carriage return"),
    ],
)
def test_what_is_no_template_is_refused_with_its_line(text: str, problem: str) -> None:
    """Each place once, the document last and behind a line end, no other brace: the refusal says what is where."""
    with pytest.raises(ValueError, match=re.escape(problem)):
        PromptTemplate(text)


@given(st.text("\n\t ab.", max_size=12))
def test_a_seam_is_behind_a_line_end_and_before_no_blank(text: str) -> None:
    """The seam is the last place of that kind, and there is none only where there is no such place."""
    places = [place for place in range(1, len(text) + 1) if text[place - 1] == "\n" and not text[place:][:1].isspace()]
    assert find_seam(text) == (places[-1] if places else None)


def test_the_default_is_the_papers_figure() -> None:
    """Both lines of the scale end in a full stop, as in the paper's figure 5."""
    assert "- 0 represents completely not related.\n- 10 means perfectly related.\n" in DEFAULT_TEMPLATE.text
    assert DEFAULT_TEMPLATE.text.endswith("Your output:")


def test_a_file_is_the_prompt_to_the_byte(load_prompt: Callable[[bytes], PromptTemplate]) -> None:
    """The text of the file is the prompt, but for a mark of UTF-8 before it and one line end behind it."""
    text = f" {GOOD}é\n"
    assert load_prompt(text.encode() + b"\n").text == text
    assert load_prompt(b"\xef\xbb\xbf" + text.encode() + b"\n").text == text
    assert load_prompt(DEFAULT_TEMPLATE.text.encode()) == DEFAULT_TEMPLATE


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"\xff", "is not UTF-8 text"), (b"{document}", "{instruction} and {query} missing"), (b"", "missing")],
)
def test_a_file_that_holds_no_template_is_told_by_its_key(
    load_prompt: Callable[[bytes], PromptTemplate], data: bytes, said: str
) -> None:
    """The error of the configuration names the key, the file and what is wrong with it."""
    with pytest.raises(SettingsError, match=r"scorers\.s\.prompt_file = \".*prompt\.txt\": ") as error:
        load_prompt(data)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('"/no/such/file"', 'scorers.s.prompt_file = "/no/such/file": cannot be read: No such file'),
        ('"/"', 'scorers.s.prompt_file = "/": cannot be read: Is a directory'),
        ("3", "scorers.s.prompt_file = 3: the path of a text file is needed"),
        ('{text = "x"}', "scorers.s.prompt_file: the path of a text file is needed"),
    ],
)
def test_a_prompt_that_is_no_file_is_told_by_its_key(tmp_path: Path, value: str, said: str) -> None:
    """A missing file, or what is no path, is an error of the configuration, at the start of proxy and worker."""
    config = tmp_path / "c.toml"
    config.write_text(CONFIG.replace('"{file}"', value), encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        load_settings(config, {})
    assert said in str(error.value)
