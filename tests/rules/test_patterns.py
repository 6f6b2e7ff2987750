"""Patterns of index names: which cover which, and which can match nothing that an engine would take."""

from __future__ import annotations

import string
import urllib.error
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.rules.patterns import covers, has_capitals, why_never
from es_rerank.rules.rule import Rule
from tests.conftest import send_json

if TYPE_CHECKING:
    from tests.conftest import Engine

NAMES = st.text("abc-", max_size=8)
PATTERNS = st.text("abc-*", min_size=1, max_size=6)
FILLINGS = st.lists(NAMES, min_size=6, max_size=6)


def fill(pattern: str, fillings: list[str]) -> str:
    """A name that the pattern matches: its asterisks replaced in turn."""
    start, *rest = pattern.split("*")
    return start + "".join(filling + part for filling, part in zip(fillings, rest, strict=False))


@given(wide=PATTERNS, narrow=PATTERNS, cuts=st.lists(st.integers(0, 6), min_size=4, max_size=4), fillings=FILLINGS)
def test_a_covered_pattern_matches_nothing_more(wide: str, narrow: str, cuts: list[int], fillings: list[str]) -> None:
    """Every name that a covered pattern matches is matched by the pattern that covers it."""
    first, second, third, fourth = sorted(cuts)
    widened = f"{narrow[:first]}*{narrow[second:third]}*{narrow[fourth:]}"
    name = fill(narrow, fillings)
    assert fnmatchcase(name, narrow)
    assert covers(widened, narrow)
    assert all(fnmatchcase(name, pattern) for pattern in ("*", narrow, widened, wide) if covers(pattern, narrow))


@given(wide=PATTERNS, narrow=PATTERNS)
def test_a_pattern_that_is_not_covered_matches_something_more(wide: str, narrow: str) -> None:
    """A pattern is covered exactly if its name with a letter that the other pattern lacks is matched too."""
    assert covers(wide, narrow) == fnmatchcase(narrow.replace("*", "z"), wide)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("my movies", "no name has a blank"),
        ("movies ", "no name has a blank"),
        ("a#b", "no name has a '#'"),
        ("a\\b", "no name has a '\\\\'"),
        ("a/b", "no name has a '/'"),
        ('a"b*', "no name has a '\"'"),
        ("a>b", "no name has a '>'"),
        ("eu:us:logs", "no name has a ':'"),
        ("logs::", "no name has a ':'"),
        ("::data", "a cluster or an index has no name"),
        (":logs", "a cluster or an index has no name"),
        ("eu:", "a cluster or an index has no name"),
        ("eu:.kibana", "after the cluster no name begins with '.', but for system indices"),
        ("*:_all", "after the cluster no name begins with '_', but for system indices"),
        ("é" * 128, "no name is longer than 255 bytes"),
        ("eu:" + "a" * 256, "no name is longer than 255 bytes"),
    ],
)
def test_what_no_name_can_have_is_told(pattern: str, why: str) -> None:
    """A pattern that can match nothing is told, and a rule refuses it."""
    assert why_never(pattern) == why
    with pytest.raises(ValueError, match="can match no index"):
        Rule(name="r", indices=(pattern,), fields=("text",))


@pytest.mark.parametrize(
    "pattern",
    [
        "*", "movies", "a..b", "movies-*", "Movies", "eu:logs-*", "*:logs", "eu:*", "<logs-*", "eu:<logs-*",
        "<logs-{now/d{yyyy.MM.dd|+12:00}}>", "é" * 127, "*" + "a" * 255, "a-_+.b", "filmé+*",
        "logs::data", "eu:logs-*::failures",
    ],
)  # fmt: skip
def test_what_a_name_can_have_is_taken(pattern: str) -> None:
    """Names on other clusters, date math and letters of any language are allowed."""
    assert why_never(pattern) == ""
    assert Rule(name="r", indices=(pattern,), fields=("text",))


@pytest.mark.parametrize(
    ("pattern", "capitals"),
    [
        ("Movies-*", True),
        ("mOvies", True),
        ("É", True),
        ("eu:Movies", True),
        ("EU:movies", False),
        ("movies-*", False),
        ("<logs-{now/d{yyyy.MM.dd}}>", False),
    ],
)
def test_capitals_are_told(pattern: str, *, capitals: bool) -> None:
    """Capitals in a name are told; those of a cluster's name, and of a date's format, mean nothing."""
    assert has_capitals(pattern) is capitals


@pytest.mark.engines
def test_engines_refuse_what_no_name_can_have(real_engine: Engine) -> None:
    """What we say that no name has, real engines refuse in the name of an alias; everything else they take."""
    send_json(f"{real_engine.url}/patterns", {}, method="PUT")
    letters = set(string.punctuation + " éA") - set(",?*[]:<")  # these mean something else in a rule
    names = [f"a{letter}b" for letter in letters] + ["a..b", "a" * 255, "a" * 256, "é" * 127, "é" * 128]
    for name in names:
        assert _takes_alias(real_engine, name) == (why_never(name) == ""), name


def _takes_alias(engine: Engine, name: str) -> bool:
    action = {"add": {"index": "patterns", "alias": name}}
    try:
        send_json(f"{engine.url}/_aliases", {"actions": [action]}, method="POST")
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return True
