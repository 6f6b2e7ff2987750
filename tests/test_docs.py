"""The manual says what the code does: no key, default or bound is missing from it, wrong in it, or invented there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_core import PydanticUndefined

from es_rerank.scorers.biencoder import BiEncoderSettings
from es_rerank.scorers.kinds import SCORER_KINDS
from es_rerank.scorers.llm import LlmSettings
from es_rerank.settings import SECTIONS, Settings, load_settings

if TYPE_CHECKING:
    from es_rerank.tables import Section

PAGE = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^## `\[+(\w+)(?:\.NAME)?\]+`$")
KIND_HEADING = re.compile(r"^### `kind = \"(\w+)\"`( or `\"\w+\"`)?$")
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$")
# Each table of the page: the keys that several kinds share stand there once.
TABLES: dict[str, type[Section]] = {
    **{name: model for name, model in SECTIONS.items() if name != "rules"},
    "biencoder": BiEncoderSettings,
    "minilm": SCORER_KINDS["minilm"],
    "e5": SCORER_KINDS["e5"],
    "llm": LlmSettings,
    "vllm": SCORER_KINDS["vllm"],
    "transformers": SCORER_KINDS["transformers"],
    "rules": SECTIONS["rules"],
}
# Of each kind that shares keys with another: the name of their table, and the section.
SHARED: dict[str, tuple[str, type[Section]]] = {
    "minilm": ("biencoder", BiEncoderSettings),
    "e5": ("biencoder", BiEncoderSettings),
    "vllm": ("llm", LlmSettings),
    "transformers": ("llm", LlmSettings),
}
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "maxLength")


def code_blocks(language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def documented() -> dict[str, dict[str, tuple[str, str]]]:
    """What the page's tables say: for each section and key, its type and its default."""
    tables: dict[str, dict[str, tuple[str, str]]] = {}
    table: dict[str, tuple[str, str]] = {}
    for line in PAGE.splitlines():
        if heading := HEADING.match(line):
            table = {} if heading[1] == "scorers" else tables.setdefault(heading[1], {})
        elif heading := KIND_HEADING.match(line):
            table = tables.setdefault(SHARED[heading[1]][0] if heading[2] else heading[1], {})
        elif row := ROW.match(line):
            table[row[1]] = (row[2], row[3])
    return tables


def keys_of(name: str) -> list[str]:
    """The keys that a table has to list: those of its own."""
    shared = SHARED[name][1].model_fields if name in SHARED else {}
    return [key for key in TABLES[name].model_fields if key not in shared]


def default_text(model: type[Section], key: str) -> str:
    """A default as the page has to print it: as TOML, or that there is none."""
    default = model.model_fields[key].default
    if default is PydanticUndefined:
        return "required"
    return "none" if default is None else f"`{json.dumps(default)}`"


def limits_of(model: type[Section], key: str) -> tuple[list[float], list[str]]:
    """The bounds of a key's numbers and its allowed words, as its type has them."""
    schema: dict[str, Any] = model.model_json_schema()["properties"][key]
    branches = [schema, *schema.get("anyOf", ())]
    bounds = [branch[bound] for branch in branches for bound in BOUNDS if bound in branch]
    words = [word for branch in branches for word in (*branch.get("enum", ()), branch.get("const"))]
    return bounds, [word for word in words if word is not None]


def test_every_section_is_documented() -> None:
    """The page has a part for every table of the file, and for no other, in the order of the settings."""
    assert list(documented()) == list(TABLES)
    assert {*SECTIONS, "scorers"} == set(Settings.model_fields)


@pytest.mark.parametrize("section", TABLES)
def test_every_key_and_default_is_documented(section: str) -> None:
    """The page's table has exactly the section's keys, in the section's order, each with its default."""
    expected = [(key, default_text(TABLES[section], key)) for key in keys_of(section)]
    assert [(key, default) for key, (_, default) in documented()[section].items()] == expected


@pytest.mark.parametrize(("section", "key"), [(name, key) for name in TABLES for key in keys_of(name)])
def test_every_bound_and_choice_is_documented(section: str, key: str) -> None:
    """The type that the page names has all numbers that bound the value and all words that it may be, and no more."""
    bounds, words = limits_of(TABLES[section], key)
    text = documented()[section][key][0]
    assert sorted(map(float, re.findall(r"(?<![\w\"])\d+(?![\w\"])", text))) == sorted(bounds)
    assert re.findall(r'`"(\w+)"`', text) == words


def test_every_key_that_the_prose_names_exists() -> None:
    """A key in its section (`limits.max_window`) or alone, between backquotes, is one that can be set."""
    keys = {key for model in TABLES.values() for key in model.model_fields}
    for section, key in re.findall(r"`([a-z]+)\.([a-z_]+)`", PAGE):
        assert key in SECTIONS[section].model_fields
    for word in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE):
        assert word in keys


@pytest.mark.parametrize("block", code_blocks("toml"))
def test_every_file_on_the_page_loads(block: str, tmp_path: Path) -> None:
    """Every file that the page shows is a configuration that loads."""
    file = tmp_path / "config.toml"
    file.write_text(block, encoding="utf-8")
    assert load_settings(file, {}).rules


def test_the_variables_on_the_page_do_what_it_says(tmp_path: Path) -> None:
    """The page's example variables, over its example file, set what the page says."""
    file = tmp_path / "config.toml"
    file.write_text(code_blocks("toml")[0], encoding="utf-8")
    lines = re.findall(r"^(\w+)=('?)(.+?)\2(?:\s+#.*)?$", code_blocks("sh")[0], flags=re.MULTILINE)
    settings = load_settings(file, {name: value for name, _, value in lines})
    assert settings.redis.url.get_secret_value() == "redis://:secret@redis:6379/0"
    assert settings.upstream.urls == ("http://es1:9200", "http://es2:9200")
    assert settings.rules[0].alpha == 0.3
