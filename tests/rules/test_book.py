"""The book of rules: which rule an index expression falls under, what comes with a rule, and the book's version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.rules.book import BoundRule, RuleBook, make_book, may_cover
from es_rerank.rules.indices import MAX_EXPRESSION_CHARACTERS
from es_rerank.rules.rule import Rule
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.scorers.vllm import VllmSettings
from es_rerank.tables import LimitSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.scorers.kinds import ScorerSettings

LIMITS = LimitSettings()
LLM = VllmSettings(kind="vllm", model="owner/model")
SCORERS: dict[str, ScorerSettings] = {"minilm": MinilmSettings(), "llm": LLM, "twin": LLM}
RULES = (
    Rule(name="notes", indices=("notes", "notes-*"), fields=("text",)),
    Rule(name="logs", indices=("logs-*", "eu:logs-*", "<logs-*"), fields=("text",)),
)
EVERYTHING = (*RULES, Rule(name="rest", indices=("*",), fields=("text",)))
THINKING = Rule(name="films", indices=("films*",), fields=("text",), scorer="llm")
# For each key of a rule another value, with the other keys that have to change with it.
CHANGES: dict[str, dict[str, Any]] = {
    "name": {"name": "other"},
    "pit": {"pit": True},
    "indices": {"indices": ("films*", "books")},
    "fields": {"fields": ("title", "text")},
    "template": {"template": "{text}", "fields": ()},
    "question_fields": {"question_fields": ("title",)},
    "ignore_fields": {"ignore_fields": ("year",)},
    "window": {"window": 99},
    "alpha": {"alpha": 0.3},
    "method": {"method": "rrf"},
    "instruction": {"instruction": "Find it."},
    "scorer": {"scorer": "twin"},
    "any_language": {"any_language": True},
    "deadline_s": {"deadline_s": 1.0},
    "dashboards": {"dashboards": "rerank"},
    "async_search": {"async_search": True},
    "templates": {"templates": True},
    "first_stage": {"first_stage": "any"},
    "mode": {"mode": "cascade"},
    "budget_tokens": {"budget_tokens": 64},
    "think_top": {"think_top": 5},
    "score": {"score": "expected"},
    "keep_reasoning": {"keep_reasoning": True},
}


def book_of(*rules: Rule, limits: LimitSettings = LIMITS, **scorers: ScorerSettings) -> RuleBook:
    """A book of these rules; a scorer that is given takes the place of the one with its name."""
    return make_book(rules, {**SCORERS, **scorers}, limits)


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("notes", "notes"),
        ("notes-2024", "notes"),
        ("notes-*", "notes"),
        ("notes,notes-2024,-notes-old", "notes"),
        ("notes,-.kibana", "notes"),
        ("logs-*", "logs"),
        ("eu:logs-1", "logs"),
        ("<logs-{now/d{yyyy.MM.dd|+12:00}}>", "logs"),
    ],
)
def test_one_rule_for_all_named_indices(expression: str, name: str) -> None:
    """All named indices must fall under the same rule; an exclusion does not count as a named index."""
    bound = book_of(*RULES).find(expression)
    assert isinstance(bound, BoundRule)
    assert bound.rule.name == name


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("other", "no_rule"),
        ("", "no_rule"),
        ("_all", "no_rule"),
        ("*", "no_rule"),
        ("*,-notes", "no_rule"),
        ("-notes", "no_rule"),
        ("notes,other", "no_rule"),
        ("Notes", "no_rule"),
        ("us:logs-1", "no_rule"),
        (".ds-notes-2026.11.28-000001", "no_rule"),
        ("notes,logs-1", "several_rules"),
        (".kibana", "system_index"),
        ("notes,.kibana_1", "system_index"),
        ("eu:.kibana", "system_index"),
        ("<.monitoring-{now/d}>", "system_index"),
        ("eu:<.monitoring-{now/d}>", "system_index"),
    ],
)
def test_no_single_rule_means_no_reranking(expression: str, reason: str) -> None:
    """An expression has no rule if an index has none, two rules hold, or a system index is named."""
    assert book_of(*RULES).find(expression) == reason


@pytest.mark.parametrize("expression", ["", "_all", "*", "other", "*,-notes"])
def test_a_catch_all_covers_every_index(expression: str) -> None:
    """No index, `_all` and `*` fall under a rule for `*` alone."""
    bound = book_of(*EVERYTHING).find(expression)
    assert isinstance(bound, BoundRule)
    assert bound.rule == EVERYTHING[-1]


def test_a_catch_all_covers_no_system_index() -> None:
    """Not even a rule for everything reaches a system index that is named."""
    assert book_of(*EVERYTHING).find(".kibana") == "system_index"
    assert book_of(*EVERYTHING).find("eu:.kibana") == "system_index"
    assert isinstance(book_of(*EVERYTHING).find(".ds-logs-2026.11.28-000001"), BoundRule)
    assert book_of(*EVERYTHING).find("notes,other") == "several_rules"


PARTS = ["notes", "notes-1", "notes-*", "logs-1", "other", "*", "_all", "-notes", ".kibana", "eu:logs-1", ""]


@given(st.lists(st.lists(st.sampled_from(PARTS), max_size=3).map(",".join), max_size=8), st.booleans())
def test_what_is_remembered_is_what_is_found(expressions: list[str], everything: bool) -> None:
    """However often and in whatever order it is asked, a book says what a new book would say."""
    rules = EVERYTHING if everything else RULES
    book, other = book_of(*rules), book_of(*RULES[:1])
    for expression in (*expressions, *reversed(expressions)):
        other.find(expression)
        assert book.find(expression) == book_of(*rules).find(expression)


def test_a_long_expression_is_not_remembered() -> None:
    """Bodies have room for expressions of megabytes: their rule is found, and takes no memory afterwards."""
    book = book_of(*RULES)
    for length in (MAX_EXPRESSION_CHARACTERS, MAX_EXPRESSION_CHARACTERS + 1):
        assert isinstance(book.find("notes-".ljust(length, "x")), BoundRule)
    assert [len(expression) for expression in book._found] == [MAX_EXPRESSION_CHARACTERS]


def test_another_book_finds_by_its_own_rules() -> None:
    """A book does not use what another book remembers, not even an equal book's."""
    for rules, found in ((RULES, "no_rule"), ((), "no_rule"), (EVERYTHING, EVERYTHING[-1])):
        bound = book_of(*rules).find("other")
        assert (bound.rule if isinstance(bound, BoundRule) else bound) == found


