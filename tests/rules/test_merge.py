"""Stored rules over the file's: whatever is stored, the book fits the configuration and loses nothing that fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.rules.book import RuleError, make_book
from es_rerank.rules.merge import RuleBase, RulesInForce, StoredRule, merge
from es_rerank.rules.rule import Rule
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.tables import LimitSettings

LIMITS = LimitSettings(max_window=200, max_deadline_s=5.0)
SCORERS = {"minilm": MinilmSettings()}
NAMES = ("a", "b", "c", "d")
PATTERNS = ("x-1", "x-2", "x-*", "y", "y*", "*")
RULES = st.builds(
    Rule,
    name=st.sampled_from(NAMES),
    indices=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2).map(tuple),
    fields=st.just(("text",)),
    window=st.sampled_from((10, 200, 201)),
    scorer=st.sampled_from(("minilm", "minilm", "minilm", "gone")),
)
STORED = st.lists(RULES, max_size=4).map(lambda rules: {rule.name: StoredRule(rule=rule, version=1) for rule in rules})


def rule(name: str, *indices: str, window: int = 100, scorer: str = "minilm") -> Rule:
    """A rule."""
    return Rule(name=name, indices=indices, fields=("text",), window=window, scorer=scorer)


def base_of(*rules: Rule) -> RuleBase:
    """A configuration with these rules."""
    return RuleBase(rules=rules, scorers=SCORERS, limits=LIMITS)


def merged(base: RuleBase, *stored: Rule) -> RulesInForce:
    """What is in force with these stored rules, all in version 1."""
    return merge(base, {one.name: StoredRule(rule=one, version=1) for one in stored})


def names_in(found: RulesInForce) -> list[str]:
    """The names of the rules in force, in order."""
    return [bound.rule.name for bound in found.book.rules]


FILE = base_of(rule("films", "films-*"), rule("rest", "*"))


def test_the_endpoints_of_the_file_hold_whatever_is_stored() -> None:
    """A `text_similarity_reranker` has its scorer under every book."""
    bound = merged(FILE).book.rules[0]
    base = replace(FILE, endpoints={"mine": bound})
    assert merged(base, rule("films", "films-*", window=50)).book.endpoints == {"mine": bound}


def test_a_stored_rule_takes_the_place_of_its_namesake() -> None:
    """The file's order stays, and the rest of the file too."""
    found = merged(FILE, rule("films", "films-*", window=50))
    assert names_in(found) == ["films", "rest"]
    assert found.book.rules[0].rule.window == 50
    assert (found.versions, found.invalid) == ({"films": 1}, {})
    assert [found.origin(name) for name in ("films", "rest", "none")] == ["stored", "file", None]


def test_new_names_come_first_in_order_of_name() -> None:
    """A new rule holds although a rule of the file takes all indices."""
    assert names_in(merged(FILE, rule("z", "logs"), rule("m", "books"))) == ["m", "z", "films", "rest"]


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (rule("films", "films-*", scorer="gone"), "scorer = 'gone': known are minilm"),
        (rule("films", "films-*", window=201), "window = 201: at most limits.max_window = 200"),
        (rule("new", "films-*"), "indices: with this rule, the file's rule 'films' would never be used"),
    ],
)
def test_what_does_not_fit_is_left_out(stored: Rule, why: str) -> None:
    """The file's limits bound every stored rule, and no rule of the file is hidden; the file's rules hold then."""
    found = merged(FILE, stored)
    assert found.book.version == merged(FILE).book.version
    assert (found.versions, found.invalid) == ({}, {stored.name: why})


def test_of_two_stored_rules_the_hidden_one_is_left_out() -> None:
    """The first in order of name holds."""
    found = merged(base_of(), rule("b", "x-1"), rule("a", "x-*"))
    assert names_in(found) == ["a"]
    assert list(found.invalid) == ["b"]
    assert "before it 'a' takes all of these" in found.invalid["b"]


@given(STORED, st.lists(RULES, max_size=3))
def test_the_book_always_fits_and_loses_nothing_that_fits(stored: dict[str, StoredRule], file: list[Rule]) -> None:
    """Each stored rule is in force or left out with a reason; the file's hold or are replaced; all that fit are in."""
    base = base_of(*file)
    try:
        make_book(base.rules, SCORERS, LIMITS)
    except RuleError:
        return
    found = merge(base, stored)
    assert found.versions.keys() | found.invalid.keys() == stored.keys()
    assert not found.versions.keys() & found.invalid.keys()
    assert all(found.invalid.values())
    names = names_in(found)
    new = [name for name in names if name not in [one.name for one in file]]
    assert names == [*sorted(new), *(one.name for one in file)]
    for bound in found.book.rules:
        held = stored[bound.rule.name].rule if bound.rule.name in found.versions else None
        assert bound.rule == (held or next(one for one in file if one.name == bound.rule.name))
        assert bound.rule.window <= LIMITS.max_window
    everything = [*(stored[name].rule for name in sorted(stored) if name not in [one.name for one in file])]
    everything += [stored[one.name].rule if one.name in stored else one for one in file]
    try:
        whole = make_book(everything, SCORERS, LIMITS)
    except RuleError:
        assert found.invalid
    else:
        assert (found.book.version, found.invalid) == (whole.version, {})


@given(STORED)
def test_the_order_of_reading_does_not_matter(stored: dict[str, StoredRule]) -> None:
    """Every proxy with the same configuration has the same book."""
    turned = dict(reversed(stored.items()))
    one, other = merge(FILE, stored), merge(FILE, turned)
    assert (one.book.version, one.versions, one.invalid) == (other.book.version, other.versions, other.invalid)