def test_a_rule_comes_with_its_scorer_and_deadline() -> None:
    """A rule is found with its scorer, its fingerprint and its deadline."""
    bound = book_of(THINKING).find("films")
    assert bound == BoundRule(
        rule=THINKING, scorer=LLM, fingerprint=LLM.fingerprint(), alpha=0.2, deadline_s=LIMITS.deadline_s, language=None
    )


def test_a_rules_deadline_wins_over_the_limits() -> None:
    """A rule's deadline wins; a rule without one has that of `limits`."""
    own = Rule(name="own", indices=("own",), fields=("text",), deadline_s=3.0)
    book = book_of(own, RULES[0], limits=LimitSettings(deadline_s=1.5))
    assert [bound.deadline_s for bound in book.rules] == [3.0, 1.5]


def test_the_scorers_in_use_are_those_that_rules_name() -> None:
    """Each scorer in use is there once, with its first rule; a scorer that no rule names is not there."""
    book = book_of(*RULES, THINKING)
    assert {name: bound.rule.name for name, bound in book.scorers().items()} == {"minilm": "notes", "llm": "films"}
    assert book_of().scorers() == {}


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ([RULES[0], RULES[0]], "rules[1].name = 'notes': two rules have this name"),
        ([THINKING.model_copy(update={"scorer": "none"})], "rules[0].scorer = 'none': known are minilm, llm, twin"),
        ([RULES[0], THINKING.model_copy(update={"window": 201})], "rules[1].window = 201: at most limits.max_window"),
        ([THINKING.model_copy(update={"deadline_s": 31.0})], "rules[0].deadline_s = 31.0: at most limits.max_deadline"),
        (
            [RULES[0].model_copy(update={"mode": "direct"})],
            "rules[0].mode = \"direct\": the scorer 'minilm' is of kind",
        ),
    ],
)
def test_a_rule_that_does_not_fit_is_named(rules: Sequence[Rule], problem: str) -> None:
    """Rules that don't fit scorers and limits make no book; the error has place, key, value and what is allowed."""
    with pytest.raises(ValueError, match="^" + re.escape(problem)):
        book_of(*rules)


def rules_for(*indices: Sequence[str]) -> list[Rule]:
    """A rule for each group of patterns, called r0, r1 and so on."""
    return [Rule(name=f"r{place}", indices=tuple(group), fields=("text",)) for place, group in enumerate(indices)]


@pytest.mark.parametrize(
    ("rules", "place", "before"),
    [
        (rules_for(["films"], ["films"]), 1, "'r0'"),
        (rules_for(["*"], ["films*"]), 1, "'r0'"),
        (rules_for(["films*"], ["books"], ["films-1", "books"]), 2, "'r0', 'r1'"),
        (rules_for(["a*", "b*"], ["b1", "a-*-c"]), 1, "'r0'"),
    ],
)
def test_a_rule_that_others_hide_makes_no_book(rules: list[Rule], place: int, before: str) -> None:
    """A rule all of whose patterns earlier rules cover would never be used: it is named with the rules before it."""
    with pytest.raises(ValueError, match=rf"^rules\[{place}\]\.indices = .*: this rule is never used, ") as failure:
        book_of(*rules)
    assert f"before it {before} takes all of these" in str(failure.value)


@pytest.mark.parametrize(
    "rules",
    [
        rules_for(["films-1"], ["films*"]),
        rules_for(["films*"], ["films-1", "books"]),
        rules_for(["a*b"], ["a*"]),
        rules_for(["ab*"], ["a*b"]),
    ],
)
def test_a_rule_with_an_index_of_its_own_is_taken(rules: list[Rule]) -> None:
    """A narrow rule before a wide one, and a rule of which something is left, are allowed."""
    assert len(book_of(*rules).rules) == 2


GROUPS = st.lists(st.lists(st.text("ab*", min_size=1, max_size=3), min_size=1, max_size=2), min_size=1, max_size=3)


@given(GROUPS, st.lists(st.text("abc", min_size=1, max_size=4), min_size=20))
def test_a_hidden_rule_is_one_that_is_never_found(groups: list[list[str]], names: list[str]) -> None:
    """A refused rule is the first one to match no name at all; a rule in a book is found by a name of its own."""
    rules = rules_for(*groups)
    try:
        book = book_of(*rules)
    except ValueError as error:
        place = int(str(error)[6])
        for name in names:
            first = next((rule for rule in rules if rule.matches(name)), None)
            assert first is not rules[place]
    else:
        own = [name for rule in rules for pattern in rule.indices for name in [pattern.replace("*", "c")]]
        found = [bound.rule.name for name in own if isinstance(bound := book.find(name), BoundRule)]
        assert {rule.name for rule in rules} == set(found)


def test_a_budget_up_to_what_the_scorer_may_think_fits() -> None:
    """A budget up to the scorer's `max_think_tokens` is allowed; for a scorer that doesn't think, none is."""
    rule = Rule(name="r", indices=("i",), fields=("text",), budget_tokens=2049, scorer="llm")
    llm = LLM.model_copy(update={"max_think_tokens": 2049})
    assert book_of(rule, llm=llm).rules
    with pytest.raises(
        ValueError, match=r"^rules\[0\]\.budget_tokens = 2049: at most scorers\.llm\.max_think_tokens = 2048"
    ):
        book_of(rule)
    with pytest.raises(ValueError, match=r"^rules\[0\]\.budget_tokens = 2049: the scorer 'llm' is of kind 'minilm'"):
        book_of(rule, llm=MinilmSettings())


# The version


def test_a_rule_covers_templates_where_it_says_so() -> None:
    """Searches are covered in any case; where no rule holds, or several do, no template is."""
    notes, logs = (Rule(name=name, indices=(name,), fields=("text",)) for name in ("notes", "logs"))
    book = book_of(notes.model_copy(update={"templates": True}), logs)
    for expression, searches, templates in (
        ("notes", True, True),
        ("logs", True, False),
        ("notes,logs", True, False),
        ("other", False, False),
        (".kibana", False, False),
    ):
        assert may_cover(book, expression) is searches
        assert may_cover(book, expression, template=True) is templates


def test_every_change_of_a_rule_is_another_version() -> None:
    """Each key of a rule counts, also one that changes no score."""
    assert set(CHANGES) == set(Rule.model_fields)
    versions = [
        book_of(Rule.model_validate({**THINKING.model_dump(), **change})).version for change in CHANGES.values()
    ]
    assert len({book_of(THINKING).version, *versions}) == len(CHANGES) + 1


SOME_RULES = st.lists(
    st.builds(
        Rule,
        name=st.sampled_from(["a", "b"]),
        indices=st.sampled_from([("x",), ("x", "y"), ("xy",), ("xy", "z")]),
        fields=st.sampled_from([("t",), ("t", "u")]),
        window=st.sampled_from([10, 100]),
        instruction=st.sampled_from(["", "é"]),
        scorer=st.sampled_from(["llm", "twin"]),
        deadline_s=st.sampled_from([None, 1.0]),
        keep_reasoning=st.booleans(),
    ),
    max_size=2,
    unique_by=(lambda rule: rule.name, lambda rule: rule.indices[0]),
)


@given(SOME_RULES, SOME_RULES)
def test_equal_books_have_equal_versions_and_others_have_not(rules: list[Rule], others: list[Rule]) -> None:
    """The version depends on what the rules say and on their order, and on nothing else."""
    again = [Rule.model_validate_json(rule.model_dump_json()) for rule in rules]
    assert book_of(*again).version == book_of(*rules).version
    assert (book_of(*rules).version == book_of(*others).version) is (rules == others)


def test_what_is_said_or_left_to_the_default_is_the_same_version() -> None:
    """A key that is set to its default gives the same version as one that is left out."""
    written = Rule.model_validate(THINKING.model_dump())
    assert written.model_fields_set != THINKING.model_fields_set
    assert book_of(written).version == book_of(THINKING).version


def test_a_scorer_that_judges_otherwise_is_another_version() -> None:
    """A setting that changes a score changes the version; the size of a machine, or an unused scorer, does not."""
    plain = book_of(THINKING).version
    assert book_of(THINKING, llm=LLM.model_copy(update={"revision": "v2"})).version != plain
    assert book_of(THINKING, llm=LLM.model_copy(update={"max_num_seqs": 8, "concurrency": 1})).version == plain
    assert book_of(THINKING, minilm=MinilmSettings(compute_type="int8")).version == plain


def test_the_deadline_that_holds_is_part_of_the_version() -> None:
    """Another `limits.deadline_s` is another version only if a rule has no deadline of its own."""
    hasty = LimitSettings(deadline_s=1.5)
    own = THINKING.model_copy(update={"deadline_s": 3.0})
    assert book_of(THINKING, limits=hasty).version != book_of(THINKING).version
    assert book_of(own, limits=hasty).version == book_of(own).version
